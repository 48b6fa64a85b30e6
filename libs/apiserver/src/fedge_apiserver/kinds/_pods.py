"""Pods: defaults, rules, and what of a pod may change.

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
https://kubernetes.io/docs/concepts/workloads/pods/#pod-update-and-replacement
"""

import copy
from collections.abc import Iterator
from typing import Any, Final

from fedge_apiserver.errors import Causes
from fedge_apiserver.kinds._metadata import check_label, check_labels, check_subdomain
from fedge_apiserver.kinds._rules import Rules
from fedge_objects import JsonObject, parse_quantity

_TOLERATED_SECONDS: Final = 300
_NOT_READY: Final = "node.kubernetes.io/not-ready"
_UNREACHABLE: Final = "node.kubernetes.io/unreachable"
_RESTART_POLICIES: Final = ("Always", "Never", "OnFailure")
_PULL_POLICIES: Final = ("Always", "IfNotPresent", "Never")
_DNS_POLICIES: Final = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
_PROTOCOLS: Final = ("SCTP", "TCP", "UDP")
_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")
_SHORTEST_TOKEN_SECONDS: Final = 600
_MOST_PORT: Final = 65535
_FILE_MODE: Final = 0o644
_CONTAINER_LISTS: Final = ("initContainers", "containers", "ephemeralContainers")
_MUTABLE: Final = (
    "pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only "
    "additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set "
    "to 1 if it was previously negative)"
)


def default_spec(spec: dict[str, Any]) -> None:
    """Set what is absent in a pod's spec, or in the spec of a template of pods."""
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("securityContext", {})
    spec.setdefault("schedulerName", "default-scheduler")
    for field in _CONTAINER_LISTS:
        for container in spec.get(field) or ():
            _default_container(container, is_host_network=bool(spec.get("hostNetwork")))
    for volume in spec.get("volumes") or ():
        _default_volume(volume)


def _default(value: JsonObject) -> None:
    spec: dict[str, Any] = value.setdefault("spec", {})
    default_spec(spec)
    spec.setdefault("enableServiceLinks", True)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    spec.setdefault("priority", 0)
    account = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
    spec["serviceAccountName"] = spec["serviceAccount"] = account
    _add_tolerations(spec)


def _add_tolerations(spec: dict[str, Any]) -> None:
    """Let the pod stay for a while on a node that is lost, unless it says otherwise.

    A cluster does so at each write, so that a manifest without them replaces a pod that has them.
    """
    tolerations: list[dict[str, Any]] = spec.setdefault("tolerations", [])
    for key in (_NOT_READY, _UNREACHABLE):
        if not any(_tolerates_eviction(toleration, key) for toleration in tolerations):
            tolerations.append(
                {
                    "key": key,
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": _TOLERATED_SECONDS,
                }
            )


def _default_container(container: dict[str, Any], *, is_host_network: bool) -> None:
    container.setdefault("resources", {})
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    if image := container.get("image"):
        container.setdefault("imagePullPolicy", "Always" if _is_latest(image) else "IfNotPresent")
    for port in container.get("ports") or ():
        port.setdefault("protocol", "TCP")
        if is_host_network and "containerPort" in port:
            port.setdefault("hostPort", port["containerPort"])
    for variable in container.get("env") or ():
        if (reference := (variable.get("valueFrom") or {}).get("fieldRef")) is not None:
            reference.setdefault("apiVersion", "v1")
    handlers = [container[name] for name in _PROBES if name in container]
    for probe in handlers:
        for field, default in (
            ("timeoutSeconds", 1),
            ("periodSeconds", 10),
            ("successThreshold", 1),
            ("failureThreshold", 3),
        ):
            probe.setdefault(field, default)
        if "grpc" in probe:
            probe["grpc"].setdefault("service", "")
    handlers.extend((container.get("lifecycle") or {}).values())
    for handler in handlers:
        if isinstance(handler, dict) and (http := handler.get("httpGet")) is not None:
            http.setdefault("path", "/")
            http.setdefault("scheme", "HTTP")
    resources = container["resources"]
    for name, limit in (resources.get("limits") or {}).items():
        resources.setdefault("requests", {}).setdefault(name, limit)


