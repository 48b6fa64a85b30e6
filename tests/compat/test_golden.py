"""Old edge and new cloud, the reverse, and an edge that goes back: one minor version apart.

What an older version said and stored lies in ``golden``. Today's handlers take its messages;
today's messages still hold all that its readers look for; today's stores open its files; and files
of a newer minor version are opened today.
"""

import asyncio
import contextlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fedge_fabric import Envelope, UnavailableError
from fedge_fabric.fabric import Delivery
from fedge_objects import ObjectKey, Version
from fedge_store import BegunRequests, ObjectReader, ObjectStore, fits
from fedge_store._schema import MINORS
from fedge_twin.store import TwinStore
from tests.compat.record import BEGUN, DEVICE, GOLDEN, GONE, POD, databases, messages
from tests.unit.bad_input.subjects import SUBJECTS, queues_of

VERSIONS = sorted(GOLDEN.iterdir())
assert VERSIONS


def golden_messages(folder: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = json.loads((folder / "messages.json").read_text())
    return found


@pytest.mark.parametrize("folder", VERSIONS, ids=lambda each: each.name)
@pytest.mark.parametrize("service", SUBJECTS)
async def test_todays_services_take_what_an_older_version_says(service: str, folder: Path) -> None:
    taken = 0
    async with SUBJECTS[service]() as subject:
        queues = queues_of(subject)
        for place, told in golden_messages(folder).items():
            name, queue = place.split(" ")
            if name != service:
                continue
            for each in told:
                body = json.dumps(each["data"]).encode()
                envelope = Envelope.read(headers=each["headers"], body=body, content_encoding=None)
                # what it cannot take a handler raises; what it cannot take yet comes again
                with contextlib.suppress(UnavailableError):
                    await queues[queue][1](Delivery(each["routing_key"], envelope))
                taken += 1
        await subject.check()
    assert taken


def shape(data: Any, path: str = "$") -> dict[str, str]:
    """Return each place in JSON and what is there; all of a list's items are one place."""
    found = {path: type(data).__name__.replace("int", "number").replace("float", "number")}
    if isinstance(data, dict):
        for key, value in data.items():
            found |= shape(value, f"{path}.{key}")
    if isinstance(data, list):
        for value in data:
            found |= shape(value, f"{path}[]")
    return found


@pytest.mark.parametrize("folder", VERSIONS, ids=lambda each: each.name)
async def test_todays_messages_hold_all_that_an_older_version_reads(folder: Path) -> None:
    today = await messages()
    for place, told in golden_messages(folder).items():
        for number, each in enumerate(told):
            now = today[place][number]
            lost = shape(each["data"]).items() - shape(now["data"]).items()
            # keys that are names of things, not fields
            lost = {(path, kind) for path, kind in lost if "/" not in path}
            assert not lost, (place, number)
            assert each["headers"].keys() <= now["headers"].keys(), (place, number)
            assert each["headers"]["cloudEvents_type"] == now["headers"]["cloudEvents_type"]


def restore(sql: Path, folder: Path) -> Path:
    path = folder / f"{sql.stem}.db"
    with closing(sqlite3.connect(path)) as file:
        file.executescript(sql.read_text())
    return path


async def check(folder: Path) -> None:
    """See that today's stores hold what was recorded, and take more."""
    async with ObjectStore.opened(folder / "meta.db") as store:
        assert await store.get(POD.key) == POD
        assert await store.get(GONE.key) == GONE
        assert await store.apply(
            POD.__class__(key=GONE.key, version=Version(21, 21), object={"metadata": {}}), []
        )
    async with ObjectReader.opened(folder / "meta.db") as reader:
        assert await reader.list("pods") == [POD]
    async with TwinStore.opened(folder / "twin.db") as twins:
        [device] = twins.devices.values()
        assert (device.key, device.uid, device.state) == (DEVICE.key, DEVICE.uid, DEVICE.state)
        reported = device.properties["temperature"].reported
        assert reported is not None
        assert (reported.value, reported.metadata) == ("21", {"unit": "C"})
        assert len(await twins.history(ObjectKey.parse(str(DEVICE.key)))) == 1
        async with twins.changing() as draft:
            draft.put(DEVICE)
    begun = BegunRequests(folder / "begun.db")
    assert await begun.all() == {BEGUN[0]: BEGUN[1]}
    assert await begun.begin("request-2", BEGUN[1]) is None


@pytest.mark.parametrize("folder", VERSIONS, ids=lambda each: each.name)
async def test_databases_of_an_older_version_are_opened_with_all_they_hold(
    folder: Path, tmp_path: Path
) -> None:
    for sql in [folder / f"{name}.sql" for name in ("meta", "twin", "begun")]:
        await asyncio.to_thread(restore, sql, tmp_path)
    await check(tmp_path)


async def test_databases_of_the_next_minor_version_are_read_and_written(tmp_path: Path) -> None:
    await databases(tmp_path)
    for path, table in (("meta", "objects"), ("twin", "devices"), ("begun", "begun")):
        with closing(sqlite3.connect(tmp_path / f"{path}.db")) as file:
            [today] = file.execute("PRAGMA user_version").fetchone()
            following = today + 1 if today >= MINORS else today * MINORS + 1
            file.execute(f"ALTER TABLE {table} ADD COLUMN later TEXT NOT NULL DEFAULT ''")
            file.execute("CREATE TABLE later (name TEXT)")
            file.execute(f"PRAGMA user_version = {following}")
            file.commit()
    await check(tmp_path)


def test_versions_fit_within_a_major_one() -> None:
    assert [fits(found, 2) for found in (0, 1, 2, 2001, 1999)] == [True] * 5
    assert not any(fits(found, 2) for found in (3, 3000, 99))
