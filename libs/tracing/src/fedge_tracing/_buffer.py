"""Spans that ended and were not sent yet: bounded, as maybe nobody takes them."""

import asyncio
import threading
from collections import deque
from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from typing_extensions import override

AT_ONCE = 256
"""So many are sent together, at most."""


class SpanBuffer(SpanProcessor):
    """Keeps the spans of one process until they are sent; what is too many is dropped and counted.

    Never blocks and never raises: spans may end anywhere.
    """

    def __init__(self, most: int) -> None:
        """Take how many spans are kept at most."""
        self._most = most
        self._spans: deque[ReadableSpan] = deque()
        self._dropped = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._has_some = asyncio.Event()
        self._is_full = asyncio.Event()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many spans wait."""
        return len(self._spans)

    @override
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing is done at the start."""

    @override
    def on_end(self, span: ReadableSpan) -> None:
        """Keep a span that ended."""
        with self._lock:
            if len(self._spans) >= self._most:
                self._dropped += 1
                return
            self._spans.append(span)
            waiting = len(self._spans)
        loop = self._loop
        if loop is not None and (waiting in {1, AT_ONCE}):
            self._tell(loop)

    def _tell(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.call_soon_threadsafe(self._wake)
        except RuntimeError:
            self._loop = None  # it was closed; whoever takes next brings its own

    def _wake(self) -> None:
        if self._spans:
            self._has_some.set()
        if len(self._spans) >= AT_ONCE:
            self._is_full.set()

    async def take(self, *, within_seconds: float) -> tuple[Sequence[ReadableSpan], int]:
        """Wait for spans, then for more that belong to them, and return them.

        Args:
            within_seconds: how long the first of them waits for others, at most.

        Returns:
            The spans, and how many were dropped since they were last taken.
        """
        self._loop = asyncio.get_running_loop()
        while not self._spans:
            self._has_some.clear()
            await self._has_some.wait()
        self._is_full.clear()
        if len(self._spans) < AT_ONCE:
            try:
                async with asyncio.timeout(within_seconds):
                    await self._is_full.wait()
            except TimeoutError:
                pass  # these are all for now
        return self.take_now()

    def take_now(self) -> tuple[Sequence[ReadableSpan], int]:
        """Return what waits, as much as is sent together, and how many were dropped."""
        with self._lock:
            taken = [self._spans.popleft() for _ in range(min(AT_ONCE, len(self._spans)))]
            dropped, self._dropped = self._dropped, 0
        return taken, dropped

    def give_back(self, spans: Sequence[ReadableSpan], dropped: int) -> None:
        """Take back what could not be sent, as far as there is room."""
        with self._lock:
            room = max(0, self._most - len(self._spans))
            kept = spans[len(spans) - room :] if room < len(spans) else spans
            self._dropped += dropped + len(spans) - len(kept)
            self._spans.extendleft(reversed(kept))
