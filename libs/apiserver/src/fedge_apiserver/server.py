"""The server as a whole: store, application, control loops and the HTTPS listener.

Use it as a context manager: inside, it answers; on the way out, what was submitted is finished and
streams are ended.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import structlog
import uvicorn

from fedge_apiserver.access import bootstrap_roles
from fedge_apiserver.controllers import run_controllers
from fedge_apiserver.http import ApiApplication
from fedge_apiserver.peers import PeerProtocol
from fedge_apiserver.registry import Registry
from fedge_apiserver.resources import Catalog
from fedge_apiserver.security import load_credentials, make_kubeconfig, write_private
from fedge_apiserver.settings import ApiServerSettings
from fedge_apiserver.storage import SqliteStorage
from fedge_apiserver.store import Store
from fedge_apiserver.tokens import TokenKey

log = structlog.stdlib.get_logger("fedge.apiserver")

_BACKLOG = 1024
_IDLE_SECONDS = 75
_STOP_SECONDS = 3


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server answers.

    Attributes:
        url: base of all paths.
        kubeconfig: the file that lets the administrator in.
    """

    url: str
    kubeconfig: Path


class _Listener(uvicorn.Server):
    """uvicorn without signal handlers: the process belongs to somebody else."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.answers = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen."""
        await super().startup(sockets)
        self.answers.set()


@asynccontextmanager
async def running_server(settings: ApiServerSettings) -> AsyncIterator[Endpoint]:
    """Serve inside the block.

    Raises:
        OSError: the port is taken, or the data folder cannot be written.
        StorageError: the objects cannot be read.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    listening = _listen(settings)
    port: int = listening.getsockname()[1]
    url = (settings.advertise_url or f"https://{_host(settings.host)}:{port}").rstrip("/")
    names = {"localhost", "127.0.0.1", "::1", _host(settings.host), urlsplit(url).hostname or ""}
    credentials = load_credentials(settings.data_dir / "pki", sorted(names - {""}))
    store = Store(SqliteStorage(settings.data_dir / "objects.db"))
    try:
        await store.open()
        registry = Registry(store, Catalog())
        await registry.open()
        await bootstrap_roles(registry)
        application = ApiApplication(
            registry,
            token=credentials.token,
            hub_url=settings.hub_url,
            hub_token=settings.hub_token.get_secret_value(),
            token_key=TokenKey.load(settings.data_dir / "pki" / "tokens.key", url),
        )
        kubeconfig = settings.kubeconfig or settings.data_dir / "kubeconfig"
        kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        write_private(kubeconfig, make_kubeconfig(url, credentials))
        config = uvicorn.Config(
            application,
            loop="none",
            http=PeerProtocol,
            ws="websockets-sansio",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            log_level="error",
            server_header=False,
            date_header=False,
            timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=_STOP_SECONDS,
            ssl_certfile=str(credentials.certificate),
            ssl_keyfile=str(credentials.key),
            ssl_ca_certs=str(credentials.authority_file),
            # Those who have a certificate may show it; a token will do too.
            ssl_cert_reqs=ssl.CERT_OPTIONAL,
        )
        config.load()
        if config.ssl is not None:
            config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
        listener = _Listener(config)
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(
                listener._serve([listening]),  # noqa: SLF001 - serve() would take the signals
                name="apiserver-listener",
            )
            controlling = tasks.create_task(
                run_controllers(registry, settings), name="apiserver-controllers"
            )
            await listener.answers.wait()
            log.info("apiserver_answers", url=url, kubeconfig=str(kubeconfig))
            try:
                yield Endpoint(url, kubeconfig)
            finally:
                controlling.cancel()
                application.stop()
                listener.should_exit = True
                await asyncio.wait([serving])
                await application.close()
    finally:
        listening.close()
        await store.close()


def _host(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "::", "") else host  # noqa: S104 - compared, not bound


def _listen(settings: ApiServerSettings) -> socket.socket:
    """Return a listening socket.

    Raises:
        OSError: the address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # With the protocol named, asyncio turns Nagle's algorithm off for what is accepted: an answer
    # in two parts would wait for the client's delayed acknowledgement otherwise.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.host, settings.port))
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError as exc:
        listening.close()
        raise OSError(
            exc.errno,
            f"cannot listen on {settings.host}:{settings.port}: {exc.strerror}; stop what uses "
            "it, or set FEDGE_APISERVER_PORT",
        ) from exc
    return listening
