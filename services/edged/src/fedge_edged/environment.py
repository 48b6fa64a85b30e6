"""A container's environment and command line.

https://kubernetes.io/docs/tasks/inject-data-application/define-environment-variable-container/
"""

import base64
import math
import re
from collections.abc import Mapping

from fedge_edged.api_access import NO_ACCESS, ApiAccess
from fedge_edged.errors import ConfigError
from fedge_edged.pods import Container, EnvFromSource, EnvVarSource, Pod, ResourceReference
from fedge_edged.ports import Objects
from fedge_objects import JsonObject, ObjectKey, parse_quantity

_REFERENCE = re.compile(r"\$(\$|\(([^)]*)\))")
_NAME = re.compile(r"[ -<>-~]+")
"""Of printable ASCII, all but ``=``."""
_SUBSCRIPT = re.compile(r"^metadata\.(labels|annotations)\['([^']*)'\]$")


def expand(text: str, known: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` by its value; ``$$`` is a dollar; what is unknown stays as it is."""

    def replacement(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return known.get(match[2], match[0])

    return _REFERENCE.sub(replacement, text)


class Environment:
    """Computes environments; values come from the pod, its node and the node's objects."""

    def __init__(
        self,
        objects: Objects,
        *,
        node: Mapping[str, str] | None = None,
        access: ApiAccess = NO_ACCESS,
    ) -> None:
        """Take what values come from.

        Args:
            objects: the node's.
            node: what of its resources pods may use, by name.
            access: to the edge's API, of which every container is told.
        """
        self._objects = objects
        self._access = access
        self.node = node or {}

    def of(self, pod: Pod, container: Container, facts: Mapping[str, str]) -> dict[str, str]:
        """Return the variables of ``container`` in order.

        Args:
            pod: the container's pod.
            container: which one.
            facts: values of ``status.*`` field paths that are known by now.

        Raises:
            ConfigError: something that is referred to is missing.
        """
        env: dict[str, str] = dict(self._access.environment())
        for source in container.env_from:
            for name, value in self._all_of(pod, source).items():
                if _NAME.fullmatch(source.prefix + name):
                    env[source.prefix + name] = value
        for variable in container.env:
            if variable.value_from is None:
                env[variable.name] = expand(variable.value, env)
                continue
            found = self._value(pod, container, variable.value_from, facts)
            if found is not None:
                env[variable.name] = found
        return env

    def _all_of(self, pod: Pod, source: EnvFromSource) -> dict[str, str]:
        namespace = pod.metadata.namespace
        if (ref := source.config_map_ref) is not None:
            obj = self._find("configmaps", namespace, ref.name, optional=ref.optional)
            return dict((obj or {}).get("data") or {})
        if (ref := source.secret_ref) is not None:
            obj = self._find("secrets", namespace, ref.name, optional=ref.optional)
            return {name: _decode(value) for name, value in ((obj or {}).get("data") or {}).items()}
        return {}

    def _value(
        self, pod: Pod, container: Container, source: EnvVarSource, facts: Mapping[str, str]
    ) -> str | None:
        namespace = pod.metadata.namespace
        if source.field_ref is not None:
            return field_value(pod, source.field_ref.field_path, facts)
        if (ref := source.resource_field_ref) is not None:
            return resource_value(pod, ref, container, node=self.node)
        for resource, key_ref in (
            ("configmaps", source.config_map_key_ref),
            ("secrets", source.secret_key_ref),
        ):
            if key_ref is None:
                continue
            obj = self._find(resource, namespace, key_ref.name, optional=key_ref.optional)
            data = (obj or {}).get("data") or {}
            if key_ref.key in data:
                value = str(data[key_ref.key])
                return _decode(value) if resource == "secrets" else value
            if key_ref.optional:
                return None
            kind = "ConfigMap" if resource == "configmaps" else "Secret"
            raise ConfigError(
                f"couldn't find key {key_ref.key} in {kind} {namespace}/{key_ref.name}"
            )
        raise ConfigError("the value is of a source that this node does not support")

    def _find(
        self, resource: str, namespace: str, name: str, *, optional: bool
    ) -> JsonObject | None:
        obj = self._objects.get(ObjectKey(resource, namespace, name))
        if obj is None and not optional:
            kind = "configmap" if resource == "configmaps" else "secret"
            raise ConfigError(f'{kind} "{name}" not found')
        return obj


def field_value(pod: Pod, path: str, facts: Mapping[str, str]) -> str:
    """Return a field of the pod as text.

    https://kubernetes.io/docs/concepts/workloads/pods/downward-api/#available-fields

    Raises:
        ConfigError: the path is none of those that can be had.
    """
    metadata = pod.metadata
    fields = {
        "metadata.name": metadata.name,
        "metadata.namespace": metadata.namespace,
        "metadata.uid": metadata.uid,
        "metadata.labels": _lines(metadata.labels),
        "metadata.annotations": _lines(metadata.annotations),
        "spec.nodeName": pod.spec.node_name,
        "spec.serviceAccountName": pod.spec.service_account_name,
        **dict.fromkeys(("status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"), ""),
        **facts,
    }
    if match := _SUBSCRIPT.match(path):
        values = metadata.labels if match[1] == "labels" else metadata.annotations
        return values.get(match[2], "")
    if path not in fields:
        raise ConfigError(f"unsupported fieldPath: {path}")
    return fields[path]


def _lines(values: Mapping[str, str]) -> str:
    return "\n".join(f'{name}="{_escape(value)}"' for name, value in sorted(values.items()))


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def resource_value(
    pod: Pod,
    ref: ResourceReference,
    own: Container | None = None,
    *,
    node: Mapping[str, str] | None = None,
) -> str:
    """Return a container's request or limit in whole divisors, rounded up.

    A container without a limit may use what the node has.
    https://kubernetes.io/docs/concepts/workloads/pods/downward-api/#fallback-information-for-resource-limits

    Args:
        pod: the container's pod.
        ref: what is asked for, of the container that it names or else of ``own``.
        own: the container that asks; a volume belongs to none and has to name one.
        node: what of its resources the node gives to pods.

    Raises:
        ConfigError: no such container.
    """
    container = pod.find_container(ref.container_name) if ref.container_name else own
    if container is None:
        raise ConfigError(f"container {ref.container_name} not found")
    kind, _, name = ref.resource.partition(".")
    resources = container.resources
    values: Mapping[str, str | int | float]
    values = resources.limits if kind == "limits" else resources.requests
    if name not in values and kind == "limits":
        values = node or {}
    elif name not in values:
        values = resources.limits  # a request that is left out is the limit
    if name not in values:
        return "0"
    divisor = parse_quantity(ref.divisor) or parse_quantity(1)
    return str(math.ceil(parse_quantity(values[name]) / divisor))


def _decode(value: str) -> str:
    return base64.b64decode(value).decode(errors="surrogateescape")
