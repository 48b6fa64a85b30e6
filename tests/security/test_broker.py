"""A node with valid keys, at the broker: its own queue and its own routing keys, and no more."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import aiormq
import pytest
from aiormq.abc import AbstractChannel
from aiormq.exceptions import AMQPError, ChannelAccessRefused, ChannelPreconditionFailed

from fedge_enrolment.dialling import context_of
from fedge_fabric import Envelope, kinds, topology
from fedge_fabric.definitions import LINK_MAX_CONNECTIONS, link_queue
from fedge_objects import NodeName
from tests.security.conftest import VICTIM, Node, System, until

pytestmark = [
    pytest.mark.stack,
    pytest.mark.broker,
    pytest.mark.redis,
    pytest.mark.containerd,
    pytest.mark.timeout(300),
]

Attack = Callable[[AbstractChannel], Awaitable[object]]
OWN = link_queue(NodeName("mallory"))
VICTIMS = link_queue(VICTIM)
VICTIMS_KEY = "node.gw-1_plant_example.state.pods.default.a"


async def _own_queue(channel: AbstractChannel) -> None:
    await channel.queue_declare(OWN, durable=True)


async def _bind(channel: AbstractChannel, exchange: str, key: str) -> None:
    await _own_queue(channel)
    await channel.queue_bind(OWN, exchange, routing_key=key)


REFUSED: dict[str, Attack] = {
    "binds another node's keys": lambda c: _bind(c, topology.DOWN, "node.gw-1_plant_example.#"),
    "binds all nodes' keys": lambda c: _bind(c, topology.DOWN, "node.*.state.#"),
    "binds everything": lambda c: _bind(c, topology.DOWN, "#"),
    "binds what its name only begins": lambda c: _bind(c, topology.DOWN, "node.mallory2.#"),
    "reads what nodes say": lambda c: _bind(c, topology.UP, "node.mallory.#"),
    "reads what services want": lambda c: _bind(c, topology.WANTED, "#"),
    "reads reports": lambda c: _bind(c, topology.REPORTED, "#"),
    "reads what devices say": lambda c: _bind(c, "amq.topic", "#"),
    "consumes another node's queue": lambda c: c.basic_consume(VICTIMS, _nothing),
    "takes from another node's queue": lambda c: c.basic_get(VICTIMS),
    "purges another node's queue": lambda c: c.queue_purge(VICTIMS),
    "deletes another node's queue": lambda c: c.queue_delete(VICTIMS),
    "declares another node's queue": lambda c: c.queue_declare(VICTIMS, durable=True),
    "consumes hub's queue": lambda c: c.basic_consume("hub.up.state", _nothing),
    "reads dead letters": lambda c: c.basic_get(topology.DEAD),
    "declares a queue of its own choice": lambda c: c.queue_declare("anything"),
    "declares an exchange": lambda c: c.exchange_declare("anything"),
    "deletes an exchange": lambda c: c.exchange_delete(topology.UP),
    "publishes as another node": lambda c: _publish(c, topology.UP, VICTIMS_KEY),
    "publishes as a node its name only begins": lambda c: _publish(
        c, topology.UP, "node.mallory2.state.x"
    ),
    "publishes down": lambda c: _publish(c, topology.DOWN, VICTIMS_KEY),
    "publishes down to itself": lambda c: _publish(c, topology.DOWN, "node.mallory.state.x"),
    "wants something": lambda c: _publish(c, topology.WANTED, VICTIMS_KEY),
    "reports past hub": lambda c: _publish(c, topology.REPORTED, "node.mallory.state.nodes.-.x"),
    "asks the services for all": lambda c: _publish(c, topology.CONTROL, "resync"),
    "publishes straight to a queue": lambda c: _publish(c, "", "hub.wanted"),
}


async def _publish(channel: AbstractChannel, exchange: str, key: str, **properties: str) -> None:
    envelope = Envelope(type=kinds.NODE_ALIVE, source="/node/x/edged", data={})
    await channel.basic_publish(
        envelope.body()[0],
        exchange=exchange,
        routing_key=key,
        properties=aiormq.spec.Basic.Properties(headers=dict(envelope.headers()), **properties),  # type: ignore[arg-type]
    )


async def _nothing(_: object) -> None:
    pytest.fail("a message came that is not its own")


@pytest.mark.parametrize("attack", REFUSED.values(), ids=REFUSED.keys())
async def test_a_node_with_valid_keys_is_refused(attack: Attack, mallory: Node) -> None:
    with pytest.raises(AMQPError) as refused:
        async with mallory.channel() as channel, asyncio.timeout(10):
            await attack(channel)

    assert type(refused.value) is ChannelAccessRefused


async def test_a_message_in_another_users_name_is_refused(mallory: Node) -> None:
    with pytest.raises(ChannelPreconditionFailed, match="user_id"):
        async with mallory.channel() as channel:
            await _publish(channel, topology.UP, "node.mallory.state.alive", user_id="fedge")


async def test_a_node_may_do_what_its_links_do(mallory: Node) -> None:
    """Else the refusals above would prove nothing."""
    async with mallory.channel() as channel:
        await _bind(channel, topology.DOWN, "node.mallory.#")
        await channel.basic_get(OWN)
        await _publish(channel, topology.UP, "node.mallory.spans.x")
        await channel.queue_delete(OWN)


async def test_a_node_has_so_many_connections_and_no_more(mallory: Node) -> None:
    async with asyncio.timeout(60), AsyncExitStack() as stack:
        for _ in range(LINK_MAX_CONNECTIONS):
            await stack.enter_async_context(mallory.connected())
        with pytest.raises((AMQPError, ConnectionError)):
            await stack.enter_async_context(mallory.connected())


async def test_a_message_above_the_limit_is_refused_at_the_door(mallory: Node) -> None:
    with pytest.raises((AMQPError, ConnectionError)):
        async with mallory.channel() as channel, asyncio.timeout(60):
            await channel.basic_publish(
                bytes(32 * 1024 * 1024 + 1),
                exchange=topology.UP,
                routing_key="node.mallory.state.x",
            )


async def test_a_message_above_the_limit_of_its_class_is_put_aside(
    mallory: Node, system: System
) -> None:
    before = await system.dead_letters()
    big = Envelope(
        type=kinds.EVENT_RECORDED, source="/node/mallory/edged", data=list(range(1_500_000))
    )
    body, _ = big.body()
    async with mallory.channel() as channel:
        await channel.basic_publish(
            b"[" + b"1," * (topology.EVENT_MAX_BYTES // 2) + b"1]",
            exchange=topology.UP,
            routing_key="node.mallory.event.x",
            properties=aiormq.spec.Basic.Properties(headers=dict(big.headers())),
        )

    async def put_aside() -> bool:
        return await system.dead_letters() == before + 1

    assert body
    await until(put_aside, "it lies among the dead letters")


async def test_who_shows_no_certificate_is_not_even_greeted(mallory: Node) -> None:
    context = context_of(mallory.identity.authorities)
    with pytest.raises((ssl.SSLError, AMQPError, OSError, EOFError)):
        await aiormq.connect(mallory.url(mechanism="plain"), context=context)


async def test_a_certificate_does_not_help_with_a_password(mallory: Node) -> None:
    context = context_of(
        mallory.identity.authorities,
        certificate=mallory.identity.certificate,
        key=mallory.identity.key,
    )
    user = mallory.joined.user.replace(":", "%3A")
    for account in (f"{user}:", f"{user}:x", "guest:guest", "fedge:fedge"):
        url = mallory.url(mechanism="plain").replace("amqps://", f"amqps://{account}@")
        with pytest.raises((AMQPError, ConnectionError)):
            await aiormq.connect(url, context=context)


async def test_plain_text_is_refused(mallory: Node, system: System) -> None:
    host, _, port = mallory.joined.broker.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"AMQP\x00\x00\x09\x01")
    async with asyncio.timeout(15):
        greeting = await reader.read(16)
    writer.close()
    assert not greeting.startswith(b"\x01"), "the broker greeted a client without TLS"
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(host, system.stack.ports["amqp"])


async def test_rights_that_somebody_gave_are_taken_away(mallory: Node, system: System) -> None:
    user = mallory.joined.user.replace(":", "%3A")
    await system.manage(
        "PUT", f"permissions/%2F/{user}", {"configure": ".*", "write": ".*", "read": ".*"}
    )
    await system.manage("PUT", f"users/{user}", {"password": "x", "tags": "administrator"})
    since = len(system.hub_log())
    await system.token()  # a change of the records has hub look at once

    async def mended() -> bool:
        found = await system.manage("GET", f"users/{user}/permissions")
        account = await system.manage("GET", f"users/{user}")
        return found[0]["read"] != ".*" and not account["tags"] and not account["password_hash"]

    await until(mended, "its rights are what they should be")
    assert system.logged("rights_mended", since, changed=[mallory.joined.user])


async def test_a_user_that_no_record_knows_is_removed(system: System) -> None:
    name = "urn:fedge:node:ghost:00000000"
    await system.manage(
        "PUT", f"users/{name.replace(':', '%3A')}", {"password_hash": "", "tags": ""}
    )
    await system.token()

    async def gone() -> bool:
        return name not in [each["name"] for each in await system.manage("GET", "users")]

    await until(gone, "the user is gone")
