"""Accounts of devices at a real broker, with real MQTT clients: their own topics and no others."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiomqtt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedge_devices import (
    DEVICE_CREDENTIALS,
    Credential,
    credential_for,
    write_credential,
)
from fedge_fabric import UnavailableError, envelope_of
from fedge_fabric import topology as t
from fedge_fabric.evaluating import carried, evaluate, read_sent, sent
from fedge_fabric.fabric import Fabric
from fedge_objects import Change, ObjectKey, Version
from fedge_service import EdgeSettings, backoff
from fedge_store import ObjectStore
from fedge_twin import plugin as twin_plugin
from fedge_twin.broker import BATCH, Broker
from fedge_twin.rights import rights_of
from fedge_twin.settings import TwinSettings
from tests.fixtures.servers import EdgeBroker

pytestmark = pytest.mark.broker

DEADLINE_SECONDS = 30.0
D = "$hw/events/device"
REFUSED = 0x80
PASSWORD = "secret"


@pytest.fixture
def broker(edge_broker: EdgeBroker) -> Broker:
    return Broker(edge_broker.edge.asking("accounts-test"))


def account(name: str, password: str = PASSWORD) -> Credential:
    return credential_for("plant", name, password.encode(), f"uid-of-{name}")


@asynccontextmanager
async def device(
    where: EdgeBroker,
    name: str | None,
    *,
    password: str = PASSWORD,
    client_id: str | None = None,
    keeps_session: bool = False,
) -> AsyncIterator[aiomqtt.Client]:
    """Log in as a device; without a name as nobody."""
    address = urlsplit(where.mqtt_url)
    user = None if name is None else f"plant/{name}"
    async with aiomqtt.Client(
        address.hostname or "",
        address.port or 0,
        username=user,
        password=None if name is None else password,
        identifier=client_id or user,
        clean_session=not keeps_session,
        timeout=5,
    ) as client:
        yield client


async def may_publish(client: aiomqtt.Client, topic: str) -> bool:
    """Publish; the broker answers what it refuses by closing the connection."""
    return await _unless_closed(client, client.publish(topic, b"{}", qos=1)) is not None


async def may_subscribe(client: aiomqtt.Client, topic_filter: str) -> bool:
    answers = await _unless_closed(client, client.subscribe(topic_filter, qos=1)) or (REFUSED,)
    return all((each if isinstance(each, int) else each.value) < REFUSED for each in answers)


async def _unless_closed(client: aiomqtt.Client, asking: Coroutine[None, None, Any]) -> Any:
    """Return the broker's answer, True if it has no value, or None if the connection ended."""
    task = asyncio.ensure_future(asking)
    async with asyncio.timeout(DEADLINE_SECONDS):
        await asyncio.wait({task, client._disconnected}, return_when=asyncio.FIRST_COMPLETED)
    if task.done() and task.exception() is None:
        return task.result() or True
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return None


async def closed(client: aiomqtt.Client) -> None:
    """Wait until the broker has closed the connection."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        with contextlib.suppress(aiomqtt.MqttError):
            async for _ in client.messages:
                pass


async def can_log_in(where: EdgeBroker, name: str | None, password: str = PASSWORD) -> bool:
    try:
        async with device(where, name, password=password, client_id=f"plant/{name}/new"):
            return True
    except aiomqtt.MqttError:
        return False


async def becomes_able_to_log_in(where: EdgeBroker, name: str, *, able: bool = True) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await can_log_in(where, name) is not able:  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(0.1)


@asynccontextmanager
async def made(broker: Broker, *credentials: Credential) -> AsyncIterator[None]:
    users = [each.user for each in credentials]
    await when_there(lambda: broker.put(credentials))
    try:
        yield
    finally:
        await when_there(lambda: broker.delete(users))


async def when_there(work: Callable[[], Awaitable[None]]) -> None:
    """Do what needs the broker's command, which fails now and then on a machine out of breath."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        async for _ in backoff(first_seconds=0.2, most_seconds=1):
            try:
                await work()
            except UnavailableError:
                continue
            return


async def test_a_password_lets_its_device_in_and_no_other(
    edge_broker: EdgeBroker, broker: Broker
) -> None:
    async with made(broker, account("ac"), account("other", "different")):
        assert await can_log_in(edge_broker, "ac")
        assert not await can_log_in(edge_broker, "ac", "wrong")
        assert not await can_log_in(edge_broker, "ac", "different")
        assert not await can_log_in(edge_broker, "nobody")
        assert not await can_log_in(edge_broker, None)


