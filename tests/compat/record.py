"""Records today's messages and databases as golden files: ``python -m tests.compat.record``.

Once per version, when it is released; a version's files are never recorded again. What later
versions must read is what the tests here read.
"""

import asyncio
import json
import sqlite3
import sys
import tempfile
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from fedge_objects import Change, ObjectKey, Version
from fedge_store import BegunRequests, ObjectStore
from fedge_twin.device import DEVICES, Device, Property, Side
from fedge_twin.store import TwinStore
from tests.unit.bad_input.subjects import SUBJECTS

GOLDEN: Final = Path(__file__).parent / "golden"
POD: Final = Change(
    key=ObjectKey("pods", "default", "a"),
    version=Version(12, 12),
    object={"metadata": {"name": "a", "namespace": "default", "uid": "uid-a"}, "spec": {}},
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    since=1_800_000_000.5,
)
GONE: Final = Change(
    key=ObjectKey("configmaps", "default", "c"), version=Version(20, 15), object=None
)
DEVICE: Final = Device(
    key=ObjectKey(DEVICES, "default", "ac"),
    uid="uid-ac",
    version=Version(7, 7),
    description="an air conditioner",
    state="online",
    last_online="2027-01-02T03:04:05Z",
    properties={
        "temperature": Property(
            name="temperature",
            type="INT",
            reported=Side(value="21", by="device", metadata={"unit": "C"}, cloud=1, edge=2),
        )
    },
)
BEGUN: Final = ("request-1", 1_800_000_000.0)


async def messages() -> dict[str, list[dict[str, Any]]]:
    """Return a good message of every kind, by service and queue, as it travels."""
    found = {}
    for name, opened in SUBJECTS.items():
        async with opened() as subject:
            for queue, samples in subject.samples().items():
                found[f"{name} {queue}"] = [
                    {
                        "routing_key": sample.routing_key,
                        "headers": sample.envelope.headers(),
                        "data": sample.envelope.data,
                    }
                    for sample in samples
                ]
    return found


async def databases(folder: Path) -> None:
    """Make each of an edge's databases, with something in it."""
    async with ObjectStore.opened(folder / "meta.db") as store:
        for change in (POD, GONE):
            await store.apply(change, [])
    async with TwinStore.opened(folder / "twin.db") as twins, twins.changing() as draft:
        draft.put(DEVICE)
    await BegunRequests(folder / "begun.db").begin(*BEGUN)


def dump(path: Path) -> str:
    """Return a database as SQL, its version included."""
    with closing(sqlite3.connect(path)) as file:
        [number] = file.execute("PRAGMA user_version").fetchone()
        return "\n".join([*file.iterdump(), f"PRAGMA user_version = {number};", ""])


def main() -> int:
    """Record."""
    folder = GOLDEN / version("fedge-service")
    if folder.exists():
        sys.stderr.write(f"{folder} is there already: what a version was is not recorded again\n")
        return 1
    folder.mkdir(parents=True)
    told = asyncio.run(messages())
    (folder / "messages.json").write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(databases(Path(name)))
        for path in sorted(Path(name).glob("*.db")):
            (folder / f"{path.stem}.sql").write_text(dump(path))
    return 0


if __name__ == "__main__":
    sys.exit(main())
