"""Settings of controller."""

from pathlib import Path

from pydantic import SecretStr
from pydantic_settings import SettingsConfigDict

from fedge_service import ServiceSettings


class ControllerSettings(ServiceSettings):
    """``FEDGE_CONTROLLER_<FIELD>``."""

    model_config = SettingsConfigDict(env_prefix="FEDGE_CONTROLLER_")

    amqp_url: SecretStr = SecretStr("amqp://guest:guest@127.0.0.1:5672/")
    """The cloud's broker."""

    kubeconfig: Path | None = None
    """The Kubernetes API to serve; without it, that of the cluster whose pod this is."""
