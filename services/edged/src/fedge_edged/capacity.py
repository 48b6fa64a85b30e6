"""How much the node has, and how much of it is for pods.

https://kubernetes.io/docs/tasks/administer-cluster/reserve-compute-resources/
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from fedge_edged.amounts import Amounts, as_binary, total
from fedge_edged.limits import memory_of_node
from fedge_edged.pressure import Signal, Threshold

DEFAULT_MAX_PODS = 110
_HUGE_PAGES = Path("/sys/kernel/mm/hugepages")
_RESERVING = {Signal.MEMORY: "memory", Signal.NODEFS: "ephemeral-storage"}
"""What is kept free lest pods be evicted is not for pods either."""


def capacity(nodefs: Path, *, max_pods: int, huge_pages: Path = _HUGE_PAGES) -> dict[str, int]:
    """Return what the node has.

    Args:
        nodefs: on the file system of the pods' volumes and logs.
        max_pods: how many pods it may run.
        huge_pages: where the kernel tells of them.
    """
    found = {
        "cpu": len(os.sched_getaffinity(0)) * 1000,
        "memory": memory_of_node(),
        "ephemeral-storage": shutil.disk_usage(nodefs).total,
        "pods": max_pods,
    }
    for folder in sorted(huge_pages.glob("hugepages-*kB")):
        size = int(folder.name.removeprefix("hugepages-").removesuffix("kB")) * 1024
        count = int((folder / "nr_hugepages").read_text())
        found[f"hugepages-{as_binary(size)}"] = size * count
    return found


def allocatable(
    has: Amounts, *, reserved: Iterable[Amounts], thresholds: Iterable[Threshold]
) -> dict[str, int]:
    """Return what is for pods: the capacity less what is reserved and what has to stay free."""
    kept = total(
        [
            *reserved,
            *(
                {name: each.value(has[name])}
                for each in thresholds
                if (name := _RESERVING.get(each.signal)) is not None
            ),
            {"memory": sum(v for name, v in has.items() if name.startswith("hugepages-"))},
        ]
    )
    return {name: max(0, value - kept.get(name, 0)) for name, value in has.items()}
