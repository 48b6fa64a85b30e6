"""What was accepted where, compared with what arrived; it knows nothing of how fedge does it.

Wanted objects are read from the Kubernetes API, what the node has from its files (the SQLite
database and the mounted volumes), what runs from the kernel, what the edge's broker accepted from
the book of whoever published it, what arrived from an own consumer's database.
"""

import contextlib
import json
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from fedge_kube import CONFIG_MAPS, PODS, KubeClient
from fedge_objects import JsonObject
from tests.chaos.load import read_accepted
from tests.chaos.pods import marked

PREFIX = "chaos-"


class Arrivals:
    """What a consumer in the cloud took: each event's effect, and the streams' state, on disk.

    An effect and the note that its event was taken are one transaction, so that a repeat has none.
    """

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA synchronous=OFF")  # this process is not among those killed
        self._db.execute("CREATE TABLE IF NOT EXISTS effects (key TEXT, number INTEGER)")
        self._db.execute("CREATE TABLE IF NOT EXISTS streams (name TEXT PRIMARY KEY, ledger TEXT)")
        self.repeats = 0

    def ledger(self, stream: str) -> str | None:
        """Return what was kept of a stream."""
        row = self._db.execute("SELECT ledger FROM streams WHERE name = ?", (stream,)).fetchone()
        return None if row is None else str(row[0])

    def take(self, key: str, number: int, stream: str, ledger: str) -> None:
        """Keep an effect and the stream's new state."""
        with self._transaction():
            self._db.execute("INSERT INTO effects VALUES (?, ?)", (key, number))
            self._db.execute("INSERT OR REPLACE INTO streams VALUES (?, ?)", (stream, ledger))

    def numbers(self) -> dict[str, list[int]]:
        """Return the numbers that had an effect, by key, in the order in which they had it."""
        found: dict[str, list[int]] = {}
        for key, number in self._db.execute("SELECT key, number FROM effects ORDER BY rowid"):
            found.setdefault(key, []).append(number)
        return found

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


class Promise(StrEnum):
    """What is promised, as in ``docs/guarantees.md``."""

    OBJECTS = "objects"
    """What the cloud wants is what the node has, and what its pods see."""
    REPORTS = "reports"
    """The newest of what the node reported is what the cloud knows."""
    EVENTS = "events"
    """What the edge accepted has its effect once, in order per key."""
    PODS = "pods"
    """No container is restarted or runs twice."""


@dataclass(slots=True)
class Findings:
    """What was found wrong.

    Attributes:
        lost: accepted events that never had an effect.
        twice: events that had an effect twice.
        disordered: events that had theirs after a later one of their key.
    """

    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    disordered: list[str] = field(default_factory=list)


def compare_events(accepted: Mapping[str, list[int]], arrived: Mapping[str, list[int]]) -> Findings:
    """Compare what the edge's broker accepted with what had an effect in the cloud."""
    findings = Findings()
    for key, numbers in accepted.items():
        had = set(arrived.get(key, ()))
        findings.lost += [f"{key}/{number}" for number in numbers if number not in had]
    for key, numbers in arrived.items():
        findings.twice += [f"{key}/{n}" for n, count in Counter(numbers).items() if count > 1]
        highest = -1
        for number in numbers:
            if number < highest:
                findings.disordered.append(f"{key}/{number}")
            highest = max(highest, number)
    return findings


def accepted_events(book: Path) -> dict[str, list[int]]:
    """Return the numbers of accepted events by key."""
    return {
        key.removeprefix("event "): numbers
        for key, numbers in read_accepted(book).items()
        if key.startswith("event ")
    }


