"""Spans as bytes: OTLP, https://opentelemetry.io/docs/specs/otlp/."""

from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan


def encode(spans: Sequence[ReadableSpan]) -> bytes:
    """Return an ``ExportTraceServiceRequest`` of ``spans``."""
    # not needed until the first span is sent
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans  # noqa: PLC0415

    return encode_spans(spans).SerializeToString()
