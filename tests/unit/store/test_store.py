"""The edge's store: newest wins, messages go with the change, and a kill loses nothing."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedge_fabric import Envelope
from fedge_objects import Change, ObjectKey, Version
from fedge_store import ObjectReader, ObjectStore, Outgoing, StoreError


def change(name: str, decided: int, revision: int, *, gone: bool = False) -> Change:
    return Change(
        key=ObjectKey("pods", "default", name),
        version=Version(decided, revision),
        object=None if gone else {"metadata": {"name": name}, "at": [decided, revision]},
    )


def message(text: str) -> Outgoing:
    envelope = Envelope(type=text, source="/node/a/meta")
    return Outgoing(exchange="fedge.up", routing_key="node.a.state", envelope=envelope)


async def test_newest_version_wins_and_a_repeat_changes_nothing(tmp_path: Path) -> None:
    async with ObjectStore.opened(tmp_path / "meta.db") as store:
        assert await store.apply(change("a", 5, 5), [message("stored")])
        assert not await store.apply(change("a", 5, 5), [message("repeat")])
        assert not await store.apply(change("a", 4, 9), [message("older")])
        assert await store.apply(change("a", 6, 5, gone=True), [message("gone")])
        assert [row.message.envelope.type for row in await store.waiting(10)] == ["stored", "gone"]
        assert await store.versions() == {ObjectKey("pods", "default", "a"): Version(6, 5)}
        found = await store.get(ObjectKey("pods", "default", "a"))
        assert found is not None
        assert found.is_gone
    async with ObjectReader.opened(tmp_path / "meta.db") as reader:
        assert await reader.list("pods") == []


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(1, 6), st.integers(1, 6), st.booleans()),
        max_size=12,
    )
)
async def test_any_order_of_versions_ends_in_the_newest(
    tmp_path_factory: pytest.TempPathFactory,
    arrivals: list[tuple[str, int, int, bool]],
) -> None:
    path = tmp_path_factory.mktemp("store") / "meta.db"
    newest: dict[str, tuple[int, int]] = {}
    async with ObjectStore.opened(path) as store:
        for name, decided, revision, gone in arrivals:
            applied = await store.apply(change(name, decided, revision, gone=gone), [])
            assert applied == ((decided, revision) > newest.get(name, (0, 0)))
            newest[name] = max(newest.get(name, (0, 0)), (decided, revision))
        held = {key.name: tuple(v) for key, v in (await store.versions()).items()}
        assert held == newest


async def test_outbox_keeps_the_order_and_forgets_only_what_was_confirmed(tmp_path: Path) -> None:
    async with ObjectStore.opened(tmp_path / "meta.db") as store:
        await store.enqueue([message(str(number)) for number in range(5)])
        rows = await store.waiting(3)
        assert [row.message.envelope.type for row in rows] == ["0", "1", "2"]
        await store.forget_until(rows[1].id)
        rows = await store.waiting(10)
        assert [row.message.envelope.type for row in rows] == ["2", "3", "4"]


async def test_waiting_for_messages_ends_when_one_comes(tmp_path: Path) -> None:
    async with ObjectStore.opened(tmp_path / "meta.db") as store, asyncio.timeout(10):
        waiting = asyncio.create_task(store.waiting(10))
        await store.apply(change("a", 1, 1), [message("first")])
        assert [row.message.envelope.type for row in await waiting] == ["first"]


async def test_cancelled_change_leaves_the_store_usable(tmp_path: Path) -> None:
    async with ObjectStore.opened(tmp_path / "meta.db") as store:
        for number in range(20):
            task = asyncio.create_task(store.apply(change("a", number + 1, 1), []))
            for _ in range(number % 5):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert await store.apply(change("a", 1000, 1), [])


async def test_store_of_a_newer_fedge_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match=r"version 99.*run the newer fedge"):
        async with ObjectStore.opened(path):
            pass


async def test_reader_says_that_there_is_no_store_yet(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no store"):
        async with ObjectReader.opened(tmp_path / "meta.db"):
            pass


WRITER = """
import asyncio, sys
from pathlib import Path
from fedge_objects import Change, ObjectKey, Version
from fedge_store import ObjectStore

async def main():
    async with ObjectStore.opened(Path(sys.argv[1])) as store:
        for number in range(1, 100000):
            key = ObjectKey("pods", "default", f"p{number}")
            body = {"metadata": {"name": key.name}}
            await store.apply(Change(key=key, version=Version(number, 1), object=body), [])
            print(number, flush=True)

asyncio.run(main())
"""


def kill_a_writer(path: Path) -> int:
    """Return the number that a writer had acknowledged when it was killed."""
    acknowledged = 0
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            acknowledged = int(line)
            if acknowledged == 50:
                os.kill(process.pid, signal.SIGKILL)
    return acknowledged


async def test_killed_writer_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    acknowledged = await asyncio.to_thread(kill_a_writer, path)
    assert acknowledged >= 50
    async with ObjectStore.opened(path) as store:
        held = {key.name for key in await store.versions()}
    assert {f"p{number}" for number in range(1, acknowledged + 1)} <= held
