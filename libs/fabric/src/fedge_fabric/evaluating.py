"""Erlang expressions evaluated in the edge's broker, which has no other interface for its operator.

A command evaluates the expression that is added as its last argument and prints the value, as
``rabbitmqctl eval`` does. What comes from elsewhere goes into an expression as ``carried`` only,
and comes out of it as ``sent``: both are base64, which nothing can break out of.
"""

import asyncio
import base64
import re
import zlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from fedge_fabric.errors import UnavailableError

COMMAND_SECONDS: Final = 30.0
MAX_BYTES: Final = 120_000
"""Of an expression: Linux takes 128 KiB as one argument of a command."""
_WHEN_STARTED: Final = (
    "case lists:keymember(rabbit, 1, application:which_applications()) of"
    " true -> begin %s end; false -> exit(broker_is_starting) end"
)
"""A broker that is asked while it starts may wait for itself for ever (seen with 3.10: its registry
of feature flags is made by whoever asks first)."""
_TEXT: Final = re.compile(r'"([A-Za-z0-9+/=]*)"')


def carried(value: Any) -> str:
    """Return an Erlang expression for a JSON value: maps, lists, binaries, numbers."""
    packed = base64.b64encode(zlib.compress(msgspec.json.encode(value))).decode()
    return f'rabbit_json:decode(zlib:uncompress(base64:decode(<<"{packed}">>)))'


def sent(expression: str) -> str:
    """Return an expression whose printed value ``read_sent`` reads.

    Args:
        expression: its value is JSON: maps, lists, binaries with UTF-8, numbers.
    """
    return f"base64:encode(zlib:compress(iolist_to_binary(rabbit_json:encode({expression}))))"


def read_sent(text: str) -> Any:
    """Return the value of a ``sent`` expression.

    Raises:
        UnavailableError: the broker printed something else.
    """
    try:
        return msgspec.json.decode(zlib.decompress(base64.b64decode("".join(_TEXT.findall(text)))))
    except (ValueError, zlib.error, msgspec.MsgspecError) as exc:
        raise UnavailableError(f"the edge's broker answered {text[-400:]!r}") from exc


async def evaluate(command: Sequence[str], expression: str) -> str:
    """Evaluate an expression in the broker and return its printed value.

    Args:
        command: to which the expression is added as last argument.
        expression: without the full stop at its end; at most ``MAX_BYTES``.

    Raises:
        UnavailableError: the broker does not answer, or the expression failed.
    """
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            process = await asyncio.create_subprocess_exec(
                *command,
                _WHEN_STARTED % expression,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            try:
                output, _ = await process.communicate()
            finally:
                if process.returncode is None:
                    process.kill()
    except (OSError, TimeoutError) as exc:
        raise UnavailableError(f"{command[0]!r} did not reach the edge's broker: {exc!r}") from exc
    text = output.decode(errors="replace").strip()
    if process.returncode:
        raise UnavailableError(f"the edge's broker answered {text[-400:]!r}")
    return text
