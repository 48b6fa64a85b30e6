"""What the node says about itself.

https://kubernetes.io/docs/reference/node/node-status/
"""

import platform
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from fedge_cri import Image, RuntimeInfo
from fedge_edged.amounts import Amounts, as_quantities
from fedge_edged.timestamps import from_seconds
from fedge_objects import JsonObject

KUBERNETES_VERSION = "v1.32.0"
"""The version whose behaviour edged follows."""
MAX_IMAGES = 50
"""Told of, the largest first; the kubelet's bound."""

_SHORTAGES = {
    "MemoryPressure": (
        ("KubeletHasSufficientMemory", "sufficient memory available"),
        ("KubeletHasInsufficientMemory", "insufficient memory available"),
    ),
    "DiskPressure": (
        ("KubeletHasNoDiskPressure", "no disk pressure"),
        ("KubeletHasDiskPressure", "disk pressure"),
    ),
    "PIDPressure": (
        ("KubeletHasSufficientPID", "sufficient PID available"),
        ("KubeletHasInsufficientPID", "insufficient PID available"),
    ),
}
"""Reasons and messages: when all is well, and when not."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the status is made of.

    Attributes:
        name: the node's.
        address: the node's.
        capacity: what the node has.
        allocatable: what of it is for pods.
        runtime: the container runtime; None if it does not answer.
        unmet: the runtime's conditions that do not hold.
        images: on the node.
        pressures: the conditions of shortage that hold.
        is_shutting_down: whether the node is about to go down.
    """

    name: str
    address: str
    capacity: Amounts
    allocatable: Amounts
    runtime: RuntimeInfo | None
    unmet: Mapping[str, str] = field(default_factory=dict)
    images: Sequence[Image] = ()
    pressures: Sequence[str] = ()
    is_shutting_down: bool = False


def status_of(seen: Seen, *, now: float, previous: JsonObject | None) -> JsonObject:
    """Return the node's whole status.

    Args:
        seen: what it is made of.
        now: seconds since the epoch.
        previous: the status last reported; transition times are kept from it.
    """
    return {
        "addresses": [
            {"type": "InternalIP", "address": seen.address},
            {"type": "Hostname", "address": seen.name},
        ],
        "capacity": as_quantities(seen.capacity),
        "allocatable": as_quantities(seen.allocatable),
        "conditions": _conditions(seen, now, previous),
        "images": [
            {
                "names": sorted({*image.digests, *image.tags}),
                "sizeBytes": image.size_bytes,
            }
            for image in sorted(seen.images, key=lambda each: -each.size_bytes)
            if image.tags or image.digests
        ][:MAX_IMAGES],
        "nodeInfo": _node_info(seen.runtime),
    }


def _conditions(seen: Seen, now: float, previous: JsonObject | None) -> list[JsonObject]:
    wanted = {kind: _shortage(kind, is_short=kind in seen.pressures) for kind in _SHORTAGES}
    wanted["Ready"] = _ready(seen)
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


def _shortage(kind: str, *, is_short: bool) -> tuple[bool, str, str]:
    reason, message = _SHORTAGES[kind][is_short]
    return is_short, reason, f"kubelet has {message}"


def _ready(seen: Seen) -> tuple[bool, str, str]:
    problems = []
    if seen.runtime is None:
        problems.append("container runtime is down")
    problems += [f"{kind} is not met: {text}" for kind, text in seen.unmet.items()]
    if seen.is_shutting_down:
        problems.append("node is shutting down")
    if not problems:
        return True, "KubeletReady", "kubelet is posting ready status"
    return False, "KubeletNotReady", "; ".join(problems)


def _node_info(runtime: RuntimeInfo | None) -> JsonObject:
    try:
        release = platform.freedesktop_os_release()
    except OSError:  # a small system may have no such file
        release = {}
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
