"""Accounts at a broker in memory: what is there after whatever came in whatever order."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager

import pytest

from fedge_devices import DEVICE_CREDENTIALS, Credential, credential_for, write_credential
from fedge_fabric import UnavailableError
from fedge_objects import Change, JsonObject, ObjectKey, Version
from fedge_twin.accounts import NO_BROKER, Accounts
from fedge_twin.rights import rights_of


class MemoryBroker:
    """A broker's accounts."""

    def __init__(self) -> None:
        self.accounts: dict[str, str] = {}
        self.is_away = False
        self.calls: list[str] = []
        self._turned = asyncio.Condition()

    async def known(self) -> Mapping[str, str]:
        await self._asked("known")
        return dict(self.accounts)

    async def put(self, credentials: Collection[Credential]) -> None:
        await self._asked(f"put {len(credentials)}")
        self.accounts.update({each.user: digest(each) for each in credentials})

    async def delete(self, users: Collection[str]) -> None:
        await self._asked(f"delete {len(users)}")
        for user in users:
            self.accounts.pop(user, None)

    async def _asked(self, what: str) -> None:
        async with self._turned:
            self.calls.append(what)
            self._turned.notify_all()
        if self.is_away:
            raise UnavailableError("away")

    async def until_asked(self) -> None:
        """Wait for the next call."""
        async with asyncio.timeout(20), self._turned:
            await self._turned.wait()


class World:
    """Accounts, what the node was given, and who is told."""

    def __init__(self, *, has_broker: bool = True) -> None:
        self.broker = MemoryBroker()
        self.given: list[Change] | None = []
        self.told: dict[ObjectKey, tuple[Version, str]] = {}
        self._turned = asyncio.Event()
        self.accounts = Accounts(
            broker=self.broker if has_broker else None, given=self._read, effects=self
        )

    async def _read(self) -> list[Change] | None:
        return self.given

    def applied(self, key: ObjectKey, version: Version) -> None:
        self.told[key] = (version, "applied")
        self._turned.set()

    def failed(self, key: ObjectKey, version: Version, reason: str) -> None:
        self.told[key] = (version, reason)
        self._turned.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.accounts.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def settle(self, *changes: Change) -> None:
        """Take changes and wait until they are in effect."""
        for each in changes:
            await self.accounts.take(each)
        async with asyncio.timeout(20):
            while any(self.told.get(each.key, (None,))[0] != each.version for each in changes):
                self._turned.clear()
                await self._turned.wait()


def digest(credential: Credential) -> str:
    rights = rights_of(credential.namespace, credential.name)
    return rights.digest(credential.password_hash)


def account(name: str, revision: int, password: bytes | None = b"secret") -> Change:
    """Return a credential; without a password it is gone."""
    obj: JsonObject | None = None
    if password is not None:
        obj = write_credential(credential_for("default", name, password, "uid-1"))
    key = ObjectKey(DEVICE_CREDENTIALS, "default", name)
    return Change(key=key, version=Version(revision, revision), object=obj)


async def test_an_account_is_made_changed_and_deleted() -> None:
    world = World()
    async with world.running():
        await world.accounts.reconcile()
        await world.settle(account("ac", 1))
        first = dict(world.broker.accounts)
        assert list(first) == ["default/ac"]
        await world.settle(account("ac", 2, b"another"))
        assert list(world.broker.accounts) == ["default/ac"]
        assert world.broker.accounts != first
        await world.settle(account("ac", 3, None))
        assert world.broker.accounts == {}
        assert world.told[account("ac", 3).key] == (Version(3, 3), "applied")


async def test_an_older_version_changes_nothing() -> None:
    world = World()
    async with world.running():
        await world.accounts.reconcile()
        await world.settle(account("ac", 5, None), account("b", 5))
        await world.accounts.take(account("ac", 4))
        await world.accounts.take(account("b", 4, None))
        await world.settle(account("c", 1))
        assert sorted(world.broker.accounts) == ["default/b", "default/c"]


