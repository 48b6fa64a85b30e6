"""The cgroups of pods, by quality of service, as the kubelet lays them out.

https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/
https://kubernetes.io/docs/concepts/architecture/cgroups/

Guaranteed pods lie in the parent itself, the others below ``burstable`` and ``besteffort``: when
the processor is short, burstable pods together count as much as they asked for together, and all
pods that asked for nothing together count as little as one may.
"""

import threading
from pathlib import Path

import structlog

from fedge_edged.limits import PodLimits, pod_limits, qos_class
from fedge_edged.pods import Pod

log = structlog.stdlib.get_logger("fedge.edged")

ROOT = Path("/sys/fs/cgroup")
LEAST_SHARES, MOST_SHARES = 2, 262_144
_BURSTABLE, _BEST_EFFORT = "burstable", "besteffort"
_TIERS = {"Burstable": f"/{_BURSTABLE}", "BestEffort": f"/{_BEST_EFFORT}"}
_CONTROLLERS = ("cpu", "memory", "pids")


class Cgroups:
    """Makes and removes the cgroups of pods, version 1 or 2 of the kernel's interface."""

    def __init__(self, parent: str, *, root: Path = ROOT) -> None:
        """Take the cgroup below which all lie; empty: the runtime's own, and nothing is made."""
        self._parent = parent.rstrip("/")
        self._root = root
        self._weighing = threading.Lock()

    def path_of(self, pod: Pod) -> str:
        """Return the absolute cgroup path of a pod; empty for the runtime's own."""
        if not self._parent:
            return ""
        tier = _TIERS.get(qos_class(pod), "")
        return f"{self._parent}{tier}/pod{pod.metadata.uid}"

    def prepare(self, pod: Pod) -> str:
        """Make a pod's cgroup with the limits of the whole pod; return its path."""
        path = self.path_of(pod)
        if not path:
            return ""
        limits = pod_limits(pod)
        try:
            if self._is_v2:
                self._prepare_v2(path, limits)
            else:
                self._prepare_v1(path, limits)
        except OSError as exc:  # e.g. in a container to which the host does not lend its cgroups
            log.info("cgroup_not_made", cgroup=path, reason=str(exc))
        return path

    def remove(self, uid: str) -> None:
        """Remove the cgroups of a pod that is gone; the runtime leaves the pod's own behind."""
        if not self._parent:
            return
        for root in self._hierarchies():
            base = root / self._parent.lstrip("/")
            for folder in (base, base / _BURSTABLE, base / _BEST_EFFORT):
                cgroup = folder / f"pod{uid}"
                if not cgroup.is_dir():
                    continue
                try:
                    cgroup.rmdir()
                except OSError as exc:
                    log.info("cgroup_stays", cgroup=str(cgroup), reason=str(exc))
                if folder.name == _BURSTABLE:
                    self._weigh(folder)

    @property
    def _is_v2(self) -> bool:
        return (self._root / "cgroup.controllers").exists()

    def _hierarchies(self) -> list[Path]:
        if self._is_v2:
            return [self._root]
        return [each for each in self._root.iterdir() if each.is_dir() and not each.is_symlink()]

    def _prepare_v1(self, path: str, limits: PodLimits) -> None:
        cpu, memory = (
            self._root / "cpu" / path.lstrip("/"),
            self._root / "memory" / path.lstrip("/"),
        )
        if (self._root / "cpu").is_dir():
            cpu.mkdir(parents=True, exist_ok=True)
            _write(cpu / "cpu.shares", limits.cpu_shares)
            self._weigh(cpu.parent)
            if limits.cpu_quota:
                _write(cpu / "cpu.cfs_period_us", limits.cpu_period)
                _write(cpu / "cpu.cfs_quota_us", limits.cpu_quota)
        if limits.memory_bytes and (self._root / "memory").is_dir():
            memory.mkdir(parents=True, exist_ok=True)
            _write(memory / "memory.limit_in_bytes", limits.memory_bytes)

    def _prepare_v2(self, path: str, limits: PodLimits) -> None:
        folder = self._root
        for part in Path(path.lstrip("/")).parts:
            for controller in _CONTROLLERS:
                _write(folder / "cgroup.subtree_control", f"+{controller}")
            folder /= part
            folder.mkdir(exist_ok=True)
        _write(folder / "cpu.weight", _weight(limits.cpu_shares))
        self._weigh(folder.parent)
        if limits.cpu_quota:
            _write(folder / "cpu.max", f"{limits.cpu_quota} {limits.cpu_period}")
        if limits.memory_bytes:
            _write(folder / "memory.max", limits.memory_bytes)

    def _weigh(self, tier: Path) -> None:
        """Give a tier the weight of what lies in it.

        The sum is taken of what the pods' cgroups say: it outlives edged, as they do.
        """
        if tier.name not in {_BURSTABLE, _BEST_EFFORT}:
            return
        with self._weighing:  # pods are made in several threads at a time
            shares = 0
            if tier.name == _BURSTABLE:
                shares = sum(self._shares(each) for each in tier.glob("pod*"))
            shares = max(LEAST_SHARES, min(MOST_SHARES, shares))
            if self._is_v2:
                _write(tier / "cpu.weight", _weight(shares))
            elif (tier / "cpu.shares").exists():
                _write(tier / "cpu.shares", shares)

    def _shares(self, cgroup: Path) -> int:
        try:
            if self._is_v2:
                return _shares_of((cgroup / "cpu.weight").read_text())
            return int((cgroup / "cpu.shares").read_text())
        except OSError:
            return 0  # the pod ends just now, or nobody weighs here


def _shares_of(weight: str) -> int:
    return LEAST_SHARES + (int(weight) - 1) * (MOST_SHARES - LEAST_SHARES) // 9999


def _weight(shares: int) -> int:
    """Return shares (2 to 262144) as a weight of version 2 (1 to 10000).

    https://kubernetes.io/docs/concepts/architecture/cgroups/#cgroup-v2
    """
    return 1 + ((shares - 2) * 9999) // 262142


def _write(file: Path, value: int | str) -> None:
    """Set a value; a controller that is not there, or not ours to set, is left as it is."""
    try:
        file.write_text(str(value))
    except OSError as exc:
        log.info("cgroup_not_set", file=str(file), value=value, reason=str(exc))
