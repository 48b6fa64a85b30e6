"""A damaged file of twins is set aside, and devices report anew into another."""

from pathlib import Path

from fedge_twin.store import TwinStore


async def test_damaged_twins_are_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "twin.db"
    path.write_bytes(b"no database" * 1000)
    async with TwinStore.opened(path) as store:
        assert store.devices == {}
    [aside] = tmp_path.glob("twin.db.damaged-*")
    assert aside.read_bytes() == b"no database" * 1000
    async with TwinStore.opened(path):
        pass
    assert list(tmp_path.glob("twin.db.damaged-*")) == [aside]
