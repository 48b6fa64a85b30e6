"""Accounts of devices at the edge's broker, made to match what the node was given.

What counts is what should be, not how it came to change: at start, and whenever the broker was
away, the broker is asked which accounts it has, and what differs is mended. In between it is told
only what changed. Who loses the account, or gets another password, is disconnected.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

import structlog

from fedge_devices import DEVICE_CREDENTIALS, Credential, read_credential
from fedge_fabric import UnavailableError
from fedge_objects import Change, ObjectKey, Version
from fedge_service import backoff
from fedge_twin.rights import rights_of

log = structlog.stdlib.get_logger("fedge.twin")

Given = Callable[[], Awaitable[Sequence[Change] | None]]
"""Reads all credentials that the node was given; None if there is no telling yet."""
NO_BROKER = "twin cannot make accounts: FEDGE_TWIN_BROKER_COMMAND is not set"


class AccountsBroker(Protocol):
    """Where the accounts are. Every method raises ``UnavailableError`` if it is away."""

    async def known(self) -> Mapping[str, str]:
        """Return the digest of each account's rights and password hash, by user name."""
        ...

    async def put(self, credentials: Collection[Credential]) -> None:
        """Make accounts, or give them these rights and passwords.

        Connections of those whose password is another than before are closed.
        """
        ...

    async def delete(self, users: Collection[str]) -> None:
        """Delete accounts and close their connections; one that is not there is no error."""
        ...


class Effects(Protocol):
    """Who is told what became of an object."""

    def applied(self, key: ObjectKey, version: Version) -> None:
        """Take note that a version is in effect."""
        ...

    def failed(self, key: ObjectKey, version: Version, reason: str) -> None:
        """Take note that a version is not in effect, and why."""
        ...


class Accounts:
    """All accounts of a node's devices."""

    def __init__(
        self,
        *,
        broker: AccountsBroker | None,
        given: Given,
        effects: Effects,
        unsealed: Callable[[Change], Change] = lambda change: change,
    ) -> None:
        """Prepare; nothing is known yet, so nothing is deleted.

        Args:
            broker: where they are; None: they cannot be made.
            given: what the node was given.
            effects: is told of each object once the broker does as it says.
            unsealed: opens what is sealed to this node; raises ``ValueError``.
        """
        self._broker = broker
        self._given = given
        self._effects = effects
        self._unsealed = unsealed
        self._lock = asyncio.Lock()
        self._versions: dict[ObjectKey, Version] = {}
        self._wanted: dict[ObjectKey, Credential] = {}
        self._untold: dict[ObjectKey, Version] = {}
        self._has: dict[str, str] | None = None
        self._is_complete = False
        self._news = asyncio.Event()

    async def reconcile(self) -> None:
        """Look at what the node was given, and at what the broker has."""
        async with self._lock:  # whatever is told of by message was readable before
            given = await self._given()
            if given is None:
                return
            for each in given:
                self._take(each)
            present = {each.key for each in given}
            for key in [key for key in self._wanted if key not in present]:
                del self._wanted[key]
            self._is_complete = True
            self._has = None
        self._news.set()

    async def take(self, change: Change) -> None:
        """Take a credential that the node was given, or that is gone."""
        async with self._lock:
            self._take(change)
        self._news.set()

    async def run(self) -> None:
        """Keep the broker's accounts as they should be until cancelled."""
        if self._broker is None:
            await asyncio.Event().wait()
            return
        while True:
            await self._news.wait()
            async for waited in backoff(first_seconds=0.5, most_seconds=10):
                self._news.clear()
                try:
                    await self._bring_up_to_date(self._broker)
                except UnavailableError as exc:
                    self._has = None
                    log.warning("accounts_wait", reason=str(exc), waited_seconds=round(waited, 1))
                else:
                    break

    def _take(self, change: Change) -> None:
        key, version = change.key, change.version
        known = self._versions.get(key)
        if key.resource != DEVICE_CREDENTIALS or (known is not None and version <= known):
            return
        self._versions[key] = version
        self._wanted.pop(key, None)
        if change.object is not None:
            if self._broker is None:
                self._effects.failed(key, version, NO_BROKER)
                return
            try:
                self._wanted[key] = read_credential(key, self._unsealed(change).object or {})
            except ValueError as exc:
                log.error("credential_not_read", device=str(key), reason=str(exc))  # noqa: TRY400
                self._effects.failed(key, version, str(exc))
                return
        self._untold[key] = version

    async def _bring_up_to_date(self, broker: AccountsBroker) -> None:
        told, self._untold = self._untold, {}
        try:
            if self._has is None:
                self._has = dict(await broker.known())
            # taken after the last wait: whatever is wanted now is compared with what is there now
            wanted = {each.user: each for each in self._wanted.values()}
            digests = {user: _digest(each) for user, each in wanted.items()}
            if self._is_complete:
                await self._delete(broker, self._has.keys() - wanted.keys())
            changed = [user for user, each in digests.items() if self._has.get(user) != each]
            if changed:
                await broker.put([wanted[user] for user in changed])
                self._has.update((user, digests[user]) for user in changed)
                log.info("accounts_made", accounts=len(changed))
        except BaseException:
            self._untold = told | self._untold
            raise
        for key, version in told.items():
            self._effects.applied(key, version)

    async def _delete(self, broker: AccountsBroker, users: Iterable[str]) -> None:
        gone = sorted(users)
        if gone and self._has is not None:
            await broker.delete(gone)
            for user in gone:
                self._has.pop(user, None)
            log.info("accounts_deleted", accounts=len(gone))


def _digest(credential: Credential) -> str:
    return rights_of(credential.namespace, credential.name).digest(credential.password_hash)
