"""Cloud and edge both wish values: the rule decides, and nothing is lost silently."""

from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fedge_devices import (
    STAMPS_ANNOTATION,
    HybridClock,
    MergeRule,
    Model,
    Stamp,
    read_model,
    write_stamps,
)
from fedge_objects import Change, ObjectKey, Version
from fedge_twin.declaring import declare, declare_again
from fedge_twin.device import DEVICES, Device, Property
from fedge_twin.payloads import GivenProperty, GivenValue, UpdateAsked
from fedge_twin.updating import RefusedError, update

KEY = ObjectKey(DEVICES, "default", "ac")
NAME = "temp"
VALUES = st.sampled_from(["20", "21", "22"])


def manifest(
    revision: int, value: Any = None, *, stamp: Stamp | None = None, rule: str = "", **more: Any
) -> Change:
    one: dict[str, Any] = {"name": NAME, **more}
    if value is not None:
        one["desired"] = {"value": value}
    if rule:
        one["mergeRule"] = rule
    annotations = {STAMPS_ANNOTATION: write_stamps({NAME: stamp})} if stamp else {}
    return Change(
        key=KEY,
        version=Version(revision, revision),
        object={
            "metadata": {"name": "ac", "uid": "u", "annotations": annotations},
            "spec": {"properties": [one]},
        },
    )


def wish(device: Device, value: Any, now: int, model: Model | None = None) -> Device:
    asked = UpdateAsked(twin={NAME: GivenProperty(expected=GivenValue(value=value))})
    return update(device, asked, model, now)


def stored(device: Device) -> Device:
    """Return a device as it comes back from the disk."""
    properties = {
        name: msgspec.json.decode(msgspec.json.encode(each), type=Property)
        for name, each in device.properties.items()
    }
    assert properties == device.properties
    return Device(key=device.key, uid=device.uid, version=device.version, properties=properties)


class Twin(RuleBasedStateMachine):
    """One property, a cloud whose word travels late, and clocks that are off."""

    @initialize(rule_of=st.sampled_from(list(MergeRule)))
    def begin(self, rule_of: MergeRule) -> None:
        self.rule_of = rule_of
        self.cloud_ms, self.edge_ms = 1_000_000, 1_000_000
        self.cloud = HybridClock(lambda: self.cloud_ms)
        self.edge = HybridClock(lambda: self.edge_ms)
        self.sent: list[tuple[str | None, Stamp]] = [(None, Stamp())]
        self.seen = 0
        self.arrived = 0
        self.device = declare(None, manifest(1, rule=rule_of), None, self.edge)
        # what should be, told apart from how it comes about
        self.of_cloud: str | None = None
        self.of_edge: tuple[str, int] | None = None
        self.told_loss: tuple[str, str] | None = None
        self.counts = (0, 0)

    @rule(value=st.one_of(st.none(), VALUES))
    def cloud_writes(self, value: str | None) -> None:
        self.cloud_ms += 1
        if value != self.sent[-1][0]:
            stamp = Stamp(self.cloud.stamp(), self.seen) if value is not None else Stamp()
            self.sent.append((value, stamp))

    @precondition(lambda self: len(self.sent) > 1)
    @rule(data=st.data())
    def manifest_arrives(self, data: st.DataObject) -> None:
        """Any of those that were sent: late, twice, or with some left out."""
        index = data.draw(st.integers(0, len(self.sent) - 1))
        value, stamp = self.sent[index]
        change = manifest(index + 1, value, stamp=stamp, rule=self.rule_of)
        if change.version <= self.device.version:
            return  # as ``Twins`` does
        before = self.sent[self.arrived]
        self.arrived = index
        self.device = declare(self.device, change, None, self.edge)
        self.told_loss = None if value != before[0] or stamp.at > before[1].at else self.told_loss
        is_new = value != before[0] or 0 < before[1].at < stamp.at
        self.of_cloud = value
        if not is_new or value is None or self.of_edge is None:
            return
        wished, at = self.of_edge
        if wished == value:
            self.of_edge = None
        elif self.rule_of == "edge-wins" or (self.rule_of == "last-write" and at >= stamp.at):
            self.told_loss = (wished, value)
        else:
            self.of_edge = None
            if stamp.seen < at:
                self.told_loss = (value, wished)

    @rule(value=VALUES)
    def edge_wishes(self, value: str) -> None:
        self.edge_ms += 1
        at = self.edge.stamp()
        self.device = wish(self.device, value, at)
        self.of_edge, self.told_loss = (value, at), None

    @precondition(lambda self: self.of_edge is not None)
    @rule()
    def edge_withdraws(self) -> None:
        self.device = wish(self.device, None, self.edge.stamp())
        self.of_edge = self.told_loss = None

    @rule()
    def cloud_hears(self) -> None:
        desired = self.device.properties[NAME].desired
        if desired is not None and desired.by == "edge":
            self.cloud.saw(desired.at)
            self.seen = desired.at

    @rule(hours=st.integers(-2, 2))
    def clock_steps(self, hours: int) -> None:
        self.edge_ms = max(1, self.edge_ms + hours * 3_600_000)

    @rule()
    def restart(self) -> None:
        self.device = stored(self.device)

    @invariant()
    def is_what_the_rule_says(self) -> None:
        each = self.device.properties[NAME]
        wanted = self.of_edge[0] if self.of_edge else self.of_cloud
        assert (each.desired.value if each.desired else None) == wanted
        if each.desired is not None:
            assert each.desired.by == ("edge" if self.of_edge else "cloud")

    @invariant()
    def nothing_is_lost_silently(self) -> None:
        conflict = self.device.properties[NAME].conflict
        assert (conflict and (conflict.kept, conflict.lost)) == self.told_loss

    @invariant()
    def versions_grow(self) -> None:
        desired = self.device.properties[NAME].desired
        if desired is None:
            self.counts = (0, 0)
            return
        assert desired.cloud >= self.counts[0]
        assert desired.edge >= self.counts[1]
        self.counts = (desired.cloud, desired.edge)


