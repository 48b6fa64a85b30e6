"""Fields of a pod that edged does not act on yet, so that nothing is ignored silently."""

from collections.abc import Iterator, Mapping
from typing import Any

from fedge_edged.pods import Pod

_POD = (
    "activeDeadlineSeconds",
    "ephemeralContainers",
    "hostAliases",
    "hostUsers",
    "readinessGates",
    "resourceClaims",
    "setHostnameAsFQDN",
    "subdomain",
)
_POD_SECURITY = (
    "appArmorProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "seLinuxOptions",
    "seccompProfile",
    "supplementalGroupsPolicy",
)
_CONTAINER = (
    "lifecycle",
    "livenessProbe",
    "readinessProbe",
    "resizePolicy",
    "startupProbe",
    "volumeDevices",
)
_CONTAINER_SECURITY = (
    "appArmorProfile",
    "procMount",
    "seLinuxOptions",
    "seccompProfile",
)
_MOUNT = ("mountPropagation", "recursiveReadOnly", "subPathExpr")
_DEFAULTS = {
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
}


def unhonoured(pod: Pod) -> Iterator[str]:
    """Yield the paths of fields that are set and that edged does not act on."""
    spec: Mapping[str, Any] = pod.raw.get("spec") or {}
    yield from _set(spec, _POD, "spec")
    yield from _set(spec.get("securityContext") or {}, _POD_SECURITY, "spec.securityContext")
    if spec.get("dnsConfig") and spec.get("dnsPolicy") != "None":
        yield "spec.dnsConfig"
    for volume in spec.get("volumes") or ():
        path = f"spec.volumes{{{volume['name']}}}"
        if (volume.get("emptyDir") or {}).get("sizeLimit"):
            yield f"{path}.emptyDir.sizeLimit"
        for source in (volume.get("projected") or {}).get("sources") or ():
            yield from _set(source, ("serviceAccountToken", "clusterTrustBundle"), path)
    for kind in ("initContainers", "containers"):
        for container in spec.get(kind) or ():
            yield from _of_container(container, f"spec.{kind}{{{container['name']}}}")
            if kind == "initContainers" and container.get("restartPolicy"):
                yield f"spec.{kind}{{{container['name']}}}.restartPolicy"


def _of_container(container: Mapping[str, Any], path: str) -> Iterator[str]:
    yield from _set(container, _CONTAINER, path)
    security = container.get("securityContext") or {}
    yield from _set(security, _CONTAINER_SECURITY, f"{path}.securityContext")
    for name, default in _DEFAULTS.items():
        if container.get(name, default) != default:
            yield f"{path}.{name}"
    resources = container.get("resources") or {}
    for kind in ("requests", "limits"):
        names = sorted((resources.get(kind) or {}).keys() - {"cpu", "memory"})
        yield from (f"{path}.resources.{kind}{{{name}}}" for name in names)
    for mount in container.get("volumeMounts") or ():
        yield from _set(mount, _MOUNT, f"{path}.volumeMounts{{{mount['name']}}}")


def _set(values: Mapping[str, Any], names: tuple[str, ...], path: str) -> Iterator[str]:
    return (f"{path}.{name}" for name in names if values.get(name))
