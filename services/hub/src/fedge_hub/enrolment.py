"""Enrolment, put together: records, authority, API, the port, and the broker's users."""

import asyncio
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

import aiohttp
import structlog
import uvicorn
from starlette.requests import Request
from typing_extensions import override

from fedge_enrolment.authority import SERVICES, Authorities, ServerCredential
from fedge_enrolment.names import BROKER, HUB
from fedge_enrolment.records import (
    AUTHORITY,
    ChangedError,
    ExistsError,
    FolderRecords,
    Records,
    RecordsAwayError,
)
from fedge_enrolment.registrar import TERMS, Registrar, Terms
from fedge_fabric import UnavailableError
from fedge_hub.door import Door
from fedge_hub.enrolment_api import EnrolmentApi
from fedge_hub.http_spans import TracedHttp, route_of_enrolment
from fedge_hub.ports import SealingKeys
from fedge_hub.rights import ManagementApi, Rights
from fedge_hub.settings import EnrolmentSettings
from fedge_objects import NodeName
from fedge_sealing import write_private
from fedge_service import backoff

log = structlog.stdlib.get_logger("fedge.hub")

CERTIFICATES_SECONDS: Final = 10.0
"""How often servers' certificates are looked at when nothing happens."""
KEY_SECONDS: Final = 1.0
"""For so long a node's sealing key is not looked up again."""
KUBERNETES: Final = "kubernetes"
_LOOPBACK: Final = "127.0.0.1"


Serve = Callable[[uvicorn.Server, socket.socket], Coroutine[Any, Any, None]]


def _now() -> datetime:
    return datetime.now(UTC)


class NodeKeys(SealingKeys):
    """The keys to which nodes' Secrets are sealed, as the records have them."""

    def __init__(self, registrar: Registrar, monotonic: Callable[[], float]) -> None:
        self._registrar = registrar
        self._monotonic = monotonic
        self._known: dict[NodeName, tuple[bytes, float]] = {}

    @override
    async def sealing_key(self, node: NodeName) -> bytes:
        key, until = self._known.get(node, (b"", 0.0))
        if self._monotonic() < until:
            return key
        try:
            key = await self._registrar.sealing_key(node)
        except RecordsAwayError as exc:
            raise UnavailableError(f"the key of node {node!r} is not known now: {exc}") from exc
        self._known = {n: k for n, k in self._known.items() if self._monotonic() < k[1]}
        self._known[node] = (key, self._monotonic() + KEY_SECONDS)
        return key


