"""Settings that every service has, read from the environment.

A wrong value stops the start with all errors at once; an unknown variable is not an error, because
one environment serves several services.
"""

from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, Field, SecretStr
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict
from pydantic_settings.sources import PydanticBaseSettingsSource
from typing_extensions import override

above_environment: ContextVar[Mapping[str, str]] = ContextVar(
    "above_environment", default=MappingProxyType({})
)
"""Variables that count before those of the environment (see ``_kept``)."""


class _Environment(EnvSettingsSource):
    """The environment, with what counts before it."""

    @override
    def _load_env_vars(self) -> Mapping[str, str | None]:
        above = {name.lower(): value for name, value in above_environment.get().items()}
        return {**super()._load_env_vars(), **above}


class ServiceSettings(BaseSettings):
    """Base of a service's settings: ``FEDGE_<SERVICE>_<FIELD>``."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_nested_delimiter="__", use_attribute_docstrings=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments, then the environment, then secret files; no dotenv file."""
        return init_settings, _Environment(settings_cls), file_secret_settings


class EdgeSettings(ServiceSettings):
    """What the services of one edge share: ``FEDGE_EDGE_<FIELD>``."""

    model_config = SettingsConfigDict(env_prefix="FEDGE_EDGE_")

    node_name: str = Field(
        pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$",
    )
    """Name of the Kubernetes Node that this edge is: lower case letters, digits, ``-``, ``.``."""

    amqp_url: SecretStr = SecretStr("amqp://guest:guest@127.0.0.1:5672/")
    """The edge's own broker."""

    data_dir: Path = Path("/var/lib/fedge")
    """Folder of the edge's databases. It must outlive a reboot; it holds all the edge knows."""

    sealing_key: Path | None = None
    """File of the key by which Secrets are read, 32 bytes in base64. Without it
    ``identity/sealing.key`` in the data folder. A host that keeps keys elsewhere hands it in here,
    e.g. in memory; who then has the disk has no Secret."""

    heartbeat_seconds: float = Field(default=10.0, ge=0.1, le=3600)
    """How often the node says that it is alive. Kubernetes renews its leases every 10 s; less costs
    the link and the API server more, more makes an absent node show later. Hub believes
    nothing below 0.1 or above 3600."""

    @property
    def identity_dir(self) -> Path:
        """Folder of what proves who this edge is."""
        return self.data_dir / "identity"

    @property
    def joined_file(self) -> Path:
        """A file that is there once this edge has joined."""
        return self.identity_dir / "joined.json"

    @property
    def sealing_key_file(self) -> Path:
        """The file of the key by which Secrets are read."""
        return self.sealing_key or self.identity_dir / "sealing.key"


class TraceSettings(ServiceSettings):
    """``FEDGE_TRACE_<FIELD>``: which traces are recorded."""

    model_config = SettingsConfigDict(env_prefix="FEDGE_TRACE_")

    ratio: float = Field(default=1.0, ge=0, le=1)
    """Share of the traces that begin in this process which are recorded. 0: none; errors are kept
    all the same."""

    per_second: float = Field(default=5.0, ge=0, le=100_000)
    """So many recorded traces begin in a second, at most, and twenty times as many at once after a
    quiet time. What a message costs nearly doubles where it is recorded. 0: as many as there
    are."""

    buffer: int = Field(default=2048, ge=16, le=1_000_000)
    """So many spans wait in this process for the broker, at most; the rest is dropped and counted.
    A thousand take about a megabyte."""


class HealthSettings(ServiceSettings):
    """``FEDGE_HEALTH_<FIELD>``: probes of services that serve no HTTP of their own."""

    model_config = SettingsConfigDict(env_prefix="FEDGE_HEALTH_")

    port: int = Field(default=0, ge=0, le=65535)
    """TCP port of ``/livez`` and ``/readyz``. 0: none."""

    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 where probes come from outside, as a kubelet's do."""


def describe(settings: BaseModel) -> dict[str, Any]:
    """Return the effective settings for the start-up log, secrets masked."""
    return {name: _shown(getattr(settings, name)) for name in type(settings).model_fields}


def _shown(value: object) -> Any:
    if isinstance(value, BaseModel):
        return describe(value)
    if isinstance(value, SecretStr):
        return "***"
    if isinstance(value, bool | int | float | None):
        return value
    return str(value)
