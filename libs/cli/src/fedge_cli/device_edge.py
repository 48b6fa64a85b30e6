"""Devices at the node itself, with no cloud: read from twin's file, set through MQTT.

What is read comes from the files of the edge's databases, not from a service: that works too while
the services or their broker are down, adds no door that has to be guarded, and SQLite lets others
read beside the writer (https://www.sqlite.org/wal.html). What is set goes the way of all wishes at
the edge, so that the same rules hold for it.
"""

import asyncio
import json
import sqlite3
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from fedge_cli.device_views import DeviceView, PropertyView, Seen, from_milliseconds, lacking, news
from fedge_cli.device_wishes import Wish, check
from fedge_cli.errors import AwayError, CommandError, MissingError, UsageError
from fedge_devices import DEVICE_MODELS, DEVICES, as_text, milliseconds, read_model

DEFAULT_MQTT = "mqtt://guest:guest@127.0.0.1:1883"
LOOK_SECONDS = 0.5
ANSWER_SECONDS = 10.0
TWINS, OBJECTS = "twin.db", "meta.db"
_SCHEMA = 2
"""The version of twin's file that is read here; ``fedge_twin.store`` has its tables."""
_AT_LEAST_ONCE = 1
_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Edge:
    """The edge on this machine.

    Attributes:
        data_dir: folder of its databases.
        mqtt_url: its devices' broker.
    """

    data_dir: Path
    mqtt_url: str = DEFAULT_MQTT

    def view(self, namespace: str, name: str) -> DeviceView:
        """Return a device.

        Raises:
            MissingError: the node has no such device.
            AwayError: the files cannot be read.
        """
        with self._twins() as twins:
            found = _views(twins, namespace, name)
        if not found:
            raise self._missing(namespace, name)
        [known] = found.values()
        return self._with_objects(known)

    def history(
        self, namespace: str, name: str, property_name: str, limit: int
    ) -> list[dict[str, Any]]:
        """Return what became of a device's properties, newest first.

        Raises:
            MissingError: the node has no such device.
            AwayError: the files cannot be read.
        """
        with self._twins() as twins:
            if not _views(twins, namespace, name):
                raise self._missing(namespace, name)
            rows = twins.execute(
                "SELECT property, number, body FROM history"
                " WHERE namespace = ? AND device = ? AND (? = '' OR property = ?)",
                (namespace, name, property_name, property_name),
            ).fetchall()
        entries = [(json.loads(body), number, each) for each, number, body in rows]
        entries.sort(key=lambda entry: (entry[0]["time"], entry[1]), reverse=True)
        return [{"property": each, **entry} for entry, _, each in entries[:limit]]

    def follow(self, namespace: str | None, name: str) -> Iterator[Seen]:
        """Yield what there is of devices, then every change, without an end.

        Args:
            namespace: None for all.
            name: of one device; empty for all.

        Raises:
            MissingError: the one device is not there.
            AwayError: the files cannot be read.
        """
        known: dict[_Key, DeviceView] = {}
        version = None
        with self._twins() as twins:
            while True:
                # tells whether anybody else has committed since (https://www.sqlite.org/pragma.html)
                [now] = twins.execute("PRAGMA data_version").fetchone()
                if now != version:
                    version = now
                    after = _views(twins, namespace, name)
                    if name and not (after or known):
                        raise self._missing(namespace or "", name)
                    for key in sorted(after):
                        yield from news(known.get(key), after[key], datetime.now(UTC))
                    known = after
                time.sleep(LOOK_SECONDS)

    def set_desired(self, namespace: str, name: str, wishes: Sequence[Wish]) -> None:
        """Wish values of a device's properties at the edge, through twin.

        Raises:
            CommandError: twin refuses, in its words.
            AwayError: twin, or the broker, does not answer.
        """
        try:
            known: DeviceView | None = self.view(namespace, name)
        except AwayError:
            known = None  # twin checks it anyway; only the remedy is lost
        if known is not None:
            declared = [{"name": each} for each in known.properties]
            check(wishes, known.model, declared)
        answer = asyncio.run(ask_twin(self.mqtt_url, namespace, name, payload_of(wishes)))
        if "code" in answer:
            raise CommandError(f"twin refuses: {answer.get('reason')} ({answer['code']})")

    def wait(self, namespace: str, name: str, wishes: Sequence[Wish], seconds: float) -> None:
        """Wait until a device reports what was set.

        Raises:
            CommandError: it does not in time.
        """
        until = time.monotonic() + seconds
        while True:
            found = self.view(namespace, name)
            missing = lacking(found, wishes, at_edge=True)
            if not missing:
                return
            if time.monotonic() >= until:
                break
            time.sleep(min(LOOK_SECONDS, max(0.0, until - time.monotonic())))
        raise CommandError(
            f"set, but after {seconds:g} s: {'; '.join(missing)}; the device's state is "
            f"{found.state or 'unknown'}"
        )

    @contextmanager
    def _twins(self) -> Iterator[sqlite3.Connection]:
        path = self.data_dir / TWINS
        try:
            with closing(_opened(path)) as connection:
                [version] = connection.execute("PRAGMA user_version").fetchone()
                # of its minor versions a newer one only adds (see fedge_store)
                if _SCHEMA not in {version, version // 1000}:
                    raise CommandError(
                        f"the twins at {path} have version {version}, this command reads "
                        f"{_SCHEMA}: use the fedge that runs on this node"
                    )
                yield connection
        except sqlite3.Error as exc:
            raise AwayError(
                f"the twins at {path} cannot be read: {exc}; run this as root on the node, and "
                "name the folder of its databases with --edge-data-dir"
            ) from exc

    def _missing(self, namespace: str, name: str) -> MissingError:
        return MissingError(
            f"device {namespace}/{name} is not on this node; `fedge device watch -A` shows those "
            "that are"
        )

    def _with_objects(self, known: DeviceView) -> DeviceView:
        """Return a device with the node and model that meta was given, if it was."""
        device = self._object(DEVICES, known.namespace, known.name)
        model = self._object(DEVICE_MODELS, known.namespace, known.model_name)
        spec = device.get("spec") if device else None
        return replace(
            known,
            node=str((spec or {}).get("nodeName") or ""),
            model=None if model is None else read_model(model),
        )

    def _object(self, resource: str, namespace: str, name: str) -> dict[str, Any] | None:
        try:
            with closing(_opened(self.data_dir / OBJECTS)) as connection:
                row = connection.execute(
                    "SELECT body FROM objects WHERE resource = ? AND namespace = ? AND name = ?",
                    (resource, namespace, name),
                ).fetchone()
        except sqlite3.Error:
            return None
        return dict(json.loads(row[0])) if row and row[0] else None


def payload_of(wishes: Sequence[Wish]) -> dict[str, Any]:
    """Return ``twin/update`` that wishes so; null withdraws the edge's own wish."""
    return {
        "event_id": uuid.uuid4().hex,
        "timestamp": time.time_ns() // 1_000_000,
        "twin": {each.name: {"expected": {"value": each.value}} for each in wishes},
    }


async def ask_twin(
    url: str, namespace: str, name: str, payload: Mapping[str, Any]
) -> dict[str, Any]:
    """Send ``twin/update`` and return the answer to it.

    Raises:
        UsageError: the address is none.
        AwayError: the broker cannot be reached, or nobody answers.
    """
    import aiomqtt  # noqa: PLC0415 - only where something is set at the edge

    parts = urlsplit(url)
    if parts.scheme != "mqtt" or not parts.hostname:
        raise UsageError("--mqtt is no mqtt://user:password@host:port")
    where = f"{parts.hostname}:{parts.port or 1883}"
    topic = f"$hw/events/device/{namespace}/{name}/twin/update"
    try:
        async with (
            asyncio.timeout(ANSWER_SECONDS),
            aiomqtt.Client(
                parts.hostname,
                parts.port or 1883,
                username=unquote(parts.username) if parts.username else None,
                password=unquote(parts.password) if parts.password else None,
            ) as client,
        ):
            await client.subscribe(f"{topic}/result", qos=_AT_LEAST_ONCE)
            await client.publish(topic, json.dumps(payload), qos=_AT_LEAST_ONCE)
            async for message in client.messages:
                answer = json.loads(bytes(message.payload or b"{}"))
                if answer.get("event_id") == payload["event_id"]:
                    return dict(answer)
    except aiomqtt.MqttError as exc:
        raise AwayError(
            f"the MQTT broker at {where} cannot be used: {exc}; name it with --mqtt "
            "mqtt://user:password@host:port, as FEDGE_TWIN_MQTT_URL says it to twin"
        ) from exc
    except TimeoutError as exc:
        raise AwayError(
            f"no answer of twin at {where} within {ANSWER_SECONDS:g} s: check that it runs; "
            "whether it was set is not known"
        ) from exc
    raise AwayError(f"the MQTT broker at {where} closed the connection")


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)


