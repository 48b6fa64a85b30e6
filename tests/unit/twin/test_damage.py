"""A damaged file of twins is set aside, and devices report anew into another."""

import asyncio
from pathlib import Path

from fedge_twin.store import TwinStore


def test_damaged_twins_are_set_aside_once(tmp_path: Path) -> None:
    path = tmp_path / "twin.db"
    path.write_bytes(b"no database" * 1000)

    async def devices() -> int:
        async with TwinStore.opened(path) as store:
            return len(store.devices)

    assert [asyncio.run(devices()) for _ in range(2)] == [0, 0]
    [aside] = tmp_path.glob("twin.db.damaged-*")
    assert aside.read_bytes() == b"no database" * 1000