async def test_what_differs_at_the_broker_is_mended_at_start_and_nothing_else_told() -> None:
    world = World()
    world.given = [account(name, 3) for name in ("same", "other", "new")]
    world.broker.accounts = {
        "default/same": digest(credential_for("default", "same", b"secret", "uid-1")),
        "default/other": "of other rights",
        "default/revoked": "while twin was down",
    }
    async with world.running():
        await world.accounts.reconcile()
        await world.settle(account("last", 4))
    assert sorted(world.broker.accounts) == [
        "default/last", "default/new", "default/other", "default/same",
    ]  # fmt: skip
    assert world.broker.calls[:2] == ["known", "delete 1"]
    assert set(world.broker.accounts.values()) == {
        digest(credential_for("default", name, b"secret", "uid-1"))
        for name in ("same", "other", "new", "last")
    }


async def test_nothing_is_deleted_before_it_is_known_what_the_node_was_given() -> None:
    world = World()
    world.given = None
    world.broker.accounts = {"default/old": "x"}
    async with world.running():
        await world.accounts.reconcile()
        await world.settle(account("new", 1))
    assert sorted(world.broker.accounts) == ["default/new", "default/old"]


async def test_what_came_while_the_broker_was_away_is_done_on_return_and_only_then_told() -> None:
    world = World()
    world.broker.is_away = True
    async with world.running():
        await world.accounts.reconcile()
        await world.accounts.take(account("ac", 1))
        await world.broker.until_asked()
        assert world.told == {}
        world.broker.is_away = False
        await world.settle(account("ac", 1))
    assert list(world.broker.accounts) == ["default/ac"]


async def test_a_broker_that_lost_its_data_gets_all_accounts_again() -> None:
    world = World()
    world.given = [account("ac", 1)]
    async with world.running():
        await world.accounts.reconcile()
        await world.settle(account("ac", 1))
        world.broker.accounts.clear()
        await world.accounts.reconcile()  # the broker is back
        while not world.broker.accounts:
            await world.broker.until_asked()
            await asyncio.sleep(0)
    assert list(world.broker.accounts) == ["default/ac"]


@pytest.mark.parametrize(
    "spec",
    [
        {"user": "default/ac", "passwordHash": "", "hashingAlgorithm": "x"},
        {"passwordHash": "AAAA", "hashingAlgorithm": "rabbit_password_hashing_sha256"},
        {"passwordHash": 5, "hashingAlgorithm": "rabbit_password_hashing_sha256"},
        {"passwordHash": "}>>]" * 12, "hashingAlgorithm": "rabbit_password_hashing_sha256"},
        "text",
        None,
    ],
)
async def test_what_cannot_be_read_is_no_account_and_says_so(spec: object) -> None:
    world = World()
    async with world.running():
        await world.accounts.reconcile()
        await world.settle(account("ac", 1))
        bad = Change(key=account("ac", 2).key, version=Version(2, 2), object={"spec": spec})
        await world.settle(bad)
        await world.settle(account("b", 1))
    assert list(world.broker.accounts) == ["default/b"]
    assert world.told[bad.key][1] not in {"applied", ""}


@pytest.mark.parametrize(
    "name", ["fedge", "../admin", 'a">>', "a,b", "*", "A", "a/b", "", "a" * 254, "ä", "a\n"]
)
async def test_names_that_no_device_has_get_no_account(name: str) -> None:
    for namespace, device in ((name, "ac"), ("default", name)):
        if device == "fedge" or namespace == "fedge":
            continue  # a good name; as an account it is default/fedge
        world = World()
        key = ObjectKey(DEVICE_CREDENTIALS, namespace, device)
        change = Change(key=key, version=Version(1, 1), object=account("ac", 1).object)
        async with world.running():
            await world.accounts.reconcile()
            await world.settle(change)
        assert world.broker.accounts == {}
        assert world.told[key][1] != "applied"


async def test_without_a_command_for_the_broker_a_credential_counts_as_failed() -> None:
    world = World(has_broker=False)
    async with world.running():
        await world.accounts.reconcile()
        await world.accounts.take(account("ac", 1))
    assert world.told == {account("ac", 1).key: (Version(1, 1), NO_BROKER)}
