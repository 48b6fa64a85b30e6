"""The node's certificate, renewed before it ends, and after, when the node was away that long.

The renewal is a process of its own: what it needs for keys and certificates takes memory that a
gateway has better uses for in the months between.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import structlog

from fedge_enrolment.identity import Identity, IdentityError
from fedge_fabric import UnavailableError
from fedge_service import backoff

log = structlog.stdlib.get_logger("fedge.meta")

LOOK_SECONDS: Final = 3600.0
"""The clock is read again after so long at the latest: it may have been set."""
MOST_AGAIN_SECONDS: Final = 3600.0
_RENEWAL_SECONDS: Final = 120.0


class Reader(Protocol):
    """Who has to read the certificate again."""

    async def read_certificates_again(self) -> str:
        """Forget what was read. Raises ``UnavailableError``."""
        ...


async def keep_valid(
    folder: Path,
    broker: Reader | None,
    *,
    now: Callable[[], float] = time.time,
    renewing: tuple[str, ...] = (sys.executable, "-m", "fedge_enrolment"),
) -> None:
    """Renew the certificate whenever it is time, until cancelled.

    Args:
        folder: the node's identity.
        broker: reads it for the links; None: it cannot be told, and reads it when it starts, or
            some minutes later.
        now: seconds since the epoch.
        renewing: command that renews the identity in the folder that is added to it.
    """
    while True:
        left = _due(folder) - now()
        if left > 0:
            await asyncio.sleep(min(left, LOOK_SECONDS))
            continue
        async for _ in backoff(first_seconds=5, most_seconds=MOST_AGAIN_SECONDS):
            said = await _renewed(*renewing, str(folder))
            if said is None:
                break
            log.error("certificate_not_renewed", reason=said)
        if broker is None:
            log.warning("certificate_renewed", remedy="restart the broker, or set broker_command")
        else:
            await _tell(broker)


async def _tell(broker: Reader) -> None:
    async for _ in backoff(first_seconds=1, most_seconds=60):
        try:
            await broker.read_certificates_again()
        except UnavailableError as exc:
            log.warning("certificate_not_read_yet", reason=str(exc))
        else:
            log.info("certificate_renewed")
            return


def _due(folder: Path) -> float:
    """Return when to renew; a damaged file is for the renewal to complain of."""
    try:
        joined = Identity(folder).joined()
    except IdentityError:
        return 0.0
    return 0.0 if joined is None else float(joined.renew_after)


async def _renewed(*command: str) -> str | None:
    """Run the renewal; return what it said if it failed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_RENEWAL_SECONDS):
            _, said = await process.communicate()
    except TimeoutError:
        return f"it took longer than {_RENEWAL_SECONDS:.0f} s"
    finally:
        if process.returncode is None:
            process.kill()
    return said.decode(errors="replace").strip()[-1000:] if process.returncode else None