def _is_latest(image: str) -> bool:
    if "@" in image:
        return False
    _, colon, tag = image.rpartition("/")[2].partition(":")
    return not colon or tag == "latest"


def _default_volume(volume: dict[str, Any]) -> None:
    if set(volume) <= {"name"}:
        volume["emptyDir"] = {}
    for source in ("secret", "configMap", "downwardAPI", "projected"):
        if (held := volume.get(source)) is not None:
            held.setdefault("defaultMode", _FILE_MODE)
    if (host_path := volume.get("hostPath")) is not None:
        host_path.setdefault("type", "")
    for part in (volume.get("projected") or {}).get("sources") or ():
        if (token := part.get("serviceAccountToken")) is not None:
            token.setdefault("expirationSeconds", 3600)
    items = [
        *((volume.get("downwardAPI") or {}).get("items") or ()),
        *(
            item
            for part in (volume.get("projected") or {}).get("sources") or ()
            for item in (part.get("downwardAPI") or {}).get("items") or ()
        ),
    ]
    for item in items:
        if (reference := item.get("fieldRef")) is not None:
            reference.setdefault("apiVersion", "v1")


def _create(value: JsonObject) -> None:
    value["status"] = {"phase": "Pending", "qosClass": quality(value["spec"])}


def _tolerates_eviction(toleration: dict[str, Any], key: str) -> bool:
    return toleration.get("key", "") in (key, "") and toleration.get("effect", "") in (
        "NoExecute",
        "",
    )


def quality(spec: dict[str, Any]) -> str:
    """Return a pod's class of service.

    https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/
    """
    is_guaranteed, is_anything_set = True, False
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        resources = container.get("resources") or {}
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        for name in ("cpu", "memory"):
            limit, request = _amount(limits.get(name)), _amount(requests.get(name))
            is_anything_set = is_anything_set or bool(limit or request)
            is_guaranteed = is_guaranteed and bool(limit) and limit == request
    if is_guaranteed and is_anything_set:
        return "Guaranteed"
    return "Burstable" if is_anything_set else "BestEffort"


def _amount(text: str | None) -> object:
    return parse_quantity(text) if text else 0


def check_spec(value: JsonObject, causes: Causes) -> None:
    """Add what is wrong with the spec of a pod, or of a template that has defaults."""
    spec: dict[str, Any] = value["spec"]
    volumes = _names(spec.get("volumes") or [], "spec.volumes", causes)
    for index, volume in enumerate(spec.get("volumes") or ()):
        _check_volume(volume, f"spec.volumes[{index}]", causes)
    if not spec.get("containers"):
        causes.required("spec.containers")
    names: set[str] = set()
    for field in _CONTAINER_LISTS:
        for index, container in enumerate(spec.get(field) or ()):
            path = f"spec.{field}[{index}]"
            name = container.get("name", "")
            if name and name in names:
                causes.duplicate(f"{path}.name", name)
            names.add(name)
            _check_container(container, path, volumes, causes)
    _one_of(spec, "restartPolicy", _RESTART_POLICIES, "spec.restartPolicy", causes)
    _one_of(spec, "dnsPolicy", _DNS_POLICIES, "spec.dnsPolicy", causes)
    if spec["dnsPolicy"] == "None" and not (spec.get("dnsConfig") or {}).get("nameservers"):
        causes.required(
            "spec.dnsConfig.nameservers",
            "must provide at least one DNS nameserver when `dnsPolicy` is None",
        )
    if (grace := spec["terminationGracePeriodSeconds"]) < 0:
        causes.invalid(
            "spec.terminationGracePeriodSeconds", grace, "must be greater than or equal to 0"
        )
    if (deadline := spec.get("activeDeadlineSeconds")) is not None and deadline < 1:
        causes.invalid(
            "spec.activeDeadlineSeconds", deadline, "must be between 1 and 2147483647, inclusive"
        )
    if node := spec.get("nodeName"):
        check_subdomain(node, "spec.nodeName", causes)
    if hostname := spec.get("hostname"):
        check_label(hostname, "spec.hostname", causes)
    check_labels(spec.get("nodeSelector") or {}, "spec.nodeSelector", causes)
    for index, toleration in enumerate(spec.get("tolerations") or ()):
        _check_toleration(toleration, f"spec.tolerations[{index}]", causes)


