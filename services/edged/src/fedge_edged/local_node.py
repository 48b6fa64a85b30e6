"""The node that edged runs on: what it has, how it is doing, and how the cluster has marked it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedge_cri import Image, RuntimeInfo
from fedge_edged import node_status
from fedge_edged.admission import NodeView
from fedge_edged.amounts import Amounts
from fedge_edged.capacity import allocatable, capacity
from fedge_edged.ports import Objects
from fedge_edged.pressure import Pressure, Threshold
from fedge_objects import JsonObject, NodeName, ObjectKey

_APPARMOR = Path("/sys/module/apparmor/parameters/enabled")


@dataclass(slots=True, kw_only=True)
class LocalNode:
    """What is known of the node.

    Attributes:
        name: the node's.
        address: by which it reaches others.
        nodefs: on the file system of the pods' volumes and logs.
        objects: what the node was given, its own object among it.
        pressure: what it is short of.
        reserved: what is not for pods.
        thresholds: what has to stay free.
        max_pods: how many pods it may run.
        is_shutting_down: whether it is about to go down.
    """

    name: NodeName
    address: str
    nodefs: Path
    objects: Objects
    pressure: Pressure
    reserved: Sequence[Amounts] = ()
    thresholds: Sequence[Threshold] = ()
    max_pods: int
    is_shutting_down: bool = False
    _capacity: Mapping[str, int] = field(default_factory=dict)

    def capacity(self) -> Amounts:
        """Return what the node has; looked at once, it does not change while edged runs."""
        if not self._capacity:
            self._capacity = capacity(self.nodefs, max_pods=self.max_pods)
        return self._capacity

    def allocatable(self) -> Amounts:
        """Return what of it is for pods."""
        return allocatable(self.capacity(), reserved=self.reserved, thresholds=self.thresholds)

    def view(self) -> NodeView:
        """Return the node as admission sees it.

        Labels and taints are those that the cluster last told; before it ever did, the node's own.
        """
        told = self.objects.get(ObjectKey("nodes", "", self.name)) or {}
        labels = (told.get("metadata") or {}).get("labels") or {}
        return NodeView(
            name=self.name,
            labels={**node_status.labels(self.name), **labels},
            taints=(told.get("spec") or {}).get("taints") or (),
            allocatable=self.allocatable(),
            pressures=self.pressure.conditions,
            is_shutting_down=self.is_shutting_down,
            has_apparmor=_has_apparmor(),
        )

    def status(
        self,
        *,
        runtime: RuntimeInfo | None,
        unmet: Mapping[str, str],
        images: Sequence[Image],
        now: float,
        previous: JsonObject | None,
    ) -> JsonObject:
        """Return the node's status; see ``node_status.status_of``."""
        seen = node_status.Seen(
            name=self.name,
            address=self.address,
            capacity=self.capacity(),
            allocatable=self.allocatable(),
            runtime=runtime,
            unmet=unmet,
            images=images,
            pressures=self.pressure.conditions,
            is_shutting_down=self.is_shutting_down,
        )
        return node_status.status_of(seen, now=now, previous=previous)


def _has_apparmor() -> bool:
    try:
        return _APPARMOR.read_text().startswith("Y")
    except OSError:  # the kernel was made without it
        return False
