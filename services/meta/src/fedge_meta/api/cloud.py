"""Asking the cloud to write, and hearing what its API answered.

A question that nobody answers in time is as one that did not arrive: whoever asked may ask again,
for a change is told apart by its id, and what has become so already is not made so twice.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import structlog

from fedge_fabric import (
    Address,
    Envelope,
    InvalidError,
    MessageClass,
    UnavailableError,
    fields,
    kinds,
)
from fedge_fabric import topology as t
from fedge_fabric.fabric import Delivery, Fabric
from fedge_fabric.writes import Write
from fedge_objects import NodeName

AWAY_SECONDS: Final = 10.0
"""For so long after a question that got no answer nobody is made to wait for another."""

log = structlog.stdlib.get_logger("fedge.meta")


class NoAnswerError(Exception):
    """The cloud said nothing in time; whether it was reached is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the cloud's API answered.

    Attributes:
        code: HTTP's.
        body: as it came.
        conflict: fields that the cloud changed as well, with both values.
    """

    code: int
    body: str
    conflict: tuple[dict[str, Any], ...] = ()

    @property
    def is_final(self) -> bool:
        """Whether asking again would bring nothing else: the API was there and decided."""
        return self.code not in (408, 429) and self.code < 500  # noqa: PLR2004 - HTTP's classes


class Cloud:
    """The way of writes to the cloud."""

    def __init__(self, fabric: Fabric, node: NodeName) -> None:
        self._fabric = fabric
        self._node = node
        self._open: dict[str, asyncio.Future[Answer]] = {}
        self._is_line_down = False
        self._away_until = 0.0
        self.came_back: Callable[[], None] | None = None
        """Called when it answers after it did not."""

    @property
    def is_away(self) -> bool:
        """Whether the line is down, or a question got no answer a moment ago."""
        return self._is_line_down or _monotonic() < self._away_until

    def line_changed(self, is_up: bool) -> None:
        """Hear how the links are."""
        self._is_line_down = not is_up
        if is_up:
            self._away_until = 0.0
            if self.came_back is not None:
                self.came_back()

    async def ask(self, write: Write, *, write_id: str, seconds: float) -> Answer:
        """Ask for a write and return the answer.

        Raises:
            NoAnswerError: none came within so many seconds.
        """
        envelope = Envelope(
            id=write_id,
            type=kinds.WRITE_ASKED,
            source=f"/node/{self._node}/meta",
            subject=str(write.author.about),
            data=write.data(),
        )
        answered = self._open.setdefault(write_id, asyncio.get_running_loop().create_future())
        try:
            async with asyncio.timeout(seconds):
                await self._fabric.publish(
                    envelope,
                    exchange=t.UP,
                    routing_key=str(Address(self._node, MessageClass.REQUEST, ("write",))),
                    expires_after=timedelta(seconds=seconds),
                )
                answer = await asyncio.shield(answered)
        except (TimeoutError, UnavailableError, InvalidError) as exc:
            self._away_until = _monotonic() + AWAY_SECONDS
            raise NoAnswerError(f"the cloud did not answer within {seconds:g} s") from exc
        finally:
            if self._open.get(write_id) is answered:
                del self._open[write_id]
        self._is_back()
        return answer

    async def on_answer(self, delivery: Delivery) -> None:
        """Take an answer; one that nobody waits for is left alone, for it will be asked for again.

        Raises:
            MalformedError: it is none.
        """
        data, write_id = delivery.envelope.data, delivery.envelope.subject
        conflict = fields.mapping(data).get("conflict") or []
        if not isinstance(conflict, list) or not all(isinstance(each, dict) for each in conflict):
            raise InvalidError("an answer to a write whose conflict is no list of fields")
        answer = Answer(
            code=fields.whole(data, "code", least=100, most=599),
            body=fields.text(data, "body", most=8 * 1024 * 1024),
            conflict=tuple(conflict),
        )
        waiting = self._open.get(write_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def _is_back(self) -> None:
        was_away, self._away_until = bool(self._away_until), 0.0
        if was_away and self.came_back is not None:
            self.came_back()


def _monotonic() -> float:
    return asyncio.get_running_loop().time()
