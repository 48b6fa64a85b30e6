"""Topics: what is written is read back, also as a broker breaks names with dots."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge_objects import NodeName, ObjectKey
from fedge_twin.device import DEVICES
from fedge_twin.topics import (
    FromDevice,
    MembershipAsked,
    What,
    device_topic,
    filters,
    filters_of,
    read_topic,
)

LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)


@given(LABEL, st.lists(LABEL, min_size=1, max_size=8).map(".".join), st.sampled_from(What))
def test_topic_is_read_whole_or_broken(namespace: str, name: str, what: What) -> None:
    key = ObjectKey(DEVICES, namespace, name)
    topic = device_topic(key, what)
    assert read_topic(topic) == FromDevice(key, what)
    assert read_topic(topic.replace(".", "/")) == FromDevice(key, what)
    levels = topic.replace(".", "/").split("/")
    fixed = [each.split("/") for each in filters(NodeName("n"))]
    is_fixed = any(
        len(each) == len(levels) and all(a in {"+", b} for a, b in zip(each, levels, strict=True))
        for each in fixed
    )
    assert is_fixed != bool(filters_of([key]))
    assert all(each == topic.replace(".", "/") for each in filters_of([key]) if what in each)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "a/b",
        "$hw/events/device/default/ac/twin/update/result",
        "$hw/events/device/default/twin/update",
        "$hw/events/device/default//twin/update",
        "$hw/events/node/edge-1/membership/updated",
    ],
)
def test_other_topics_are_nothing(topic: str) -> None:
    assert read_topic(topic) is None


def test_membership_is_asked_of_a_node_with_dots() -> None:
    [topic] = [each for each in filters(NodeName("gw-1.plant")) if "membership" in each]
    assert read_topic(topic) == MembershipAsked()
    assert read_topic(topic.replace(".", "/")) == MembershipAsked()
