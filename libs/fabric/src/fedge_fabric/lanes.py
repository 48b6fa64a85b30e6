"""Order per key among tasks that run side by side.

A lane costs next to nothing while nobody waits in it, which is the rule.
"""

import asyncio
from collections import deque


class Lanes:
    """Lets those of one key go one after the other, in the order in which they asked."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], deque[asyncio.Future[None]]] = {}

    async def enter(self, key: tuple[str, str]) -> None:
        """Wait until nobody else of this key is on the way; who entered has to leave."""
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = deque()
            return
        turn = asyncio.get_running_loop().create_future()
        waiting.append(turn)
        try:
            await turn
        except BaseException:
            if not turn.cancelled():  # it was given the way, and does not take it
                self.leave(key)
            raise

    def leave(self, key: tuple[str, str]) -> None:
        """Let the next go, who has not given up."""
        waiting = self._waiting[key]
        while waiting:
            turn = waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        del self._waiting[key]
