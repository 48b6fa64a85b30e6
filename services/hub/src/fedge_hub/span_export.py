"""Spans to a collector, or to Jaeger: OTLP over HTTP.

https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

import asyncio
import gzip
import http.client
import urllib.error
import urllib.request
from collections.abc import Mapping

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from typing_extensions import override

from fedge_fabric import InvalidError, UnavailableError
from fedge_hub.spans import Exporter

TIMEOUT_SECONDS = 10.0
_LATER = frozenset({429, 502, 503, 504})
_MAX_ANSWER = 64 * 1024


class OtlpExporter(Exporter):
    """``Exporter`` to an OTLP/HTTP endpoint."""

    def __init__(
        self,
        endpoint: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        """Take where to.

        Args:
            endpoint: ``http://host:4318``; spans go to ``/v1/traces`` below it.
            headers: sent along, e.g. for authentication.
            timeout_seconds: of one request.
        """
        self._url = f"{endpoint.rstrip('/')}/v1/traces"
        self._headers = dict(headers or {})
        self._timeout = timeout_seconds

    @override
    async def export(self, request: ExportTraceServiceRequest) -> int:
        return await asyncio.to_thread(self._post, request.SerializeToString())

    def _post(self, body: bytes) -> int:
        request = urllib.request.Request(  # noqa: S310 - the address is the operator's
            self._url,
            data=gzip.compress(body, 1),
            method="POST",
            headers={
                "Content-Type": "application/x-protobuf",
                "Content-Encoding": "gzip",
                **self._headers,
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as answer:  # noqa: S310
                return _refused(answer.read(_MAX_ANSWER))
        except urllib.error.HTTPError as exc:
            with exc:
                text = f"{self._url} answered {exc.code}"
            if exc.code in _LATER:
                raise UnavailableError(text) from exc
            raise InvalidError(text) from exc
        except (OSError, http.client.HTTPException) as exc:
            raise UnavailableError(f"{self._url} does not answer: {exc}") from exc


def _refused(body: bytes) -> int:
    """Return how many spans an answer says were refused."""
    answer = ExportTraceServiceResponse()
    try:
        answer.ParseFromString(body)
    except DecodeError:
        return 0  # it took them, and says so in its own way
    return int(answer.partial_success.rejected_spans)
