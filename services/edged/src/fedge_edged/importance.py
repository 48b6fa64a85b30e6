"""Which pods are spared longest.

https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/
https://kubernetes.io/docs/tasks/administer-cluster/guaranteed-scheduling-critical-addon-pods/
"""

from fedge_edged.pods import Pod

SYSTEM_CRITICAL_PRIORITY = 2_000_000_000
SOURCE = "kubernetes.io/config.source"
MIRROR = "kubernetes.io/config.mirror"
_CLASSES = {
    "system-cluster-critical": SYSTEM_CRITICAL_PRIORITY,
    "system-node-critical": SYSTEM_CRITICAL_PRIORITY + 1000,
}
"""The two classes that every cluster has; of others only the API server knows the value."""


def is_static(pod: Pod) -> bool:
    """Whether the pod comes from a file of the node and not from the API.

    https://kubernetes.io/docs/tasks/configure-pod-container/static-pod/
    """
    return pod.metadata.annotations.get(SOURCE, "api") != "api"


def priority(pod: Pod) -> int:
    """Return the pod's priority; the higher, the more important."""
    if pod.spec.priority is not None:
        return pod.spec.priority
    return _CLASSES.get(pod.spec.priority_class_name, 0)


def is_critical(pod: Pod) -> bool:
    """Whether the node has to run the pod even when it is short of something."""
    return (
        is_static(pod)
        or MIRROR in pod.metadata.annotations
        or priority(pod) >= SYSTEM_CRITICAL_PRIORITY
    )
