"""Upgrading at the gateway itself, from a file, with the cloud away or not.

A file of many megabytes has no place in the links to the cloud, where it would stand before
everything else, nor in the store: whoever has it brings it to the gateway.
"""

import asyncio
import json
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from fedge_edged.logs import LogError
from fedge_edged.node_tasks.installing import InstallError
from fedge_edged.node_tasks.upgrading import Upgrading
from fedge_edged.streams import Sink
from fedge_slots import SlotError

LEAST_SECONDS: Final = 10.0
MOST_SECONDS: Final = 3600.0
_INCOMING: Final = "incoming.tar"
_ROOM_BYTES: Final = 64 * 1024 * 1024
_BAD, _CONFLICT = 400, 409


class AtTheNode:
    """Answers whoever is root on the node."""

    def __init__(self, node: str, upgrading: Upgrading) -> None:
        self._node = node
        self._upgrading = upgrading
        self._at_work = asyncio.Lock()

    async def tell(self, sink: Sink) -> None:
        """Tell which version runs, and what became of the last upgrade."""
        own, state = self._upgrading.own, self._upgrading.slots.state()
        told = {
            "node": self._node,
            "from_image": own is not None,
            "version": own.version if own else "",
            "trying": state.trial is not None,
            "outcome": msgspec.to_builtins(state.outcome),
        }
        await sink.send({"body": json.dumps(told) + "\n"}, last=True)

    async def upgrade(self, data: Mapping[str, Any], sink: Sink) -> None:
        """Take an archive, install it and try it out.

        The client sends the file in pieces, the last one empty. It hears what is done; then this
        process is ended, and the client with it.

        Raises:
            LogError: it cannot be done; with why and what to do.
        """
        seconds = float(data.get("seconds") or 300.0)
        if not LEAST_SECONDS <= seconds <= MOST_SECONDS:
            raise LogError(_BAD, f"the time is {LEAST_SECONDS:g} to {MOST_SECONDS:g} s")
        if data.get("node") not in {None, "", self._node}:
            raise LogError(_CONFLICT, f"this is node {self._node}, not {data['node']}")
        if self._upgrading.own is None:
            raise LogError(
                _CONFLICT, "this edge does not run from the image: upgrade it as it was installed"
            )
        if self._at_work.locked():
            raise LogError(_CONFLICT, "another upgrade is under way")
        async with self._at_work:
            path = self._upgrading.slots.folder / _INCOMING
            try:
                await self._receive(path, sink)
                installed = await self._upgrading.installing.archive(
                    path, digest=str(data.get("digest") or "")
                )
                await sink.send({"body": f"version {installed.version} is installed\n"})
                if installed.name == self._upgrading.own.slot:
                    await sink.send({"body": "it runs already\n"}, last=True)
                    return
                # its own, so that its outcome is told from the one before
                name = f"at-the-node-{secrets.token_hex(4)}"
                await self._upgrading.try_out(installed, id=name, seconds=seconds)
                await sink.send({"body": "trying it\n"}, last=True)
            except (InstallError, SlotError, OSError) as exc:
                raise LogError(_CONFLICT, str(exc)) from exc
            finally:
                await asyncio.to_thread(path.unlink, missing_ok=True)

    async def _receive(self, path: Path, sink: Sink) -> None:
        await asyncio.to_thread(path.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
        with await asyncio.to_thread(path.open, "wb") as file:
            async for piece in sink.inputs():
                if not piece:
                    return
                free = (await asyncio.to_thread(shutil.disk_usage, path.parent)).free
                if free < _ROOM_BYTES:
                    raise OSError(f"there is no room for the file at {path.parent}")
                await asyncio.to_thread(file.write, piece)
        raise OSError("the file was not sent to its end")
