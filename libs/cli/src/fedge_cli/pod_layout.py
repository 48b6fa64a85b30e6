"""``fedge describe pod``: where it runs, its containers and why they are as they are."""

from collections.abc import Iterator, Mapping
from typing import Any

from fedge_cli.layouts import condition_lines, fact_lines, field_lines, metadata_lines
from fedge_cli.staleness import age

_STATUSES = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")


def pod_lines(pod: Mapping[str, Any], *, stale: float | None) -> Iterator[str]:
    """Yield a pod without its events.

    Args:
        pod: the object.
        stale: seconds since its node was heard, if that is overdue.
    """
    spec, status = pod["spec"], pod.get("status") or {}
    yield from metadata_lines(pod)
    yield from fact_lines(
        {
            "Node": spec.get("nodeName") or "<none>",
            "Status": _status(pod, stale),
            "Reason": status.get("reason"),
            "Message": status.get("message"),
            "Start Time": status.get("startTime"),
            "IP": ", ".join(each["ip"] for each in status.get("podIPs") or ())
            or status.get("podIP"),
            "QoS Class": status.get("qosClass"),
            "Service Account": spec.get("serviceAccountName"),
            "Restart Policy": spec.get("restartPolicy"),
            "Grace Period": f"{spec['terminationGracePeriodSeconds']}s"
            if "terminationGracePeriodSeconds" in spec
            else None,
            "Node Selectors": ", ".join(
                f"{k}={v}" for k, v in (spec.get("nodeSelector") or {}).items()
            ),
        }
    )
    statuses = {each["name"]: each for group in _STATUSES for each in status.get(group) or ()}
    for title, name in (
        ("Init Containers", "initContainers"),
        ("Containers", "containers"),
        ("Ephemeral Containers", "ephemeralContainers"),
    ):
        containers = spec.get(name) or ()
        if containers:
            yield f"{title}:"
        for container in containers:
            yield from _container(container, statuses.get(container["name"], {}))
    yield from condition_lines(status.get("conditions"))
    if spec.get("volumes"):
        yield "Volumes:"
    for volume in spec.get("volumes") or ():
        yield f"  {volume['name']}:"
        source = {k: v for k, v in volume.items() if k != "name"}
        yield from field_lines(source, indent=4)
    if spec.get("tolerations"):
        yield "Tolerations:"
        yield from (f"  {_toleration(each)}" for each in spec["tolerations"])


def _status(pod: Mapping[str, Any], stale: float | None) -> str:
    phase = str((pod.get("status") or {}).get("phase") or "Unknown")
    if pod["metadata"].get("deletionTimestamp"):
        phase = "Terminating"
    return phase if stale is None else f"{phase} (stale {age(stale)}: its node is not heard)"


def _container(container: Mapping[str, Any], status: Mapping[str, Any]) -> Iterator[str]:
    resources = container.get("resources") or {}
    yield f"  {container['name']}:"
    yield from fact_lines(
        {
            "Image": container.get("image"),
            "Image ID": status.get("imageID"),
            "Container ID": status.get("containerID"),
            "Command": " ".join(container.get("command") or ()),
            "Args": " ".join(container.get("args") or ()),
            "Ports": ", ".join(_port(each) for each in container.get("ports") or ()),
            "State": _state(status.get("state")),
            "Last State": _state(status.get("lastState")),
            "Ready": status.get("ready"),
            "Restart Count": status.get("restartCount"),
            "Requests": _amounts(resources.get("requests")),
            "Limits": _amounts(resources.get("limits")),
        },
        indent=4,
    )
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        if container.get(probe):
            yield f"    {probe[:-5].capitalize() + ' Probe'}:"
            yield from field_lines(container[probe], indent=6)
    environment = [*_sources(container), *map(_variable, container.get("env") or ())]
    if environment:
        yield "    Environment:"
        yield from (f"      {each}" for each in environment)
    if container.get("volumeMounts"):
        yield "    Mounts:"
    for mount in container.get("volumeMounts") or ():
        access = "ro" if mount.get("readOnly") else "rw"
        yield f"      {mount['mountPath']} from {mount['name']} ({access})"


def _state(state: Mapping[str, Any] | None) -> str:
    for kind, facts in (state or {}).items():
        parts = {name: value for name, value in (facts or {}).items() if value not in (None, "")}
        message, reason = parts.pop("message", None), parts.pop("reason", None)
        parts.pop("containerID", None)
        told = [f"{name} {value}" for name, value in parts.items()]
        shown = ", ".join([str(reason), *told] if reason else told)
        text = f"{kind.capitalize()} ({shown})" if shown else kind.capitalize()
        return f"{text}: {message}" if message else text
    return ""


def _port(port: Mapping[str, Any]) -> str:
    name = f"{port['name']} " if port.get("name") else ""
    host = f" at host port {port['hostPort']}" if port.get("hostPort") else ""
    return f"{name}{port['containerPort']}/{port.get('protocol', 'TCP')}{host}"


def _sources(container: Mapping[str, Any]) -> Iterator[str]:
    for each in container.get("envFrom") or ():
        for kind, what in (("configMapRef", "config map"), ("secretRef", "secret")):
            if each.get(kind):
                yield f"{each.get('prefix', '')}* from {what} {each[kind].get('name', '')}"


def _variable(variable: Mapping[str, Any]) -> str:
    source = variable.get("valueFrom")
    if not source:
        return f"{variable['name']}={variable.get('value', '')}"
    for kind, reference in source.items():
        match kind:
            case "fieldRef":
                return f"{variable['name']} from field {reference['fieldPath']}"
            case "resourceFieldRef":
                return f"{variable['name']} from resource {reference['resource']}"
            case "configMapKeyRef" | "secretKeyRef":
                what = "config map" if kind == "configMapKeyRef" else "secret"
                where = f"{what} {reference.get('name', '')}"
                return f"{variable['name']} from key {reference['key']} of {where}"
    return str(variable["name"])


def _amounts(amounts: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{name} {value}" for name, value in (amounts or {}).items())


def _toleration(each: Mapping[str, Any]) -> str:
    value = f"={each['value']}" if each.get("value") else ""
    effect = f":{each['effect']}" if each.get("effect") else ""
    seconds = each.get("tolerationSeconds")
    lasting = "" if seconds is None else f" for {seconds}s"
    return f"{each.get('key', '<any>')}{value}{effect}{lasting}"
