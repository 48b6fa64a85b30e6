"""Which other objects a pod needs on its node.

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
"""

from collections.abc import Iterator
from typing import Any

from fedge_objects._change import JsonObject
from fedge_objects._key import ObjectKey

_CONTAINER_LISTS = ("initContainers", "containers", "ephemeralContainers")


def references(pod: JsonObject) -> frozenset[ObjectKey]:
    """Return the config maps, secrets and the service account that ``pod`` names.

    Looks at volumes (projected sources too), ``envFrom``, ``env[].valueFrom`` of every kind of
    container, image pull secrets and the service account. What is optional counts as well: it may
    come to exist later.
    """
    namespace = pod["metadata"].get("namespace", "default")
    spec: JsonObject = pod.get("spec") or {}
    found = {
        ObjectKey(resource, namespace, name)
        for resource, name in _named(spec)
        if isinstance(name, str) and name
    }
    return frozenset(found)


def _named(spec: JsonObject) -> Iterator[tuple[str, Any]]:
    yield "serviceaccounts", spec.get("serviceAccountName") or "default"
    for secret in spec.get("imagePullSecrets") or ():
        yield "secrets", secret.get("name")
    for volume in spec.get("volumes") or ():
        yield from _of_volume_source(volume)
        for source in (volume.get("projected") or {}).get("sources") or ():
            yield from _of_volume_source(source)
    for containers in _CONTAINER_LISTS:
        for container in spec.get(containers) or ():
            yield from _of_container(container)


def _of_volume_source(source: JsonObject) -> Iterator[tuple[str, Any]]:
    if config_map := source.get("configMap"):
        yield "configmaps", config_map.get("name")
    if secret := source.get("secret"):
        # a volume says secretName, a projected source says name
        yield "secrets", secret.get("secretName") or secret.get("name")


def _of_container(container: JsonObject) -> Iterator[tuple[str, Any]]:
    for source in container.get("envFrom") or ():
        yield "configmaps", (source.get("configMapRef") or {}).get("name")
        yield "secrets", (source.get("secretRef") or {}).get("name")
    for variable in container.get("env") or ():
        value_from = variable.get("valueFrom") or {}
        yield "configmaps", (value_from.get("configMapKeyRef") or {}).get("name")
        yield "secrets", (value_from.get("secretKeyRef") or {}).get("name")
