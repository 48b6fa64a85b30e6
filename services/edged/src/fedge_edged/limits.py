"""Requests and limits in the terms of cgroups, and the quality of service that follows.

https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/
https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/#how-pods-with-resource-limits-are-run
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from fedge_cri import Resources
from fedge_edged.pods import Container, Pod
from fedge_objects import parse_quantity

_CPU_PERIOD = 100_000
_MIN_QUOTA = 1000
_MIN_SHARES = 2
_MAX_SHARES = 262_144

GUARANTEED_OOM_SCORE = -997
BEST_EFFORT_OOM_SCORE = 1000


_KIBI = 1024
_BINARY_UNITS = ("B", "KB", "MB", "GB", "TB")
HUGEPAGES = "hugepages-"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodLimits:
    """What all containers of a pod together may use; 0 is no limit. Microseconds and bytes."""

    cpu_shares: int
    cpu_quota: int
    cpu_period: int
    memory_bytes: int


def qos_class(pod: Pod) -> str:
    """Return ``Guaranteed``, ``Burstable`` or ``BestEffort``."""
    containers = [*pod.spec.init_containers, *pod.spec.containers]
    counted = {"cpu", "memory"}
    if not any(
        counted & (c.resources.requests.keys() | c.resources.limits.keys()) for c in containers
    ):
        return "BestEffort"
    for container in containers:
        limits, requests = container.resources.limits, container.resources.requests
        for name in ("cpu", "memory"):
            if name not in limits:
                return "Burstable"
            if parse_quantity(requests.get(name, limits[name])) != parse_quantity(limits[name]):
                return "Burstable"
    return "Guaranteed"


def resources_of(pod: Pod, container: Container, *, memory_bytes: int) -> Resources:
    """Return the container's cgroup limits; ``memory_bytes`` is the node's."""
    requests, limits = container.resources.requests, container.resources.limits
    cpu_request = _value(requests.get("cpu", limits.get("cpu", 0)))
    cpu_limit = _value(limits.get("cpu", 0))
    shares = max(_MIN_SHARES, min(_MAX_SHARES, int(cpu_request * 1024)))
    return Resources(
        cpu_shares=shares,
        cpu_quota=max(_MIN_QUOTA, int(cpu_limit * _CPU_PERIOD)) if cpu_limit else 0,
        cpu_period=_CPU_PERIOD if cpu_limit else 0,
        memory_limit_bytes=int(_value(limits.get("memory", 0))),
        oom_score_adj=_oom_score(pod, container, memory_bytes),
        hugepage_limits={
            hugepage_size(name): int(_value(value))
            for name, value in limits.items()
            if name.startswith(HUGEPAGES)
        },
    )


def hugepage_size(resource: str) -> str:
    """Return a page size as the kernel names it: ``2MB`` for ``hugepages-2Mi``."""
    size = int(_value(resource.removeprefix(HUGEPAGES)))
    unit = 0
    while size >= _KIBI and size % _KIBI == 0:
        size, unit = size // _KIBI, unit + 1
    return f"{size}{_BINARY_UNITS[unit]}"


def pod_total(pod: Pod, name: str, *, limits: bool = False) -> Decimal:
    """Return how much of a resource a pod asks for, or is limited to, with its overhead.

    Init containers run before the others and one after the other, sidecars beside them all.
    https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers
    https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers
    """

    def of(container: Container) -> Decimal:
        asked, most = container.resources.requests, container.resources.limits
        if limits:
            return _value(most.get(name, 0))
        return _value(asked.get(name, most.get(name, 0)))

    sidecars = peak = Decimal(0)
    for container in pod.spec.init_containers:
        if container.is_sidecar:
            sidecars += of(container)
            peak = max(peak, sidecars)
        else:
            peak = max(peak, sidecars + of(container))
    running = sidecars + sum((of(each) for each in pod.spec.containers), Decimal(0))
    return max(peak, running) + _value(pod.spec.overhead.get(name, 0))


def pod_limits(pod: Pod) -> PodLimits:
    """Return the limits of a whole pod: there is one if each container has one."""
    containers = [*pod.spec.init_containers, *pod.spec.containers]
    cpu = pod_total(pod, "cpu", limits=True) if _all_limit(containers, "cpu") else Decimal(0)
    memory = pod_total(pod, "memory", limits=True) if _all_limit(containers, "memory") else 0
    shares = int(pod_total(pod, "cpu") * 1024)
    return PodLimits(
        cpu_shares=max(_MIN_SHARES, min(_MAX_SHARES, shares)),
        cpu_quota=max(_MIN_QUOTA, int(cpu * _CPU_PERIOD)) if cpu else 0,
        cpu_period=_CPU_PERIOD,
        memory_bytes=int(memory),
    )


def _all_limit(containers: Iterable[Container], name: str) -> bool:
    return all(name in each.resources.limits for each in containers)


def _oom_score(pod: Pod, container: Container, memory_bytes: int) -> int:
    """Return who is to be killed first when memory runs out.

    https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#node-out-of-memory-behavior
    """
    match qos_class(pod):
        case "Guaranteed":
            return GUARANTEED_OOM_SCORE
        case "BestEffort":
            return BEST_EFFORT_OOM_SCORE
        case _:
            limits = container.resources.limits
            request = int(
                _value(container.resources.requests.get("memory", limits.get("memory", 0)))
            )
            score = 1000 - (1000 * request) // max(1, memory_bytes)
            return max(1000 + GUARANTEED_OOM_SCORE, min(BEST_EFFORT_OOM_SCORE - 1, score))


def _value(quantity: str | float) -> Decimal:
    return parse_quantity(quantity)


def memory_of_node() -> int:
    """Return the node's memory in bytes."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemTotal":
            return int(value.split()[0]) * 1024
    raise OSError("/proc/meminfo has no MemTotal")
