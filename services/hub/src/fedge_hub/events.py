"""Which events came from each node, which came again, which are missing.

The ledgers are kept every so often, not with each event: after a crash some events pass a second
time, and their consumers know them by their numbers.
"""

import asyncio
import time
from collections import defaultdict

import structlog

from fedge_fabric import Envelope, InvalidError, UnavailableError
from fedge_fabric.streams import Ledger, began_at
from fedge_hub.ports import WantedStore
from fedge_objects import NodeName

log = structlog.stdlib.get_logger("fedge.hub")

KEEP_SECONDS = 1.0
FORGET_SECONDS = 10.0
"""A ledger that was not used for so long is read anew: another replica may have gone on with it."""
MAX_STREAMS = 32
MOST_AHEAD_SECONDS = 24 * 3600.0
"""How far a node's clock may be ahead of ours."""
PAST = "past"
"""The sum of a node's streams that are over."""


class Events:
    """Counts the events of all nodes."""

    def __init__(self, store: WantedStore) -> None:
        self._store = store
        self._ledgers: dict[tuple[NodeName, str], Ledger] = {}
        self._used: dict[tuple[NodeName, str], float] = {}
        self._changed: defaultdict[NodeName, set[str]] = defaultdict(set)
        self._reading = asyncio.Lock()

    async def is_repeat(self, node: NodeName, envelope: Envelope) -> bool:
        """Whether an event was taken before; if so it is counted as such.

        Raises:
            UnavailableError: the store is away.
            InvalidError: its number is none that can be.
        """
        if envelope.sequence is None:
            return False
        if envelope.stream == PAST:
            raise InvalidError(f"no stream of events is called {PAST!r}")
        ledger = await self._ledger(node, envelope)
        if ledger.is_beyond(envelope.sequence):
            raise InvalidError(
                f"event {envelope.sequence} of stream {envelope.stream!r} of node {node!r} cannot"
                f" follow {ledger.next - 1}: so many are never lost"
            )
        if not ledger.has(envelope.sequence):
            return False
        ledger.add(envelope.sequence)
        self._changed[node].add(envelope.stream)
        return True

    async def took(self, node: NodeName, envelope: Envelope) -> None:
        """Take note that an event was handed on.

        Raises:
            UnavailableError: the store is away.
        """
        if envelope.sequence is None:
            return
        ledger = await self._ledger(node, envelope)
        before = ledger.missing
        ledger.add(envelope.sequence)
        self._changed[node].add(envelope.stream)
        if ledger.missing > before:
            log.warning(
                "events_missing", node=node, stream=envelope.stream, missing=ledger.missing - before
            )

    async def run(self) -> None:
        """Keep what was counted, until cancelled; at the end once more."""
        try:
            while True:
                await asyncio.sleep(KEEP_SECONDS)
                await self.keep()
                self._forget_unused()
        finally:
            await self.keep()

    async def keep(self) -> None:
        """Keep what was counted since the last time."""
        for node in list(self._changed):
            streams = self._changed.pop(node)
            try:
                ledgers = {each: self._ledgers[node, each] for each in streams}
                await self._store.keep_ledgers(node, ledgers)
                await self._sum_up(node)
            except UnavailableError as exc:
                self._changed[node] |= streams
                log.warning("counts_of_events_not_kept", node=node, reason=str(exc))

    async def _ledger(self, node: NodeName, envelope: Envelope) -> Ledger:
        slot = node, envelope.stream
        self._used[slot] = asyncio.get_running_loop().time()
        ledger = self._ledgers.get(slot)
        if ledger is not None:
            return ledger
        async with self._reading:
            if slot not in self._ledgers:
                kept = (await self._store.ledgers(node)).get(envelope.stream)
                if kept is None:
                    kept = Ledger(next=await self._first_number(node, envelope))
                self._ledgers[slot] = kept
        return self._ledgers[slot]

    async def _first_number(self, node: NodeName, envelope: Envelope) -> int:
        """Return from which number on a stream is counted that was not heard of yet.

        One that is older than what is known of its node was heard before the store was emptied.
        """
        known_since, began = await self._store.first_seen(node), began_at(envelope.stream)
        if known_since is None or began is None or began < known_since:
            return envelope.sequence or 0
        return 0

    async def _sum_up(self, node: NodeName) -> None:
        """Put the oldest streams of a node, which are over, together."""
        ledgers = dict(await self._store.ledgers(node))
        past = ledgers.pop(PAST, Ledger())
        latest = time.time() + MOST_AHEAD_SECONDS

        def began(stream: str) -> float:
            # a clock that was far ahead must not make its streams the newest for ever
            at = began_at(stream) or 0.0
            return at if at <= latest else 0.0

        oldest = sorted(ledgers, key=began)[:-MAX_STREAMS]
        if oldest:
            for stream in oldest:
                each = ledgers[stream]
                past.received += each.received
                past.repeated += each.repeated
                past.lost += each.missing
            await self._store.keep_ledgers(node, {PAST: past}, oldest)

    def _forget_unused(self) -> None:
        long_ago = asyncio.get_running_loop().time() - FORGET_SECONDS
        for slot in [slot for slot, used in self._used.items() if used < long_ago]:
            if slot[1] not in self._changed.get(slot[0], ()):
                self._ledgers.pop(slot, None)
                del self._used[slot]
