"""The columns of the built-in kinds."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from fedge_apiserver.tables._age import human_age
from fedge_apiserver.tables._pods import pod_cells
from fedge_objects import JsonObject


@dataclass(frozen=True, slots=True)
class Columns:
    """How a kind's objects become rows.

    Attributes:
        names: name and priority of each column; those above 0 are shown with ``-o wide`` only.
        cells: an object's cells, one for each column.
    """

    names: tuple[tuple[str, int], ...]
    cells: Callable[[JsonObject, datetime], list[Any]]


def _name(value: JsonObject) -> str:
    return str(value["metadata"]["name"])


def _age(value: JsonObject, now: datetime) -> str:
    return human_age(value["metadata"].get("creationTimestamp"), now)


def _config_map(value: JsonObject, now: datetime) -> list[Any]:
    count = len(value.get("data") or {}) + len(value.get("binaryData") or {})
    return [_name(value), count, _age(value, now)]


def _secret(value: JsonObject, now: datetime) -> list[Any]:
    return [_name(value), value.get("type", ""), len(value.get("data") or {}), _age(value, now)]


def _namespace(value: JsonObject, now: datetime) -> list[Any]:
    return [_name(value), (value.get("status") or {}).get("phase", ""), _age(value, now)]


def _service_account(value: JsonObject, now: datetime) -> list[Any]:
    return [_name(value), len(value.get("secrets") or ()), _age(value, now)]


def _lease(value: JsonObject, now: datetime) -> list[Any]:
    holder = (value.get("spec") or {}).get("holderIdentity", "")
    return [_name(value), holder, _age(value, now)]


def _definition(value: JsonObject, _: datetime) -> list[Any]:
    return [_name(value), value["metadata"].get("creationTimestamp", "")]


def _event(value: JsonObject, now: datetime) -> list[Any]:
    involved = value.get("involvedObject") or value.get("regarding") or {}
    source = value.get("source") or value.get("deprecatedSource") or {}
    series = value.get("series") or {}
    first = value.get("firstTimestamp") or value.get("eventTime")
    last = series.get("lastObservedTime") or value.get("lastTimestamp") or first
    component = source.get("component") or value.get("reportingComponent") or ""
    host = source.get("host")
    first_seen = first or value["metadata"].get("creationTimestamp")
    return [
        human_age(last or first_seen, now),
        value.get("type", ""),
        value.get("reason", ""),
        f"{involved.get('kind', '').lower()}/{involved.get('name', '')}",
        involved.get("fieldPath", ""),
        f"{component}, {host}" if host else component,
        str(value.get("message") or value.get("note") or "").strip(),
        human_age(first_seen, now),
        int(series.get("count") or value.get("count") or 1),
        _name(value),
    ]


def _node(value: JsonObject, now: datetime) -> list[Any]:
    status = value.get("status") or {}
    info = status.get("nodeInfo") or {}
    conditions = {c.get("type"): c for c in status.get("conditions") or ()}
    ready = conditions.get("Ready")
    if ready is None:
        words = ["Unknown"]
    else:
        words = ["Ready" if ready.get("status") == "True" else "NotReady"]
    if (value.get("spec") or {}).get("unschedulable"):
        words.append("SchedulingDisabled")
    addresses = {a.get("type"): a.get("address") for a in reversed(status.get("addresses") or [])}
    return [
        _name(value),
        ",".join(words),
        _roles(value["metadata"].get("labels") or {}),
        _age(value, now),
        info.get("kubeletVersion", ""),
        addresses.get("InternalIP") or "<none>",
        addresses.get("ExternalIP") or "<none>",
        info.get("osImage") or "<unknown>",
        info.get("kernelVersion") or "<unknown>",
        info.get("containerRuntimeVersion") or "<unknown>",
    ]


def _roles(labels: dict[str, str]) -> str:
    prefix = "node-role.kubernetes.io/"
    roles = {key.removeprefix(prefix) for key in labels if key.startswith(prefix)}
    roles |= {value for key, value in labels.items() if key == "kubernetes.io/role" and value}
    return ",".join(sorted(role for role in roles if role)) or "<none>"


def _amounts(value: JsonObject, *fields: str) -> list[Any]:
    status = value.get("status") or {}
    return [int(status.get(field) or 0) for field in fields]


def _template(value: JsonObject) -> list[Any]:
    spec = value["spec"]
    containers = spec["template"]["spec"].get("containers") or ()
    selector = spec.get("selector") or {}
    labels = [f"{key}={held}" for key, held in sorted((selector.get("matchLabels") or {}).items())]
    return [
        ",".join(container.get("name", "") for container in containers),
        ",".join(container.get("image", "") for container in containers),
        ",".join(labels),
    ]


def _deployment(value: JsonObject, now: datetime) -> list[Any]:
    wanted = value["spec"].get("replicas", 1)
    ready, updated, available = _amounts(
        value, "readyReplicas", "updatedReplicas", "availableReplicas"
    )
    return [
        _name(value),
        f"{ready}/{wanted}",
        updated,
        available,
        _age(value, now),
        *_template(value),
    ]


def _replica_set(value: JsonObject, now: datetime) -> list[Any]:
    wanted = value["spec"].get("replicas", 1)
    amounts = _amounts(value, "replicas", "readyReplicas")
    return [_name(value), wanted, *amounts, _age(value, now), *_template(value)]


def _stateful_set(value: JsonObject, now: datetime) -> list[Any]:
    (ready,) = _amounts(value, "readyReplicas")
    wanted = value["spec"].get("replicas", 1)
    return [_name(value), f"{ready}/{wanted}", _age(value, now), *_template(value)[:2]]


def _revision(value: JsonObject, now: datetime) -> list[Any]:
    owners = value["metadata"].get("ownerReferences") or ()
    owner = next((each for each in owners if each.get("controller")), None)
    shown = "<none>"
    if owner is not None:
        group = owner["apiVersion"].rpartition("/")[0]
        shown = f"{owner['kind'].lower()}.{group}/{owner['name']}"
    return [_name(value), shown, value.get("revision", 0), _age(value, now)]


def _daemon_set(value: JsonObject, now: datetime) -> list[Any]:
    amounts = _amounts(
        value,
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    )
    selector = value["spec"]["template"]["spec"].get("nodeSelector") or {}
    shown = ",".join(f"{key}={held}" for key, held in sorted(selector.items())) or "<none>"
    return [_name(value), *amounts, shown, _age(value, now), *_template(value)]


def _job(value: JsonObject, now: datetime) -> list[Any]:
    spec, status = value["spec"], value.get("status") or {}
    succeeded, completions, parallelism = (
        int(status.get("succeeded") or 0),
        spec.get("completions"),
        spec.get("parallelism", 1),
    )
    if completions is not None:
        shown = f"{succeeded}/{completions}"
    else:
        shown = f"{succeeded}/1 of {parallelism}" if parallelism > 1 else f"{succeeded}/1"
    duration = ""
    if started := status.get("startTime"):
        duration = human_age(started, _moment(status.get("completionTime")) or now)
    return [_name(value), _job_state(value), shown, duration, _age(value, now), *_template(value)]


def _job_state(value: JsonObject) -> str:
    status = value.get("status") or {}
    true = {c["type"] for c in status.get("conditions") or () if c.get("status") == "True"}
    if value["metadata"].get("deletionTimestamp") and not true & {"Complete", "Failed"}:
        return "Terminating"
    for kind in ("Complete", "Failed", "Suspended", "FailureTarget", "SuccessCriteriaMet"):
        if kind in true:
            return kind
    return "Running"


def _cron_job(value: JsonObject, now: datetime) -> list[Any]:
    spec, status = value["spec"], value.get("status") or {}
    last = status.get("lastScheduleTime")
    containers = spec["jobTemplate"]["spec"]["template"]["spec"].get("containers") or ()
    return [
        _name(value),
        spec.get("schedule", ""),
        spec.get("timeZone") or "<none>",
        str(bool(spec.get("suspend"))),
        len(status.get("active") or ()),
        human_age(last, now) if last else "<none>",
        _age(value, now),
        ",".join(container.get("name", "") for container in containers),
        ",".join(container.get("image", "") for container in containers),
        "<none>",
    ]


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _disruption_budget(value: JsonObject, now: datetime) -> list[Any]:
    spec = value.get("spec") or {}
    (allowed,) = _amounts(value, "disruptionsAllowed")
    return [
        _name(value),
        str(spec.get("minAvailable", "N/A")),
        str(spec.get("maxUnavailable", "N/A")),
        allowed,
        _age(value, now),
    ]


def _role(value: JsonObject, _: datetime) -> list[Any]:
    return [_name(value), value["metadata"].get("creationTimestamp", "")]


def _binding(value: JsonObject, now: datetime) -> list[Any]:
    reference = value.get("roleRef") or {}
    by_kind: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in value.get("subjects") or ():
        name, namespace = subject.get("name", ""), subject.get("namespace")
        by_kind.setdefault(subject.get("kind", ""), []).append(
            f"{namespace}/{name}" if namespace else name
        )
    return [
        _name(value),
        f"{reference.get('kind', '')}/{reference.get('name', '')}",
        _age(value, now),
        *(", ".join(by_kind[kind]) for kind in ("User", "Group", "ServiceAccount")),
    ]


def _other(value: JsonObject, now: datetime) -> list[Any]:
    return [_name(value), _age(value, now)]


def _columns(
    *names: str, wide: tuple[str, ...] = (), cells: Callable[[JsonObject, datetime], list[Any]]
) -> Columns:
    return Columns((*((n, 0) for n in names), *((n, 1) for n in wide)), cells)


_TEMPLATE_WIDE: Final = ("Containers", "Images", "Selector")
_BINDING_WIDE: Final = ("Users", "Groups", "ServiceAccounts")
_EVENT_COLUMNS: Final = Columns(
    (
        ("Last Seen", 0),
        ("Type", 0),
        ("Reason", 0),
        ("Object", 0),
        ("Subobject", 1),
        ("Source", 1),
        ("Message", 0),
        ("First Seen", 1),
        ("Count", 1),
        ("Name", 1),
    ),
    _event,
)

BUILTIN_COLUMNS: Final = {
    "configmaps": _columns("Name", "Data", "Age", cells=_config_map),
    "secrets": _columns("Name", "Type", "Data", "Age", cells=_secret),
    "namespaces": _columns("Name", "Status", "Age", cells=_namespace),
    "serviceaccounts": _columns("Name", "Secrets", "Age", cells=_service_account),
    "leases.coordination.k8s.io": _columns("Name", "Holder", "Age", cells=_lease),
    "customresourcedefinitions.apiextensions.k8s.io": _columns(
        "Name", "Created At", cells=_definition
    ),
    "clusterrolebindings.rbac.authorization.k8s.io": _columns(
        "Name", "Role", "Age", wide=_BINDING_WIDE, cells=_binding
    ),
    "clusterroles.rbac.authorization.k8s.io": _columns("Name", "Created At", cells=_role),
    "cronjobs.batch": _columns(
        "Name",
        "Schedule",
        "Timezone",
        "Suspend",
        "Active",
        "Last Schedule",
        "Age",
        wide=_TEMPLATE_WIDE,
        cells=_cron_job,
    ),
    "controllerrevisions.apps": _columns("Name", "Controller", "Revision", "Age", cells=_revision),
    "statefulsets.apps": _columns(
        "Name", "Ready", "Age", wide=("Containers", "Images"), cells=_stateful_set
    ),
    "daemonsets.apps": _columns(
        "Name",
        "Desired",
        "Current",
        "Ready",
        "Up-to-date",
        "Available",
        "Node Selector",
        "Age",
        wide=_TEMPLATE_WIDE,
        cells=_daemon_set,
    ),
    "deployments.apps": _columns(
        "Name",
        "Ready",
        "Up-to-date",
        "Available",
        "Age",
        wide=_TEMPLATE_WIDE,
        cells=_deployment,
    ),
    "jobs.batch": _columns(
        "Name",
        "Status",
        "Completions",
        "Duration",
        "Age",
        wide=_TEMPLATE_WIDE,
        cells=_job,
    ),
    "poddisruptionbudgets.policy": _columns(
        "Name",
        "Min Available",
        "Max Unavailable",
        "Allowed Disruptions",
        "Age",
        cells=_disruption_budget,
    ),
    "replicasets.apps": _columns(
        "Name",
        "Desired",
        "Current",
        "Ready",
        "Age",
        wide=_TEMPLATE_WIDE,
        cells=_replica_set,
    ),
    "rolebindings.rbac.authorization.k8s.io": _columns(
        "Name", "Role", "Age", wide=_BINDING_WIDE, cells=_binding
    ),
    "roles.rbac.authorization.k8s.io": _columns("Name", "Created At", cells=_role),
    "events": _EVENT_COLUMNS,
    "nodes": _columns(
        "Name",
        "Status",
        "Roles",
        "Age",
        "Version",
        wide=("Internal-IP", "External-IP", "OS-Image", "Kernel-Version", "Container-Runtime"),
        cells=_node,
    ),
    "pods": _columns(
        "Name",
        "Ready",
        "Status",
        "Restarts",
        "Age",
        wide=("IP", "Node", "Nominated Node", "Readiness Gates"),
        cells=pod_cells,
    ),
}
OTHER_COLUMNS: Final = _columns("Name", "Age", cells=_other)
