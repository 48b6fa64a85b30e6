"""What holds for every test."""

import asyncio
import signal

import pytest

pytest_plugins = ["tests.fixtures.servers"]

_loop: asyncio.AbstractEventLoop | None = None


def pytest_configure() -> None:
    """Set a loop that we close ourselves.

    On Python 3.11 pytest-asyncio asks for the current loop before it sets its own; if there is none
    one is made that nobody closes, and warnings are errors here.
    """
    global _loop  # noqa: PLW0603 - pytest's hooks have no other place in common
    _loop = asyncio.new_event_loop()
    asyncio.set_event_loop(_loop)
    # a shell that puts tests into the background has them ignore Ctrl-C, and all that they start
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close it."""
    asyncio.set_event_loop(None)
    if _loop is not None:
        _loop.close()
