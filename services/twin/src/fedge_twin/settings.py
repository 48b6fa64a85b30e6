"""Settings of twin."""

from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from fedge_service import EdgeSettings, ServiceSettings


class TwinSettings(ServiceSettings):
    """``FEDGE_TWIN_<FIELD>``, and what all edge services share."""

    model_config = SettingsConfigDict(env_prefix="FEDGE_TWIN_")

    mqtt_url: SecretStr = SecretStr("mqtt://guest:guest@127.0.0.1:1883")
    """The MQTT broker that the devices speak to: the edge's own, or another. ``mqtt://`` only; it
    is meant for the gateway's own network."""

    mqtt_version: Literal["3.1.1", "5"] = "3.1.1"
    """Of the protocol that is spoken to that broker. With 5 a trace context goes along as the user
    property ``traceparent``, to devices and from them. RabbitMQ speaks 5 from 3.13 on."""

    broker_command: tuple[str, ...] = ()
    """JSON list: a command that evaluates the Erlang expression added as its last argument in the
    edge's broker, as ``["rabbitmqctl", "eval"]`` does. By it devices are given accounts; without it
    none are made or changed, and each credential counts as failed."""

    report_every_seconds: float = Field(default=0.8, ge=0)
    """A round in which the cloud is told of a device once at most. The first news passes at once;
    what follows in the same round is told when the next begins, as it is then."""

    words_per_second: float = Field(default=200.0, ge=0)
    """As many messages a second are taken of one device in the long run; 0: no limit. Of what is
    over it only the newest waits, and the others are answered with 429 and counted."""

    words_at_once: float = Field(default=400.0, ge=1)
    """As many messages of one device are taken at once after silence."""

    edge: EdgeSettings = Field(default_factory=EdgeSettings)
    """What the services of one edge share."""
