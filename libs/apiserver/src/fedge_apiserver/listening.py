"""The HTTPS listener: an application on sockets that listen already.

Whoever serves brings the sockets: they may have listened before anything of this was loaded.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal

import uvicorn

from fedge_apiserver.http import ApiApplication
from fedge_apiserver.peers import PeerProtocol

BACKLOG: Final = 1024
_IDLE_SECONDS: Final = 75
_STOP_SECONDS: Final = 3


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
async def answering(
    application: ApiApplication,
    sockets: Sequence[socket.socket],
    *,
    certificate: Path,
    key: Path,
    client_authorities: Path | None = None,
    web_sockets: Literal["websockets-sansio", "none"] = "websockets-sansio",
) -> AsyncIterator[None]:
    """Answer inside the block; on the way out streams are ended.

    Args:
        application: who answers.
        sockets: that listen.
        certificate: file of the server's certificate.
        key: file of its key.
        client_authorities: file of those whose certificates clients may show; None: nobody's.
        web_sockets: what serves them; ``none`` saves its memory.
    """
    config = uvicorn.Config(
        application,
        loop="none",
        http=PeerProtocol,
        ws=web_sockets,
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_config=None,
        log_level="error",
        server_header=False,
        date_header=False,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=_STOP_SECONDS,
        ssl_certfile=str(certificate),
        ssl_keyfile=str(key),
        ssl_ca_certs=None if client_authorities is None else str(client_authorities),
        # Those who have a certificate may show it; a token will do too.
        ssl_cert_reqs=ssl.CERT_NONE if client_authorities is None else ssl.CERT_OPTIONAL,
    )
    config.load()
    if config.ssl is not None:
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    listener = _Listener(config)
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(
            listener._serve(list(sockets)),  # noqa: SLF001 - serve() would take the signals
            name="apiserver-listener",
        )
        await listener.answers.wait()
        try:
            yield
        finally:
            application.stop()
            listener.should_exit = True
            await asyncio.wait([serving])
            await application.close()


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        OSError: the address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio turns Nagle's algorithm off for what is accepted: an answer
    # in two parts would wait for the client's delayed acknowledgement otherwise.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening
