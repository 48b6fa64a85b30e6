"""Traces from Jaeger's query API.

https://www.jaegertracing.io/docs/latest/architecture/apis/ (the JSON that its pages use)
"""

import asyncio
import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Final

from typing_extensions import override

from fedge_fabric import UnavailableError
from fedge_hub.traces import Link, Span, Traces, TraceSummary, Value, plain, summary
from fedge_tracing import names

TIMEOUT_SECONDS = 10.0
SERVICES: Final = ("fedge-controller", "fedge-device", "fedge-edged", "fedge-twin", "fedge-cli")
"""Whose spans say which object they are about."""
LOOKBACK: Final = "7d"
_MAX_ANSWER = 64 * 1024 * 1024
_NOT_FOUND = 404
_US = 1000


class Jaeger(Traces):
    """``Traces`` of a Jaeger."""

    def __init__(self, url: str) -> None:
        """Take the address of its query service."""
        self._url = url.rstrip("/")

    @override
    async def trace(self, trace_id: str) -> list[Span]:
        found = await asyncio.to_thread(self._get, f"/api/traces/{trace_id}", {})
        return [span for each in found for span in _spans(each)]

    @override
    async def traces(self, about: str, limit: int) -> list[TraceSummary]:
        tags = json.dumps({names.OBJECT: about})
        summaries: dict[str, TraceSummary] = {}
        for service in SERVICES:
            query = {
                "service": service,
                "tags": tags,
                "limit": str(limit),
                "lookback": LOOKBACK,
            }
            for each in await asyncio.to_thread(self._get, "/api/traces", query):
                if spans := _spans(each):
                    found = summary(spans)
                    summaries[found.trace_id] = found
        return sorted(summaries.values(), key=lambda each: -each.start_ns)[:limit]

    def _get(self, path: str, query: dict[str, str]) -> list[dict[str, Any]]:
        url = f"{self._url}{path}"
        if query:
            url += f"?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
                said = json.loads(answer.read(_MAX_ANSWER))
        except urllib.error.HTTPError as exc:
            with exc:
                if exc.code == _NOT_FOUND:
                    return []
            raise UnavailableError(f"Jaeger at {self._url} answered {exc.code}") from exc
        except (OSError, http.client.HTTPException, ValueError) as exc:
            raise UnavailableError(f"Jaeger at {self._url} does not answer: {exc}") from exc
        data = said.get("data") if isinstance(said, dict) else None
        return data if isinstance(data, list) else []


def _spans(trace: dict[str, Any]) -> list[Span]:
    processes = trace.get("processes") or {}
    spans = [_span(each, processes) for each in trace.get("spans") or ()]
    return sorted(spans, key=lambda each: each.start_ns)


def _span(each: dict[str, Any], processes: dict[str, Any]) -> Span:
    process = processes.get(str(each.get("processID"))) or {}
    tags = _tags(each.get("tags"))
    parent, links = "", []
    for reference in each.get("references") or ():
        same = reference["traceID"] == each["traceID"]
        if reference.get("refType") == "CHILD_OF" and same and not parent:
            parent = reference["spanID"]
        else:
            links.append(Link(trace_id=reference["traceID"], span_id=reference["spanID"]))
    start = int(each["startTime"]) * _US
    return Span(
        trace_id=each["traceID"],
        span_id=each["spanID"],
        parent_id=parent,
        name=each["operationName"],
        kind=str(tags.pop("span.kind", "internal")),
        service=process.get("serviceName", ""),
        node=str(_tags(process.get("tags")).get(names.K8S_NODE_NAME, "")),
        start_ns=start,
        end_ns=start + int(each["duration"]) * _US,
        error=bool(tags.pop("error", False)),
        message=str(tags.pop("otel.status_description", "")),
        attributes=tags,
        links=links,
    )


def _tags(tags: Any) -> dict[str, Value]:
    return {each["key"]: plain(each["value"]) for each in tags or ()}
