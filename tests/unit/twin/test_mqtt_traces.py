"""The trace context in messages of MQTT 5, and the client of either version."""

from collections import deque
from types import SimpleNamespace
from typing import Any, cast

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from fedge_objects import NodeName
from fedge_tracing import Cause
from fedge_twin.mqtt import MqttLink, _context_of, _properties, _publish
from fedge_twin.payloads import Message
from fedge_twin.quota import Quota

CONTEXT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def packed(*pairs: tuple[str, str]) -> Properties:
    """Return properties as they arrive."""
    sent = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # the library's
    for pair in pairs:
        sent.UserProperty = pair
    came = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # the library's
    came.unpack(sent.pack())  # type: ignore[no-untyped-call]  # the library's
    return came


def test_context_comes_as_it_was_sent() -> None:
    sent = _properties(CONTEXT)
    assert sent is not None
    pairs: Any = vars(sent)["UserProperty"]
    assert _context_of(packed(*pairs)) == CONTEXT


@pytest.mark.parametrize(
    "pairs",
    [(), (("traceparent", "nonsense"),), (("other", CONTEXT),), (("traceparent", ""),)],
)
def test_what_is_no_context_is_none(pairs: tuple[tuple[str, str], ...]) -> None:
    assert _context_of(packed(*pairs)) == ""


def test_messages_of_older_versions_have_none() -> None:
    assert _context_of(None) == ""
    assert _properties("") is None


@pytest.mark.parametrize(("has_properties", "told"), [(True, [CONTEXT, ""]), (False, ["", ""])])
async def test_what_is_traced_goes_out_with_its_context(
    has_properties: bool, told: list[str]
) -> None:
    sent: list[tuple[str, str]] = []

    def publish(topic: str, *_: object, properties: Any = None) -> None:
        sent.append((topic, _context_of(properties)))

    async def publish_last(topic: str, *_: object, properties: Any = None, timeout: float) -> None:  # noqa: ASYNC109
        publish(topic, properties=properties)

    client = SimpleNamespace(_client=SimpleNamespace(publish=publish), publish=publish_last)
    outgoing = deque([(Message("a", b"1"), Cause(CONTEXT, 1.0)), (Message("b", b"2"), Cause())])
    await _publish(cast("aiomqtt.Client", client), outgoing, has_properties=has_properties)
    assert sent == [("a", told[0]), ("b", told[1])]


@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_session_outlives_the_client(version: str) -> None:
    quota = Quota(words_per_second=0, burst=1, clock=lambda: 0.0)
    link = MqttLink("mqtt://a:b@127.0.0.1", NodeName("edge-1"), quota, version=version)
    made = link._client()._client
    if version == "5":
        assert made.protocol == aiomqtt.ProtocolVersion.V5.value
    else:
        assert made.protocol == aiomqtt.ProtocolVersion.V311.value
        assert made._clean_session is False