def _views(
    connection: sqlite3.Connection, namespace: str | None, name: str
) -> dict[_Key, DeviceView]:
    """Return the devices of a namespace, or of all; one of them, or all."""
    chosen = {"namespace": namespace, "name": name}
    devices = connection.execute(
        "SELECT namespace, name, model, state, last_online FROM devices"
        " WHERE (:namespace IS NULL OR namespace = :namespace) AND (:name = '' OR name = :name)",
        chosen,
    ).fetchall()
    twins = connection.execute(
        "SELECT namespace, device, property, body FROM twins"
        " WHERE (:namespace IS NULL OR namespace = :namespace) AND (:name = '' OR device = :name)",
        chosen,
    ).fetchall()
    properties: dict[_Key, dict[str, PropertyView]] = {}
    lost: dict[_Key, list[Mapping[str, Any]]] = {}
    for where, device, each, body in twins:
        twin = json.loads(body)
        properties.setdefault((where, device), {})[each] = _property(each, twin)
        lost.setdefault((where, device), []).extend(_conditions(each, twin))
    return {
        (where, device): DeviceView(
            namespace=where,
            name=device,
            model_name=model,
            state=state,
            last_online=last_online,
            properties=properties.get((where, device), {}),
            conditions=lost.get((where, device), []),
        )
        for where, device, model, state, last_online in devices
    }


