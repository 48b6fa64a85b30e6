"""How traces are found, understood and drawn."""

from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge_cli.errors import CommandError, MissingError, UsageError
from fedge_cli.finding_traces import Asked, Found, TraceClient, read_asked, web_link
from fedge_cli.trace_layout import View, duration, trace_lines
from fedge_cli.traces import Span, explained, forest, gaps
from tests.unit.cli.server import Server, not_found

MS = 1_000_000
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PROXY = "/api/v1/namespaces/fedge-system/services/fedge-hub:http/proxy"
POD, MAP = "pods/default/hello", "configmaps/default/hello"


def told(span_id: str, parent_id: str = "", **more: Any) -> dict[str, Any]:
    start = more.pop("at", 0) * MS
    return {
        "trace_id": TRACE_ID,
        "span_id": span_id,
        "parent_id": parent_id,
        "name": more.pop("name", span_id),
        "kind": "internal",
        "service": more.pop("service", "fedge-hub"),
        "node": more.pop("node", ""),
        "start_ns": start,
        "end_ns": start + more.pop("took", 10) * MS,
        "error": "failed" in more,
        "message": more.pop("failed", ""),
        "attributes": {"fedge.object": more["about"]} if "about" in more else {},
        "links": [{"trace_id": each, "span_id": "1"} for each in more.pop("causes", ())],
    }


def span(span_id: str, parent_id: str = "", **more: Any) -> Span:
    return Span.read(told(span_id, parent_id, **more))


IDS = st.sampled_from(["", "a", "b", "c", "d", "e", "f"])
SPANS = st.lists(
    st.builds(
        lambda own, parent, at, took: span(own or "x", parent, at=at, took=took),
        IDS, IDS, st.integers(0, 50), st.integers(0, 50),
    ),
    min_size=1,
    max_size=12,
)  # fmt: skip


@given(spans=SPANS)
def test_every_span_is_in_the_forest_once_whatever_it_says(spans: list[Span]) -> None:
    found = forest(spans)
    there = [each for node in (*found.roots, *found.orphans) for each in node.everything()]
    assert sorted(each.span_id for each in there) == sorted({each.span_id for each in spans})


@given(spans=SPANS, width=st.integers(40, 200), everything=st.booleans())
def test_any_trace_can_be_drawn(spans: list[Span], width: int, everything: bool) -> None:
    lines = list(trace_lines(spans, View(width=width, everything=everything)))
    assert lines[0].endswith(TRACE_ID)
    if everything:
        for each in {each.span_id: each for each in spans}.values():
            assert any(f"{each.name}  [hub]" in line for line in lines)


@given(spans=SPANS)
def test_explained_is_a_share_and_gaps_are_the_rest(spans: list[Span]) -> None:
    share = explained(spans)
    assert 0 <= share <= 1
    assert (share == 1) is not any(each.end_ns > each.start_ns for each in gaps(spans))


def test_time_that_no_span_covers_is_named() -> None:
    spans = [span("first", at=0, took=10), span("second", "first", at=40, took=60)]
    assert explained(spans) == pytest.approx(0.7)
    [gap] = gaps(spans)
    assert (gap.after, gap.before) == ("first", "second")
    text = "\n".join(trace_lines(spans, View()))
    assert "30.0 ms at 10.0 ms: between 'first' and 'second'" in text
    assert "spans explain 70.0 %" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 µs"), (0.000_000_4, "0 µs"), (0.00095, "950 µs"), (0.000_999_6, "1.0 ms"),
        (0.0123, "12.3 ms"), (0.0999, "99.9 ms"), (0.099_99, "100 ms"), (0.25, "250 ms"),
        (0.9999, "1.00 s"), (1.424, "1.42 s"), (125, "2 min 5 s"), (3725, "1 h 2 min"),
    ],
)  # fmt: skip
def test_durations_are_said_as_people_do(seconds: float, text: str) -> None:
    assert duration(seconds) == text


STORY = [
    span("a", name="apply", service="fedge-cli", at=0, took=20),
    span("b", "a", name="observe pods", service="fedge-controller", at=10, took=10, about=POD),
    span("c", "b", name="send fedge.wanted", service="fedge-controller", at=20, about=POD),
    span("d", "c", name="wait in hub.wanted", at=30, took=100),
    span("e", "c", name="process hub.wanted", at=130, took=70, about=POD),
    span("f", "e", name="sync pod", service="fedge-edged", node="edge-1", at=150, took=50,
         about=POD, failed="no such image"),
    span("g", "e", name="put wanted", at=140, took=0),
    span("h", "b", name="send fedge.wanted", service="fedge-controller", at=15, about=MAP),
    span("i", "h", name="process hub.wanted", at=25, took=15, about=MAP),
]  # fmt: skip


