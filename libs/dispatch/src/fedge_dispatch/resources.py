"""What a kind of object must say about itself to travel between the API and the nodes.

A kind is a plugin: a class named by an entry point of the group ``fedge.<service>.resources``
(controller, device), so that a package can add one. Some objects name their node (a pod); they
lead. Others follow: a node needs them because of what leads there (a pod's config maps).
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Protocol, runtime_checkable

from fedge_dispatch.placement import Made
from fedge_kube import KubeClient, Resource
from fedge_objects import JsonObject, NodeName, ObjectKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """An object's status as its node sees it.

    Attributes:
        node: who says so.
        key: which object.
        uid: of the object that the node has, so that a namesake is not touched; may be empty.
        status: the whole status.
        labels: for a node that registers itself.
        finished: a deleted pod has ended, its object may go.
    """

    node: NodeName
    key: ObjectKey
    uid: str
    status: JsonObject
    labels: Mapping[str, str]
    finished: bool


class ResourcePlugin(Protocol):
    """One kind of object."""

    resource: Resource
    leads: bool
    """Whether objects of this kind name a node; if not, they follow those that do."""
    optional: bool
    """Whether an API may do without this kind: as long as it does, others' lists are complete
    without it."""

    def node_of(self, obj: JsonObject) -> NodeName | None:
        """Return the node that the object names, if it names one."""
        ...

    def needs_of(self, obj: JsonObject) -> frozenset[ObjectKey]:
        """Return what else that node needs because of it."""
        ...

    def for_node(self, obj: JsonObject) -> JsonObject:
        """Return the object as a node is given it; ``given_to_nodes`` is what most kinds want."""
        ...

    async def report(self, kube: KubeClient, report: Report) -> None:
        """Write what a node reported to the API.

        Raises:
            fedge_kube.UnreachableError: the API does not answer; the report comes again.
            fedge_kube.RefusedError: the API never takes it.
        """
        ...


@runtime_checkable
class Joining(Protocol):
    """A plugin whose objects go not only where they are named, but where a group of them is needed.

    E.g. all roles of one user: nothing of the user's names them.
    """

    def joins(self, obj: JsonObject) -> frozenset[ObjectKey]:
        """Return the groups (``group_key``) that the object is in: who needs one needs it."""
        ...


class Maker(Protocol):
    """Makes objects of fedge's own for nodes, each of a leading object and of another one."""

    resource: str
    """Of what it makes."""
    leading: str
    """Name of the leading resource."""
    source: Resource
    """Where the others are; they go to no node as they are."""
    field_selector: str
    """Which of them."""

    def saw(self, key: ObjectKey, obj: JsonObject | None, revision: int) -> Iterable[Made]:
        """Take an object of either resource; return what is made of it by now.

        Args:
            key: of the object.
            obj: as it is since ``revision``; None: it is gone.
            revision: of the object, or of its removal.
        """
        ...


class Companion(Protocol):
    """What a service does besides, knowing the objects that it follows."""

    prepared: asyncio.Event
    """Set once it knows what it must know before the first of them is looked at."""

    def saw(self, key: ObjectKey, obj: JsonObject | None) -> None:
        """Take an object as it is now, before its plugin is asked about it; None: it is gone."""
        ...

    async def run(self, kube: KubeClient, listed: asyncio.Event) -> None:
        """Do it until cancelled; ``listed`` is set once all that the API serves was listed."""
        ...


def given_to_nodes(obj: JsonObject) -> JsonObject:
    """Return an object without what changes though nothing changed for its node.

    The status, the API's own bookkeeping and the revision (which the message carries) are left out:
    a node's own report would else come back to it and be written to its flash.
    """
    metadata = {
        name: value
        for name, value in obj["metadata"].items()
        if name not in {"managedFields", "resourceVersion"}
    }
    return {**{k: v for k, v in obj.items() if k != "status"}, "metadata": metadata}


def load_resources(service: str) -> dict[str, ResourcePlugin]:
    """Return the installed plugins of ``service`` by the name of their resource."""
    plugins: dict[str, ResourcePlugin] = {}
    for entry in entry_points(group=f"fedge.{service}.resources"):
        plugin: ResourcePlugin = entry.load()()
        plugins[plugin.resource.name] = plugin
    return plugins


def key_of(resource: Resource, obj: Mapping[str, Any]) -> ObjectKey:
    """Return the key of an object from the API."""
    metadata = obj["metadata"]
    return ObjectKey(resource.name, metadata.get("namespace", ""), metadata["name"])


def revision_of(obj: Mapping[str, Any]) -> int:
    """Return an object's resourceVersion as a number.

    https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions
    """
    return int(obj["metadata"]["resourceVersion"])
