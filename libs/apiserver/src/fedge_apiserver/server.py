"""The server as a whole: store, application, control loops and the HTTPS listener.

Use it as a context manager: inside, it answers; on the way out, what was submitted is finished and
streams are ended.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from fedge_apiserver.access import bootstrap_roles
from fedge_apiserver.controllers import run_controllers
from fedge_apiserver.http import ApiApplication
from fedge_apiserver.listening import answering, listen
from fedge_apiserver.registry import Registry
from fedge_apiserver.resources import Catalog
from fedge_apiserver.security import load_credentials, make_kubeconfig, write_private
from fedge_apiserver.settings import ApiServerSettings
from fedge_apiserver.storage import SqliteStorage
from fedge_apiserver.store import Store
from fedge_apiserver.tokens import TokenKey

log = structlog.stdlib.get_logger("fedge.apiserver")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server answers.

    Attributes:
        url: base of all paths.
        kubeconfig: the file that lets the administrator in.
    """

    url: str
    kubeconfig: Path


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
        async with (
            answering(
                application,
                [listening],
                certificate=credentials.certificate,
                key=credentials.key,
                client_authorities=credentials.authority_file,
            ),
            asyncio.TaskGroup() as tasks,
        ):
            controlling = tasks.create_task(
                run_controllers(registry, settings), name="apiserver-controllers"
            )
            log.info("apiserver_answers", url=url, kubeconfig=str(kubeconfig))
            try:
                yield Endpoint(url, kubeconfig)
            finally:
                controlling.cancel()
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
    try:
        return listen(settings.host, settings.port)
    except OSError as exc:
        raise OSError(
            exc.errno,
            f"cannot listen on {settings.host}:{settings.port}: {exc.strerror}; stop what uses "
            "it, or set FEDGE_APISERVER_PORT",
        ) from exc
