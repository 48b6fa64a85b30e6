"""Fields of a pod that edged does not act on, so that nothing is ignored silently.

Every field of a pod is in one of four sets: what edged acts on, what asks nothing of a node, what
is refused, and what is told in an event when it is set. A test holds the sets against the API's
own list.
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
    "field": frozenset({"apiVersion"}),  # of the pod itself: v1
}
"""Fields that ask nothing of a node."""

REFUSED = {
    "volume": frozenset(
        {
            "awsElasticBlockStore",
            "azureDisk",
            "azureFile",
            "cephfs",
            "cinder",
            "csi",
            "ephemeral",
            "fc",
            "flexVolume",
            "flocker",
            "gcePersistentDisk",
            "gitRepo",
            "glusterfs",
            "image",
            "iscsi",
            "nfs",
            "persistentVolumeClaim",
            "photonPersistentDisk",
            "portworxVolume",
            "quobyte",
            "rbd",
            "scaleIO",
            "storageos",
            "vsphereVolume",
        }
    ),
    "projection": frozenset({"clusterTrustBundle", "podCertificate"}),
    "variable": frozenset({"fileKeyRef"}),
}
"""Fields with which the pod, or its container, waits: an event says why."""

UNHONOURED = {
    "pod": frozenset({"resourceClaims", "resources"}),
    "pod security": frozenset({"seLinuxChangePolicy", "seLinuxOptions", "windowsOptions"}),
    "container": frozenset({"volumeDevices", "restartPolicyRules"}),
    "container security": frozenset({"seLinuxOptions", "windowsOptions"}),
    "lifecycle": frozenset({"stopSignal"}),
    "resources": frozenset({"claims"}),
    "mount": frozenset({"bindMountOptions"}),
    "files": frozenset({"defaultUser"}),
    "file": frozenset({"user"}),
    "http": frozenset({"protocol"}),
    "grpc": frozenset({"mode"}),
    "token": frozenset({"user"}),
}
"""Fields that edged does not act on, by where they are."""

_RESOURCES = frozenset({"cpu", "memory", "ephemeral-storage"})
_FILES = ("configMap", "secret", "downwardAPI", "projected")
_KINDS = ("initContainers", "containers", "ephemeralContainers")


def unhonoured(pod: Pod) -> Iterator[str]:
    """Yield the paths of fields that are set and that edged does not act on."""
    spec: Mapping[str, Any] = pod.raw.get("spec") or {}
    yield from _set(spec, "pod", "spec")
    yield from _set(spec.get("securityContext") or {}, "pod security", "spec.securityContext")
    for volume in spec.get("volumes") or ():
        yield from _of_volume(volume, f"spec.volumes{{{volume['name']}}}")
    for kind in _KINDS:
        for container in spec.get(kind) or ():
            yield from _of_container(container, f"spec.{kind}{{{container['name']}}}")


def _of_volume(volume: Mapping[str, Any], path: str) -> Iterator[str]:
    for kind in _FILES:
        source = volume.get(kind) or {}
        yield from _set(source, "files", f"{path}.{kind}")
        yield from _of_items(source, f"{path}.{kind}")
    for source in (volume.get("projected") or {}).get("sources") or ():
        token = source.get("serviceAccountToken") or {}
        yield from _set(token, "token", f"{path}.serviceAccountToken")
        for name in ("clusterTrustBundle", "podCertificate"):
            if source.get(name):
                yield f"{path}.{name}"
        for kind in _FILES:
            yield from _of_items(source.get(kind) or {}, f"{path}.{kind}")


def _of_items(source: Mapping[str, Any], path: str) -> Iterator[str]:
    for item in source.get("items") or ():
        yield from _set(item, "file", f"{path}.items{{{item['path']}}}")


def _of_action(action: Mapping[str, Any], path: str) -> Iterator[str]:
    yield from _set(action.get("httpGet") or {}, "http", f"{path}.httpGet")
    yield from _set(action.get("grpc") or {}, "grpc", f"{path}.grpc")


def _of_container(container: Mapping[str, Any], path: str) -> Iterator[str]:
    yield from _set(container, "container", path)
    security = container.get("securityContext") or {}
    yield from _set(security, "container security", f"{path}.securityContext")
    lifecycle = container.get("lifecycle") or {}
    yield from _set(lifecycle, "lifecycle", f"{path}.lifecycle")
    for name in ("postStart", "preStop"):
        yield from _of_action(lifecycle.get(name) or {}, f"{path}.lifecycle.{name}")
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        yield from _of_action(container.get(name) or {}, f"{path}.{name}")
    for mount in container.get("volumeMounts") or ():
        yield from _set(mount, "mount", f"{path}.volumeMounts{{{mount['name']}}}")
    resources = container.get("resources") or {}
    yield from _set(resources, "resources", f"{path}.resources")
    for kind in ("requests", "limits"):
        for name in sorted(resources.get(kind) or {}):
            if name not in _RESOURCES and not name.startswith("hugepages-"):
                yield f"{path}.resources.{kind}{{{name}}}"


def _set(values: Mapping[str, Any], where: str, path: str) -> Iterator[str]:
    if not isinstance(values, Mapping):
        yield path
        return
    for name in sorted(UNHONOURED[where]):
        if values.get(name) not in (None, [], {}):
            yield f"{path}.{name}"
