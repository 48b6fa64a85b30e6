"""What hub knows of a node, for people: ``fedge status``."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fedge_hub.domain import Nodes
from fedge_hub.ports import Downlink, Wanted, WantedStore
from fedge_objects import NodeName, ObjectKey

MAX_PROBLEMS = 200


class Views:
    """Describes nodes as they are now."""

    def __init__(self, *, nodes: Nodes, store: WantedStore, down: Downlink) -> None:
        self._nodes = nodes
        self._store = store
        self._down = down

    async def of(self, node: NodeName) -> dict[str, Any] | None:
        """Return what is known of a node, as JSON; None if it was never heard.

        Raises:
            UnavailableError: the store or the broker is away.
        """
        seen = await self._store.last_seen(node)
        wanted = await self._store.wanted(node)
        if seen is None and not wanted:
            return None
        unsent = await self._store.unsent(node)
        ledgers = (await self._store.ledgers(node)).values()
        states = {key: _state(each) for key, each in wanted.items()}
        living = [states[key] for key, each in wanted.items() if not each.gone]
        return {
            "node": node,
            "link": "up" if seen is not None and self._nodes.is_fresh(seen) else "down",
            "last_seen": None if seen is None else datetime.fromtimestamp(seen.at, UTC).isoformat(),
            "heartbeat_seconds": None if seen is None else seen.interval_seconds,
            "backlog": {
                "down": {"objects": len(unsent), "messages": await self._down.waiting(node) or 0},
                "up": None if seen is None else seen.backlog,
            },
            "objects": {
                "wanted": len(living),
                "sent": sum(state != "wanted" for state in living),
                "stored": sum(state in {"stored", "applied", "failed"} for state in living),
                "applied": living.count("applied"),
                "failed": living.count("failed"),
            },
            "problems": _problems(wanted, states),
            "events": {
                "received": sum(each.received for each in ledgers),
                "duplicates": sum(each.repeated for each in ledgers),
                "missing": sum(each.missing for each in ledgers),
            },
        }


def _state(wanted: Wanted) -> str:
    """Return how far an object has come: wanted, sent, stored, applied or failed.

    A version with the same content as the newest counts as that.
    """
    if wanted.applied is not None and wanted.applied.version >= wanted.since:
        return "failed" if wanted.applied.failed else "applied"
    if wanted.stored is not None and wanted.stored >= wanted.since:
        return "stored"
    if wanted.sent is not None and wanted.sent >= wanted.since:
        return "sent"
    return "wanted"


def _problems(
    wanted: Mapping[ObjectKey, Wanted], states: Mapping[ObjectKey, str]
) -> list[dict[str, str]]:
    return [
        {
            "object": str(key),
            "version": str(each.version),
            "state": states[key],
            "reason": each.applied.reason
            if states[key] == "failed" and each.applied is not None
            else "being deleted"
            if each.gone
            else "",
        }
        for key, each in sorted(wanted.items())
        # a tombstone that the node has stored is done with
        if states[key] != "applied" and not (each.gone and states[key] == "stored")
    ][:MAX_PROBLEMS]
