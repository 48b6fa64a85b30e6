"""A running system with a node that is attacked, and nodes whose keys are in the wrong hands."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiormq
import httpx
import pytest
from aiormq.abc import AbstractChannel, AbstractConnection
from pamqp import constants

from fedge_enrolment import joining
from fedge_enrolment.dialling import Address, context_of
from fedge_enrolment.identity import Identity, Joined
from fedge_enrolment.tokens import JoinToken
from fedge_fabric import Envelope
from fedge_local.commands import run
from fedge_local.stack import Stack
from fedge_objects import NodeName
from fedge_service import backoff

# the client library checks names of queues more strictly than the broker does
constants.DOMAIN_REGEX["queue-name"] = re.compile(".*")

VICTIM = NodeName("gw-1.plant.example")
SETTINGS = {"FEDGE_EDGE_HEARTBEAT_SECONDS": "1", "FEDGE_HUB_BELIEVED_UNKNOWN_SECONDS": "5"}
DEADLINE_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node whose keys the tests hold."""

    name: NodeName
    identity: Identity
    joined: Joined

    def url(self, *, mechanism: str = "external") -> str:
        return f"amqps://{self.joined.broker}/?auth={mechanism}&heartbeat=10"

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[AbstractConnection]:
        """Log in as its broker would."""
        context = context_of(
            self.identity.authorities,
            certificate=self.identity.certificate,
            key=self.identity.key,
        )
        connection = await aiormq.connect(self.url(), context=context)
        try:
            yield connection
        finally:
            await connection.close()

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[AbstractChannel]:
        async with self.connected() as connection:
            yield await connection.channel(publisher_confirms=True)

    async def says(
        self, routing_key: str, envelope: Envelope, *, exchange: str = "fedge.up"
    ) -> None:
        """Publish a message to the cloud, whatever it says."""
        body, encoding = envelope.body()
        async with self.channel() as channel:
            await channel.basic_publish(
                body,
                exchange=exchange,
                routing_key=routing_key,
                properties=aiormq.spec.Basic.Properties(
                    headers=dict(envelope.headers()),
                    content_type="application/json",
                    content_encoding=encoding,
                    message_id=envelope.id,
                    message_type=envelope.type,
                    delivery_mode=2,
                ),
            )


class System:
    """What runs, and what its owner sees of it."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack = stack
        self._folder = folder
        self._joined = 0
        self.mallory: Node | None = None

    @property
    def state(self) -> dict[str, Any]:
        return dict(json.loads(self.stack.state_file.read_text()))

    @property
    def enrolment(self) -> Address:
        return Address(self.stack.subnet.cloud_address, self.stack.ports["enrolment"])

    async def fedge(self, *words: str) -> str:
        """Run the administrator's command."""
        at = words.index("--") if "--" in words else len(words)
        option = f"--kubeconfig={self.stack.kubeconfig}"
        return await run([sys.executable, "-m", "fedge_cli", *words[:at], option, *words[at:]])

    async def token(self, *options: str) -> JoinToken:
        return JoinToken.decode(await self.fedge("token", "create", *options))

    async def join(self, name: str, token: JoinToken | None = None) -> Node:
        """Join as a gateway would, from this machine."""
        self._joined += 1
        identity = Identity(self._folder / f"identity-{self._joined}")
        given = token or await self.token()
        joined = await asyncio.to_thread(joining.join, identity, given, node=NodeName(name))
        return Node(name=NodeName(name), identity=identity, joined=joined)

    async def manage(self, method: str, path: str, body: object = None) -> Any:
        """Ask the broker's management API."""
        port, password = self.stack.ports["management"], self.state["password"]
        async with httpx.AsyncClient(auth=("fedge", password), trust_env=False) as client:
            answer = await client.request(
                method, f"http://127.0.0.1:{port}/api/{path}", json=body, timeout=30
            )
            answer.raise_for_status()
            return answer.json() if answer.content else None

    async def links(self) -> set[str]:
        """Return the connections of the victim's links."""
        found = await self.manage("GET", "connections")
        return {
            each["name"] for each in found if each["user"].startswith(f"urn:fedge:node:{VICTIM}")
        }

    def hub_log(self) -> list[dict[str, Any]]:
        text = self.stack.server("cloud", "hub").log.read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def logged(self, event: str, since: int, **fields: object) -> bool:
        return any(
            each.get("event") == event and fields.items() <= each.items()
            for each in self.hub_log()[since:]
        )

    async def victim_speaks(self) -> float:
        """Return when hub heard the victim last."""
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{self.stack.hub_url}/nodes/{VICTIM}/status")
            answer.raise_for_status()
            return str(answer.json()["last_seen"])  # type: ignore[return-value]  # ISO 8601: ordered

    async def dead_letters(self) -> int:
        """Return how many messages were put aside."""
        from fedge_fabric.topology import DEAD  # noqa: PLC0415

        connection = await aiormq.connect(self.stack.amqp_url)
        try:
            channel = await connection.channel()
            declared = await channel.queue_declare(DEAD, passive=True)
            return declared.message_count or 0
        finally:
            await connection.close()


async def until(condition: Any, why: str) -> None:
    """Wait for a condition, a function that may be async."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            async for _ in backoff(first_seconds=0.05, most_seconds=0.3):
                found = condition()
                if asyncio.iscoroutine(found):
                    found = await found
                if found:
                    return
    except TimeoutError:
        pytest.fail(f"did not happen: {why}")


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    stack = Stack(tmp_path_factory.mktemp("stack"), edges=(VICTIM,), settings=SETTINGS)
    with asyncio.Runner() as runner:
        try:
            runner.run(stack.up())
            system = System(stack, tmp_path_factory.mktemp("nodes"))
            runner.run(until(lambda: _has(system), "the node is linked"))
            yield system
        finally:
            runner.run(stack.down())


async def _has(system: System) -> bool:
    return len(await system.links()) == 5


@pytest.fixture
async def system(running: System) -> AsyncIterator[System]:
    """The system; after each test its node's links are what they were, and it goes on speaking."""
    before = await running.links()
    yield running
    assert await running.links() == before
    heard = await running.victim_speaks()

    async def heard_again() -> bool:
        return await running.victim_speaks() > heard

    await until(heard_again, "the attacked node is heard")


@pytest.fixture
async def mallory(system: System) -> Node:
    """A valid node of the same cloud, whose keys were stolen."""
    if system.mallory is None:
        system.mallory = await system.join("mallory")
    return system.mallory
