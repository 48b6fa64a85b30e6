"""How programs in pods find the edge's own Kubernetes API, and why they can trust it.

As in a cluster: by ``KUBERNETES_SERVICE_HOST`` and the like, and by ``ca.crt`` of the config map
``kube-root-ca.crt``. Where the API answers, and by which authority, meta has put into a folder of
the edge's data folder; without it pods are told nothing.

https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import structlog

log = structlog.stdlib.get_logger("fedge.edged")

FOLDER: Final = "api"
ROOT_CERTIFICATES: Final = "kube-root-ca.crt"
"""Config map of the authorities that a cluster's API is known by, in every namespace."""
CERTIFICATES_KEY: Final = "ca.crt"


class _Endpoint(msgspec.Struct):
    address: str
    port: int


class ApiAccess:
    """What pods are told of the edge's API. Read anew each time: it may come later than they."""

    def __init__(self, data_dir: Path | None) -> None:
        """Take the edge's data folder; None: there is no API at the edge."""
        self._folder = None if data_dir is None else data_dir / FOLDER

    def environment(self) -> Mapping[str, str]:
        """Return the variables of every container, those of a cluster's ``kubernetes`` service.

        https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
        """
        endpoint = self._endpoint()
        if endpoint is None or not endpoint.address:
            return {}
        host, port = endpoint.address, str(endpoint.port)
        url = f"tcp://{host}:{port}"
        named = f"KUBERNETES_PORT_{port}_TCP"
        return {
            "KUBERNETES_SERVICE_HOST": host,
            "KUBERNETES_SERVICE_PORT": port,
            "KUBERNETES_SERVICE_PORT_HTTPS": port,
            "KUBERNETES_PORT": url,
            named: url,
            f"{named}_ADDR": host,
            f"{named}_PORT": port,
            f"{named}_PROTO": "tcp",
        }

    def certificates(self) -> str:
        """Return the authority that the edge's API is known by, PEM; empty if there is none."""
        if self._folder is None:
            return ""
        try:
            return (self._folder / "ca.crt").read_text()
        except OSError:
            return ""

    def trusted(self, data: Mapping[str, str] | None) -> dict[str, str] | None:
        """Return the content of ``kube-root-ca.crt`` with the edge's own authority.

        Args:
            data: as the cloud has it; None: it has none.

        Returns:
            The content; None: neither has any.
        """
        own = self.certificates()
        if not own:
            return None if data is None else dict(data)
        theirs = (data or {}).get(CERTIFICATES_KEY, "")
        joint = f"{theirs.rstrip()}\n{own}" if theirs.strip() else own
        return {**(data or {}), CERTIFICATES_KEY: joint}

    def _endpoint(self) -> _Endpoint | None:
        if self._folder is None:
            return None
        path = self._folder / "endpoint.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=_Endpoint)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as exc:
            log.warning("api_endpoint_unreadable", path=str(path), reason=str(exc))
            return None


NO_ACCESS: Final = ApiAccess(None)
