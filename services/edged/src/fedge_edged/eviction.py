"""Who has to go when the node runs short of something, and with which words.

Pure: the kubelet's order and messages.

https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#pod-selection-for-kubelet-eviction
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fedge_edged.amounts import amount, as_binary, pod_requests
from fedge_edged.importance import is_critical, priority
from fedge_edged.limits import pod_total
from fedge_edged.pods import Pod
from fedge_edged.pressure import Shortage
from fedge_edged.verdicts import Verdict

EVICTED = "Evicted"
GRACE_SECONDS = 1
"""The kubelet's for hard thresholds: the node cannot wait."""
STORAGE = "ephemeral-storage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a pod uses of one resource, in bytes or pieces.

    Attributes:
        pod: the pod.
        containers: by name.
        volumes: beside its containers.
    """

    pod: Pod
    containers: Mapping[str, int] = field(default_factory=dict)
    volumes: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.containers.values()) + self.volumes


def rank(usages: Iterable[Usage], resource: str) -> list[Usage]:
    """Return pods in the order in which they go; those that have to stay are left out.

    First who uses more than it asked for, then who matters less, then who is most above its
    request.
    """

    def place(usage: Usage) -> tuple[bool, int, int]:
        above = usage.total - pod_requests(usage.pod).get(resource, 0)
        return above <= 0, priority(usage.pod), -above

    return sorted((each for each in usages if not is_critical(each.pod)), key=place)


def verdict(message: str) -> Verdict:
    """Return what becomes of a pod that is evicted."""
    return Verdict(reason=EVICTED, message=message, disrupts=True)


def shortage_message(usage: Usage, shortage: Shortage) -> str:
    """Return what a pod is told that goes because the node is short of something."""
    resource = shortage.signal.resource
    text = (
        f"The node was low on resource: {resource}. "
        f"Threshold quantity: {as_binary(shortage.threshold)}, "
        f"available: {as_binary(shortage.available)}. "
    )
    for name, used in usage.containers.items():
        container = usage.pod.find_container(name)
        asked = container.resources.requests.get(resource, "0") if container is not None else "0"
        if used > amount(resource, asked):
            text += (
                f"Container {name} was using {as_binary(used)}, request is {asked}, "
                f"has larger consumption of {resource}. "
            )
    return text


def limits_storage(pod: Pod) -> bool:
    """Whether any of a pod's containers has a limit of what it may write to the node's disk."""
    return any(STORAGE in each.resources.limits for each in pod.spec.containers)


def over_storage_limit(usage: Usage) -> str | None:
    """Return what to tell if a pod has written more to the node's disk than it may.

    https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/#resource-emphemeralstorage-consumption
    """
    for name, used in usage.containers.items():
        container = usage.pod.find_container(name)
        limit = container.resources.limits.get(STORAGE) if container is not None else None
        if limit is not None and used > amount(STORAGE, limit):
            return f'Container {name} exceeded its local ephemeral storage limit "{limit}". '
    most = int(pod_total(usage.pod, STORAGE, limits=True))
    if limits_storage(usage.pod) and usage.total > most:
        return (
            "Pod ephemeral local storage usage exceeds the total limit of containers "
            f"{as_binary(most)}. "
        )
    return None
