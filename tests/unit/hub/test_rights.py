"""Rights at the broker: exactly what the records say, whatever somebody made of them."""

import asyncio
import contextlib
import copy
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from typing_extensions import override

from fedge_enrolment.names import user_of
from fedge_enrolment.records import RecordsAwayError
from fedge_fabric import UnavailableError
from fedge_fabric.definitions import node_definitions
from fedge_hub.rights import BrokerUsers, Rights
from fedge_objects import JsonObject, NodeName
from fedge_service import backoff

NODES = {
    user_of(NodeName(name), "0a1b2c3d"): NodeName(name)
    for name in ("a", "gw-1.plant.example", "x" * 253)
}
KINDS = ("permissions", "topic_permissions")
DEADLINE_SECONDS = 20.0


class MemoryBroker(BrokerUsers):
    """The users of a broker."""

    def __init__(self) -> None:
        self.has: dict[str, list[JsonObject]] = {kind: [] for kind in ("users", *KINDS)}
        self.has["users"].append({"name": "fedge", "password_hash": "x", "tags": "administrator"})
        self.is_away = False
        self.calls = 0

    def _answers(self) -> None:
        self.calls += 1
        if self.is_away:
            raise UnavailableError("away")

    @override
    async def definitions(self) -> Mapping[str, list[JsonObject]]:
        self._answers()
        return copy.deepcopy(self.has)

    @override
    async def make(self, definitions: Mapping[str, list[JsonObject]]) -> None:
        self._answers()
        for each in definitions["users"]:
            self._drop("users", lambda had, name=each["name"]: had["name"] == name)
            self.has["users"].append(dict(each))
        for kind in KINDS:
            for each in definitions[kind]:
                place = {"user", "vhost", "exchange"} & each.keys()
                self._drop(
                    kind,
                    lambda had, each=each, place=place: all(
                        had.get(part) == each[part] for part in place
                    ),
                )
                self.has[kind].append(dict(each))

    @override
    async def take(self, user: str, definitions: Mapping[str, list[JsonObject]]) -> None:
        self._answers()
        for kind in KINDS:
            for vhost in {each["vhost"] for each in definitions[kind]}:
                self._drop(kind, lambda h, v=vhost: (h["user"], h["vhost"]) == (user, v))

    @override
    async def remove(self, users: Collection[str]) -> None:
        self._answers()
        self._drop("users", lambda had: had["name"] in users)
        for kind in KINDS:
            self._drop(kind, lambda had: had["user"] in users)

    def _drop(self, kind: str, is_meant: Any) -> None:
        self.has[kind] = [each for each in self.has[kind] if not is_meant(each)]

    def of_nodes(self) -> dict[str, list[JsonObject]]:
        def ordered(found: list[JsonObject]) -> list[JsonObject]:
            return sorted(found, key=str)

        users = [each for each in self.has["users"] if each["name"] != "fedge"]
        return {"users": ordered(users), **{kind: ordered(self.has[kind]) for kind in KINDS}}


def wanted(nodes: Mapping[str, NodeName]) -> dict[str, list[JsonObject]]:
    return {kind: sorted(each, key=str) for kind, each in node_definitions(nodes).items()}


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


def rights(broker: MemoryBroker, nodes: Mapping[str, NodeName] | None = None) -> Rights:
    async def should() -> Mapping[str, NodeName]:
        return NODES if nodes is None else nodes

    return Rights(broker, should)


async def test_users_are_made_as_the_records_say_and_then_left_alone(broker: MemoryBroker) -> None:
    found = rights(broker)
    assert await found.compare() == len(NODES)
    assert broker.of_nodes() == wanted(NODES)
    assert await found.compare() == 0


USER = next(iter(NODES))
DRIFTS: dict[str, Any] = {
    "a password": lambda has: has["users"][1].update(password_hash="known"),
    "a tag": lambda has: has["users"][1].update(tags=["administrator"]),
    "no limits": lambda has: has["users"][1].update(limits={}),
    "more rights": lambda has: has["permissions"][0].update(read=".*"),
    "more topics": lambda has: has["topic_permissions"][0].update(write=".*"),
    "another vhost": lambda has: has["permissions"].append(
        {"user": USER, "vhost": "other", "configure": ".*", "write": ".*", "read": ".*"}
    ),
    "another exchange": lambda has: has["topic_permissions"].append(
        {"user": USER, "vhost": "/", "exchange": "amq.topic", "write": ".*", "read": ".*"}
    ),
    "fewer rights": lambda has: has["permissions"].clear(),
    "no user": lambda has: has["users"].pop(1),
}


@pytest.mark.parametrize("drift", DRIFTS)
async def test_what_drifted_is_mended(drift: str, broker: MemoryBroker) -> None:
    found = rights(broker)
    await found.compare()
    DRIFTS[drift](broker.has)
    assert await found.compare() > 0
    assert broker.of_nodes() == wanted(NODES)


async def test_users_of_nodes_that_no_record_knows_go_and_others_stay(broker: MemoryBroker) -> None:
    await rights(broker).compare()
    broker.has["users"].append({"name": "urn:fedge:service:hub", "password_hash": "", "tags": ""})
    left = dict(list(NODES.items())[:1])
    assert await rights(broker, left).compare() == len(NODES) - 1
    names = {each["name"] for each in broker.has["users"]}
    assert names == {"fedge", "urn:fedge:service:hub", *left}


async def test_nothing_is_removed_while_the_records_are_away(broker: MemoryBroker) -> None:
    await rights(broker).compare()

    async def away() -> Mapping[str, NodeName]:
        raise RecordsAwayError("away")

    with pytest.raises(RecordsAwayError):
        await Rights(broker, away).compare()
    assert broker.of_nodes() == wanted(NODES)


@asynccontextmanager
async def running(found: Rights) -> AsyncIterator[None]:
    task = asyncio.create_task(found.run())
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_who_joins_is_provided_before_the_answer_and_many_in_one_go(
    broker: MemoryBroker,
) -> None:
    many = {user_of(NodeName(f"n-{n}"), "00000000"): NodeName(f"n-{n}") for n in range(200)}
    found = rights(broker, many)
    async with running(found):
        await asyncio.gather(*(found.provide(user, node) for user, node in many.items()))
        assert broker.of_nodes() == wanted(many)
        assert broker.calls < 20


async def test_who_asks_while_the_broker_is_away_is_told(broker: MemoryBroker) -> None:
    found = rights(broker)
    broker.is_away = True
    async with running(found):
        with pytest.raises(UnavailableError):
            await found.provide(USER, NODES[USER])
        broker.is_away = False
        await found.provide(USER, NODES[USER])
        async for _ in backoff(first_seconds=0.01, most_seconds=0.1):
            if broker.of_nodes() == wanted(NODES):
                break
