"""Settings of device."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from fedge_service import ServiceSettings


class DeviceSettings(ServiceSettings):
    """``FEDGE_DEVICE_<FIELD>``."""

    model_config = SettingsConfigDict(env_prefix="FEDGE_DEVICE_")

    amqp_url: SecretStr = SecretStr("amqp://guest:guest@127.0.0.1:5672/")
    """The cloud's broker."""

    kubeconfig: Path | None = None
    """The Kubernetes API to serve; without it, that of the cluster whose pod this is."""

    write_every_seconds: float = Field(default=0.1, ge=0)
    """Least time between two writes of one device's status. A single report passes at once; of a
    burst the newest value is shown this much later at most. Nodes tell of a device about once a
    second by themselves (``FEDGE_TWIN_REPORT_EVERY_SECONDS``); this bounds what a node that does
    not can ask of the API server."""

    summary_every_seconds: float = Field(default=5.0, ge=0)
    """Least time between two writes of one Device's own status, which has it all in one line. A
    change of its state, its wishes or its conditions is written within a second all the same."""

    writes_per_second: float = Field(default=200.0, gt=0)
    """What the API server is asked for at most, whatever the devices say. Above it the newest
    values wait for their turn, and are so much older when they are shown."""
