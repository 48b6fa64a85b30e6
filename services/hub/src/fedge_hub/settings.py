"""Settings of hub."""

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from fedge_service import ServiceSettings

_ADDRESS = r"^(.+:[0-9]{1,5})?$"


class EnrolmentSettings(ServiceSettings):
    """``FEDGE_HUB_ENROLMENT_<FIELD>``."""

    model_config = SettingsConfigDict(env_prefix="FEDGE_HUB_ENROLMENT_")

    records: str = ""
    """Where the certificate authority, the join tokens and the nodes are kept: ``kubernetes`` (as
    Secrets), or the path of a folder that all hubs share. Empty: nobody can join, and the broker's
    users are somebody else's business."""

    namespace: str = "fedge-system"
    """Namespace of the Secrets."""

    kubeconfig: Path | None = None
    """Kubernetes API for the Secrets; not set: that of the cluster in which hub runs."""

    host: str = "127.0.0.1"
    """Address on which gateways may join."""

    port: int = Field(default=8443, ge=1, le=65535)
    """Port of the same (HTTPS)."""

    address: str = Field(default="", pattern=_ADDRESS)
    """``host:port`` by which gateways reach that port: it stands in the join tokens."""

    broker_address: str = Field(default="", pattern=_ADDRESS)
    """``host:port`` by which gateways reach the broker (AMQPS). The same as ``address`` where
    ``broker_forward`` is set, so that one port is all that has to be let through."""

    broker_forward: str = Field(default="", pattern=_ADDRESS)
    """``host:port`` of the broker's AMQPS port: connections that ask for the broker's name at hub's
    port are handed on there, still encrypted. Empty: none are."""

    management_url: SecretStr = SecretStr("http://guest:guest@127.0.0.1:15672")
    """RabbitMQ's management API, with the account of an administrator."""

    tls_dir: Path | None = None
    """Folder into which the broker's certificate is written (``broker.crt``, ``broker.key``,
    ``ca.crt``), and those by which the services may log in there (``client-hub.crt``, ...), for
    whoever reads them there. In a cluster they mount the Secrets ``fedge-server-broker``,
    ``fedge-server-client-controller``, ``fedge-server-client-device``."""

    server_names: tuple[str, ...] = ()
    """JSON list: DNS names and addresses that the certificates of hub and broker hold for beside
    their own names. Gateways need none of them; other clients may."""

    certificate_days: float = Field(default=90.0, gt=0, le=3650)
    """How long a node's certificate is valid. It is renewed after two thirds of that."""

    grace_days: float = Field(default=180.0, ge=0)
    """For so long after its end a certificate may still be renewed, by the same key: a gateway that
    was switched off comes back by itself. 0: it has to join again."""

    @model_validator(mode="after")
    def _addresses(self) -> Self:
        if self.records and not (self.address and self.broker_address):
            raise ValueError("with records, address and broker_address must say where hub is")
        return self


class SpanSettings(ServiceSettings):
    """``FEDGE_HUB_SPANS_<FIELD>``: what becomes of the spans that all services send to hub."""

    model_config = SettingsConfigDict(env_prefix="FEDGE_HUB_SPANS_")

    otlp_endpoint: str = Field(default="", pattern=r"^(https?://.+)?$")
    """Where they go, by OTLP over HTTP: ``http://jaeger:4318``, a collector's address. Empty:
    nowhere."""

    otlp_headers: SecretStr = SecretStr("")
    """Headers to send along, as ``name=value,name=value``, e.g. for authentication."""

    keep: int = Field(default=20_000, ge=0, le=10_000_000)
    """So many are kept by hub itself, for ``fedge trace``; the oldest traces go first. 10,000 take
    about 10 MB. 0: none. With several hubs each keeps what it took itself: give them a Jaeger
    then."""

    store: Path | None = None
    """File in which they are kept; not set: in memory, until hub ends."""

    jaeger_url: str = Field(default="", pattern=r"^(https?://.+)?$")
    """Query address of Jaeger (``http://jaeger:16686``): ``fedge trace`` is answered from there,
    and hub keeps none itself."""

    jaeger_web_url: str = Field(default="", pattern=r"^(https?://.+)?$")
    """Jaeger's pages as people reach them; not set: as ``jaeger_url``."""


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

    http_token: SecretStr = SecretStr("")
    """What who reaches into nodes by that port has to show (logs, commands in containers, devices'
    histories), as ``Authorization: Bearer``. Empty: only programs of hub's own machine may, and hub
    has to listen on a loopback address for that."""

    absent_after_heartbeats: float = Field(default=3.0, ge=1.5)
    """How many heartbeats may be missing until a node counts as absent. An absent node is sent
    nothing, so that one newest version per object waits for it and no backlog; too low and a slow
    link counts as none."""

    believed_unknown_seconds: float = Field(default=120.0, gt=0)
    """For so long a node's reports of objects that no service has told of wait for one that does,
    from the first of them. Then they are refused, and asked for again should one tell of them. Too
    short and a slow start of controller costs questions; too long and a node that lies can keep
    more of hub waiting."""

    enrolment: EnrolmentSettings = Field(default_factory=EnrolmentSettings)
    """How gateways join."""

    spans: SpanSettings = Field(default_factory=SpanSettings)
    """What becomes of spans."""