class Enrolment:
    """Everything that lets gateways in."""

    def __init__(
        self, settings: EnrolmentSettings, records: Records, session: aiohttp.ClientSession
    ) -> None:
        self._settings = settings
        self._records = records
        self._terms = Terms(
            broker=settings.broker_address,
            cloud=settings.address,
            lifetime=timedelta(days=settings.certificate_days),
            grace=timedelta(days=settings.grace_days),
        )
        self._authorities = Authorities(records, _now)
        self.registrar = Registrar(
            records=records, authorities=self._authorities, terms=self._terms, now=_now
        )
        self.keys = NodeKeys(self.registrar, time.monotonic)
        self._rights = Rights(ManagementApi(session, _without_account(settings)), self._users)
        self._changed = asyncio.Event()
        self.begun = asyncio.Event()
        """Set when authority and certificates are there."""

    async def run(self, *, serve: Serve) -> None:
        """Let gateways in until cancelled.

        Args:
            serve: answers HTTP on a socket until cancelled.
        """
        with tempfile.TemporaryDirectory(prefix="fedge-hub-") as folder:
            own = Path(folder)
            await self._begin(own)
            self.begun.set()
            inside = _listening(_LOOPBACK, 0)
            port = inside.getsockname()[1]
            rooms: dict[str, tuple[str, int]] = {HUB: (_LOOPBACK, port)}
            if forward := self._settings.broker_forward:
                host, _, broker_port = forward.rpartition(":")
                rooms[BROKER] = (host, int(broker_port))
            door = Door(rooms=rooms, otherwise=HUB, idle=frozenset({HUB}))
            server = uvicorn.Server(self._config(own, door))
            outside = _listening(self._settings.host, self._settings.port)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(serve(server, inside), name="enrolment-http")
                tasks.create_task(door.run(outside), name="enrolment-door")
                tasks.create_task(self._rights.run(), name="rights")
                tasks.create_task(self._listen(), name="records")
                tasks.create_task(self._keep_certificates(own, server), name="certificates")

    async def _begin(self, own: Path) -> None:
        """Make what is not there yet, patiently: the records' keeper may start after hub."""
        async for _ in backoff(first_seconds=0.2, most_seconds=5):
            try:
                await self._write_certificates(own)
                await self._tell_terms()
            except RecordsAwayError as exc:
                log.warning("enrolment_waits", reason=str(exc))
            else:
                break

    async def _tell_terms(self) -> None:
        """Write down what tokens have to say, for those who make them."""
        data = {"cloud": self._terms.cloud, "broker": self._terms.broker}
        while True:
            record = await self._records.get(AUTHORITY, TERMS)
            try:
                if record is None:
                    await self._records.create(AUTHORITY, TERMS, data)
                elif record.data != data:
                    await self._records.replace(record, data)
            except (ExistsError, ChangedError):
                continue
            return

    async def _write_certificates(self, own: Path) -> bool:
        """Write the servers' certificates; return whether hub's changed."""
        names = self._settings.server_names
        authority = await self._authorities.current()
        credentials = {"broker": await self._authorities.server("broker", names)}
        for name in SERVICES:
            credentials[f"client-{name}"] = await self._authorities.service(name)
        if (folder := self._settings.tls_dir) is not None:
            for name, each in credentials.items():
                await asyncio.to_thread(_write, folder, name, each, authority.bundle)
        hub = await self._authorities.server("hub", names)
        return await asyncio.to_thread(_write, own, "hub", hub, authority.bundle)

    async def _keep_certificates(self, own: Path, server: uvicorn.Server) -> None:
        while True:
            try:
                async with asyncio.timeout(CERTIFICATES_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                log.debug("certificates_looked_at")
            self._changed.clear()
            try:
                if await self._write_certificates(own) and server.config.ssl is not None:
                    # handshakes from now on show the new one
                    server.config.ssl.load_cert_chain(own / "hub.crt", own / "hub.key")
            except RecordsAwayError as exc:
                log.warning("certificates_not_looked_at", reason=str(exc))
            await asyncio.sleep(1)

    async def _listen(self) -> None:
        async for _ in self._records.changes():
            self._changed.set()
            self._rights.notice()

    async def _users(self) -> Mapping[str, NodeName]:
        return {
            each.user: NodeName(each.node)
            for each in await self.registrar.nodes()
            if each.revoked is None
        }

    def _config(self, own: Path, door: Door) -> uvicorn.Config:
        def peer(request: Request) -> str:
            return door.peer_of(0 if request.client is None else request.client.port)

        api = EnrolmentApi(
            registrar=self.registrar,
            authorities=self._authorities,
            provide=self._rights.provide,
            peer=peer,
        )
        return uvicorn.Config(
            TracedHttp(api.app(), route_of_enrolment),
            log_config=None,
            lifespan="off",
            ws="none",
            access_log=False,
            ssl_certfile=own / "hub.crt",
            ssl_keyfile=str(own / "hub.key"),
            h11_max_incomplete_event_size=64 * 1024,
        )


@asynccontextmanager
async def opened(settings: EnrolmentSettings) -> AsyncIterator[Enrolment]:
    """Return enrolment with what it needs open."""
    async with AsyncExitStack() as stack:
        records: Records
        if settings.records == KUBERNETES:
            from fedge_hub.kube_records import KubeRecords  # noqa: PLC0415 - takes 80 MB
            from fedge_kube import KubeClient  # noqa: PLC0415

            client = await stack.enter_async_context(KubeClient.connected(settings.kubeconfig))
            records = KubeRecords(client, settings.namespace)
        else:
            records = FolderRecords(Path(settings.records))
        parts = urlsplit(settings.management_url.get_secret_value())
        auth = aiohttp.BasicAuth(unquote(parts.username or ""), unquote(parts.password or ""))
        session = await stack.enter_async_context(aiohttp.ClientSession(auth=auth))
        yield Enrolment(settings, records, session)


def _without_account(settings: EnrolmentSettings) -> str:
    parts = urlsplit(settings.management_url.get_secret_value())
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind((host, port))
    found.setblocking(False)
    return found


def _write(folder: Path, name: str, credential: ServerCredential, authorities: bytes) -> bool:
    """Write a server's files where they differ; return whether any did."""
    wanted = {
        f"{name}.key": credential.key,
        f"{name}.crt": credential.chain,
        "ca.crt": authorities,
    }
    differing = {
        file: content for file, content in wanted.items() if _read(folder / file) != content
    }
    for file, content in differing.items():
        write_private(folder / file, content)
    return bool(differing)


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""
