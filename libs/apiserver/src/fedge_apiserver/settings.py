"""What the API server is told."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from fedge_service import ServiceSettings


class ApiServerSettings(ServiceSettings):
    """``FEDGE_APISERVER_<FIELD>``."""

    model_config = SettingsConfigDict(env_prefix="FEDGE_APISERVER_")

    data_dir: Path = Path("/var/lib/fedge/apiserver")
    """Folder of the objects, the certificates and the token; made if it is not there. Whoever can
    read it is the administrator."""

    host: str = "127.0.0.1"
    """Address to listen on. Clients elsewhere need ``0.0.0.0`` or the machine's own address."""

    port: int = Field(default=6443, ge=0, le=65535)
    """Port to listen on; 0 takes a free one, which the kubeconfig then names."""

    advertise_url: str | None = None
    """How clients reach the server, for the kubeconfig and the certificate; None is
    ``https://<host>:<port>``."""

    kubeconfig: Path | None = None
    """Where to write the administrator's kubeconfig, readable by its owner only; None is
    ``kubeconfig`` in ``data_dir``."""

    hub_url: str | None = None
    """Where the hub answers (``http://host:port``), for ``kubectl logs``, ``kubectl exec`` and
    ``fedge status``; None has none of them."""

    hub_token: SecretStr = SecretStr("")
    """What the hub wants to see of who reaches into nodes, its ``FEDGE_HUB_HTTP_TOKEN``. Empty: it
    wants nothing, because both run on one machine."""

    scheduler: bool = True
    """Whether to give pods without a node to one. Off, when another scheduler does it."""

    node_grace_seconds: float = Field(default=40.0, gt=0)
    """How long a node may be silent before it is shown as not ready. Kubernetes' own value is 40;
    less shows a lost node sooner and takes a slow link for a lost one."""

    event_ttl_seconds: float = Field(default=3600.0, gt=0)
    """How long events are kept. Kubernetes keeps them for an hour."""
