"""What the node says about itself.

https://kubernetes.io/docs/reference/node/node-status/
"""

import os
import platform
import shutil
import socket
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from fedge_cri import Image, RuntimeInfo
from fedge_edged.limits import memory_of_node
from fedge_edged.timestamps import from_seconds
from fedge_objects import JsonObject

KUBERNETES_VERSION = "v1.32.0"
"""The version whose behaviour edged follows."""
MAX_PODS = 110
MAX_IMAGES = 50
LOW_MEMORY_BYTES = 100 * 1024 * 1024
LOW_DISK_SHARE = 0.10
LOW_INODE_SHARE = 0.05

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


def labels(name: str) -> dict[str, str]:
    """Return the labels with which the node registers.

    https://kubernetes.io/docs/reference/labels-annotations-taints/
    """
    machine = _ARCHITECTURES.get(platform.machine(), platform.machine())
    return {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": machine,
        "node-role.kubernetes.io/edge": "",
    }


def host_address() -> str:
    """Return the address by which the node reaches others; the loopback's if it reaches none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent: the kernel only picks a source
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def status_of(
    *,
    name: str,
    address: str,
    runtime: RuntimeInfo | None,
    unmet: Mapping[str, str],
    images: Sequence[Image],
    data_dir: Path,
    now: float,
    previous: JsonObject | None,
) -> JsonObject:
    """Return the node's whole status.

    Args:
        name: the node's.
        address: the node's.
        runtime: the container runtime; None if it does not answer.
        unmet: the runtime's conditions that do not hold.
        images: on the node.
        data_dir: on the file system whose space counts.
        now: seconds since the epoch.
        previous: the status last reported; transition times are kept from it.
    """
    capacity = _capacity(data_dir)
    return {
        "addresses": [
            {"type": "InternalIP", "address": address},
            {"type": "Hostname", "address": name},
        ],
        "capacity": capacity,
        "allocatable": capacity,
        "conditions": _conditions(runtime, unmet, data_dir, now, previous),
        "images": [
            {
                "names": sorted({*image.digests, *image.tags}),
                "sizeBytes": image.size_bytes,
            }
            for image in sorted(images, key=lambda each: -each.size_bytes)[:MAX_IMAGES]
            if image.tags or image.digests
        ],
        "nodeInfo": _node_info(runtime),
    }


def _capacity(data_dir: Path) -> dict[str, str]:
    return {
        "cpu": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory_of_node() // 1024}Ki",
        "ephemeral-storage": f"{shutil.disk_usage(data_dir).total // 1024}Ki",
        "pods": str(MAX_PODS),
    }


def _conditions(
    runtime: RuntimeInfo | None,
    unmet: Mapping[str, str],
    data_dir: Path,
    now: float,
    previous: JsonObject | None,
) -> list[JsonObject]:
    memory = _available_memory() < LOW_MEMORY_BYTES
    disk = _disk_is_low(data_dir)
    pids = _pids_are_low()
    ready = runtime is not None and not unmet
    if ready:
        why = ("KubeletReady", "edged is posting ready status")
    elif runtime is None:
        why = ("KubeletNotReady", "container runtime is down")
    else:
        problems = "; ".join(f"{kind} is not met: {text}" for kind, text in unmet.items())
        why = ("KubeletNotReady", problems)
    wanted: dict[str, tuple[bool, str, str]] = {
        "MemoryPressure": (
            memory,
            *_said(
                memory, "Memory", "sufficient memory available", "insufficient memory available"
            ),
        ),
        "DiskPressure": (
            disk,
            *_said(disk, "Disk", "no disk pressure", "disk pressure"),
        ),
        "PIDPressure": (
            pids,
            *_said(pids, "PID", "sufficient PID available", "insufficient PID available"),
        ),
        "Ready": (ready, *why),
    }
    before = {each["type"]: each for each in (previous or {}).get("conditions", [])}
    return [
        {
            "type": kind,
            "status": str(state),
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": from_seconds(now),
            "lastTransitionTime": before[kind]["lastTransitionTime"]
            if kind in before and before[kind]["status"] == str(state)
            else from_seconds(now),
        }
        for kind, (state, reason, message) in wanted.items()
    ]


def _said(state: bool, what: str, good: str, bad: str) -> tuple[str, str]:
    reason = f"KubeletHas{'Insufficient' if state else 'Sufficient'}{what}"
    if what == "Disk":
        reason = "KubeletHasDiskPressure" if state else "KubeletHasNoDiskPressure"
    return reason, f"edged has {bad if state else good}"


def _node_info(runtime: RuntimeInfo | None) -> JsonObject:
    release = platform.freedesktop_os_release()
    fedge = f"{KUBERNETES_VERSION}-fedge-{version('fedge-edged')}"
    return {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "bootID": _line("/proc/sys/kernel/random/boot_id"),
        "containerRuntimeVersion": f"{runtime.name}://{runtime.version}" if runtime else "",
        "kernelVersion": platform.release(),
        "kubeProxyVersion": fedge,
        "kubeletVersion": fedge,
        "machineID": _line("/etc/machine-id"),
        "operatingSystem": "linux",
        "osImage": release.get("PRETTY_NAME", ""),
        "systemUUID": _line("/sys/class/dmi/id/product_uuid"),
    }


def _line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _available_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return LOW_MEMORY_BYTES


def _disk_is_low(data_dir: Path) -> bool:
    stats = os.statvfs(data_dir)
    space = stats.f_bavail / max(1, stats.f_blocks) < LOW_DISK_SHARE
    inodes = stats.f_files > 0 and stats.f_favail / stats.f_files < LOW_INODE_SHARE
    return space or inodes


def _pids_are_low() -> bool:
    limit = int(_line("/proc/sys/kernel/pid_max") or 0)
    used = int((_line("/proc/loadavg").split() or ["0"] * 4)[3].partition("/")[2] or 0)
    return limit > 0 and used > limit * 0.9