def accepted_readings(book: Path) -> dict[str, int]:
    """Return the last accepted reading of each device."""
    return {
        key.removeprefix("device "): numbers[-1]
        for key, numbers in read_accepted(book).items()
        if key.startswith("device ")
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """Where to look on an edge."""

    name: str
    data: Path
    book: Path


class State:
    """Compares what the API wants with what is."""

    def __init__(self, kube: KubeClient, edge: Edge) -> None:
        self._kube = kube
        self._edge = edge

    async def differences(
        self, readings: Mapping[str, int], desired: Mapping[str, int], written: Mapping[str, int]
    ) -> dict[Promise, list[str]]:
        """Return what differs, by the promise that it would break; empty if all is as it should be.

        Args:
            readings: by device, the least that the cloud must know.
            desired: by device, what it was told to be.
            written: by config map, what the API accepted last; absent ones were deleted.
        """
        maps = {
            each["metadata"]["name"]: each
            for each in (await self._kube.list(CONFIG_MAPS)).items
            if each["metadata"]["name"].startswith(PREFIX)
        }
        pods = [
            each
            for each in (await self._kube.list(PODS)).items
            if (each["spec"].get("nodeName")) == self._edge.name
        ]
        found = [
            f"the API lost {name}: {number} was accepted, it has {_number(maps.get(name))}"
            for name, number in written.items()
            if _number(maps.get(name)) != number
        ]
        found += [f"the API did not delete {name}" for name in maps.keys() - written.keys()]
        try:
            found += self._of_store(maps, pods)
        except (sqlite3.DatabaseError, FileNotFoundError) as exc:
            found.append(f"the node's files cannot be read now: {exc}")
        found += _of_containers(pods)
        found += _of_mounts(maps, pods)
        reported = _of_statuses(pods)
        for device in readings.keys() | desired.keys():
            reading, level = await self._twins(device)
            if reading < readings.get(device, -1):
                reported.append(f"{device} reported {readings[device]}, the cloud knows {reading}")
            if device in desired and level != desired[device]:
                found.append(f"{device} should be {desired[device]}, its twin wants {level}")
        return {
            promise: each
            for promise, each in ((Promise.OBJECTS, found), (Promise.REPORTS, reported))
            if each
        }

    def _of_store(self, maps: Mapping[str, JsonObject], pods: list[JsonObject]) -> list[str]:
        stored = self._stored("configmaps")
        found = [
            f"the node has {name} as {stored.get(name)}, wanted is {each['data']}"
            for name, each in maps.items()
            if (stored.get(name) or {}).get("data") != each["data"]
        ]
        gone = [name for name in stored if name.startswith(PREFIX) and name not in maps]
        found += [f"the node still has {name}" for name in gone]
        uids = {name: each["metadata"]["uid"] for name, each in self._stored("pods").items()}
        wanted = {each["metadata"]["name"]: each["metadata"]["uid"] for each in pods}
        if uids != wanted:
            found.append(f"the node has the pods {uids}, wanted are {wanted}")
        return found

    def _stored(self, resource: str) -> dict[str, JsonObject]:
        # a copy: SQLite resolves the link into the host's own mounts before it opens a file
        with tempfile.TemporaryDirectory() as folder:
            for suffix in ("", "-wal"):
                source = self._edge.data / f"meta.db{suffix}"
                if source.exists():
                    (Path(folder) / source.name).write_bytes(source.read_bytes())
            with contextlib.closing(sqlite3.connect(Path(folder) / "meta.db")) as db:
                rows = db.execute(
                    "SELECT name, body FROM objects WHERE resource = ? AND body IS NOT NULL",
                    (resource,),
                ).fetchall()
        return {name: json.loads(body) for name, body in rows}

    async def _twins(self, device: str) -> tuple[int, int]:
        """Return the last reading that the cloud knows, and the level that the twin wants; or -1.

        What the twin wants is known from its own report too.
        """
        told = await self._device_status(device)
        reading = told.get("reading", {}).get("reported") or {}
        level = told.get("level", {}).get("observedDesired") or {}
        return int(reading.get("value", -1)), int(level.get("value", -1))

    async def _device_status(self, device: str) -> dict[str, Any]:
        from fedge_device.kinds.resources import DEVICE_STATUSES  # noqa: PLC0415
        from fedge_kube import NotFoundError  # noqa: PLC0415

        try:
            status = await self._kube.get(DEVICE_STATUSES, "default", device)
        except NotFoundError:
            return {}
        twins = (status.get("status") or {}).get("twins") or ()
        return {each["propertyName"]: each for each in twins}


def _number(config_map: JsonObject | None) -> int | None:
    return None if config_map is None else int(config_map["data"]["n"])


def _of_containers(pods: list[JsonObject]) -> list[str]:
    wanted = {
        f"{pod['metadata']['uid']}/{pod['metadata']['name']}/{container['name']}"
        for pod in pods
        for container in pod["spec"]["containers"]
    }
    runs = marked()
    found = [f"{mark} runs {len(pids)} times" for mark, pids in runs.items() if len(pids) > 1]
    if runs.keys() != wanted:
        found.append(f"containers run: {sorted(runs)}, wanted are {sorted(wanted)}")
    return found


def _of_statuses(pods: list[JsonObject]) -> list[str]:
    return [
        f"pod {pod['metadata']['name']} is told as {(pod.get('status') or {}).get('phase')}"
        for pod in pods
        if (pod.get("status") or {}).get("phase") != "Running"
    ]


def _of_mounts(maps: Mapping[str, JsonObject], pods: list[JsonObject]) -> list[str]:
    """Compare the config maps with what the stable pods' processes see of them."""
    wanted = {name: each["data"]["n"] for name, each in maps.items()}
    stable = {each["metadata"]["uid"] for each in pods if each["spec"].get("volumes")}
    found = []
    for mark, pids in marked().items():
        if mark.partition("/")[0] not in stable:
            continue
        mounted = Path(f"/proc/{pids[0]}/root/maps")
        try:
            seen = {path.name: path.read_text() for path in mounted.glob(f"{PREFIX}*")}
        except OSError as exc:
            found.append(f"{mark} cannot be asked what it sees: {exc}")
            continue
        if seen != wanted:
            found.append(f"{mark} sees {seen}, wanted is {wanted}")
    return found