@pytest.mark.parametrize("name", ["ac", "pump.1", "a.b-c.d"])
async def test_a_device_says_and_hears_its_own(
    edge_broker: EdgeBroker, broker: Broker, name: str
) -> None:
    async with made(broker, account(name)), device(edge_broker, name) as client:
        for what in ("twin/update/delta", "+/+/result", "twin/update/document", "twin/update"):
            assert await may_subscribe(client, f"{D}/plant/{name}/{what}"), what
        for what in ("state/update", "twin/get", "twin/update"):
            assert await may_publish(client, f"{D}/plant/{name}/{what}"), what
        async with asyncio.timeout(DEADLINE_SECONDS):
            heard = await anext(client.messages)
        assert str(heard.topic) == f"{D}/plant/{name}/twin/update".replace(".", "/")


FOREIGN = (
    f"{D}/plant/other/twin/update",
    f"{D}/plant/pump/1/twin/update",
    f"{D}/plant/pump.1/twin/update",
    f"{D}/elsewhere/pump/twin/update",
    f"{D}/plant/pump/twin/update/result",
    f"{D}/plant/pump/twin/update/delta",
    "$hw/events/node/edge-1/membership/updated",
    "fedge/up",
)


@pytest.mark.parametrize("topic", FOREIGN)
async def test_a_device_that_publishes_elsewhere_is_refused_and_nobody_hears_it(
    edge_broker: EdgeBroker, broker: Broker, topic: str
) -> None:
    address = urlsplit(edge_broker.mqtt_url)
    async with (
        made(broker, account("pump"), account("pump.1")),
        device(edge_broker, "pump.1") as victim,
        aiomqtt.Client(
            address.hostname or "",
            address.port or 0,
            username=address.username,
            password=address.password,
        ) as listener,
    ):
        await listener.subscribe(topic.replace("pump.1", "pump/1"), qos=1)
        assert await may_subscribe(victim, f"{D}/plant/pump.1/twin/update/delta")
        async with device(edge_broker, "pump") as client:
            assert not await may_publish(client, topic)
        # what comes first is what the victim says now, and it is still there
        assert await may_publish(victim, f"{D}/plant/pump.1/state/update")
        await listener.subscribe(f"{D}/plant/pump/1/state/update", qos=1)
        assert await may_publish(victim, f"{D}/plant/pump.1/state/update")
        async with asyncio.timeout(DEADLINE_SECONDS):
            heard = await anext(listener.messages)
        assert str(heard.topic) == f"{D}/plant/pump/1/state/update"


@pytest.mark.parametrize(
    "topic_filter",
    [
        *(each for each in FOREIGN if not each.startswith(f"{D}/plant/pump/twin")),
        "#", "$hw/#", f"{D}/plant/+/twin/update", f"{D}/plant/pump/#", f"{D}/plant/pump/+/+/+",
    ],
)  # fmt: skip
async def test_a_device_that_listens_elsewhere_is_refused(
    edge_broker: EdgeBroker, broker: Broker, topic_filter: str
) -> None:
    async with made(broker, account("pump")), device(edge_broker, "pump") as client:
        assert not await may_subscribe(client, topic_filter)


async def test_a_will_elsewhere_is_not_published(edge_broker: EdgeBroker, broker: Broker) -> None:
    address = urlsplit(edge_broker.mqtt_url)
    async with (
        made(broker, account("pump"), account("other")),
        device(edge_broker, "other") as other,
    ):
        assert await may_subscribe(other, f"{D}/plant/other/twin/update")
        client = aiomqtt.Client(
            address.hostname or "",
            address.port or 0,
            will=aiomqtt.Will(f"{D}/plant/other/twin/update", b"forged", qos=1),
            username="plant/pump",
            password=PASSWORD,
        )
        async with client:
            await broker.delete(["plant/pump"])
            await closed(client)
        await broker.put([account("pump")])
        assert await may_publish(other, f"{D}/plant/other/twin/update")
        async with asyncio.timeout(DEADLINE_SECONDS):
            heard = await anext(other.messages)
        assert heard.payload == b"{}"


@pytest.mark.parametrize("keeps_session", [True, False])
async def test_a_session_cannot_be_taken_by_another_device(
    edge_broker: EdgeBroker, broker: Broker, *, keeps_session: bool
) -> None:
    delta = f"{D}/plant/pump-1/twin/update"
    async with made(broker, account("pump-1"), account("pump")):
        async with device(edge_broker, "pump-1", keeps_session=True) as client:
            assert await may_subscribe(client, delta)
        async with device(edge_broker, "pump-1", client_id="plant/pump-1/2") as client:
            assert await may_publish(client, delta)
        with contextlib.suppress(aiomqtt.MqttError):
            async with device(
                edge_broker, "pump", client_id="plant/pump-1", keeps_session=keeps_session
            ) as thief:
                assert not await may_subscribe(thief, f"{D}/plant/pump/twin/update/delta")
        async with (
            device(edge_broker, "pump-1", keeps_session=True) as client,
            asyncio.timeout(DEADLINE_SECONDS),
        ):
            heard = await anext(client.messages)
            assert heard.payload == b"{}"


