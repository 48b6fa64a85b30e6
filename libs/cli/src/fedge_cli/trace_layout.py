"""How ``fedge trace`` draws a trace."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from fedge_cli.traces import GAP_SHARE, Forest, Node, Span, explained, forest, gaps

BAR: Final = 20
BAR_FROM_WIDTH: Final = 110
"""Terminals that are narrower get no bars."""
FOLD_FROM: Final = 6
"""As many spans of one name below another are one line."""
SHOWN_SECONDS: Final = 0.001
"""Spans that are shorter, with nothing below them, are left out unless all are asked for."""
_NS: Final = 1e9
_MINUTE: Final = 60.0
_ROUNDING: Final = 0.5
"""Of the last digit: what would be shown as the next unit is."""
_TEXT: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What is drawn, and how.

    Attributes:
        about: the object whose way is followed; of others only a line is drawn. Empty: of none.
        width: columns of the terminal.
        everything: whether nothing is folded or left out.
    """

    about: str = ""
    width: int = 100
    everything: bool = False


def duration(seconds: float) -> str:
    """Return a time as people say it: ``950 µs``, ``12.3 ms``, ``1.42 s``, ``2 min 5 s``."""
    if seconds < 1e-3 - _ROUNDING / 1e6:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < (100 - _ROUNDING / 10) / 1e3:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 1 - _ROUNDING / 1e3:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < _MINUTE:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < _MINUTE:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def trace_lines(spans: Sequence[Span], view: View) -> Iterator[str]:
    """Yield the trace, line by line; there is at least one span."""
    start, end = min(each.start_ns for each in spans), max(each.end_ns for each in spans)
    found = forest(spans)
    drawing = _Drawing(view, start, max(end - start, 1))
    yield from _head(spans, found, start, end)
    yield ""
    for node in found.roots:
        yield from drawing.lines(node)
    if found.orphans:
        yield drawing.remark("(caused by a span that is not here)")
        for number, node in enumerate(found.orphans, 1):
            yield from drawing.lines(node, "", is_last=number == len(found.orphans))
    yield from _tail(spans, start, end)


def _head(spans: Sequence[Span], found: Forest, start: int, end: int) -> Iterator[str]:
    errors = sum(each.error for each in spans)
    began = datetime.fromtimestamp(start / _NS, UTC)
    services = dict.fromkeys(each.where for each in sorted(spans, key=lambda each: each.start_ns))
    yield f"Trace:    {spans[0].trace_id}"
    yield f"Began:    {began:%Y-%m-%d %H:%M:%S}.{began.microsecond // 1000:03d} UTC"
    yield (
        f"Took:     {duration((end - start) / _NS)}, of which spans explain"
        f" {explained(spans) * 100:.1f} %"
    )
    lost = f", {len(found.orphans)} without their cause" if found.orphans else ""
    failed = f"{errors} failed" if errors else "none failed"
    yield f"Spans:    {len(spans)}, {failed}{lost}"
    yield f"Services: {', '.join(services)}"


def _tail(spans: Sequence[Span], start: int, end: int) -> Iterator[str]:
    whole = end - start
    named = [each for each in gaps(spans) if each.end_ns - each.start_ns > whole * GAP_SHARE]
    if named:
        yield ""
        yield "Not explained:"
    for each in named:
        took = duration((each.end_ns - each.start_ns) / _NS)
        at = duration((each.start_ns - start) / _NS)
        yield f"  {took} at {at}: between {each.after!r} and {each.before!r}"
    causes = dict.fromkeys(cause for each in spans for cause in each.causes)
    if causes:
        yield ""
        yield from (f"Caused by trace {each}" for each in causes)


def _plural(count: int) -> str:
    return "1 span" if count == 1 else f"{count} spans"


class _Drawing:
    def __init__(self, view: View, start: int, whole: int) -> None:
        self._view = view
        self._start = start
        self._whole = whole
        self._has_bar = view.width >= BAR_FROM_WIDTH

    def lines(self, node: Node, guide: str | None = None, *, is_last: bool = True) -> Iterator[str]:
        """Yield a span and what is below it."""
        if guide is None:
            yield self._line(node.span, "")
            below = ""
        else:
            yield self._line(node.span, guide + ("└─ " if is_last else "├─ "))
            below = guide + ("   " if is_last else "│  ")
        entries = self._entries(node.children)
        for number, entry in enumerate(entries, 1):
            ends = number == len(entries)
            if isinstance(entry, Node):
                yield from self.lines(entry, below, is_last=ends)
            else:
                yield self.remark(f"{below}{'└─ ' if ends else '├─ '}{entry}")

    def remark(self, text: str) -> str:
        """Return a line that is no span's."""
        bar = f"{'':{BAR + 2}}" if self._has_bar else ""
        return f"{'':>9} {'':>9}  {bar}{text}"

    def _entries(self, children: Sequence[Node]) -> list[Node | str]:
        """Return what is drawn below a span: spans, and lines for those that are not."""
        if self._view.everything:
            return list(children)
        shown: list[Node | str] = []
        names: dict[str, int] = {}
        for each in children:
            names[each.span.name] = names.get(each.span.name, 0) + 1
        drawn: dict[str, int] = {}
        others: dict[str, int] = {}
        for each in children:
            if self._is_aside(each):
                for other in {span.about for span in each.everything()} - {""}:
                    others.setdefault(other, 0)
                top = next((span.about for span in each.everything() if span.about), "")
                others[top] = others.get(top, 0) + sum(1 for _ in each.everything())
                continue
            if self._is_short(each):
                continue
            name = each.span.name
            if names[name] >= FOLD_FROM and drawn.get(name, 0):
                drawn[name] += 1
                continue
            drawn[name] = 1
            shown.append(each)
        shown += [
            f'... and {count - 1} more "{name}"' for name, count in drawn.items() if count > 1
        ]
        shown += [f"... {_plural(count)} of {name}" for name, count in others.items() if count]
        return shown

    def _is_aside(self, node: Node) -> bool:
        """Whether a span and all below are about other objects."""
        about = self._view.about
        if not about:
            return False
        said = {span.about for span in node.everything()} - {""}
        return bool(said) and about not in said

    def _is_short(self, node: Node) -> bool:
        took = (node.span.end_ns - node.span.start_ns) / _NS
        return took < SHOWN_SECONDS and not node.children and not node.span.error

    def _line(self, span: Span, guide: str) -> str:
        at = duration((span.start_ns - self._start) / _NS)
        took = duration((span.end_ns - span.start_ns) / _NS)
        text = f"{at:>9} {took:>9}  "
        if self._has_bar:
            text += f"{self._bar(span)}  "
        text += f"{guide}{span.name}  [{span.where}]"
        if span.error:
            text += f"  FAILED: {span.message[:_TEXT]}" if span.message else "  FAILED"
        return text.rstrip()

    def _bar(self, span: Span) -> str:
        first = (span.start_ns - self._start) * BAR // self._whole
        last = max((span.end_ns - self._start) * BAR // self._whole, first + 1)
        first, last = min(first, BAR - 1), min(last, BAR)
        mark = "·" if span.is_wait else "█"
        return f"{' ' * first}{mark * (last - first)}{' ' * (BAR - last)}"
