"""Messages that are almost good, and such that are not at all."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import zstandard
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from fedge_fabric import Envelope
from fedge_fabric.envelope import MAX_BODY_BYTES

EXAMPLES = int(os.environ.get("FEDGE_BAD_INPUT_EXAMPLES", "20"))
"""How many rows of messages each queue is given; thousands for a long run."""
MOST_IN_A_ROW = 20

bounded = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@dataclass(frozen=True, slots=True)
class Sample:
    """A message as one that is well writes it, and how it is addressed."""

    routing_key: str
    envelope: Envelope


@dataclass(frozen=True, slots=True)
class Raw:
    """A message as it comes from the broker."""

    routing_key: str
    headers: dict[str, Any]
    body: bytes
    encoding: str | None = None


def raw_of(sample: Sample) -> Raw:
    body, encoding = sample.envelope.body()
    return Raw(sample.routing_key, dict(sample.envelope.headers()), body, encoding)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


TEXTS: list[str] = [
    "",
    "-",
    ".",
    "..",
    "../../../etc",
    "/",
    "/etc/passwd",
    "a/b/c/d",
    "pods/d/a\0",
    "pods/d/../../nodes/x",
    "\n",
    "a\nb",
    "\u0000",
    "\u202e\U0001f4a5\ufffe",
    "e\u0301" * 50,
    "#",
    "+/#",
    "%2F%00",
    "NaN",
    "Infinity",
    "1e999999999",
    "\u0663.\u0663",
    "\u00b2.\u00b2",
    "9" * 18,
    "9" * 5000,
    "-1",
    "1.1",
    "999999999999999999.999999999999999999",
    "0001-01-01T00:00:00+00:00",
    "9999-12-31T23:59:59-23:59",
    "2026-01-01",
    "x" * 300,
    "x" * 20_000,
]
NUMBERS: list[float] = [
    0,
    -1,
    1,
    2**31,
    2**53 + 1,
    2**63 - 1,
    2**63,
    2**64,
    -(2**63) - 1,
    10**30,
    10**308,
    10**320,
    1e308,
    -1e308,
    5e-324,
    0.5,
    -0.0,
]
VALUES: list[Any] = [
    None,
    True,
    False,
    *TEXTS,
    *NUMBERS,
    [],
    {},
    [None],
    [[]],
    [{}],
    [1, "a", None, {}],
    {"": {}},
    {"a": None},
    {"metadata": []},
    nested(100),
    nested(200),
]
_PROPERTIES: list[Any] = [
    *TEXTS,
    None,
    True,
    7,
    2**62,
    1.5,
    Decimal("1.5"),
    datetime(2200, 1, 1, tzinfo=UTC),
    b"\xff\xfe",
    bytearray(b"\0\xff"),
    [],
    {"a": {"b": [1, {"c": None}]}},
]


def paths(data: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where in JSON each value lies, the whole first."""
    found = [at]
    if isinstance(data, dict):
        for name, each in data.items():
            found += paths(each, (*at, name))
    elif isinstance(data, list):
        for index, each in enumerate(data):
            found += paths(each, (*at, index))
    return found


_GONE = object()


def changed(data: Any, path: Sequence[Any], value: Any) -> Any:
    """Return JSON with another value in a place."""
    if not path:
        return None if value is _GONE else value
    first, *rest = path
    copy: Any = dict(data) if isinstance(data, dict) else list(data)
    if not rest and value is _GONE:
        del copy[first]
    else:
        copy[first] = changed(data[first], rest, value)
    return copy


@st.composite
def _with_other_data(draw: st.DrawFn, raw: Raw) -> Raw:
    try:
        data = msgspec.json.decode(raw.body)
    except (ValueError, RecursionError):
        return raw
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(paths(data)))
        value = draw(
            st.just(_GONE) | st.sampled_from(VALUES) | st.text(max_size=20) | st.integers()
        )
        data = changed(data, path, value)
    return replace(raw, body=msgspec.json.encode(data))


