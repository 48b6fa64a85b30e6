"""Each service without its broker: its handlers, good messages for them, and what they achieve."""

import asyncio
import base64
import contextlib
import dataclasses
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from fedge_controller.heartbeats import Heartbeats
from fedge_controller.tokens import Tokens
from fedge_controller.writes import Writes
from fedge_cri.fake import FakeRuntime
from fedge_devices import DEVICE_CREDENTIALS, credential_for, write_credential
from fedge_dispatch import Placement, Replicas, Reports, load_resources
from fedge_dispatch.handlers import Handlers as DispatchHandlers
from fedge_dispatch.telling import Telling
from fedge_edged.handlers import Handlers as EdgedHandlers
from fedge_edged.plugin import _Edged
from fedge_edged.settings import EdgedSettings
from fedge_fabric import Address, Envelope, MessageClass, envelope_of, kinds
from fedge_fabric import topology as t
from fedge_fabric.effects import Effects
from fedge_fabric.fabric import Delivery, Handler
from fedge_fabric.protocol import PROTOCOL
from fedge_fabric.streams import Numbering
from fedge_fabric.topology import Queue
from fedge_fabric.writes import Author, ObjectChange, Request, Seen, Write, node_author
from fedge_hub.domain import Nodes
from fedge_hub.events import Events
from fedge_hub.handlers import Handlers as HubHandlers
from fedge_hub.requests import Requests
from fedge_hub.spans import Spans
from fedge_kube import KubeClient, NotFoundError, Resource
from fedge_meta.api.cloud import Cloud
from fedge_meta.api.observing import Observed
from fedge_meta.digests import Digests
from fedge_meta.handlers import Handlers as MetaHandlers
from fedge_meta.keeping import Keeping
from fedge_meta.relay import relay
from fedge_objects import Change, JsonObject, NodeName, ObjectKey, Version
from fedge_operations import NODE_TASKS
from fedge_sealing import NodeSeal
from fedge_service import EdgeSettings
from fedge_store import ObjectStore
from fedge_twin.accounts import Accounts
from fedge_twin.device import DEVICE_MODELS, DEVICES
from fedge_twin.handlers import Handlers as TwinHandlers
from fedge_twin.reporting import Reporting
from fedge_twin.store import TwinStore
from fedge_twin.topics import Word
from fedge_twin.twins import Twins
from tests.contract.wanted_store import MemoryWantedStore
from tests.unit.bad_input.line import Line
from tests.unit.bad_input.mutations import Sample
from tests.unit.edged.kit import IMAGE, config_map, pod_object, secret
from tests.unit.hub.test_nodes import World
from tests.unit.hub.test_spans import request
from tests.unit.twin.test_accounts import MemoryBroker

NODE = NodeName("edge-1")
POD = ObjectKey("pods", "default", "a")
DEVICE = ObjectKey(DEVICES, "default", "ac")
TASK = ObjectKey(NODE_TASKS, "", "imageprepulljob.j.edge-1")
JWT = "e30.eyJzdWIiOiJhIn0.e30"


class Subject(Protocol):
    """A service to be tried."""

    line: Line

    def samples(self) -> Mapping[str, list[Sample]]:
        """Return good messages of every kind, by queue; a control queue by its service."""
        ...

    def state(self) -> object:
        """Return what the service holds, to be compared."""
        ...

    async def check(self) -> None:
        """Have good messages handled and see that each has its full effect."""
        ...


def queues_of(subject: Subject) -> dict[str, tuple[Queue, Handler]]:
    """Return the queues and their handlers by name, without a replica's."""
    return {queue.pattern: (queue, handler) for queue, handler in subject.line.subscribed}


async def give(subject: Subject, queue: str, sample: Sample) -> None:
    """Have a good message handled."""
    _, handler = queues_of(subject)[queue]
    await handler(Delivery(sample.routing_key, sample.envelope))


def _object(resource: str, name: str, obj: JsonObject | None, revision: int) -> Change:
    key = ObjectKey(resource, "default", name)
    return Change(key=key, version=Version(revision, revision), object=obj)


def _wanted(change: Change, source: str = "/cloud/controller") -> Sample:
    return Sample(str(Address.of_object(NODE, change.key)), envelope_of(change, source=source))


def _spans(service: str) -> JsonObject:
    body = request(service).SerializeToString()
    return {"otlp": base64.b64encode(body).decode(), "spans": 1, "dropped": 2}


def _up(kind: str, message_class: MessageClass, *words: str, **more: Any) -> Sample:
    envelope = Envelope(type=kind, source=f"/node/{NODE}/edged", **more)
    return Sample(str(Address(NODE, message_class, words)), envelope)


