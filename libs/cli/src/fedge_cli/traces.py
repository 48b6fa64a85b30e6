"""A trace as a tree: what happened because of what, and which time nothing explains."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

OBJECT: Final = "fedge.object"
GAP_SHARE: Final = 0.01
"""A time without any span is named from that share of the whole on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A span as hub tells of it. Times are nanoseconds since the epoch."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    service: str
    node: str
    start_ns: int
    end_ns: int
    error: bool
    message: str
    attributes: Mapping[str, Any]
    causes: Sequence[str]
    """Ids of other traces that it is linked to."""

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Self:
        """Return a span of hub's answer."""
        trace_id, start = str(told["trace_id"]), int(told["start_ns"])
        links = (str(each.get("trace_id")) for each in told.get("links") or ())
        return cls(
            trace_id=trace_id,
            span_id=str(told["span_id"]),
            parent_id=str(told.get("parent_id") or ""),
            name=str(told["name"]),
            service=str(told.get("service") or ""),
            node=str(told.get("node") or ""),
            start_ns=start,
            end_ns=max(start, int(told["end_ns"])),
            error=bool(told.get("error")),
            message=str(told.get("message") or ""),
            attributes=told.get("attributes") or {},
            causes=[each for each in dict.fromkeys(links) if each != trace_id],
        )

    @property
    def where(self) -> str:
        """``controller``, ``edged@edge-1``."""
        service = self.service.removeprefix("fedge-")
        return f"{service}@{self.node}" if self.node else service

    @property
    def about(self) -> str:
        """The key of the object that it is about, if it says one."""
        return str(self.attributes.get(OBJECT) or "")

    @property
    def is_wait(self) -> bool:
        """Whether it stands for a wait, and not for work."""
        return self.name.startswith("wait ")


@dataclass(slots=True)
class Node:
    """A span with what came of it, in the order in which it began."""

    span: Span
    children: list["Node"] = field(default_factory=list)

    def everything(self) -> Iterator[Span]:
        """Yield this span and all below it."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node.span
            waiting += node.children


@dataclass(frozen=True, slots=True, kw_only=True)
class Forest:
    """All spans of a trace.

    Attributes:
        roots: those that nothing caused.
        orphans: those whose cause is not here.
    """

    roots: list[Node]
    orphans: list[Node]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A time that no span covers, between two that end and begin there."""

    start_ns: int
    end_ns: int
    after: str
    before: str


def forest(spans: Iterable[Span]) -> Forest:
    """Return spans as trees. Each is in it once, whatever they say of each other."""
    nodes: dict[str, Node] = {}
    for each in sorted(spans, key=lambda span: (span.start_ns, -span.end_ns, span.span_id)):
        nodes.setdefault(each.span_id, Node(each))
    roots, orphans = [], []
    for node in nodes.values():
        parent = nodes.get(node.span.parent_id)
        if not node.span.parent_id:
            roots.append(node)
        elif parent is None:
            orphans.append(node)
        else:
            parent.children.append(node)
    reached = {span.span_id for node in (*roots, *orphans) for span in node.everything()}
    for span_id, node in nodes.items():
        if span_id in reached:
            continue
        # they are each other's causes: the first of them has none
        nodes[node.span.parent_id].children.remove(node)
        orphans.append(node)
        reached |= {span.span_id for span in node.everything()}
    return Forest(roots=roots, orphans=orphans)


def gaps(spans: Sequence[Span]) -> list[Gap]:
    """Return the times between first and last that no span covers."""
    found: list[Gap] = []
    last: Span | None = None
    for each in sorted(spans, key=lambda span: span.start_ns):
        if last is not None and each.start_ns > last.end_ns:
            found.append(
                Gap(
                    start_ns=last.end_ns,
                    end_ns=each.start_ns,
                    after=last.name,
                    before=each.name,
                )
            )
        if last is None or each.end_ns > last.end_ns:
            last = each
    return found


def explained(spans: Sequence[Span]) -> float:
    """Return the share of the time from first to last that spans cover, from 0 to 1."""
    if not spans:
        return 0.0
    whole = max(each.end_ns for each in spans) - min(each.start_ns for each in spans)
    if not whole:
        return 1.0
    return 1.0 - sum(each.end_ns - each.start_ns for each in gaps(spans)) / whole