def _check_toleration(toleration: dict[str, Any], path: str, causes: Causes) -> None:
    operator = toleration.get("operator", "Equal")
    if operator not in ("Equal", "Exists"):
        causes.not_supported(f"{path}.operator", operator, ("Equal", "Exists"))
    if not toleration.get("key") and operator != "Exists":
        causes.invalid(
            f"{path}.operator",
            operator,
            'operator must be Exists when `key` is empty, which means "match all values and all '
            'keys"',
        )
    if operator == "Exists" and toleration.get("value"):
        causes.invalid(
            f"{path}.operator", operator, "value must be empty when `operator` is 'Exists'"
        )


def _one_of(
    value: dict[str, Any], field: str, allowed: tuple[str, ...], path: str, causes: Causes
) -> None:
    if (held := value.get(field)) is not None and held not in allowed:
        causes.not_supported(path, held, allowed)


def _names(items: list[dict[str, Any]], path: str, causes: Causes) -> set[str]:
    found: set[str] = set()
    for index, item in enumerate(items):
        name = item.get("name", "")
        here = f"{path}[{index}].name"
        if not name:
            causes.required(here)
        else:
            check_label(name, here, causes)
            if name in found:
                causes.duplicate(here, name)
        found.add(name)
    return found


def _check_volume(volume: dict[str, Any], path: str, causes: Causes) -> None:
    sources = sorted(set(volume) - {"name"})
    if len(sources) > 1:
        causes.forbidden(f"{path}.{sources[1]}", "may not specify more than 1 volume type")
    if (host_path := volume.get("hostPath")) is not None and not host_path.get("path"):
        causes.required(f"{path}.hostPath.path")
    if (secret := volume.get("secret")) is not None and not secret.get("secretName"):
        causes.required(f"{path}.secret.secretName")
    _check_tokens(volume, path, causes)
    if (config_map := volume.get("configMap")) is not None and not config_map.get("name"):
        causes.required(f"{path}.configMap.name")


def _check_tokens(volume: dict[str, Any], path: str, causes: Causes) -> None:
    sources = (volume.get("projected") or {}).get("sources") or ()
    for index, source in enumerate(sources):
        token = source.get("serviceAccountToken")
        if token is not None and token["expirationSeconds"] < _SHORTEST_TOKEN_SECONDS:
            causes.invalid(
                f"{path}.projected.sources[{index}].serviceAccountToken.expirationSeconds",
                token["expirationSeconds"],
                "may not specify a duration less than 10 minutes",
            )


def _check_container(
    container: dict[str, Any], path: str, volumes: set[str], causes: Causes
) -> None:
    name = container.get("name", "")
    if not name:
        causes.required(f"{path}.name")
    else:
        check_label(name, f"{path}.name", causes)
    image = container.get("image", "")
    if not image:
        causes.required(f"{path}.image")
    elif image.strip() != image:
        causes.invalid(f"{path}.image", image, "must not have leading or trailing whitespace")
    _one_of(container, "imagePullPolicy", _PULL_POLICIES, f"{path}.imagePullPolicy", causes)
    _one_of(
        container,
        "terminationMessagePolicy",
        ("File", "FallbackToLogsOnError"),
        f"{path}.terminationMessagePolicy",
        causes,
    )
    _check_ports(container.get("ports") or [], path, causes)
    _check_environment(container.get("env") or [], f"{path}.env", causes)
    _check_mounts(container.get("volumeMounts") or [], volumes, f"{path}.volumeMounts", causes)
    for probe in _PROBES:
        if (held := container.get(probe)) is not None:
            _check_probe(held, f"{path}.{probe}", causes)
    _check_resources(container["resources"], f"{path}.resources", causes)


def _check_environment(variables: list[dict[str, Any]], path: str, causes: Causes) -> None:
    for index, variable in enumerate(variables):
        here = f"{path}[{index}]"
        if not variable.get("name"):
            causes.required(f"{here}.name")
        if variable.get("value") and variable.get("valueFrom"):
            causes.invalid(
                f"{here}.valueFrom", "", "may not be specified when `value` is not empty"
            )


