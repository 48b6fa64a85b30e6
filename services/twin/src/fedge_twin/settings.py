"""Settings of twin."""

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from fedge_service import EdgeSettings, ServiceSettings


class TwinSettings(ServiceSettings):
    """``FEDGE_TWIN_<FIELD>``, and what all edge services share."""

    model_config = SettingsConfigDict(env_prefix="FEDGE_TWIN_")

    mqtt_url: SecretStr = SecretStr("mqtt://guest:guest@127.0.0.1:1883")
    """The MQTT broker that the devices speak to: the edge's own, or another. ``mqtt://`` only; it
    is meant for the gateway's own network."""

    edge: EdgeSettings = Field(default_factory=EdgeSettings)
    """What the services of one edge share."""
