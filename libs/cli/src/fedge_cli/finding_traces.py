"""Which trace ``fedge trace`` shows, and how hub is asked for it.

Hub is asked by way of the API server, as a service of the cluster:
https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from fedge_cli.api import Api
from fedge_cli.errors import CommandError, MissingError, UsageError
from fedge_objects import ObjectKey

SERVICE: Final = "fedge-hub:http"
LISTED: Final = 20
OTHERS: Final = 5
SETTLED_SECONDS: Final = 2.0
POLL_SECONDS: Final = 0.25
_TRACE_ID: Final = re.compile(r"[0-9a-f]{32}")
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_RESOURCES: Final = {
    "pods": ("pod", "pods", "po"),
    "devices.devices.kubeedge.io": ("device", "devices"),
    "devicemodels.devices.kubeedge.io": ("devicemodel", "devicemodels"),
    "configmaps": ("configmap", "configmaps", "cm"),
    "secrets": ("secret", "secrets"),
    "nodes": ("node", "nodes", "no"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked for: a trace by its id, or the newest about an object."""

    trace_id: str = ""
    about: str = ""
    shown: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A trace, and others of the same object.

    Attributes:
        answer: what hub said of it.
        about: the object that was asked for; empty if a trace was.
        others: in short, the newest first.
    """

    answer: Mapping[str, Any]
    about: str
    others: Sequence[Mapping[str, Any]] = ()


def read_asked(text: str, namespace: str) -> Asked:
    """Return what a person means by ``text``.

    Raises:
        UsageError: nothing that can be traced.
    """
    lower = text.strip().lower()
    if _TRACE_ID.fullmatch(lower):
        return Asked(trace_id=lower, shown=lower)
    if whole := _TRACEPARENT.fullmatch(lower):
        return Asked(trace_id=whole[1], shown=whole[1])
    kind, slash, name = text.partition("/")
    for resource, words in _RESOURCES.items():
        if slash and name and kind.lower() in words:
            key = ObjectKey(resource, "" if resource == "nodes" else namespace, name)
            return Asked(about=str(key), shown=f"{words[0]}/{name}")
    raise UsageError(
        f"{text!r} is nothing that is traced: use pod/NAME, device/NAME, node/NAME, or the id of a"
        " trace (32 hexadecimal digits)"
    )


class TraceClient:
    """Asks hub."""

    def __init__(self, api: Api, system_namespace: str) -> None:
        """Take the way."""
        self._api = api
        self._path = f"/api/v1/namespaces/{system_namespace}/services/{SERVICE}/proxy"

    def find(self, asked: Asked, *, wait_seconds: float = 0.0) -> Found:
        """Return a trace; with ``wait_seconds`` wait for it, and until it has not grown of late.

        Raises:
            MissingError: there is none.
            CommandError: as in ``Api.request``.
        """
        deadline = time.monotonic() + wait_seconds
        found, size, since = None, -1, time.monotonic()
        while True:
            try:
                found = self._find(asked)
            except MissingError:
                if time.monotonic() >= deadline:
                    raise
            else:
                now, spans = time.monotonic(), len(found.answer["spans"])
                if spans != size:
                    size, since = spans, now
                if not wait_seconds or now >= deadline or now - since >= SETTLED_SECONDS:
                    return found
            time.sleep(POLL_SECONDS)

    def _find(self, asked: Asked) -> Found:
        if asked.trace_id:
            return Found(answer=self._trace(asked.trace_id), about="")
        query = {"object": asked.about, "limit": str(LISTED)}
        listed = self._asked("traces", query)["traces"]
        if not listed:
            raise MissingError(
                f"no trace of {asked.shown} is known: it may be older than what hub keeps, tracing"
                " may be off (FEDGE_TRACE_RATIO), or there was too much to trace it all"
                " (FEDGE_TRACE_PER_SECOND)"
            )
        joins = [each for each in listed if each["name"] == "join"]
        changes = [each for each in listed if each["is_change"]]
        chosen = [*joins, *changes, *listed][0]
        others = [each for each in listed if each is not chosen][:OTHERS]
        trace = self._trace(str(chosen["trace_id"]))
        return Found(answer=trace, about=asked.about, others=others)

    def _trace(self, trace_id: str) -> Mapping[str, Any]:
        try:
            return self._asked(f"traces/{trace_id}")
        except MissingError as exc:
            raise MissingError(
                f"trace {trace_id} is not known: it may be older than what hub keeps, or may not"
                " have arrived yet (--wait 10)"
            ) from exc

    def _asked(self, what: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        return self._api.request("GET", f"{self._path}/{what}", query=query)


def web_link(found: Found) -> str:
    """Return the address of a trace in Jaeger.

    Raises:
        CommandError: hub knows no Jaeger.
    """
    link = found.answer.get("web")
    if not link:
        raise CommandError(
            "hub knows no Jaeger: set FEDGE_HUB_SPANS_JAEGER_URL, and FEDGE_HUB_SPANS_OTLP_ENDPOINT"
            " so that spans get there"
        )
    return str(link)


def other_lines(found: Found, shown: str, duration: Callable[[float], str]) -> list[str]:
    """Return the other traces of an object, a line each."""
    if not found.others:
        return []
    lines = ["", f"Other traces of {shown}:"]
    for each in found.others:
        began = datetime.fromtimestamp(each["start_ns"] / 1e9, UTC)
        took = duration((each["end_ns"] - each["start_ns"]) / 1e9)
        failed = f", {each['errors']} failed" if each["errors"] else ""
        lines.append(
            f"  {each['trace_id']}  {began:%H:%M:%S}  {took:>9}  {each['name']},"
            f" {each['spans']} spans{failed}"
        )
    return lines