def test_trace_is_drawn_as_a_tree() -> None:
    lines = list(trace_lines(STORY, View(about=POD, width=120)))
    assert lines == [
        f"Trace:    {TRACE_ID}",
        "Began:    1970-01-01 00:00:00.000 UTC",
        "Took:     200 ms, of which spans explain 100.0 %",
        "Spans:    9, 1 failed",
        "Services: cli, controller, hub, edged@edge-1",
        "",
        "     0 µs   20.0 ms  ██                    apply  [cli]",
        "  10.0 ms   10.0 ms   █                    └─ observe pods  [controller]",
        "  20.0 ms   10.0 ms    █                      ├─ send fedge.wanted  [controller]",
        "  30.0 ms    100 ms     ··········            │  ├─ wait in hub.wanted  [hub]",
        "   130 ms   70.0 ms               ███████     │  └─ process hub.wanted  [hub]",
        (
            "   150 ms   50.0 ms                 █████     │     └─ sync pod  [edged@edge-1]"
            "  FAILED: no such image"
        ),
        "                                              └─ ... 2 spans of configmaps/default/hello",
    ]


def test_narrow_terminal_gets_no_bars_and_all_shows_all() -> None:
    lines = list(trace_lines(STORY, View(about=POD, width=80, everything=True)))
    assert "     0 µs   20.0 ms  apply  [cli]" in lines
    assert sum("  [" in line for line in lines) == len(STORY)


def test_spans_that_repeat_are_one_line() -> None:
    spans = [span("root", took=100)]
    spans += [span(f"s{n}", "root", name="answer", at=n, took=5) for n in range(20)]
    lines = list(trace_lines(spans, View()))
    assert sum("answer  [hub]" in line for line in lines) == 1
    assert any('... and 19 more "answer"' in line for line in lines)


def test_lost_cause_and_cause_elsewhere_are_said() -> None:
    text = "\n".join(trace_lines([span("a", "lost", causes=["1" * 32])], View()))
    assert "1 without their cause" in text
    assert "(caused by a span that is not here)" in text
    assert f"Caused by trace {'1' * 32}" in text


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("pod/a", "pods/ns/a"), ("po/a", "pods/ns/a"), ("pods/a", "pods/ns/a"),
        ("device/a.b", "devices.devices.kubeedge.io/ns/a.b"), ("cm/x", "configmaps/ns/x"),
    ],
)  # fmt: skip
def test_objects_are_found_by_the_names_that_people_use(text: str, about: str) -> None:
    assert read_asked(text, "ns").about == about


def test_trace_is_found_by_its_id_and_by_a_whole_context() -> None:
    assert read_asked(TRACE_ID.upper(), "ns").trace_id == TRACE_ID
    assert read_asked(f"00-{TRACE_ID}-b7ad6b7169203331-01", "ns").trace_id == TRACE_ID


@pytest.mark.parametrize("text", ["", "pod", "pod/", "/a", "deployment/a", "abc", TRACE_ID[:-1]])
def test_what_is_not_traced_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="use pod/NAME"):
        read_asked(text, "ns")


def summary(trace_id: str, *, is_change: bool) -> dict[str, Any]:
    return {
        "trace_id": trace_id, "name": "observe pods", "start_ns": 0, "end_ns": MS,
        "spans": 1, "errors": 0, "is_change": is_change,
    }  # fmt: skip


def find(routes: dict[str, Any], asked: Asked, **more: Any) -> Found:
    server = Server(routes)
    with server.api() as api:
        return TraceClient(api, "fedge-system").find(asked, **more)


def test_newest_change_of_an_object_is_shown_and_others_are_named() -> None:
    later, change = "2" * 32, "3" * 32
    found = find(
        {
            f"GET {PROXY}/traces": {
                "traces": [summary(later, is_change=False), summary(change, is_change=True)]
            },
            f"GET {PROXY}/traces/{change}": {"spans": [told("a")], "web": None},
        },
        read_asked("pod/hello", "default"),
    )
    assert found.about == POD
    assert [each["trace_id"] for each in found.others] == [later]
    with pytest.raises(CommandError, match="FEDGE_HUB_SPANS_JAEGER_URL"):
        web_link(found)


def test_trace_that_is_not_there_names_reasons() -> None:
    with pytest.raises(MissingError, match="FEDGE_TRACE_RATIO"):
        find({f"GET {PROXY}/traces": {"traces": []}}, read_asked("pod/hello", "default"))
    with pytest.raises(MissingError, match="--wait"):
        find({f"GET {PROXY}/traces/{TRACE_ID}": not_found("it")}, read_asked(TRACE_ID, ""))


def test_trace_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr("fedge_cli.finding_traces.time.sleep", sleep)
    monkeypatch.setattr("fedge_cli.finding_traces.time.monotonic", lambda: now)
    asked: list[float] = []

    def answer(_: httpx.Request) -> Any:
        asked.append(now)
        if now < 1:
            return not_found("it")
        return {"spans": [told(str(n)) for n in range(min(int(now), 4))], "web": "http://j/x"}

    found = find(
        {f"GET {PROXY}/traces/{TRACE_ID}": answer}, read_asked(TRACE_ID, ""), wait_seconds=60
    )
    assert len(found.answer["spans"]) == 4
    assert 4 <= now < 10
    assert web_link(found) == "http://j/x"