async def test_whoever_connects_under_anothers_client_id_disconnects_it_and_reads_nothing(
    edge_broker: EdgeBroker, broker: Broker
) -> None:
    """RabbitMQ asks nobody who may use a client id; the guide says so."""
    async with (
        made(broker, account("ac"), account("thief")),
        device(edge_broker, "ac") as client,
    ):
        assert await may_subscribe(client, f"{D}/plant/ac/twin/update/delta")
        with contextlib.suppress(aiomqtt.MqttError):
            async with device(edge_broker, "thief", client_id="plant/ac") as thief:
                assert not await may_subscribe(thief, f"{D}/plant/ac/twin/update/delta")
        await closed(client)
        async with device(edge_broker, "ac", client_id="plant/ac/unguessable") as again:
            assert await may_publish(again, f"{D}/plant/ac/state/update")


async def test_who_is_revoked_or_given_another_password_is_disconnected_and_no_other(
    edge_broker: EdgeBroker, broker: Broker
) -> None:
    async with (
        made(broker, account("gone"), account("changed"), account("stays")),
        device(edge_broker, "gone") as gone,
        device(edge_broker, "changed") as changed,
        device(edge_broker, "stays") as stays,
    ):
        await broker.delete(["plant/gone", "plant/never-was"])
        await broker.put([account("changed", "another"), account("stays")])
        await closed(gone)
        await closed(changed)
        assert await may_publish(stays, f"{D}/plant/stays/state/update")
        assert not await can_log_in(edge_broker, "gone")
        assert not await can_log_in(edge_broker, "changed")
        assert await can_log_in(edge_broker, "changed", "another")


async def test_accounts_with_other_rights_or_without_any_are_told_apart_and_mended(
    edge_broker: EdgeBroker, broker: Broker
) -> None:
    names = ("ok", "wider", "bare")
    async with made(broker, *(account(name) for name in names)):
        expected = {
            f"plant/{name}": rights_of("plant", name).digest(account(name).password_hash)
            for name in names
        }
        assert await broker.known() == expected
        internal = "rabbit_auth_backend_internal"
        await evaluate(
            edge_broker.edge.asking("accounts-fault"),
            f'{{{internal}:set_topic_permissions(<<"plant/wider">>, <<"/">>, <<"amq.topic">>,'
            ' <<".*">>, <<".*">>, <<"x">>),'
            f' {internal}:clear_topic_permissions(<<"plant/bare">>, <<"/">>, <<"x">>)}}',
        )
        found = await broker.known()
        assert found["plant/ok"] == expected["plant/ok"]
        assert not {found["plant/wider"], found["plant/bare"]} & set(expected.values())
        await broker.put([account("wider"), account("bare")])
        assert await broker.known() == expected
    assert await broker.known() == {}


async def test_users_that_are_no_devices_are_not_touched(
    edge_broker: EdgeBroker, broker: Broker
) -> None:
    assert await broker.known() == {}
    await broker.delete([])
    users = await edge_broker.edge.evaluate("length(rabbit_auth_backend_internal:list_users())")
    assert users.strip() == "1"


async def test_many_accounts_are_made_and_deleted_in_few_commands(
    edge_broker: EdgeBroker, broker: Broker
) -> None:
    labels = [f"{'x' * 60}-{number}" for number in range(BATCH * 2 + 1)]
    many = [
        credential_for("n" * 63, ".".join([label, *["y" * 60] * 2]), b"secret", label)
        for label in labels
    ]
    async with made(broker, *many):
        known = await broker.known()
        assert known.keys() == {each.user for each in many}
        assert "" not in known.values()
    assert await broker.known() == {}


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(value=st.lists(st.text() | st.text(alphabet='<>",.){}[]$\\~\n %')))
def test_what_is_carried_into_the_broker_comes_back_the_same(
    edge_broker: EdgeBroker, value: list[str]
) -> None:
    async def there_and_back() -> object:
        return read_sent(
            await evaluate(edge_broker.edge.asking("accounts-echo"), sent(carried(value)))
        )

    assert asyncio.run(there_and_back()) == value


async def test_names_that_would_break_out_of_a_string_are_only_names(
    edge_broker: EdgeBroker, broker: Broker
) -> None:
    hostile = Credential(
        namespace="plant",
        name='a">>, <<"/">>) , init:stop(), (<<"$hw.#~p\n',
        password_hash=account("a").password_hash,
    )
    async with made(broker, hostile):
        assert list(await broker.known()) == [hostile.user]


