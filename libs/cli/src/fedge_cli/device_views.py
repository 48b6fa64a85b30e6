"""A device as it is shown: what each property should be and is, from whatever source."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fedge_cli.device_wishes import Wish, range_of
from fedge_cli.getting import Table
from fedge_cli.printing import table_lines
from fedge_cli.staleness import age
from fedge_devices import Model, ModelProperty, as_text

NOTHING = "-"
MAX_SHOWN = 48
PROPERTY_COLUMNS = (
    "PROPERTY", "TYPE", "ACCESS", "RANGE", "UNIT", "DESIRED", "REPORTED", "BY", "AGE", "SYNC",
)  # fmt: skip
CHANGE_COLUMNS = ("TIME", "DEVICE", "PROPERTY", "DESIRED", "REPORTED", "STATE")
HISTORY_COLUMNS = ("TIME", "PROPERTY", "SIDE", "BY", "VALUE")


@dataclass(frozen=True, slots=True, kw_only=True)
class PropertyView:
    """A property.

    Attributes:
        name: of it.
        manifest: what the manifest wishes; None if nothing.
        held: what it should be by its node's word; None if nothing, or the node said nothing.
        is_edges: whether somebody at the edge wished that.
        reported: what the device says that it is; None if nothing.
        reported_at: when it said so, if that is known.
        conflict: about a wish that was lost; empty if none was.
        problem: why the manifest's wish is not taken; empty if it is.
    """

    name: str
    manifest: str | None = None
    held: str | None = None
    is_edges: bool = False
    reported: str | None = None
    reported_at: datetime | None = None
    conflict: str = ""
    problem: str = ""

    @property
    def desired(self) -> str | None:
        """What it should be."""
        if self.is_edges or self.manifest is None:
            return self.held
        return self.manifest

    @property
    def by(self) -> str:
        """Who wished that."""
        if self.desired is None:
            return NOTHING
        return "edge" if self.is_edges else "cloud"

    @property
    def sync(self) -> str:
        """How it is with the wish, in the words of the device's own status."""
        if self.problem:
            return "Invalid"
        if self.conflict:
            return "Conflict"
        if self.is_edges and self.manifest not in (None, self.held):
            return "SetAtEdge"
        if self.desired is None:
            return NOTHING
        return "Synced" if self.reported == self.desired else "Pending"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceView:
    """A device.

    Attributes:
        namespace: of it.
        name: of it.
        node: that it is attached to; empty if to none.
        model_name: of its model; empty if it names none.
        model: None if it has none, or it is not there.
        state: as it said last; empty before.
        last_online: RFC 3339; empty if never.
        properties: by name.
        conditions: what holds of it, as the API has them.
    """

    namespace: str
    name: str
    node: str = ""
    model_name: str = ""
    model: Model | None = None
    state: str = ""
    last_online: str = ""
    properties: Mapping[str, PropertyView] = field(default_factory=dict)
    conditions: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Something about a device that is news; ``property`` is empty where only the state is."""

    time: datetime
    device: str
    property: str
    desired: str | None
    reported: str | None
    state: str

    def cells(self) -> list[str]:
        """Return a row of a table."""
        values = (self.property, shown(self.desired), shown(self.reported), self.state)
        return [moment(self.time), self.device, *(each or NOTHING for each in values)]

    def line(self) -> str:
        """Return a line of JSON."""
        namespace, _, name = self.device.partition("/")
        return json.dumps(
            {
                "time": moment(self.time), "namespace": namespace, "device": name,
                "property": self.property, "desired": self.desired, "reported": self.reported,
                "state": self.state,
            },
            ensure_ascii=False,
        )  # fmt: skip


def news(before: DeviceView | None, after: DeviceView, now: datetime) -> Iterator[Seen]:
    """Yield what is new of a device; all of it where nothing was known before."""
    known = before.properties if before else {}
    device = f"{after.namespace}/{after.name}"
    is_told = False
    for name in dict.fromkeys((*known, *after.properties)):
        old = known.get(name, PropertyView(name=name))
        new = after.properties.get(name, PropertyView(name=name))
        if (old.desired, old.reported) != (new.desired, new.reported):
            is_told = True
            yield Seen(
                time=now, device=device, property=name, desired=new.desired,
                reported=new.reported, state=after.state,
            )  # fmt: skip
    if not is_told and (before is None or before.state != after.state):
        yield Seen(
            time=now, device=device, property="", desired=None, reported=None, state=after.state
        )


def lacking(view: DeviceView, wishes: Iterable[Wish], *, at_edge: bool) -> list[str]:
    """Return what is not yet as it was set."""
    found = []
    for wish in wishes:
        each = view.properties.get(wish.name, PropertyView(name=wish.name))
        if wish.value is None:
            if each.held is not None and each.is_edges is at_edge:
                found.append(f"{wish.name} is still to be {shown(each.held)}")
        elif each.reported != wish.value:
            text = f"{wish.name} should be {shown(wish.value)} and is "
            text += "not reported" if each.reported is None else shown(each.reported)
            if each.is_edges and each.held != wish.value:
                text += f" (the edge wishes {shown(each.held)})"
            found.append(text + (f" ({each.problem})" if each.problem else ""))
    return found


def describe_lines(view: DeviceView, now: datetime, *, stale: float | None = None) -> Iterator[str]:
    """Yield the lines that tell all about a device.

    Args:
        view: of the device.
        now: the time.
        stale: seconds since its node was heard, if that is overdue.
    """
    mark = "" if stale is None else f" (stale {age(stale)})"
    missing = " (not there)" if view.model_name and view.model is None else ""
    yield f"Name: {view.name}"
    yield f"Namespace: {view.namespace}"
    yield f"Model: {view.model_name or '<none>'}{missing}"
    yield f"Node: {view.node or '<none>'}{mark if view.node else ''}"
    yield f"State: {view.state or 'unknown'}{mark}"
    yield f"Last Online: {_ago(view.last_online, now)}"
    table = property_table(view, now)
    yield "Properties:" if table.rows else "Properties: <none>"
    if table.rows:
        yield from (f"  {line}" for line in table_lines(table))
    if not view.conditions:
        yield "Conditions: <none>"
        return
    yield "Conditions:"
    rows = [
        [str(each.get(key) or NOTHING) for key in ("type", "status", "reason", "message")]
        for each in view.conditions
    ]
    yield from (
        f"  {line}" for line in table_lines(Table(["TYPE", "STATUS", "REASON", "MESSAGE"], rows))
    )


def property_table(view: DeviceView, now: datetime) -> Table:
    """Return the properties of a device: those of its model first, in its order."""
    model = view.model or {}
    rows = []
    for name in dict.fromkeys((*model, *view.properties)):
        each = view.properties.get(name, PropertyView(name=name))
        rule = model.get(name)
        at = each.reported_at
        ago = NOTHING if at is None else age((now - at).total_seconds())
        cells = (*_of_model(rule), shown(each.desired), shown(each.reported), each.by, ago)
        rows.append([name, *(cell or NOTHING for cell in cells), each.sync])
    return Table(list(PROPERTY_COLUMNS), rows)


def history_table(items: Iterable[Mapping[str, Any]]) -> Table:
    """Return a history, in the order given."""
    rows = []
    for each in items:
        if "value" in each:
            value = NOTHING if each["value"] is None else shown(as_text(each["value"]))
        else:
            value = f"({each.get('bytes', '?')} bytes, not kept)"
        at = from_milliseconds(each.get("time"))
        rows.append([
            NOTHING if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            *(str(each.get(key) or NOTHING) for key in ("property", "side", "by")),
            value,
        ])  # fmt: skip
    return Table(list(HISTORY_COLUMNS), rows)


def from_milliseconds(value: object) -> datetime | None:
    """Return the time that is so many ms after 1970; None if it is no time."""
    try:
        found = int(str(value))
        return datetime.fromtimestamp(found / 1000, UTC) if found > 0 else None
    except (ValueError, OverflowError, OSError):
        return None


def moment(at: datetime) -> str:
    """Return a time to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def shown(value: str | None) -> str:
    """Return a value on one line, not too long; empty for none."""
    text = " ".join((value or "").split())
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."


def _of_model(rule: ModelProperty | None) -> tuple[str, str, str, str]:
    if rule is None:
        return "", "", "", ""
    return rule.type, str(rule.access), range_of(rule), rule.unit


def _ago(text: str, now: datetime) -> str:
    try:
        at = datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return text or "never"
    return f"{text} ({age((now - at).total_seconds())} ago)"