def _down(kind: str, word: str, data: object = None, subject: str = "") -> Sample:
    envelope = Envelope(type=kind, source="/cloud/hub", data=data, subject=subject)
    return Sample(str(Address(NODE, MessageClass.REQUEST, (word,))), envelope)


def _local(change: Change) -> Sample:
    key = change.key
    return Sample(
        t.local_key(key.resource, key.namespace, key.name),
        envelope_of(change, source=f"/node/{NODE}/meta"),
    )


def _alive() -> Sample:
    data = {"interval_seconds": 10.0, "protocol": PROTOCOL, "backlog": {"state": 1, "event": 0}}
    data["answer"] = True
    return _up(kinds.NODE_ALIVE, MessageClass.STATE, "alive", data=data)


def _event(name: str = "a.1", key: ObjectKey = POD, **more: Any) -> Sample:
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": key.namespace},
        "involvedObject": {"kind": "Pod", "namespace": key.namespace, "name": key.name},
        "reason": "Started",
        "message": "Started container main",
        "type": "Normal",
        "count": 1,
    }
    words = ("events", key.namespace, key.name)
    return _up(
        kinds.EVENT_RECORDED, MessageClass.EVENT, *words, subject=str(key), data=event, **more
    )


def _token_asked() -> Sample:
    data = {"uid": "uid-a", "service_account": "default", "audience": "vault", "seconds": 600}
    words = ("tokens", POD.namespace, POD.name)
    return _up(kinds.TOKEN_ASKED, MessageClass.EVENT, *words, subject=str(POD), data=data)


def _write(kind: str, write_id: str = "0" * 32) -> Sample:
    """Return a write of the pod's own account; one that is the same in each run."""
    author = Author(account=("default", "default"), about=POD, uid="uid-a")
    given = config_map("a", {"a": "b"})
    request = Request(
        method="PATCH",
        path="/api/v1/namespaces/default/configmaps/a",
        query="fieldManager=test",
        content_type="application/merge-patch+json",
        body={"data": {"a": "c"}},
    )
    change = ObjectChange(
        verb="patch",
        group="",
        version="v1",
        plural="configmaps",
        namespace="default",
        name="a",
        base=given,
        wanted={**given, "data": {"a": "c"}},
    )
    write = Write(author=author, request=request, seen=Seen(revision=5, digest="0" * 32))
    if kind == "change":
        write = Write(author=author, change=change)
    words = ("write",)
    return _up(
        kinds.WRITE_ASKED,
        MessageClass.REQUEST,
        *words,
        subject=str(POD),
        data=write.data(),
        id=write_id,
    )


def _written(write_id: str = "0" * 32) -> Sample:
    conflict = [{"path": "data.a", "edge": "c", "cloud": None}]
    data = {"code": 409, "body": "{}", "conflict": conflict}
    return _down(kinds.WRITE_ANSWERED, "written", data, subject=write_id)


def _status(key: ObjectKey, status: JsonObject, sequence: int = 1, uid: str = "uid-a") -> Sample:
    words = (key.resource, key.namespace, key.name)
    data = {"uid": uid, "status": status, "observed": [1, sequence], "finished": False}
    return _up(kinds.STATUS_REPORTED, MessageClass.STATE, *words, subject=str(key), data=data)


PULLED: JsonObject = {
    "phase": "Failure",
    "sequence": 3,
    "reason": "1 of 2 images are not here",
    "steps": [{"action": "Check", "status": "True", "time": "2027-01-01T00:00:00Z"}],
    "images": [{"image": IMAGE, "status": "True"}, {"image": "x:1", "status": "False"}],
}


def _task(revision: int, **work: JsonObject) -> Change:
    """Return a task of this node; one of its own for each kind of work."""
    [kind] = work
    key = ObjectKey(NODE_TASKS, "", f"{kind}.j.{NODE}")
    obj = {
        "metadata": {"name": key.name, "uid": f"uid-{kind}"},
        "spec": {
            "nodeName": NODE,
            "job": {"kind": "Job", "name": "j"},
            "timeoutSeconds": 60,
            "checkItems": ["disk"],
            **work,
        },
    }
    return Change(key=key, version=Version(revision, revision), object=obj)


RUNNING: JsonObject = {
    "phase": "Running",
    "conditions": [{"type": "Ready", "status": "True"}],
    "containerStatuses": [{"name": "main", "ready": True, "restartCount": 0}],
}


