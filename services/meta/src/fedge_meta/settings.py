"""Settings of meta."""

from pathlib import Path
from typing import Final, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from fedge_service import EdgeSettings, ServiceSettings

_LOOPBACK: Final = "127.0.0.1:"


class MetaSettings(ServiceSettings):
    """``FEDGE_META_<FIELD>``, and what all edge services share."""

    model_config = SettingsConfigDict(env_prefix="FEDGE_META_")

    digest_seconds: float = Field(default=300.0, gt=0)
    """How often meta tells hub a hash of what it has, unasked, so that whatever went wrong unseen
    is mended. A shorter time costs the link, a longer one leaves a difference longer."""

    cloud_address: str = Field(default="", pattern=r"^(.+:[0-9]{1,5})?$")
    """The cloud's broker as ``host:port``, as the links dial it; empty: the links are not watched.
    When the line is back after a silence, they are made to dial at once."""

    forward_to: str = Field(default="", pattern=r"^(.+:[0-9]{1,5})?$")
    """The cloud's broker as ``host:port``, where the links cannot dial it themselves because it is
    reached only by an HTTP proxy, the one that ``HTTPS_PROXY`` names. They dial ``cloud_address``
    then, a port of this machine that meta listens at; TLS stays between the two brokers."""

    broker_command: tuple[str, ...] = ()
    """JSON list: a command that evaluates the Erlang expression added as its last argument in the
    edge's broker, as ``["rabbitmqctl", "eval"]`` does. Needed to watch over the links."""

    api_port: int = Field(default=10550, ge=0, le=65535)
    """Port of the edge's own Kubernetes API; 0: there is none."""

    api_address: str = Field(default="169.254.30.10", pattern=r"^([0-9]{1,3}(\.[0-9]{1,3}){3})?$")
    """Address at which pods reach that API, besides 127.0.0.1. It is given to the loopback
    interface and needs no network; empty: pods are told of no API at the edge."""

    api_answer_seconds: float = Field(default=5.0, gt=0, le=60)
    """How long a write waits for the cloud's answer before it is kept here and sent later. More is
    for slow lines; while the line is known to be down nothing waits."""

    api_edged_socket: Path = Path("/run/fedge/edged/edged.sock")
    """edged's own socket, by which the API answers with containers' logs."""

    api_outbox_bytes: int = Field(default=64 * 1024 * 1024, ge=64 * 1024)
    """So much of what programs wrote while the cloud was away is kept, in bytes on the disk; more
    is refused."""

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if bool(self.cloud_address) != bool(self.broker_command):
            raise ValueError("cloud_address and broker_command go together: give both or none")
        if self.forward_to and not self.cloud_address.startswith(_LOOPBACK):
            raise ValueError(
                f"forward_to needs a cloud_address on this machine, e.g. {_LOOPBACK}5670:"
                " the links dial that"
            )
        return self

    edge: EdgeSettings = Field(default_factory=EdgeSettings)
    """What the services of one edge share."""