def _check_mounts(
    mounts: list[dict[str, Any]], volumes: set[str], path: str, causes: Causes
) -> None:
    seen: set[str] = set()
    for index, mount in enumerate(mounts):
        here = f"{path}[{index}]"
        if not mount.get("name"):
            causes.required(f"{here}.name")
        elif mount["name"] not in volumes:
            causes.not_found(f"{here}.name", mount["name"])
        where = mount.get("mountPath", "")
        if not where:
            causes.required(f"{here}.mountPath")
        elif where in seen:
            causes.invalid(f"{here}.mountPath", where, "must be unique")
        seen.add(where)


def _check_ports(ports: list[dict[str, Any]], path: str, causes: Causes) -> None:
    for index, port in enumerate(ports):
        here = f"{path}.ports[{index}]"
        number = port.get("containerPort", 0)
        if not number:
            causes.required(f"{here}.containerPort")
        for field in ("containerPort", "hostPort"):
            if (held := port.get(field)) and not 0 < held <= _MOST_PORT:
                causes.invalid(f"{here}.{field}", held, "must be between 1 and 65535, inclusive")
        _one_of(port, "protocol", _PROTOCOLS, f"{here}.protocol", causes)


def _check_probe(probe: dict[str, Any], path: str, causes: Causes) -> None:
    handlers = [name for name in ("exec", "httpGet", "tcpSocket", "grpc") if name in probe]
    if not handlers:
        causes.required(path, "must specify a handler type")
    elif len(handlers) > 1:
        causes.forbidden(f"{path}.{handlers[1]}", "may not specify more than 1 handler type")
    for field in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "failureThreshold"):
        if (held := probe.get(field, 0)) < 0:
            causes.invalid(f"{path}.{field}", held, "must be greater than or equal to 0")


def _check_resources(resources: dict[str, Any], path: str, causes: Causes) -> None:
    limits = resources.get("limits") or {}
    for field in ("limits", "requests"):
        for name, amount in (resources.get(field) or {}).items():
            if parse_quantity(amount) < 0:
                causes.invalid(
                    f"{path}.{field}[{name}]", amount, "must be greater than or equal to 0"
                )
    for name, amount in (resources.get("requests") or {}).items():
        if name in limits and parse_quantity(amount) > parse_quantity(limits[name]):
            causes.invalid(
                f"{path}.requests",
                amount,
                f"must be less than or equal to {name} limit of {limits[name]}",
            )


def _check_update(new: JsonObject, old: JsonObject, causes: Causes) -> None:
    wanted, held = copy.deepcopy(new["spec"]), old["spec"]
    # What may change is made equal; the rest must be.
    for field in _CONTAINER_LISTS:
        for mine, known in zip(wanted.get(field) or (), held.get(field) or (), strict=False):
            if "image" in known:
                mine["image"] = known["image"]
    before: list[Any] = held.get("tolerations") or []
    if all(toleration in (wanted.get("tolerations") or []) for toleration in before):
        _set(wanted, "tolerations", held)
    deadline, known_deadline = (
        wanted.get("activeDeadlineSeconds"),
        held.get("activeDeadlineSeconds"),
    )
    if deadline is not None and (known_deadline is None or deadline <= known_deadline):
        _set(wanted, "activeDeadlineSeconds", held)
    if held.get("schedulingGates"):
        _set(wanted, "schedulingGates", held)
    if wanted != held:
        fields = ", ".join(sorted(_differing(wanted, held)))
        causes.forbidden("spec", f"{_MUTABLE} (changed: {fields})")


def _set(target: dict[str, Any], field: str, source: dict[str, Any]) -> None:
    if field in source:
        target[field] = source[field]
    else:
        target.pop(field, None)


def _differing(new: dict[str, Any], old: dict[str, Any]) -> Iterator[str]:
    for field in {*new, *old}:
        if new.get(field) != old.get(field):
            yield f"spec.{field}"


POD_RULES: Final = Rules(
    default=_default,
    create=_create,
    check=check_spec,
    check_update=_check_update,
    counts_generation=True,
)