class Hub:
    """Hub over a store in memory."""

    def __init__(self) -> None:
        self.line, self.world, self.store = Line(), World(), MemoryWantedStore()
        self.events = Events(self.store)
        self.requests = Requests(self.line.fabric)
        nodes = Nodes(
            store=self.store,
            down=self.world,
            cloud=self.world,
            clock=self.world,
            absent_after_heartbeats=3,
        )
        self.nodes = nodes
        HubHandlers(
            nodes=nodes, events=self.events, cloud=self.world, requests=self.requests
        ).subscribe(self.line.fabric)
        self.spans = Spans(exporter=None, keeper=None)
        self.spans.subscribe(self.line.fabric)
        self._revision = 10

    def samples(self) -> Mapping[str, list[Sample]]:
        numbered = Numbering("edged")
        key = ("pods", "default", "a")
        applied = {str(POD): {"version": "5.5", "state": "failed", "reason": "ErrImagePull"}}
        listed = Envelope(
            type=kinds.OBJECTS_LISTED,
            source="/cloud/controller",
            subject="pods",
            version=Version(9, 9),
            data={"keys": [str(POD)]},
        )
        return {
            "hub.wanted": [
                _wanted(_object("pods", "a", pod_object("a"), 5)),
                _wanted(_object("pods", "a", None, 6)),
                Sample(str(Address(NODE, MessageClass.STATE, ("pods",))), listed),
                Sample(
                    str(Address(NODE, MessageClass.REQUEST, ("statuses",))),
                    Envelope(type=kinds.STATUSES_ASKED, source="/cloud/controller"),
                ),
            ],
            "hub.up.state": [
                _alive(),
                _up(
                    kinds.OBJECT_STORED,
                    MessageClass.STATE,
                    *key,
                    subject=str(POD),
                    version=Version(5, 5),
                ),
                _up(
                    kinds.OBJECTS_APPLIED, MessageClass.STATE, "applied", data={"objects": applied}
                ),
                _up(
                    kinds.DIGEST_TAKEN,
                    MessageClass.STATE,
                    "digest",
                    data={"hashes": {"": "0" * 16}, "versions": {}},
                ),
                _up(
                    kinds.DIGEST_TAKEN,
                    MessageClass.STATE,
                    "digest",
                    data={"hashes": {"0": "0" * 16}, "versions": {"a": {}, "": {str(POD): "5.5"}}},
                ),
                _status(POD, RUNNING),
                _status(ObjectKey("nodes", "", NODE), {"conditions": []}),
                _status(TASK, PULLED),
            ],
            "hub.up.event": [
                _event(stream=numbered.stream, sequence=0),
                _event(stream=numbered.stream, sequence=1),
                _event(),
                _token_asked(),
            ],
            "hub.answers": [self._answer("nobody", 0), self._answer("nobody", 1, last=True)],
            "hub.up.request": [
                self._answer("nobody", 0),
                self._answer("nobody", 1, last=True),
                _write("request"),
                _write("change"),
            ],
            "hub.up.spans": [
                _up(kinds.SPANS_ENDED, MessageClass.SPANS, "edged", data=_spans("fedge-edged")),
                Sample(
                    "cloud.spans.controller",
                    Envelope(
                        type=kinds.SPANS_ENDED,
                        source="/cloud/controller",
                        data=_spans("fedge-controller"),
                    ),
                ),
            ],
        }

    def state(self) -> object:
        counts = self.spans.statistics
        return repr((vars(self.store), len(self.world.sent), len(self.world.asked), counts))

    async def check(self) -> None:
        self._revision += 1
        received = self.spans.statistics.received
        spans = _up(kinds.SPANS_ENDED, MessageClass.SPANS, "edged", data=_spans("fedge-edged"))
        await give(self, "hub.up.spans", spans)
        assert self.spans.statistics.received == received + 1
        key = ObjectKey("configmaps", "default", f"good-{self._revision}")
        change = _object(key.resource, key.name, config_map(key.name, {"a": "b"}), self._revision)
        await give(self, "hub.up.state", _alive())
        whole: JsonObject = {"hashes": {}, "versions": {"": {}}}
        digest = _up(kinds.DIGEST_TAKEN, MessageClass.STATE, "digest", data=whole)
        await give(self, "hub.up.state", digest)
        assert await self.nodes.is_present(NODE)
        await give(self, "hub.wanted", _wanted(change))
        assert change in self.world.sent
        stored = _up(
            kinds.OBJECT_STORED,
            MessageClass.STATE,
            key.name,
            subject=str(key),
            version=change.version,
        )
        await give(self, "hub.up.state", stored)
        assert (await self.store.wanted(NODE))[key].stored == change.version
        before = len(self.world.asked)
        stream = Numbering("edged")
        for sequence in range(3):
            event = _event(f"{key.name}.{sequence}", key, stream=stream.stream, sequence=sequence)
            await give(self, "hub.up.event", event)
            await give(self, "hub.up.event", event)
        assert len(self.world.asked) == before + 3
        asked = len(self.world.asked)
        author, sample = node_author(NODE), _write("request")
        sample.envelope.data["author"] = Write(author=author).data()["author"]
        envelope = dataclasses.replace(sample.envelope, subject=str(author.about))
        await give(self, "hub.up.request", Sample(sample.routing_key, envelope))
        assert self.world.asked[asked:] == [sample.routing_key]
        await self._check_answers()

    async def _check_answers(self) -> None:
        pieces = self.requests.ask(NODE, kinds.LOGS_ASKED, {}, deadline_seconds=20)
        asked = len(self.line.sent)
        reading = asyncio.ensure_future(_all(pieces))
        await self.line.until(lambda: len(self.line.sent) > asked)
        request = self.line.sent[-1][1].id
        for index, is_last in ((1, True), (0, False)):
            await give(self, "hub.up.request", self._answer(request, index, last=is_last))
        assert [piece["body"] for piece in await reading] == ["0", "1"]

    def _answer(self, request: str, index: int, *, last: bool = False) -> Sample:
        data = {"status": 200, "body": str(index), "index": index, "taken": 0, "last": last}
        if last:
            data["frame"] = "AQ=="
        return _up(kinds.ANSWERED, MessageClass.REQUEST, "answer", subject=request, data=data)


