"""Settings of hub."""

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from fedge_service import ServiceSettings


class HubSettings(ServiceSettings):
    """``FEDGE_HUB_<FIELD>``."""

    model_config = SettingsConfigDict(env_prefix="FEDGE_HUB_")

    amqp_url: SecretStr = SecretStr("amqp://guest:guest@127.0.0.1:5672/")
    """The cloud's broker."""

    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    """Where hub keeps what each node should have. It may be flushed at any moment: hub then has the
    other services tell everything again."""

    http_host: str = "127.0.0.1"
    """Address on which hub answers HTTP: health, metrics, logs of containers."""

    http_port: int = Field(default=8480, ge=1, le=65535)
    """Port of the same."""

    absent_after_heartbeats: float = Field(default=3.0, ge=1.5)
    """How many heartbeats may be missing until a node counts as absent. An absent node is sent
    nothing, so that one newest version per object waits for it and no backlog; too low and a slow
    link counts as none."""
