"""``fedge status``: how far each node is with what it was given, as hub knows it.

Hub answers in the node's stead, by way of the API server: as ``kubectl`` reaches a kubelet.

https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/node-v1/
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from fedge_cli.api import Api
from fedge_cli.errors import CommandError, MissingError
from fedge_cli.getting import Table
from fedge_cli.staleness import NODE_PATH, age

COLUMNS = (
    "NODE", "LINK", "LAST-SEEN", "BACKLOG-DOWN", "BACKLOG-UP",
    "WANTED", "STORED", "APPLIED", "FAILED", "GAPS", "DUPLICATES",
)  # fmt: skip
PROBLEM_COLUMNS = ("OBJECT", "VERSION", "STATE", "REASON")
NEVER, UNKNOWN = "never", "unknown"
_ASKED_AT_ONCE = 4
_NOTHING = "-"
_NO_PATH = ("could not find the requested resource", "page not found")
"""What servers say that do not know the path, rather than the node."""


def get_status(api: Api, name: str) -> dict[str, Any]:
    """Return what hub knows of a node; LINK is ``never`` if it has never heard it.

    Raises:
        MissingError: there is no such node.
        AwayError: hub, or the API server, is away.
        CommandError: the API server has no way to ask hub.
    """
    api.request("GET", f"{NODE_PATH}/{name}")
    return _ask(api, name)


def get_statuses(api: Api) -> tuple[list[dict[str, Any]], list[CommandError]]:
    """Return what hub knows of all nodes, and why it could not be had, each reason once."""
    names = [each["metadata"]["name"] for each in api.request("GET", NODE_PATH)["items"]]
    errors: dict[str, CommandError] = {}

    def ask(name: str) -> dict[str, Any]:
        try:
            return _ask(api, name)
        except CommandError as exc:
            errors.setdefault(str(exc), exc)
            return {"node": name, "link": UNKNOWN}

    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        return list(pool.map(ask, names)), list(errors.values())


def _ask(api: Api, name: str) -> dict[str, Any]:
    try:
        return api.request("GET", f"{NODE_PATH}/{name}/proxy/status")
    except MissingError as exc:
        if any(text in str(exc) for text in _NO_PATH):
            raise CommandError(
                "this API server, or its hub, does not tell how nodes are: both have to be of this "
                "release; an API server that is not the embedded one cannot, so ask hub itself "
                "there: GET /nodes/NODE/status"
            ) from exc
        return {"node": name, "link": NEVER}


def status_table(statuses: Sequence[Mapping[str, Any]], now: datetime) -> Table:
    """Return one row for each node."""
    return Table(list(COLUMNS), [_row(each, now) for each in statuses])


def _row(status: Mapping[str, Any], now: datetime) -> list[str]:
    link = str(status["link"])
    silent = _silence(status, now)
    backlog = status.get("backlog") or {}
    waiting_up = _sum(backlog.get("up"))
    if link == "down" and waiting_up != _NOTHING and silent:
        waiting_up = f"{waiting_up} ({silent} old)"
    objects, events = status.get("objects") or {}, status.get("events") or {}
    return [
        str(status["node"]),
        link,
        f"{silent} ago" if silent else NEVER if link == NEVER else _NOTHING,
        _sum(backlog.get("down")),
        waiting_up,
        *(_count(objects, name) for name in ("wanted", "stored", "applied", "failed")),
        _count(events, "missing"),
        _count(events, "duplicates"),
    ]


def problem_table(status: Mapping[str, Any]) -> Table:
    """Return the objects that a node has not applied."""
    rows = [
        [
            str(each["object"]),
            str(each.get("version") or "<none>"),
            str(each["state"]),
            " ".join(str(each.get("reason") or "<none>").split()),
        ]
        for each in status.get("problems") or ()
    ]
    return Table(list(PROBLEM_COLUMNS), rows)


def remarks(status: Mapping[str, Any], now: datetime) -> Iterator[str]:
    """Yield what a person should know beside the numbers of one node."""
    name, link = status["node"], status["link"]
    if link == NEVER:
        yield (
            f"hub has never heard node {name!r}: check on the node that meta runs and that its "
            "broker reaches the cloud's (rabbitmqctl shovel_status)"
        )
        return
    if link == "down":
        silent = _silence(status, now)
        since = f" for {silent}" if silent else ""
        yield (
            f"node {name!r} has not been heard{since}: what it was given it goes on with; what it "
            "did since is told when it is back"
        )
    if not status.get("problems"):
        wanted = (status.get("objects") or {}).get("wanted") or 0
        yield f"nothing is left to apply on node {name!r}: it was given {_plural(wanted)}"


def _silence(status: Mapping[str, Any], now: datetime) -> str:
    """Return how long ago a node was heard; empty if nobody knows."""
    seen = status.get("last_seen")
    if not seen:
        return ""
    return age((now - datetime.fromisoformat(seen).astimezone(UTC)).total_seconds())


def _sum(counts: Mapping[str, Any] | None) -> str:
    return _NOTHING if counts is None else str(sum(counts.values()))


def _count(counts: Mapping[str, Any], name: str) -> str:
    return str(counts.get(name, _NOTHING))


def _plural(count: int) -> str:
    return f"{count} object" if count == 1 else f"{count} objects"