@st.composite
def _with_other_header(draw: st.DrawFn, raw: Raw) -> Raw:
    name = draw(st.sampled_from([*raw.headers, "fedge-key", "fedge-attempt", "CC", "traceparent"]))
    headers = dict(raw.headers)
    value = draw(st.just(_GONE) | st.sampled_from(_PROPERTIES) | st.text(max_size=30))
    if value is _GONE:
        headers.pop(name, None)
    else:
        headers[name] = value
    return replace(raw, headers=headers)


@st.composite
def _of_another_kind(draw: st.DrawFn, raw: Raw, samples: Sequence[Sample]) -> Raw:
    """Give it the headers of one message and the body of another."""
    other = raw_of(draw(st.sampled_from(samples)))
    name = draw(st.sampled_from(sorted(other.headers)))
    return draw(
        st.sampled_from(
            [
                replace(raw, headers=other.headers),
                replace(raw, headers={**raw.headers, name: other.headers[name]}),
                replace(raw, routing_key=other.routing_key),
            ]
        )
    )


@st.composite
def _with_other_body(draw: st.DrawFn, raw: Raw) -> Raw:
    body = raw.body
    cut = draw(st.integers(0, max(0, len(body) - 1)))
    frame = zstandard.compress(body)
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(body)
    return draw(
        st.sampled_from(
            [
                replace(raw, body=body[:cut]),
                replace(raw, body=b""),
                replace(raw, body=body + b"\xff"),
                replace(raw, body=b"[" * 5000),
                replace(raw, body=b'{"a":' * 900 + b"1" + b"}" * 900),
                replace(raw, body=b'"\xed\xa0\x80"'),
                replace(raw, body=b'{"a":"\\ud800"}'),
                replace(raw, body=b'{"interval_seconds":1e999}'),
                replace(raw, body=b'{"interval_seconds":NaN}'),
                replace(raw, encoding="zstd"),
                replace(raw, encoding="gzip"),
                replace(raw, encoding="\0"),
                replace(raw, body=frame, encoding="zstd"),
                replace(raw, body=frame[: cut % len(frame)], encoding="zstd"),
                replace(raw, body=unsized, encoding="zstd"),
                replace(raw, body=bomb(), encoding="zstd"),
            ]
        )
        | st.binary(max_size=64).map(lambda alien: replace(raw, body=alien))
    )


_bombs: list[bytes] = []


def bomb() -> bytes:
    """A few bytes that are far too many once they are decompressed."""
    if not _bombs:
        _bombs.append(zstandard.compress(b" " * (MAX_BODY_BYTES + 1)))
    return _bombs[0]


@st.composite
def _with_other_key(draw: st.DrawFn, raw: Raw) -> Raw:
    words = raw.routing_key.split(".")
    place = draw(st.integers(0, len(words) - 1))
    word = draw(
        st.sampled_from(
            ["", "-", "*", "#", "other", "state", "event", "spans", "%00", "%", "a" * 250]
        )
    )
    key = draw(
        st.sampled_from(
            [
                ".".join([*words[:place], word, *words[place + 1 :]]),
                ".".join(words[:place]),
                "x" * 255,
                raw.routing_key + ".more" * 30,
            ]
        )
    )
    return replace(raw, routing_key=key[:255])


@st.composite
def _mutated(draw: st.DrawFn, samples: Sequence[Sample]) -> Raw:
    raw = raw_of(draw(st.sampled_from(samples)))
    # one in ten is left as it is
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 1, 1, 2, 2, 2, 3]))):
        raw = draw(
            draw(
                st.sampled_from(
                    [
                        _with_other_data(raw),
                        _with_other_data(raw),
                        _with_other_data(raw),
                        _with_other_header(raw),
                        _with_other_header(raw),
                        _of_another_kind(raw, samples),
                        _with_other_body(raw),
                        _with_other_key(raw),
                    ]
                )
            )
        )
    return raw


@st.composite
def rows(draw: st.DrawFn, samples: Sequence[Sample]) -> list[Raw]:
    """Messages one after the other; some come twice, and later than they were sent."""
    sent = draw(st.lists(_mutated(samples), min_size=5, max_size=MOST_IN_A_ROW))
    again = draw(st.lists(st.sampled_from(sent), max_size=3))
    return draw(st.permutations([*sent, *again])) if again else sent
