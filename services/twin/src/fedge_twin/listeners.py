"""Who begins to listen is shown what is there.

A broker keeps no last message for a filter with wildcards, and none that came by AMQP. RabbitMQ
tells of each new subscription (https://www.rabbitmq.com/docs/event-exchange); of those to devices'
documents and deltas twin publishes what is there as of now.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fedge_objects import ObjectKey
from fedge_twin.topics import device_topic

EVENTS: Final = "amq.rabbitmq.event"
SUBSCRIBED: Final = "binding.created"
MQTT_EXCHANGE: Final = "amq.topic"
DOCUMENT: Final = "twin/update/document"
DELTA: Final = "twin/update/delta"
_SUBSCRIPTION: Final = "mqtt-subscription-"


@dataclass(frozen=True, slots=True)
class Shown:
    """What somebody began to listen to.

    Attributes:
        documents: devices whose document they hear.
        deltas: devices whose delta they hear.
    """

    documents: list[ObjectKey]
    deltas: list[ObjectKey]


def filter_of(event: Mapping[str, Any]) -> str | None:
    """Return the filter that an MQTT client subscribed to, as AMQP has it; None if none did."""
    source, queue, key = (
        _text(event.get(name)) for name in ("source_name", "destination_name", "routing_key")
    )
    if source != MQTT_EXCHANGE or not queue.startswith(_SUBSCRIPTION):
        return None
    return key if key.startswith(("$hw", "*", "#")) else None


def shown_by(topic_filter: str, keys: Iterable[ObjectKey]) -> Shown:
    """Return what of the devices ``keys`` a filter lets through."""
    matches = _matching(topic_filter)
    known = list(keys)
    return Shown(
        documents=[key for key in known if matches(_amqp(key, DOCUMENT))],
        deltas=[key for key in known if matches(_amqp(key, DELTA))],
    )


def _amqp(key: ObjectKey, what: str) -> str:
    return device_topic(key, what).replace("/", ".")


def _matching(topic_filter: str) -> Callable[[str], object]:
    words = {"*": r"[^.]*", "#": r".*"}
    parts = [words.get(word) or re.escape(word) for word in topic_filter.split(".")]
    return re.compile(r"\.".join(parts).replace(r"\..*", r"(?:\..*)?")).fullmatch


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
