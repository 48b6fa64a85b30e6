"""Which devices a new subscription is about."""

import pytest

from fedge_objects import ObjectKey
from fedge_twin.device import DEVICES
from fedge_twin.listeners import filter_of, shown_by

PUMP = ObjectKey(DEVICES, "plant", "pump.1")
LAMP = ObjectKey(DEVICES, "home", "lamp")


@pytest.mark.parametrize(
    ("topic_filter", "documents", "deltas"),
    [
        ("$hw.events.device.home.lamp.twin.update.document", [LAMP], []),
        ("$hw.events.device.home.lamp.twin.update.delta", [], [LAMP]),
        ("$hw.events.device.*.*.twin.update.delta", [], [LAMP]),
        ("$hw.events.device.plant.pump.1.twin.update.*", [PUMP], [PUMP]),
        ("$hw.events.device.#", [PUMP, LAMP], [PUMP, LAMP]),
        ("$hw.events.device.home.lamp.twin.update.document.#", [LAMP], []),
        ("#", [PUMP, LAMP], [PUMP, LAMP]),
        ("$hw.events.device.home.lamp.twin.update.result", [], []),
        ("$hw.events.node.*.membership.get", [], []),
        ("$hw.events.device.home.lamp+.twin.update.document", [], []),
    ],
)
def test_what_a_filter_lets_through_is_shown(
    topic_filter: str, documents: list[ObjectKey], deltas: list[ObjectKey]
) -> None:
    shown = shown_by(topic_filter, [PUMP, LAMP])
    assert (shown.documents, shown.deltas) == (documents, deltas)


@pytest.mark.parametrize(
    ("event", "topic_filter"),
    [
        (
            {
                "source_name": b"amq.topic",
                "destination_name": b"mqtt-subscription-xqos1",
                "routing_key": b"$hw.events.#",
            },
            "$hw.events.#",
        ),
        (
            {
                "source_name": "amq.topic",
                "destination_name": "mqtt-subscription-xqos1",
                "routing_key": "other.topic",
            },
            None,
        ),
        (
            {"source_name": "fedge.up", "destination_name": "up.state", "routing_key": "#"},
            None,
        ),
        ({}, None),
        ({"source_name": 5, "destination_name": None, "routing_key": b"\xff"}, None),
    ],
)
def test_only_subscriptions_of_mqtt_clients_count(
    event: dict[str, object], topic_filter: str | None
) -> None:
    assert filter_of(event) == topic_filter
