"""Telling the cloud what was written while it was away, in order, until it has answered each.

The cloud merges: what it changed meanwhile in other fields stays. Where both changed one field the
cloud's value holds, and both are told: in an event here and there, and by a mark on the object.
What the cloud refuses for good is told as well. Only then is a write dropped.
"""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from fedge_apiserver.registry import Registry
from fedge_fabric import InvalidError, UnavailableError
from fedge_fabric.writes import NOT_BELIEVED, Write
from fedge_meta.api.authors import still_there
from fedge_meta.api.cloud import Answer, Cloud, NoAnswerError
from fedge_meta.api.observing import Observed
from fedge_meta.api.outbox import Outbox, Pending
from fedge_meta.api.passing import Passing
from fedge_meta.api.view import View
from fedge_objects import JsonObject, NodeName

log = structlog.stdlib.get_logger("fedge.meta")

ASK_SECONDS: Final = 20.0
FIRST_AGAIN_SECONDS: Final = 1.0
MOST_AGAIN_SECONDS: Final = 30.0
BELIEVED_SECONDS: Final = 60.0
"""For so long a write waits for a pod in the place of its author's, which the cloud removed."""
_MOST_TOLD: Final = 1000
_MOST_NAME: Final = 200


class Sending:
    """Empties the outbox."""

    def __init__(
        self,
        *,
        node: NodeName,
        outbox: Outbox,
        cloud: Cloud,
        passing: Passing,
        view: View,
        registry: Registry,
        observed: Observed,
    ) -> None:
        self._registry = registry
        self._not_believed: dict[str, float] = {}
        self._node = node
        self._outbox = outbox
        self._cloud = cloud
        self._passing = passing
        self._view = view
        self._observed = observed
        self._news = asyncio.Event()
        outbox.added = cloud.came_back = self._news.set

    async def run(self) -> None:
        """Send until cancelled."""
        wait = FIRST_AGAIN_SECONDS
        while True:
            self._news.clear()
            pending = await self._outbox.leave()
            if pending is None:
                await self._news.wait()
                continue
            try:
                await self._send(pending)
            except (NoAnswerError, UnavailableError) as exc:
                log.info("write_waits", object=str(pending.kept.change.key), reason=str(exc))
                try:
                    async with asyncio.timeout(wait):
                        await self._news.wait()
                except TimeoutError:
                    wait = min(wait * 2, MOST_AGAIN_SECONDS)
            else:
                wait = FIRST_AGAIN_SECONDS

    async def _send(self, pending: Pending) -> None:
        kept = pending.kept
        author = still_there(kept.author, self._registry)
        answer = await self._cloud.ask(
            Write(author=author, change=kept.change), write_id=pending.id, seconds=ASK_SECONDS
        )
        if not answer.is_final:
            raise NoAnswerError(f"the cloud's API answers {answer.code}")
        if _reason(answer) == NOT_BELIEVED:
            # its pod is gone; the one that comes in its place may not be known here yet
            now = asyncio.get_running_loop().time()
            since = self._not_believed.setdefault(pending.id, now)
            if now - since < BELIEVED_SECONDS:
                raise NoAnswerError("no pod under its account is known to the cloud yet")
        self._not_believed.pop(pending.id, None)
        key = kept.change.key
        if answer.code < 300:  # noqa: PLR2004 - HTTP's line between success and the rest
            await self._take(pending, answer)
            log.info("write_merged", object=str(key), id=pending.id)
        else:
            self._tell(pending, answer)
        await self._outbox.drop(pending)
        async with self._view.updating:
            await self._view.refresh(key)

    async def _take(self, pending: Pending, answer: Answer) -> None:
        """Keep what became of the object, so that it is shown though the line break just now."""
        key = pending.kept.change.key
        if pending.kept.change.wanted is None:
            await self._view.hide(key)
            return
        try:
            obj = json.loads(answer.body)
            if obj["kind"] != "Status":
                await self._passing.keep(key, obj)
        except (ValueError, KeyError, TypeError, InvalidError) as exc:
            log.warning("answer_not_kept", object=str(key), reason=repr(exc))

    def _tell(self, pending: Pending, answer: Answer) -> None:
        change = pending.kept.change
        event = event_of(pending, answer, node=self._node)
        log.warning(
            "write_not_made",
            object=str(change.key),
            user=pending.kept.author.user,
            reason=event["reason"],
            message=event["message"],
        )
        self._observed.take_event(event)


def event_of(pending: Pending, answer: Answer, *, node: NodeName) -> JsonObject:
    """Return the event that tells why a write was not made, with both versions."""
    change = pending.kept.change
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    about: Any = change.base or change.wanted or {}
    if answer.conflict:
        reason = "EdgeWriteConflict"
        fields = "; ".join(
            f"{each.get('path')}: edge {_shown(each.get('edge'))},"
            f" cloud {_shown(each.get('cloud'))}"
            for each in answer.conflict
        )
        message = f"the cloud changed what was written at {node} as well, and its values hold: "
        message += fields
    else:
        reason = "EdgeWriteRefused"
        message = f"the cloud refuses what was written at {node}: {_message(answer)}"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{change.name[:_MOST_NAME]}.{pending.id[:16]}",
            "namespace": change.namespace or "default",
        },
        "involvedObject": {
            "apiVersion": about.get("apiVersion", change.version),
            "kind": about.get("kind", ""),
            "namespace": change.namespace,
            "name": change.name,
            "uid": (about.get("metadata") or {}).get("uid", ""),
        },
        "type": "Warning",
        "reason": reason,
        "message": message[:_MOST_TOLD],
        "source": {"component": "meta", "host": node},
        "reportingComponent": "fedge.io/meta",
        "reportingInstance": node,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }


def _shown(value: object) -> str:
    return "removed" if value is None else json.dumps(value)[:200]


def _message(answer: Answer) -> str:
    return _said(answer, "message") or f"HTTP {answer.code} {answer.body[:200]}"


def _reason(answer: Answer) -> str:
    return _said(answer, "reason")


def _said(answer: Answer, field: str) -> str:
    try:
        return str(json.loads(answer.body)[field])
    except (ValueError, KeyError, TypeError):
        return ""
