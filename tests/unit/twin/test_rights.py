"""What an account may do: its own, and nothing of any other device, whatever they are called."""

import re
from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fedge_twin.rights import Rights, rights_of

D = "$hw/events/device"
WHATS = (
    "twin/update", "twin/get", "state/update",
    "twin/update/result", "twin/get/result", "state/update/result",
    "twin/update/delta", "twin/update/document",
)  # fmt: skip
SAID = WHATS[:3]
NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,3}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,3}[a-z0-9])?){0,3}", fullmatch=True)  # noqa: E501 # fmt: skip
WORDS = st.sampled_from(["twin", "update", "get", "state", "result", "delta", "a", "qos1"])
NAMES = NAMES | st.lists(WORDS, min_size=1, max_size=4).map(".".join)


def may(pattern: str, text: str) -> bool:
    """Match as Erlang does; Python spells the end of a text in capitals."""
    return re.search(pattern.replace(r"\z", r"\Z"), text) is not None


def key(topic: str) -> str:
    """Return a topic as RabbitMQ's plugin makes it a routing key."""
    return topic.replace("/", ".").replace("+", "*")


def says(rights: Rights, topic: str) -> bool:
    return may(rights.says, key(topic))


def hears(rights: Rights, topic: str) -> bool:
    return may(rights.hears, key(topic))


def lets_through(topic_filter: str, topic: str) -> bool:
    """Return whether AMQP's topic exchange matches; without ``#``."""
    pattern, words = key(topic_filter).split("."), key(topic).split(".")
    return len(pattern) == len(words) and all(
        a in {"*", b} for a, b in zip(pattern, words, strict=True)
    )


@pytest.mark.parametrize("name", ["ac-1", "pump.1", "twin", "twin.update", "a.twin.get"])
def test_a_device_may_say_and_hear_its_own(name: str) -> None:
    rights = rights_of("plant", name)
    for what in WHATS:
        assert says(rights, f"{D}/plant/{name}/{what}") is (what in SAID), what
        assert hears(rights, f"{D}/plant/{name}/{what}"), what
    assert hears(rights, f"{D}/plant/{name}/+/+/result")
    assert not hears(rights, f"{D}/plant/{name}/#")


@pytest.mark.parametrize(
    "topic",
    [
        "#", "+/+/+/+/+/+/+", "$hw/#", f"{D}/plant/+/twin/update", f"{D}/+/ac/twin/update",
        f"{D}/plant/ac/twin/+/#", f"{D}/plant/ac/twin/update\n", f"\n{D}/plant/ac/twin/update",
        f"x{D}/plant/ac/twin/update", f"{D}/plant/acx/twin/update", f"{D}/plant/ac/+/+/+",
        "$hw/events/node/edge-1/membership/get", "fedge/down", "",
    ],
)  # fmt: skip
def test_what_is_not_its_own_topic_is_refused(topic: str) -> None:
    rights = rights_of("plant", "ac")
    assert not says(rights, topic)
    assert not hears(rights, topic)


@given(one=NAMES, other=NAMES, words=st.lists(WORDS, max_size=4))
@example(one="pump.twin", other="pump", words=[])
def test_no_topic_of_one_device_is_within_the_rights_of_another(
    one: str, other: str, words: list[str]
) -> None:
    for mine, its in ((one, other), (one, ".".join([one, *words]))):
        if mine == its:
            continue
        rights = rights_of("plant", mine)
        for what in WHATS:
            assert not says(rights, f"{D}/plant/{its}/{what}")
        for tail in product(["twin", "state", "+"], ["update", "get", "+"], ["", "result", "+"]):
            mask = f"{D}/plant/{mine}/{'/'.join(filter(None, tail))}"
            if hears(rights, mask):
                for what in WHATS:
                    assert not lets_through(mask, f"{D}/plant/{its}/{what}"), mask


@given(one=NAMES, other=NAMES, suffix=st.text(max_size=8))
def test_no_session_of_one_device_can_be_used_by_another(one: str, other: str, suffix: str) -> None:
    if one == other:
        return
    rights = rights_of("plant", one)
    for client_id in (f"plant/{other}", f"plant/{other}/{suffix}", f"plantx/{one}", "fedge-twin"):
        for queue in (f"mqtt-subscription-{client_id}qos{qos}" for qos in (0, 1)):
            for pattern in (rights.configure, rights.write, rights.read):
                assert not may(pattern, queue), queue


@given(suffix=st.text(alphabet=st.characters(exclude_characters="\n"), max_size=8))
def test_a_device_has_its_own_sessions(suffix: str) -> None:
    rights = rights_of("plant", "pump.1")
    for client_id in ("plant/pump.1", f"plant/pump.1/{suffix}"):
        for pattern in (rights.configure, rights.write, rights.read):
            assert may(pattern, f"mqtt-subscription-{client_id}qos1")


@pytest.mark.parametrize("name", ["amq.topic", "fedge.down", "up.state", "amq.default", "", "x"])
def test_of_everything_else_only_the_exchange_of_mqtt_may_be_used(name: str) -> None:
    rights = rights_of("plant", "ac")
    assert not may(rights.configure, name)
    assert may(rights.write, name) is may(rights.read, name) is (name == "amq.topic")