TestTwin = Twin.TestCase
TestTwin.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


def test_a_causally_later_wish_of_the_cloud_wins_though_the_edges_clock_is_ahead() -> None:
    edge = HybridClock(lambda: 7_200_000)
    cloud = HybridClock(lambda: 3_600_000)
    device = declare(None, manifest(1, "20", stamp=Stamp(cloud.stamp())), None, edge)
    device = wish(device, "22", at := edge.stamp())
    cloud.saw(at)
    change = manifest(2, "25", stamp=Stamp(cloud.stamp(), at), rule="last-write")
    each = declare(device, change, None, edge).properties[NAME]
    assert each.desired is not None
    assert (each.desired.value, each.conflict) == ("25", None)


@pytest.mark.parametrize(
    ("rule", "value", "reason"),
    [
        ({"type": "INT", "maximum": "30"}, "31", "AboveMaximum"),
        ({"type": "INT", "minimum": "16"}, 15, "BelowMinimum"),
        ({"type": "INT"}, "warm", "WrongType"),
        ({"type": "INT", "accessMode": "ReadOnly"}, "20", "ReadOnlyProperty"),
        (None, "20", "UnknownProperty"),
    ],
)
def test_a_wish_that_the_model_forbids_is_not_taken_until_the_model_allows_it(
    rule: dict[str, Any] | None, value: Any, reason: str
) -> None:
    properties = [] if rule is None else [{"name": NAME, **rule}]
    strict = read_model({"spec": {"properties": properties}})
    lenient = read_model({"spec": {"properties": [{"name": NAME, "type": "STRING"}]}})
    clock = HybridClock()
    device = declare(None, manifest(1, value), strict, clock)
    each = device.properties[NAME]
    assert each.desired is None
    assert each.problem is not None
    assert each.problem[0] == reason
    assert repr(NAME) in each.problem[1]
    each = declare_again(device, lenient, clock).properties[NAME]
    assert each.problem is None
    assert each.desired is not None
    assert each.desired.value == value


def test_a_good_wish_holds_on_while_the_manifest_has_a_bad_one() -> None:
    model = read_model({"spec": {"properties": [{"name": NAME, "type": "INT", "maximum": "30"}]}})
    clock = HybridClock()
    device = declare(None, manifest(1, "25"), model, clock)
    device = declare(device, manifest(2, "99"), model, clock)
    each = device.properties[NAME]
    assert each.desired is not None
    assert (each.desired.value, each.problem and each.problem[0]) == ("25", "AboveMaximum")
    assert declare(device, manifest(3, "26"), model, clock).properties[NAME].problem is None


def test_the_model_may_say_the_rule_and_the_manifest_may_say_another() -> None:
    properties = [{"name": NAME, "type": "STRING", "mergeRule": "edge-wins"}]
    model = read_model({"spec": {"properties": properties}})
    for own, wins in (("", "22"), ("cloud-wins", "21")):
        clock = HybridClock()
        device = declare(None, manifest(1, "20", rule=own), model, clock)
        device = wish(device, "22", clock.stamp(), model)
        each = declare(device, manifest(2, "21", rule=own), model, clock).properties[NAME]
        assert each.desired is not None
        assert each.desired.value == wins
        assert each.conflict is not None


def test_what_nobody_may_set_cannot_be_wished_at_the_edge() -> None:
    properties = [{"name": NAME, "type": "INT", "accessMode": "ReadOnly"}]
    model = read_model({"spec": {"properties": properties}})
    device = declare(None, manifest(1), model, HybridClock())
    with pytest.raises(RefusedError, match="read only"):
        wish(device, "22", 1, model)
