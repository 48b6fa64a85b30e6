"""Twins over a real file, without any broker: merging, answering, telling again."""

import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedge_fabric import UnavailableError
from fedge_objects import Change, NodeName, ObjectKey, Version
from fedge_twin.device import DEVICE_MODELS, DEVICES
from fedge_twin.payloads import Message
from fedge_twin.store import HISTORY, MIGRATIONS, Draft, StoreError, TwinStore
from fedge_twin.topics import Word
from fedge_twin.twins import Twins

KEY = ObjectKey(DEVICES, "default", "ac")
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Recorder:
    """Remembers what is told on."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, Any]] = []
        self.told: list[ObjectKey] = []

    def to_devices(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self.messages.append((message.topic, json.loads(message.payload)))

    def to_cloud(self, news: Mapping[ObjectKey, float]) -> None:
        self.told.extend(news)

    def on(self, suffix: str) -> list[Any]:
        return [payload for topic, payload in self.messages if topic.endswith(suffix)]


class Edge:
    """Twins with everything around them."""

    def __init__(self, store: TwinStore) -> None:
        self.out = Recorder()
        self.given: Sequence[Change] | None = None
        self.twins = Twins(
            node=NodeName("edge-1"),
            store=store,
            outlets=self.out,
            given=self._read,
            clock=lambda: NOW,
        )
        self._revision = 0

    async def _read(self) -> Sequence[Change] | None:
        return self.given

    async def say(self, what: str, *, device: str = "default/ac", **payload: Any) -> None:
        body = json.dumps({"event_id": "e", **payload}).encode()
        await self.twins.hear([Word(f"$hw/events/device/{device}/{what}", body)])

    async def report(self, **values: Any) -> None:
        twin = {name: {"actual": {"value": value}} for name, value in values.items()}
        await self.say("twin/update", twin=twin)

    def change(self, wishes: dict[str, Any] | None, *, uid: str = "u", model: str = "") -> Change:
        self._revision += 1
        version = Version(self._revision, self._revision)
        if wishes is None:
            return Change(key=KEY, version=version, object=None)
        properties = [
            {"name": name, **({} if value is None else {"desired": {"value": value}})}
            for name, value in wishes.items()
        ]
        spec: dict[str, Any] = {"properties": properties}
        if model:
            spec["deviceModelRef"] = {"name": model}
        metadata = {"name": "ac", "namespace": "default", "uid": uid}
        return Change(key=KEY, version=version, object={"metadata": metadata, "spec": spec})

    async def declare(self, **wishes: Any) -> None:
        await self.twins.take(self.change(wishes))

    async def shown(self) -> dict[str, tuple[str | None, str | None]]:
        """Return (desired, reported) of each property as the cloud sees them."""
        data = self.twins.status(KEY, 1)
        assert data is not None
        return {
            each["propertyName"]: (
                each.get("observedDesired", {}).get("value"),
                each.get("reported", {}).get("value"),
            )
            for each in data["status"]["twins"]
        }


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[TwinStore]:
    async with TwinStore.opened(tmp_path / "twin.db") as store:
        yield store


@pytest.fixture
def edge(store: TwinStore) -> Edge:
    return Edge(store)


def model(**rules: dict[str, Any]) -> Change:
    properties = [{"name": name, **rule} for name, rule in rules.items()]
    return Change(
        key=ObjectKey(DEVICE_MODELS, "default", "m"),
        version=Version(1, 1),
        object={"metadata": {"name": "m"}, "spec": {"properties": properties}},
    )


async def test_cloud_wins_when_it_speaks_and_only_then(edge: Edge) -> None:
    await edge.declare(temp="20", fan="1")
    await edge.say("twin/update", twin={"temp": {"expected": {"value": "22"}}})
    assert (await edge.shown())["temp"] == ("22", None)
    await edge.declare(temp="20", fan="2")
    assert (await edge.shown())["temp"] == ("22", None)
    await edge.declare(temp="21", fan="2")
    assert (await edge.shown())["temp"] == ("21", None)
    await edge.say("twin/get")
    got = edge.out.on("get/result")[-1]["twin"]["temp"]
    assert got["expected_version"] == {"cloud": 2, "edge": 1}


async def test_older_and_repeated_changes_do_nothing(edge: Edge) -> None:
    old, new = edge.change({"temp": "1"}), edge.change({"temp": "2"})
    await edge.twins.take(new)
    await edge.twins.take(old)
    assert (await edge.shown())["temp"][0] == "2"
    gone = edge.change(None)
    await edge.twins.take(gone)
    await edge.twins.take(new)
    assert edge.twins.status(KEY, 1) is None
    assert not edge.twins.keys


async def test_a_new_device_of_the_same_name_starts_anew(edge: Edge) -> None:
    await edge.declare(temp="20")
    await edge.report(temp="18")
    await edge.twins.take(edge.change({"temp": "20"}, uid="other"))
    assert await edge.shown() == {"temp": ("20", None)}


async def test_property_of_the_device_alone_can_be_deleted_one_of_the_manifest_is_cleared(
    edge: Edge,
) -> None:
    await edge.declare(temp="20")
    await edge.report(temp="18", extra="x")
    await edge.say("twin/update", twin={"temp": None, "extra": None})
    assert await edge.shown() == {"temp": ("20", None)}
    assert edge.out.on("update/result")[-1]["twin"]["extra"] is None
    await edge.report(kept="1")
    await edge.say("twin/update", twin={"kept": {"optional": False}})
    await edge.say("twin/update", twin={"kept": None})
    assert edge.out.on("update/result")[-1]["code"] == 400


@pytest.mark.parametrize(
    ("rule", "good", "bad", "reason"),
    [
        ({"type": "INT"}, "3", "3.5", "is no int"),
        ({"type": "INT", "minimum": "1"}, 1, "0", "below the minimum of 1"),
        ({"type": "FLOAT", "maximum": "2.5"}, "2.5", "2.6", "above the maximum of 2.5"),
        ({"type": "DOUBLE"}, 1e3, "nan", "is no double"),
        ({"type": "BOOLEAN"}, True, "yes", "is no boolean"),
        ({"type": "STRING"}, {"any": ["json", 1]}, None, "is null"),
    ],
)
async def test_values_are_checked_against_the_model(
    edge: Edge, rule: dict[str, Any], good: Any, bad: Any, reason: str
) -> None:
    await edge.twins.take(model(p=rule))
    await edge.twins.take(edge.change({"p": None}, model="m"))
    await edge.report(p=good)
    assert "code" not in edge.out.on("update/result")[-1]
    before = await edge.shown()
    await edge.say("twin/update", twin={name: {"actual": {"value": bad}} for name in ("p",)})
    answer = edge.out.on("update/result")[-1]
    assert answer["code"] == 400
    assert answer["event_id"] == "e"
    assert "'p'" in answer["reason"]
    assert reason in answer["reason"]
    assert await edge.shown() == before


async def test_state_and_last_time_online(edge: Edge) -> None:
    await edge.declare(temp="20")
    for state, last in [("offline", ""), ("online", "2026-01-02T03:04:05Z"), ("unhealthy", None)]:
        await edge.say("state/update", state=state)
        device = edge.out.on("state/update/result")[-1]["device"]
        assert device["state"] == state
        assert device["lastOnlineTime"] == (last if last is not None else "2026-01-02T03:04:05Z")


async def test_reports_count_up_and_only_changes_are_told(edge: Edge) -> None:
    await edge.declare(temp="20")
    first = edge.twins.status(KEY, 1)
    edge.out.told.clear()
    await edge.say("twin/get")
    assert edge.out.told == []
    await edge.report(temp="18")
    assert edge.out.told == [KEY]
    second = edge.twins.status(KEY, 2)
    assert first is not None
    assert second is not None
    assert second["observed"] > first["observed"]


async def test_one_word_that_breaks_does_not_take_the_others_along(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    await edge.declare(temp="20")
    real = Draft.put

    def put(self: Draft, device: Any) -> None:
        if "broken" in device.properties:
            raise KeyError("a fault of ours")
        real(self, device)

    monkeypatch.setattr(Draft, "put", put)
    topic = "$hw/events/device/default/ac/twin/update"
    bodies = [{"twin": {name: {"actual": {"value": "1"}}}} for name in ("a", "broken", "b")]
    await edge.twins.hear([Word(topic, json.dumps(body).encode()) for body in bodies])
    assert await edge.shown() == {"temp": ("20", None), "a": (None, "1"), "b": (None, "1")}
    codes = [answer.get("code") for answer in edge.out.on("update/result")]
    assert codes == [None, 500, None]


async def test_word_that_has_no_room_is_not_answered_and_taken_when_there_is(
    edge: Edge, store: TwinStore
) -> None:
    await edge.declare(temp="20")
    edge.out.messages.clear()
    large = "x" * 60_000
    connection = store._connection
    [[pages]] = await connection.execute_fetchall("PRAGMA page_count")
    await connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(UnavailableError, match="full"):
        await edge.report(temp=large)
    assert edge.out.messages == []
    assert await edge.shown() == {"temp": ("20", None)}
    await connection.execute(f"PRAGMA max_page_count = {pages * 100}")
    await edge.report(temp=large)
    assert await edge.shown() == {"temp": ("20", large)}


async def test_reconciling_drops_what_was_taken_away_meanwhile_and_survives_a_restart(
    tmp_path: Path,
) -> None:
    async with TwinStore.opened(tmp_path / "twin.db") as store:
        edge = Edge(store)
        await edge.declare(temp="20")
        await edge.report(temp="18")
        before = await edge.shown()
    async with TwinStore.opened(tmp_path / "twin.db") as store:
        edge = Edge(store)
        await edge.twins.reconcile()
        assert edge.out.told == [KEY]
        assert await edge.shown() == before
        edge.given = []
        await edge.twins.reconcile()
        assert not edge.twins.keys
        assert edge.out.on("membership/updated")[-1]["removed_devices"][0]["id"] == "default/ac"


async def test_a_file_of_a_newer_fedge_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twin.db"
    async with TwinStore.opened(path) as store:
        await store._connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="version 99"):
        async with TwinStore.opened(path):
            pass


NAMES = st.sampled_from(["p", "q"])
VALUES = st.sampled_from(["0", "1", {"deep": [1]}])
WORDS = st.lists(st.dictionaries(NAMES, VALUES, min_size=1), min_size=1, max_size=4)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("reports"), WORDS),
        st.tuples(st.just("reports on a full disk"), WORDS),
        st.tuples(st.just("manifest"), st.dictionaries(NAMES, st.sampled_from(["0", "1"]))),
        st.tuples(st.just("start"), st.none()),
        st.tuples(st.just("namesake"), st.none()),
    ),
    max_size=14,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
async def test_what_was_taken_is_there_in_order_whatever_happens(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Any]]
) -> None:
    """Beside a plain account of what was said: values, versions and history."""
    path = tmp_path_factory.mktemp("twin") / "twin.db"
    said: dict[str, list[Any]] = {"p": [], "q": []}  # a property's values, each change once
    wished: dict[str, str] = {}
    uid, revision = 0, 0
    async with contextlib.AsyncExitStack() as open_file:
        store = await open_file.enter_async_context(TwinStore.opened(path))
        edge = Edge(store)
        await edge.twins.take(edge.change({"p": None, "q": None}, uid="0"))
        for step, given_ in steps:
            match step:
                case "reports":
                    await hear_together(edge, given_)
                    for each in given_:
                        for name, value in each.items():
                            if not said[name] or said[name][-1] != value:
                                said[name].append(value)
                case "reports on a full disk":
                    with (
                        mock.patch.object(
                            TwinStore, "_write", side_effect=UnavailableError("the disk is full")
                        ),
                        contextlib.suppress(UnavailableError),
                    ):
                        await hear_together(edge, given_)
                        # nothing was new, so nothing had to be written
                        assert all(
                            said[name] and said[name][-1] == value
                            for each in given_
                            for name, value in each.items()
                        )
                case "manifest":
                    wished = given_
                    values = {"p": None, "q": None} | given_
                    await edge.twins.take(edge.change(values, uid=str(uid)))
                case "start":
                    revision = edge._revision
                    await open_file.aclose()
                    store = await open_file.enter_async_context(TwinStore.opened(path))
                    edge = Edge(store)
                    edge._revision = revision
                case "namesake":
                    uid += 1
                    said, wished = {"p": [], "q": []}, {}
                    await edge.twins.take(edge.change({"p": None, "q": None}, uid=str(uid)))
            found = store.devices[KEY].properties
            for name, values in said.items():
                each = found[name]
                assert (each.reported.value if each.reported else None) == (
                    values[-1] if values else None
                )
                assert (each.reported.edge if each.reported else 0) == len(values)
                assert (each.desired.value if each.desired else None) == wished.get(name)
                history = await edge.twins.history(KEY, name, 100)
                assert history is not None
                assert len(history) <= HISTORY
                remembered = [one["value"] for one in history if one["side"] == "reported"]
                newest = values[::-1][: len(remembered)]
                assert remembered == newest
                assert len(remembered) == len(values) or len(history) == HISTORY


async def hear_together(edge: Edge, reports: list[dict[str, Any]]) -> None:
    topic = "$hw/events/device/default/ac/twin/update"
    await edge.twins.hear(
        [
            Word(
                topic,
                json.dumps(
                    {"twin": {name: {"actual": {"value": value}} for name, value in each.items()}}
                ).encode(),
            )
            for each in reports
        ]
    )


async def test_the_same_said_again_costs_no_write_but_is_told(
    edge: Edge, store: TwinStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await edge.declare(temp=None)
    twin = {"temp": {"actual": {"value": "18", "metadata": {"timestamp": 1}}}}
    await edge.say("twin/update", twin=twin)
    edge.out.told.clear()
    before = store._connection.total_changes
    twin["temp"]["actual"]["metadata"] = {"timestamp": 2}
    await edge.say("twin/update", twin=twin)
    assert store._connection.total_changes == before
    assert edge.out.told == [KEY]
    side = store.devices[KEY].properties["temp"].reported
    assert side is not None
    assert (side.metadata, side.edge) == ({"timestamp": 2}, 1)
    twin["temp"]["actual"]["metadata"] = {"timestamp": 3, "unit": "K"}
    await edge.say("twin/update", twin=twin)
    assert store._connection.total_changes > before


async def test_history_is_a_ring_and_leaves_out_what_is_large(edge: Edge) -> None:
    await edge.declare(temp="1")
    for number in range(30):
        await edge.report(temp=str(number))
    await edge.report(temp="x" * 5000)
    history = await edge.twins.history(KEY, "temp")
    assert history is not None
    assert len(history) == HISTORY
    assert "value" not in history[0]
    assert history[0]["bytes"] > 5000
    assert [each["value"] for each in history[1:4]] == ["29", "28", "27"]
    assert {each["by"] for each in history} == {"device"}
    assert await edge.twins.history(ObjectKey(DEVICES, "default", "none")) is None


async def test_a_file_of_the_first_version_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "twin.db"
    connection = sqlite3.connect(path)
    connection.executescript(MIGRATIONS[0])
    connection.executescript(
        """
        INSERT INTO file VALUES (5);
        INSERT INTO devices VALUES ('default', 'ac', 'u', 3, 3, '', 'm', 'online', '', 7);
        INSERT INTO properties VALUES ('default', 'ac', 'temp', 'int', 1, 1,
            '{"value":"20","metadata":{"unit":"C"}}', '["22",{}]', 2, 1, '["18",{}]', 0, 4);
        PRAGMA user_version = 1;"""
    )
    connection.close()
    async with TwinStore.opened(path) as store:
        device = store.devices[KEY]
        each = device.properties["temp"]
        assert (device.state, each.type, each.wish and each.wish.value) == ("online", "int", "20")
        assert each.desired is not None
        assert (each.desired.value, each.desired.cloud, each.desired.edge) == ("22", 2, 1)
        assert each.reported is not None
        assert (each.reported.value, each.reported.edge) == ("18", 4)
        assert store.incarnation > 5