async def test_anonymous_devices_reach_devices_topics_and_nothing_else(
    open_broker: EdgeBroker,
) -> None:
    own = f"{D}/default/ac/twin/update"
    async with device(open_broker, None, client_id="ac") as client:
        assert await may_subscribe(client, f"{D}/#")
        assert await may_publish(client, own)
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert str((await anext(client.messages)).topic) == own
    for topic in ("fedge/up", "$hw/events/node/edge-1/membership/get", "x"):
        async with device(open_broker, None, client_id="ac") as client:
            assert not await may_publish(client, topic)
    for topic_filter in ("#", "$hw/#", "+/events/device/x", "fedge/#"):
        async with device(open_broker, None, client_id="ac") as client:
            assert not await may_subscribe(client, topic_filter)
    for client_id in ("fedge-twin", "plant/ac", "plant/ac/2"):
        with contextlib.suppress(aiomqtt.MqttError):
            async with device(open_broker, None, client_id=client_id) as client:
                assert not await may_subscribe(client, own)


async def given_to(folder: Path, change: Change) -> None:
    """Have a credential in meta's store."""
    async with ObjectStore.opened(folder / "meta.db") as store:
        await store.apply(change, [])


def change(name: str, revision: int, *, is_gone: bool = False) -> Change:
    key = ObjectKey(DEVICE_CREDENTIALS, "plant", name)
    obj = None if is_gone else write_credential(account(name))
    return Change(key=key, version=Version(revision, revision), object=obj)


@asynccontextmanager
async def twin(where: EdgeBroker, folder: Path) -> AsyncIterator[None]:
    """Run twin."""
    admin = urlsplit(where.edge_url)
    port = urlsplit(where.mqtt_url).port
    twin_settings = TwinSettings(
        mqtt_url=f"mqtt://{admin.username}:{admin.password}@127.0.0.1:{port}",
        broker_command=tuple(where.edge.asking("fedge-accounts")),
        edge=EdgeSettings(node_name=where.node, amqp_url=where.edge_url, data_dir=folder),
    )
    ready = asyncio.Event()
    task = asyncio.create_task(twin_plugin.run(twin_settings, ready.set))
    try:
        async with asyncio.timeout(60):
            await asyncio.wait(
                {task, asyncio.ensure_future(ready.wait())}, return_when=asyncio.FIRST_COMPLETED
            )
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def meta(where: EdgeBroker, folder: Path) -> AsyncIterator[Callable[..., Awaitable[None]]]:
    """Give the node credentials as meta does: stored, then told."""
    fabric = Fabric(where.edge_url, service="test", exchanges=t.EDGE_EXCHANGES)

    async def give(name: str, revision: int, *, is_gone: bool = False) -> None:
        given = change(name, revision, is_gone=is_gone)
        await given_to(folder, given)
        await fabric.publish(
            envelope_of(given, source=f"/node/{where.node}/meta"),
            exchange=t.LOCAL,
            routing_key=t.local_key(given.key.resource, given.key.namespace, name),
        )

    async with fabric.running():
        yield give


async def test_twin_makes_mends_and_revokes_accounts(
    open_broker: EdgeBroker, tmp_path: Path
) -> None:
    broker = Broker(open_broker.edge.asking("accounts-test"))
    await broker.put([account("revoked-meanwhile")])
    await given_to(tmp_path, change("kept", 1))
    async with twin(open_broker, tmp_path), meta(open_broker, tmp_path) as give:
        await becomes_able_to_log_in(open_broker, "kept")
        await becomes_able_to_log_in(open_broker, "revoked-meanwhile", able=False)
        await give("ac", 1)
        await becomes_able_to_log_in(open_broker, "ac")
        async with device(open_broker, "kept") as kept:
            with contextlib.suppress(aiomqtt.MqttError):
                async with device(open_broker, "ac") as client:
                    await give("ac", 2, is_gone=True)
                    await closed(client)
            assert not await can_log_in(open_broker, "ac")
            assert await may_publish(kept, f"{D}/plant/kept/state/update")
    assert list(await broker.known()) == ["plant/kept"]
    await broker.delete(["plant/kept"])


async def test_a_broker_that_lost_its_data_gets_all_accounts_again(
    open_broker: EdgeBroker, tmp_path: Path
) -> None:
    broker = Broker(open_broker.edge.asking("accounts-test"))
    for name in ("a", "b.c"):
        await given_to(tmp_path, change(name, 1))
    async with twin(open_broker, tmp_path):
        await becomes_able_to_log_in(open_broker, "b.c")
        await open_broker.edge.kill()
        await asyncio.to_thread(shutil.rmtree, open_broker.edge.folder / "mnesia")
        await open_broker.edge.start()
        await open_broker.edge.ready()
        await becomes_able_to_log_in(open_broker, "a")
        await becomes_able_to_log_in(open_broker, "b.c")
    assert (await broker.known()).keys() == {"plant/a", "plant/b.c"}
