"""Whether the node takes a pod that is new to it, with the kubelet's reasons and words.

Pure. A refused pod has failed for good: who made it is told, and may make another elsewhere. What
runs already is never asked again, whatever has become of the node since.

https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/
https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/
https://kubernetes.io/docs/tasks/administer-cluster/sysctl-cluster/
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fedge_edged.amounts import Amounts, pod_requests, total
from fedge_edged.importance import is_critical, is_static
from fedge_edged.limits import qos_class
from fedge_edged.pods import Pod
from fedge_edged.security import refusal as security_refusal
from fedge_edged.selectors import matches, tolerates, untolerated
from fedge_edged.verdicts import Verdict
from fedge_objects import JsonObject

_OS = "kubernetes.io/os"
_SYSTEM = "linux"
_FIRST = ("cpu", "memory", "ephemeral-storage")
_LOW_MEMORY = {"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule"}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """The node, as far as it matters for whether a pod may run on it.

    Attributes:
        name: the node's.
        labels: the node's.
        taints: as in its spec.
        allocatable: what is for pods.
        pressures: its conditions of shortage that hold.
        is_shutting_down: whether it is about to go down.
        has_apparmor: whether the kernel has AppArmor.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[JsonObject] = ()
    allocatable: Amounts = field(default_factory=dict)
    pressures: Sequence[str] = ()
    is_shutting_down: bool = False
    has_apparmor: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a pod is refused, in the kubelet's words."""

    reason: str
    message: str

    def verdict(self) -> Verdict:
        """Return what becomes of the pod."""
        return Verdict(reason=self.reason, message=f"Pod was rejected: {self.message}")


Check = Callable[[Pod, NodeView, Collection[Pod]], Refusal | None]


def admit(pod: Pod, node: NodeView, active: Collection[Pod]) -> Refusal | None:
    """Return why the node does not take a pod, or None if it does.

    Args:
        pod: new to the node.
        node: as it is now.
        active: the other pods of the node that have not ended.
    """
    for check in CHECKS:
        refusal = check(pod, node, active)
        if refusal is not None:
            return refusal
    return None


def _pressure(pod: Pod, node: NodeView, _active: Collection[Pod]) -> Refusal | None:
    """Under a shortage nothing more is taken, but what the node itself depends on.

    If only memory is short, a pod that asked for some may use it.
    """
    if not node.pressures or is_critical(pod):
        return None
    if list(node.pressures) == ["MemoryPressure"] and (
        qos_class(pod) != "BestEffort" or tolerates(pod.spec.tolerations, _LOW_MEMORY)
    ):
        return None
    return Refusal("Evicted", f"The node had condition: [{' '.join(node.pressures)}]. ")


def _security(pod: Pod, node: NodeView, _active: Collection[Pod]) -> Refusal | None:
    refused = security_refusal(pod, apparmor=node.has_apparmor)
    return Refusal(refused.reason, refused.message) if refused is not None else None


def _system(pod: Pod, node: NodeView, _active: Collection[Pod]) -> Refusal | None:
    wanted = pod.metadata.labels.get(_OS)
    if wanted is not None and wanted != node.labels.get(_OS, _SYSTEM):
        return Refusal(
            "PodOSSelectorNodeLabelDoesNotMatch",
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
        )
    if pod.spec.os.name not in {"", _SYSTEM}:
        return Refusal(
            "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"
        )
    return None


def _enough(pod: Pod, node: NodeView, active: Collection[Pod]) -> Refusal | None:
    """There is as much of everything as the pod asks for.

    What the node has never heard of is not its own to give (an extended resource of the cluster)
    and is not asked for here.
    """
    has, asked = node.allocatable, pod_requests(pod)
    if "pods" in has and len(active) + 1 > has["pods"]:
        return _out_of("pods", 1, len(active), has["pods"])
    used = total(pod_requests(each) for each in active)
    for name in (*_FIRST, *sorted(asked.keys() - set(_FIRST))):
        is_strange = name not in has and "/" in name
        free = has.get(name, 0) - used.get(name, 0)
        if not is_strange and 0 < asked.get(name, 0) > free:
            return _out_of(name, asked[name], used.get(name, 0), has.get(name, 0))
    return None


def _out_of(name: str, requested: int, used: int, capacity: int) -> Refusal:
    return Refusal(
        f"OutOf{name}",
        f"Node didn't have enough resource: {name}, requested: {requested}, used: {used}, "
        f"capacity: {capacity}",
    )


def _affinity(pod: Pod, node: NodeView, _active: Collection[Pod]) -> Refusal | None:
    if matches(pod, name=node.name, labels=node.labels):
        return None
    return _predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")


def _name(pod: Pod, node: NodeView, _active: Collection[Pod]) -> Refusal | None:
    if pod.spec.node_name in {"", node.name}:
        return None
    return _predicate("NodeName", "node(s) didn't match the requested node name")


def _ports(pod: Pod, _node: NodeView, active: Collection[Pod]) -> Refusal | None:
    wanted = list(_host_ports(pod))
    if not wanted:
        return None
    for other in active:
        for taken in _host_ports(other):
            if any(_collide(port, taken) for port in wanted):
                return _predicate(
                    "NodePorts", "node(s) didn't have free ports for the requested pod ports"
                )
    return None


def _host_ports(pod: Pod) -> Iterator[tuple[str, int, str]]:
    sidecars = [each for each in pod.spec.init_containers if each.is_sidecar]
    for container in (*sidecars, *pod.spec.containers):
        for port in container.ports:
            number = port.host_port or (port.container_port if pod.spec.host_network else 0)
            if number:
                yield port.protocol, number, port.host_ip or "0.0.0.0"  # noqa: S104 - compared


def _collide(one: tuple[str, int, str], other: tuple[str, int, str]) -> bool:
    everywhere = "0.0.0.0"  # noqa: S104 - compared only
    return one[:2] == other[:2] and (one[2] == other[2] or everywhere in {one[2], other[2]})


def _taints(pod: Pod, node: NodeView, _active: Collection[Pod]) -> Refusal | None:
    """Only what drives pods away concerns a node; of its own pods from files it keeps all."""
    if is_static(pod):
        return None
    if untolerated(node.taints, pod.spec.tolerations, effect="NoExecute") is None:
        return None
    return _predicate("TaintToleration", "node(s) had taints that the pod didn't tolerate")


def _predicate(name: str, text: str) -> Refusal:
    return Refusal(name, f"Predicate {name} failed: {text}")


def _shutdown(_pod: Pod, node: NodeView, _active: Collection[Pod]) -> Refusal | None:
    if not node.is_shutting_down:
        return None
    return Refusal("NodeShutdown", "Pod was rejected as the node is shutting down.")


CHECKS: tuple[Check, ...] = (
    _pressure,
    _security,
    _system,
    _enough,
    _affinity,
    _name,
    _ports,
    _taints,
    _shutdown,
)
"""In the kubelet's order: the first refusal is told."""