def _property(name: str, twin: Mapping[str, Any]) -> PropertyView:
    wish, desired, reported = (twin.get(each) or {} for each in ("wish", "desired", "reported"))
    conflict = twin.get("conflict")
    problem = twin.get("problem")
    return PropertyView(
        name=name,
        manifest=_text(wish),
        held=_text(desired),
        is_edges=desired.get("by") == "edge",
        reported=_text(reported),
        reported_at=from_milliseconds(milliseconds(int(reported.get("at", 0)))),
        conflict=_told(name, conflict) if conflict else "",
        problem=str(problem[1]) if problem else "",
    )


def _conditions(name: str, twin: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what does not hold as it should, in the words of the API's conditions."""
    conflict, problem = twin.get("conflict"), twin.get("problem")
    if problem:
        yield {"type": "Valid", "status": "False", "reason": problem[0], "message": problem[1]}
    if conflict:
        reason = "".join(part.capitalize() for part in str(conflict.get("rule", "")).split("-"))
        yield {
            "type": "Conflict", "status": "True", "reason": reason,
            "message": _told(name, conflict),
        }  # fmt: skip


def _told(name: str, conflict: Mapping[str, Any]) -> str:
    kept, lost = as_text(conflict["kept"]), as_text(conflict["lost"])
    return (
        f"{name} is to be {kept} ({conflict['kept_by']}); {lost} ({conflict['lost_by']}) was lost "
        f"by {conflict['rule']}"
    )


def _text(side: Mapping[str, Any]) -> str | None:
    return as_text(side["value"]) if side.get("value") is not None else None