async def _all(pieces: AsyncIterator[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [piece async for piece in pieces]


class Meta:
    """Meta over a store on disk; what it tells goes out as it does in life."""

    def __init__(self, store: ObjectStore, seal: NodeSeal) -> None:
        self.line, self.store = Line(), store
        self.keeping = Keeping(node=NODE, store=store, seal=seal, effects=Effects(NODE, "meta"))
        digests = Digests(keeping=self.keeping, fabric=self.line.fabric, every=_NEVER)
        self.cloud, self.observed = Cloud(self.line.fabric, NODE), Observed()
        MetaHandlers(self.keeping, digests, self.cloud).subscribe(self.line.fabric, NODE)
        self.observed.subscribe(self.line.fabric, NODE, "1")
        self._revision = 10
        self._held: object = None

    def samples(self) -> Mapping[str, list[Sample]]:
        return {
            "meta.state": [
                _wanted(_object("pods", "a", pod_object("a"), 5), "/cloud/hub"),
                _wanted(_object("pods", "a", None, 6), "/cloud/hub"),
                _wanted(_object("secrets", "s", secret("s", {"k": "v"}), 5), "/cloud/hub"),
            ],
            "meta.request": [
                _down(kinds.DIGEST_ASKED, "digest", {"prefixes": [], "protocol": PROTOCOL}),
                _down(kinds.DIGEST_ASKED, "digest", {"prefixes": ["", "0", "ab"]}),
                _down(kinds.STATUSES_ASKED, "statuses"),
                _written(),
            ],
            "meta.overhears": [_status(POD, RUNNING), _event()],
        }

    def state(self) -> object:
        return self._held

    async def look(self) -> None:
        self._held = await self.store.versions()

    async def check(self) -> None:
        self._revision += 1
        key = ObjectKey("configmaps", "default", f"good-{self._revision}")
        change = _object(key.resource, key.name, config_map(key.name, {"a": "b"}), self._revision)
        await give(self, "meta.state", _wanted(change, "/cloud/hub"))
        assert await self.store.get(key) == change
        await self.line.until(lambda: self.line.told(kinds.OBJECT_STORED, str(key)))
        await self.line.until(lambda: self.line.told(kinds.OBJECT_PUT, str(key)))
        asked = len(self.line.told(kinds.DIGEST_TAKEN, ""))
        await give(self, "meta.request", _down(kinds.DIGEST_ASKED, "digest", {"prefixes": [""]}))
        assert len(self.line.told(kinds.DIGEST_TAKEN, "")) == asked + 1
        await self._check_api()

    async def _check_api(self) -> None:
        pod = ObjectKey("pods", "default", f"good-{self._revision}")
        await give(self, "meta.overhears", _status(pod, RUNNING))
        assert self.observed.statuses[pod].status == RUNNING
        write = Write(author=Author(account=("default", "default"), about=POD, uid="uid-a"))
        write_id = f"write-{self._revision}"
        asking = asyncio.ensure_future(self.cloud.ask(write, write_id=write_id, seconds=20))
        await self.line.until(lambda: self.line.sent[-1][1].id == write_id)
        await give(self, "meta.request", _written(write_id))
        assert (await asking).code == 409


class Twin:
    """Twin over a store on disk."""

    def __init__(self, store: TwinStore) -> None:
        self.line = Line()
        self.reporting = Reporting(NODE)
        self.effects = Effects(NODE, "twin")
        self.answers: list[tuple[str, Any]] = []
        self.twins = Twins(
            node=NODE, store=store, outlets=self, given=_nothing, clock=lambda: datetime.now(UTC)
        )
        fabric = self.line.fabric
        self.accounts = Accounts(broker=MemoryBroker(), given=_nothing, effects=self.effects)
        TwinHandlers(
            self.twins, self.effects, accounts=self.accounts, fabric=fabric, node=NODE
        ).subscribe()
        self._revision = 10

    def to_devices(self, messages: Any) -> None:
        for each in messages:
            assert not set(each.topic) & set("#+\0"), each.topic
            self.answers.append((each.topic, json.loads(each.payload)))

    def to_cloud(self, keys: Any) -> None:
        self.reporting.add(keys)

    def samples(self) -> Mapping[str, list[Sample]]:
        return {
            "twin.objects": [
                _local(_device("ac", 5, temperature="20")),
                _local(_object(DEVICES, "ac", None, 6)),
                _local(_model(5)),
                _local(_credential("ac", 5)),
                _local(_object(DEVICE_CREDENTIALS, "ac", None, 6)),
            ],
            "twin.request": [
                _down(kinds.STATUSES_ASKED, "statuses"),
                _down(
                    kinds.HISTORY_ASKED,
                    "history",
                    {"namespace": "default", "device": "ac", "property": "temperature", "limit": 5},
                ),
            ],
        }

    def state(self) -> object:
        return frozenset(self.twins.keys), len(self.answers)

    async def check(self) -> None:
        self._revision += 1
        name = f"good-{self._revision}"
        key = ObjectKey(DEVICES, "default", name)
        await give(self, "twin.objects", _local(_device(name, self._revision, temperature="20")))
        await self.line.until(lambda: self.line.told(kinds.STATUS_REPORTED, str(key)))
        await self.twins.hear([update(name, b'{"twin":{"temperature":{"actual":{"value":"21"}}}}')])
        told = self.twins.status(key, 1)
        assert told is not None
        [shown] = told["status"]["twins"]
        assert (shown["observedDesired"]["value"], shown["reported"]["value"]) == ("20", "21")
        before = len(self.line.told(kinds.STATUS_REPORTED, str(key)))
        await give(self, "twin.request", _down(kinds.STATUSES_ASKED, "statuses"))
        await self.line.until(lambda: len(self.line.told(kinds.STATUS_REPORTED, str(key))) > before)


async def declare_device(subject: Twin, name: str) -> None:
    """Give the node a device of one property."""
    await give(subject, "twin.objects", _local(_device(name, 5, temperature="20")))


def update(device: str, payload: bytes) -> Word:
    return Word(f"$hw/events/device/default/{device}/twin/update", payload)


async def _nothing() -> None:
    return None


def _device(name: str, revision: int, **wishes: str) -> Change:
    obj: JsonObject = {
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"},
        "spec": {
            "nodeName": NODE,
            # a good one has none, for the model may be another by then
            **({"deviceModelRef": {"name": "thermometer"}} if name == "ac" else {}),
            "properties": [
                {"name": each, "desired": {"value": value, "metadata": {"timestamp": "1"}}}
                for each, value in wishes.items()
            ],
        },
    }
    return _object(DEVICES, name, obj, revision)


def _credential(name: str, revision: int) -> Change:
    obj = write_credential(credential_for("default", name, b"secret", "uid-1"))
    return _object(DEVICE_CREDENTIALS, name, obj, revision)


def _model(revision: int) -> Change:
    obj: JsonObject = {
        "metadata": {"name": "thermometer", "namespace": "default"},
        "spec": {
            "properties": [
                {"name": "temperature", "type": "INT", "minimum": "-50", "maximum": 500},
                {"name": "name", "type": "STRING"},
            ]
        },
    }
    return _object(DEVICE_MODELS, "thermometer", obj, revision)


class Edged:
    """Edged as it is put together, on a runtime in memory."""

    def __init__(self, edged: _Edged, runtime: FakeRuntime, tasks: asyncio.TaskGroup) -> None:
        self.line, self.edged, self.runtime = Line(), edged, runtime
        EdgedHandlers(
            node=NODE,
            log_requests=edged.log_requests,
            execs=edged.execs,
            fabric=self.line.fabric,
            take=edged.take,
            report_all=edged.report_all,
            take_token=edged.tokens.take,
            take_heard=edged.reporting.heard,
            tasks=tasks,
        ).subscribe()
        self._revision = 10

    def samples(self) -> Mapping[str, list[Sample]]:
        rich = pod_object(
            "a",
            meta={"annotations": {"a": "b"}, "labels": {"c": "d"}},
            containers=[
                {
                    "name": "main",
                    "image": IMAGE,
                    "command": ["/bin/sleep"],
                    "env": [
                        {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}
                    ],
                    "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "64Mi"}},
                    "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                    "readinessProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 5},
                    "ports": [{"containerPort": 80, "hostPort": 8080}],
                }
            ],
            volumes=[{"name": "v", "configMap": {"name": "c"}}, {"name": "e", "emptyDir": {}}],
            activeDeadlineSeconds=600,
            tolerations=[{"key": "a", "operator": "Exists"}],
        )
        node = {
            "metadata": {"name": NODE, "labels": {"zone": "a"}},
            "spec": {"taints": [{"key": "a", "value": "b", "effect": "NoSchedule"}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }
        of_node = Change(key=ObjectKey("nodes", "", NODE), version=Version(5, 5), object=node)
        account = {
            "metadata": {"name": "default", "namespace": "default"},
            "imagePullSecrets": [{"name": "pull"}],
        }
        log = {
            "namespace": "default",
            "pod": "a",
            "container": "main",
            "options": {"tailLines": "5", "sinceSeconds": "60", "limitBytes": "100"},
        }
        command = {**log, "command": ["ls"], "stdin": True, "tty": False, "deadline_seconds": 15.0}
        command["deadline_seconds"] = 15
        token = {
            "uid": "uid-a",
            "service_account": "default",
            "audience": "vault",
            "seconds": 600,
            "token": JWT,
            "expires": "2036-01-01T00:00:00Z",
        }
        heard = {"seen": 3, "over": False, "number": 0, "frame": "AGE="}
        return {
            "edged.objects": [
                _local(_object("pods", "a", rich, 5)),
                _local(_object("pods", "a", None, 9)),
                _local(_object("configmaps", "c", config_map("c", {"k": "v"}), 5)),
                _local(_object("secrets", "pull", secret("pull", {"k": "v"}), 5)),
                _local(_object("serviceaccounts", "default", account, 5)),
                _local(of_node),
                _local(
                    _task(5, pull={"images": [IMAGE], "retryTimes": 1, "secret": "default/pull"})
                ),
                _local(_task(5, update={"fields": {"FEDGE_LOG_LEVEL": "info"}})),
                _local(_task(5, upgrade={"version": "v2", "image": "fedge/edge"})),
            ],
            "edged.request": [
                _down(kinds.LOGS_ASKED, "logs", log),
                _down(kinds.EXEC_ASKED, "exec", command),
                _down(kinds.STREAM_HEARD, "stream", heard, "nobody"),
                _down(kinds.TOKEN_ISSUED, "token", token, str(POD)),
                _down(kinds.STATUSES_ASKED, "statuses"),
                _down(kinds.NODE_HEARD, "heard", subject="1"),
            ],
        }

    def state(self) -> object:
        objects = self.edged.pods._objects._changes
        return repr(sorted((str(key), str(each.version)) for key, each in objects.items()))

    async def check(self) -> None:
        self._revision += 1
        name = f"good-{self._revision}"
        key = ObjectKey("pods", "default", name)
        tolerant = [{"operator": "Exists"}]
        obj = pod_object(name, tolerations=tolerant)
        await give(self, "edged.objects", _local(_object("pods", name, obj, self._revision)))

        def runs() -> bool:
            told = self.line.told(kinds.STATUS_REPORTED, str(key))
            return bool(told) and told[-1].data["status"]["phase"] == "Running"

        await self.line.until(runs)
        before = len(self.line.told(kinds.STATUS_REPORTED, str(key)))
        await give(self, "edged.request", _down(kinds.STATUSES_ASKED, "statuses"))
        await self.line.until(lambda: len(self.line.told(kinds.STATUS_REPORTED, str(key))) > before)
        ask = {"namespace": "default", "pod": name, "container": "none", "options": {}}
        asked = _down(kinds.LOGS_ASKED, "logs", ask)
        await give(self, "edged.request", asked)
        await self.line.until(lambda: self.line.told(kinds.ANSWERED, asked.envelope.id))


class Api(KubeClient):
    """An API server that takes what an API server could be asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, Any]] = []

    def _called(self, what: str, path: str, body: Any = None) -> JsonObject:
        assert "//" not in path, path
        assert ".." not in path.split("/"), path
        json.dumps(body)
        self.calls.append((what, path, body))
        return {}

    async def get(self, resource: Resource, namespace: str, name: str) -> JsonObject:
        self._called("get", resource.path(namespace, name))
        if resource.plural not in {"pods", "devices", "nodetasks"}:
            raise NotFoundError(name)
        return {"metadata": {"uid": f"uid-{name}"}, "spec": {"nodeName": NODE}}

    async def replace(
        self, resource: Resource, obj: JsonObject, *, subresource: str = ""
    ) -> JsonObject:
        metadata = obj["metadata"]
        path = resource.path(metadata.get("namespace", ""), metadata.get("name", ""), subresource)
        return self._called("replace", path, obj)

    async def create(self, resource: Resource, obj: JsonObject) -> JsonObject:
        return self._called("create", resource.path(obj["metadata"].get("namespace", "")), obj)

    async def create_token(
        self, resource: Resource, namespace: str, account: str, spec: JsonObject
    ) -> JsonObject:
        self._called("token", resource.path(namespace, account, "token"), spec)
        return {"token": JWT, "expirationTimestamp": "2036-01-01T00:00:00Z"}

    async def issuer_keys(self) -> tuple[str, JsonObject]:
        return "https://cloud", {"keys": [{"kty": "EC", "kid": "1"}]}

    async def send_as(
        self,
        user: str,  # noqa: ARG002 - as the client's
        method: str,
        path: str,
        *,
        body: Any = None,
        **_: Any,
    ) -> tuple[int, str]:
        self._called(method, path, body)
        held = config_map("a", {"a": "b"})
        held["metadata"] |= {"resourceVersion": "5", "uid": "uid-a"}
        return 200, json.dumps(held)

    async def patch(
        self, resource: Resource, namespace: str, name: str, patch: JsonObject, **_: Any
    ) -> JsonObject:
        return self._called("patch", resource.path(namespace, name), patch)

    async def replace_status(
        self, resource: Resource, namespace: str, name: str, status: JsonObject, **_: Any
    ) -> JsonObject:
        return self._called("patch", resource.path(namespace, name), status)

    async def delete(self, resource: Resource, namespace: str, name: str, **_: Any) -> None:
        self._called("delete", resource.path(namespace, name))


class Dispatch:
    """Controller or device over an API in memory."""

    def __init__(self, service: str) -> None:
        self.line, self.api, self.service = Line(), Api(), service
        plugins = load_resources(service)
        leading = {name for name, plugin in plugins.items() if plugin.leads}
        self.telling = Telling(self.line.fabric, service=service)
        self.placement = Placement(leading, plugins.keys() - leading)
        self.reports = Reports(self.api, plugins)
        self.replicas = Replicas(service, "a" * 8)
        self.replicas.settled.set()
        DispatchHandlers(
            self.line.fabric,
            service=service,
            placement=self.placement,
            telling=self.telling,
            reports=self.reports,
            replicas=self.replicas,
        ).subscribe(plugins, reports_at_once=64)
        if service == "controller":
            Heartbeats(self.api).subscribe(self.line.fabric)
            Tokens(self.api, self.line.fabric).subscribe()
            Writes(self.api, self.line.fabric).subscribe()
            self.key = POD
        else:
            self.key = DEVICE
        obj = {"metadata": {"name": self.key.name}, "spec": {}}
        self.placement.put(self.key, obj, 5, node=NODE, needs=frozenset())
        self._revision = 10

    def samples(self) -> Mapping[str, list[Sample]]:
        resync = [
            Sample(
                "resync",
                Envelope(type=kinds.RESYNC_ASKED, source="/cloud/hub", data={"node": node}),
            )
            for node in (NODE, None)
        ]
        heard = Envelope(
            type=kinds.REPLICA_HEARD,
            source=f"/cloud/{self.service}",
            data={"replica": self.replicas.me, "state": "live", "asks": True, "gone": ["0" * 8]},
        )
        said = Sample(t.replicas_key(self.service), heard)
        control = {f"{self.service}.control": [*resync, said]}
        if self.service == "device":
            twins = [{"propertyName": "temperature", "reported": {"value": "20"}}]
            told = _status(DEVICE, {"twins": twins, "state": "online"}, uid="uid-ac")
            return {"device.reported.state": [told], "device.owned": [told], **control}
        node = _status(ObjectKey("nodes", "", NODE), {"conditions": []}, uid="")
        node.envelope.data["labels"] = {"kubernetes.io/os": "linux"}
        return {
            "controller.reported.state": [
                _status(POD, RUNNING),
                node,
                _status(TASK, PULLED, uid=f"uid-{TASK.name}"),
            ],
            "controller.owned": [_status(POD, RUNNING), node],
            "controller.reported.event": [_event()],
            "controller.heartbeats": [_alive()],
            "controller.tokens": [_token_asked()],
            "controller.writes": [_write("request"), _write("change")],
            **control,
        }

    def state(self) -> object:
        # what is only looked at changes nothing
        return sum(what != "get" for what, *_ in self.api.calls), len(self.line.sent)

    async def check(self) -> None:
        self._revision += 1
        name = f"good-{self._revision}"
        key = ObjectKey(self.key.resource, "default", name)
        status = RUNNING if self.service == "controller" else {"state": "online"}
        path = await self._does(
            f"{self.service}.reported.state", _status(key, status, uid=f"uid-{name}")
        )
        assert path.endswith(f"/{name}")
        told = len(self.line.sent)
        await give(self, f"{self.service}.control", self.samples()[f"{self.service}.control"][0])
        await self.line.until(lambda: len(self.line.sent) > told)
        if self.service == "controller":
            assert await self._does("controller.reported.event", _event(name)) != path
            assert (await self._does("controller.heartbeats", _alive())).endswith("leases/edge-1")
            await self._does("controller.tokens", _token_asked())
            assert self.line.told(kinds.TOKEN_ISSUED, str(POD))
            for kind in ("request", "change"):
                write_id = f"{kind}-{self._revision}"
                await self._does("controller.writes", _write(kind, write_id))
                [answer] = self.line.told(kinds.WRITE_ANSWERED, write_id)
                assert answer.data["code"] == 200

    async def _does(self, queue: str, sample: Sample) -> str:
        before = len(self.api.calls)
        await give(self, queue, sample)
        assert len(self.api.calls) > before
        return self.api.calls[-1][1]


_NEVER = timedelta(days=1)


@asynccontextmanager
async def _hub() -> AsyncIterator[Hub]:
    hub = Hub()
    async with _beside(hub.events.run()):
        yield hub


@asynccontextmanager
async def _meta() -> AsyncIterator[Meta]:
    with tempfile.TemporaryDirectory() as folder:
        async with ObjectStore.opened(Path(folder) / "meta.db") as store:
            key = Path(folder) / "sealing.key"
            meta = Meta(store, NodeSeal(key, joined=Path(folder) / "joined.json"))
            async with _beside(relay(store, meta.keeping, meta.line.fabric)):
                yield meta


@asynccontextmanager
async def _twin() -> AsyncIterator[Twin]:
    with tempfile.TemporaryDirectory() as folder:
        async with TwinStore.opened(Path(folder) / "twin.db") as store:
            twin = Twin(store)
            fabric = twin.line.fabric
            async with _beside(twin.reporting.run(fabric, twin.twins), twin.effects.run(fabric)):
                yield twin


@asynccontextmanager
async def _edged() -> AsyncIterator[Edged]:
    # threads may still be at a pod's volumes when all is over
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        settings = EdgedSettings(
            pod_log_dir=folder / "logs",
            run_dir=folder / "run",
            eviction_hard={},
            edge=EdgeSettings(node_name=NODE, data_dir=folder / "data"),
        )
        for each in (settings.pod_log_dir, settings.run_dir, settings.edge.data_dir):
            each.mkdir()
        runtime = FakeRuntime()
        runtime.add_image(IMAGE)
        serving = _Serving()
        async with serving.running(settings, runtime) as (edged, tasks):
            subject = Edged(edged, runtime, tasks)
            fabric = subject.line.fabric
            tasks.create_task(edged.reporting.run(fabric))
            tasks.create_task(
                edged.tokens.run(edged.reporting.asking_for_tokens(fabric), edged.pods.uids)
            )
            yield subject


class _Serving:
    """Runs edged's tasks in a task of their own, whose end is an error."""

    @asynccontextmanager
    async def running(
        self, settings: EdgedSettings, runtime: FakeRuntime
    ) -> AsyncIterator[tuple[_Edged, asyncio.TaskGroup]]:
        ready: asyncio.Future[tuple[_Edged, asyncio.TaskGroup]]
        ready = asyncio.get_running_loop().create_future()

        async def serve() -> None:
            async with asyncio.TaskGroup() as tasks:
                edged = _Edged(settings, runtime, tasks)
                await edged.pods.look_at_runtime()
                ready.set_result((edged, tasks))
                await asyncio.get_running_loop().create_future()

        async with _beside(serve()):
            yield await ready


@asynccontextmanager
async def _dispatch(service: str) -> AsyncIterator[Dispatch]:
    dispatch = Dispatch(service)
    async with _beside(dispatch.telling.run()):
        yield dispatch


@asynccontextmanager
async def _beside(*work: Any) -> AsyncIterator[None]:
    """Run what a service runs beside its handlers; an end of it is an error."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        yield
        for each in tasks:
            if each.done():
                each.result()
                raise AssertionError("a task of the service has ended")
    finally:
        for each in tasks:
            each.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


SUBJECTS: Mapping[str, Callable[[], AbstractAsyncContextManager[Any]]] = {
    "hub": _hub,
    "meta": _meta,
    "twin": _twin,
    "edged": _edged,
    "controller": lambda: _dispatch("controller"),
    "device": lambda: _dispatch("device"),
}
