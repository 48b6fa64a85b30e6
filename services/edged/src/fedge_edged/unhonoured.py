"""Fields of a pod that edged does not act on, so that nothing is ignored silently.

Every field of a pod is in one of three sets: what edged acts on, what asks nothing of a node, and
what is told in an event when it is set. A test holds the sets against the API's own list.
https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
"""

from collections.abc import Iterator, Mapping
from typing import Any

from fedge_edged.pods import Pod

NOT_A_NODES = {
    "pod": frozenset(
        {
            "automountServiceAccountToken",  # the API server adds the volume
            "enableServiceLinks",  # services are known where a proxy is
            "evictionResponders",
            "nodeName",
            "preemptionPolicy",
            "schedulerName",
            "schedulingGates",
            "schedulingGroup",
            "serviceAccount",  # the old name of serviceAccountName
            "topologySpreadConstraints",
        }
    ),
    "container": frozenset({"resizePolicy"}),  # that nothing is resized is told when it is asked
}
"""Fields that ask nothing of a node."""

UNHONOURED = {
    "pod": frozenset({"hostUsers", "resourceClaims", "resources", "hostnameOverride"}),
    "pod security": frozenset(
        {"seLinuxChangePolicy", "seLinuxOptions", "supplementalGroupsPolicy", "windowsOptions"}
    ),
    "container": frozenset({"volumeDevices", "restartPolicyRules"}),
    "container security": frozenset({"seLinuxOptions", "windowsOptions"}),
    "lifecycle": frozenset({"stopSignal"}),
    "mount": frozenset({"bindMountOptions"}),
    "token": frozenset({"user"}),
}
"""Fields that edged does not act on, by where they are."""

_RESOURCES = frozenset({"cpu", "memory", "ephemeral-storage"})
_DEFAULTS = {"supplementalGroupsPolicy": "Merge", "hostUsers": True}
_KINDS = ("initContainers", "containers", "ephemeralContainers")


def unhonoured(pod: Pod) -> Iterator[str]:
    """Yield the paths of fields that are set and that edged does not act on."""
    spec: Mapping[str, Any] = pod.raw.get("spec") or {}
    yield from _set(spec, "pod", "spec")
    yield from _set(spec.get("securityContext") or {}, "pod security", "spec.securityContext")
    for volume in spec.get("volumes") or ():
        path = f"spec.volumes{{{volume['name']}}}"
        for source in (volume.get("projected") or {}).get("sources") or ():
            token = source.get("serviceAccountToken") or {}
            yield from _set(token, "token", f"{path}.serviceAccountToken")
            for name in ("serviceAccountToken", "clusterTrustBundle", "podCertificate"):
                if source.get(name):
                    yield f"{path}.{name}"
    for kind in _KINDS:
        for container in spec.get(kind) or ():
            yield from _of_container(container, f"spec.{kind}{{{container['name']}}}")


def _of_container(container: Mapping[str, Any], path: str) -> Iterator[str]:
    yield from _set(container, "container", path)
    security = container.get("securityContext") or {}
    yield from _set(security, "container security", f"{path}.securityContext")
    yield from _set(container.get("lifecycle") or {}, "lifecycle", f"{path}.lifecycle")
    for mount in container.get("volumeMounts") or ():
        yield from _set(mount, "mount", f"{path}.volumeMounts{{{mount['name']}}}")
    resources = container.get("resources") or {}
    if resources.get("claims"):
        yield f"{path}.resources.claims"
    for kind in ("requests", "limits"):
        for name in sorted(resources.get(kind) or {}):
            if name not in _RESOURCES and not name.startswith("hugepages-"):
                yield f"{path}.resources.{kind}{{{name}}}"


def _set(values: Mapping[str, Any], where: str, path: str) -> Iterator[str]:
    for name in sorted(UNHONOURED[where]):
        if values.get(name) not in (None, [], {}, _DEFAULTS.get(name)):
            yield f"{path}.{name}"
