"""Numbers and names of nodes that could cost memory, time or somebody else's files: bounded."""

import asyncio
import time
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fedge_edged.pods import read_pod
from fedge_edged.tokens import Wish, _Asking
from fedge_fabric import (
    Address,
    Envelope,
    InvalidError,
    MalformedError,
    MessageClass,
    envelope_of,
    kinds,
)
from fedge_fabric.addresses import MAX_KEY_BYTES
from fedge_fabric.fields import MAX_INTERVAL_SECONDS
from fedge_fabric.streams import MAX_JUMP, Numbering
from fedge_fabric.topology import local_key
from fedge_hub import domain
from fedge_hub.events import MAX_STREAMS, PAST
from fedge_hub.ports import Sighting
from fedge_objects import (
    MAX_BRANCHES,
    Change,
    NodeName,
    ObjectKey,
    Version,
    VersionTree,
    parse_quantity,
)
from tests.contract.wanted_store import MemoryWantedStore
from tests.unit.bad_input.mutations import Sample
from tests.unit.bad_input.subjects import JWT, NODE, SUBJECTS, Edged, Hub, give
from tests.unit.edged.kit import pod_object

UP = f"node.{NODE}"


def state(kind: str, data: object) -> Sample:
    return Sample(f"{UP}.state.x", Envelope(type=kind, source=f"/node/{NODE}/edged", data=data))


def event(stream: str, sequence: int) -> Sample:
    envelope = Envelope(
        type="fedge.test.said", source=f"/node/{NODE}/edged", stream=stream, sequence=sequence
    )
    return Sample(f"{UP}.event.x", envelope)


@pytest.mark.parametrize(
    "interval", [1e308, 10**400, MAX_INTERVAL_SECONDS * 1.01, 0, -1, -1e308, True, "10", None, [10]]
)
@pytest.mark.parametrize(
    ("service", "queue"), [("hub", "hub.up.state"), ("controller", "controller.heartbeats")]
)
async def test_no_heartbeat_makes_a_node_present_for_ever(
    service: str, queue: str, interval: object
) -> None:
    async with SUBJECTS[service]() as subject:
        before = subject.state()
        with pytest.raises(MalformedError, match="interval_seconds"):
            await give(subject, queue, state(kinds.NODE_ALIVE, {"interval_seconds": interval}))
        assert subject.state() == before
        await subject.check()


async def test_node_is_absent_soon_whatever_interval_it_told() -> None:
    hub = Hub()
    told = {"interval_seconds": MAX_INTERVAL_SECONDS, "backlog": {"state": 2**70, "event": -1}}
    await give(hub, "hub.up.state", state(kinds.NODE_ALIVE, told))
    seen = await hub.store.last_seen(NODE)
    assert seen is not None
    assert seen.backlog == {}
    hub.world.time += MAX_INTERVAL_SECONDS * 4
    assert not hub.nodes.is_fresh(seen)


async def test_event_that_jumps_beyond_all_that_can_be_lost_is_refused_and_the_next_taken() -> None:
    hub, stream = Hub(), Numbering("edged").stream
    await give(hub, "hub.up.event", event(stream, 0))
    for sequence in (10**17, 10**18 - 1, MAX_JUMP + 2):
        with pytest.raises(InvalidError, match="so many are never lost"):
            await give(hub, "hub.up.event", event(stream, sequence))
    await give(hub, "hub.up.event", event(stream, 1))
    await give(hub, "hub.up.event", event(stream, MAX_JUMP))
    await hub.events.keep()
    ledger = (await hub.store.ledgers(NODE))[stream]
    assert (ledger.received, ledger.repeated, ledger.missing) == (3, 0, MAX_JUMP - 2)


async def test_stream_cannot_pass_for_the_sum_of_those_that_are_over() -> None:
    with pytest.raises(InvalidError, match="no stream of events"):
        await give(Hub(), "hub.up.event", event(PAST, 0))


@pytest.mark.parametrize("began", ["9" * 14, "9" * 400, "\u0663", "", "-1"])
async def test_streams_of_a_clock_far_ahead_do_not_push_out_those_of_today(began: str) -> None:
    hub, current = Hub(), Numbering("edged").stream
    await hub.store.mark_seen(NODE, Sighting(at=0.0, interval_seconds=10))
    for number in range(2 * MAX_STREAMS):
        stream = f"edged-{began}-{number}"
        if len(stream) > 255:
            headers = event(stream, 0).envelope.headers()
            with pytest.raises(MalformedError, match="more than 255"):
                Envelope.read(headers=headers, body=b"null", content_encoding=None)
        await give(hub, "hub.up.event", event(stream, 0))
    await give(hub, "hub.up.event", event(current, 0))
    await hub.events.keep()
    assert current in await hub.store.ledgers(NODE)
    assert len(await hub.store.ledgers(NODE)) == MAX_STREAMS + 1


async def test_digest_of_a_million_branches_is_refused_before_it_costs_anything() -> None:
    hub = Hub()
    branches = {f"{number:06x}": "0" * 16 for number in range(1_000_000)}
    before = hub.state()
    for data in ({"hashes": branches, "versions": {}}, {"hashes": {}, "versions": branches}):
        with pytest.raises(InvalidError, match="1000000 branches"):
            await give(hub, "hub.up.state", state(kinds.DIGEST_TAKEN, data))
    assert hub.state() == before
    await hub.check()


async def test_question_for_a_million_branches_is_refused_by_the_node() -> None:
    async with SUBJECTS["meta"]() as meta:
        envelope = Envelope(
            type=kinds.DIGEST_ASKED,
            source="/cloud/hub",
            data={"prefixes": ["0"] * (MAX_BRANCHES + 1)},
        )
        with pytest.raises(InvalidError, match="branches"):
            await give(meta, "meta.request", Sample(f"{UP}.request.digest", envelope))
        await meta.check()


class CountingStore(MemoryWantedStore):
    """Counts how often all that a node has is read."""

    reads = 0

    async def stored(self, node: NodeName) -> Any:
        self.reads += 1
        return await super().stored(node)


async def test_digest_of_many_branches_reads_what_is_stored_as_often_as_one_of_few() -> None:
    hub = Hub()
    store = hub.nodes._store = CountingStore()
    keys = [ObjectKey("pods", "d", f"p{number}") for number in range(3000)]
    await store.replace_stored(NODE, dict.fromkeys(keys, Version(1, 1)), [])
    tree = VersionTree({str(key): "1.1" for key in keys[:2999]})
    branches = [f"{number:04x}" for number in range(16**4)]
    versions = {prefix: tree.versions(prefix) for prefix in branches}
    await give(hub, "hub.up.state", state(kinds.DIGEST_TAKEN, {"hashes": {}, "versions": versions}))
    assert store.reads <= 3
    assert set(await store.stored(NODE)) == set(keys[:2999])


async def test_node_cannot_fill_the_store_by_saying_what_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(domain, "MAX_OBJECTS", 20)
    hub = Hub()

    async def tells(names: Collection[str]) -> None:
        versions = {f"pods/d/{name}": "1.1" for name in names}
        data = {"hashes": {}, "versions": {"": versions}}
        await give(hub, "hub.up.state", state(kinds.DIGEST_TAKEN, data))

    await tells([f"a{number}" for number in range(20)])
    with pytest.raises(InvalidError, match="no more than 20 are believed"):
        await tells([f"b{number}" for number in range(30)])
    for number in range(30):
        key = ObjectKey("pods", "d", f"c{number}")
        stored = Envelope(
            type=kinds.OBJECT_STORED,
            source=f"/node/{NODE}/meta",
            subject=str(key),
            version=Version(1, 1),
        )
        await give(hub, "hub.up.state", Sample(f"{UP}.state.x", stored))
    assert len(await hub.store.stored(NODE)) == 20


async def test_answer_whose_pieces_never_come_in_turn_is_not_kept() -> None:
    hub = Hub()
    pieces = hub.requests.ask(NODE, kinds.LOGS_ASKED, {}, deadline_seconds=0.2)
    task = asyncio.ensure_future(anext(pieces))
    await hub.line.until(lambda: hub.line.sent)
    request = hub.line.sent[-1][1].id
    for index in (10**18, 2**31, 300):
        data = {"status": 200, "body": "x", "index": index, "last": False}
        envelope = Envelope(
            type=kinds.ANSWERED, source=f"/node/{NODE}/edged", subject=request, data=data
        )
        await give(hub, "hub.up.request", Sample(f"{UP}.request.answer", envelope))
    with pytest.raises(TimeoutError):
        await task


@pytest.mark.parametrize("text", ["1e999999999", "9" * 65, "NaN", "Infinity", "-1e31", 1e308])
def test_quantity_beyond_all_bounds_is_refused(text: str | float) -> None:
    with pytest.raises(ValueError, match="no quantity"):
        parse_quantity(text)


@pytest.mark.parametrize("field", ["uid", "name", "namespace"])
@pytest.mark.parametrize("name", ["..", "../../../tmp/x", "/etc", ".", "a/b", "a\0", " "])
def test_pod_whose_name_leads_to_other_folders_is_refused(field: str, name: str) -> None:
    with pytest.raises(ValueError, match="is no name"):
        read_pod(pod_object(meta={field: name}))


@pytest.mark.parametrize("part", ["containers", "initContainers", "volumes"])
def test_part_of_a_pod_whose_name_leads_to_other_folders_is_refused(part: str) -> None:
    spec: Any = {part: [{"name": "../x", "emptyDir": {}}]}
    with pytest.raises(ValueError, match="is no name"):
        read_pod(pod_object(**spec))


async def test_token_that_cannot_be_read_ends_nothing_when_it_runs_out() -> None:
    async with SUBJECTS["edged"]() as subject:
        assert isinstance(subject, Edged)
        wish = Wish(uid="u", namespace="d", pod="a", service_account="s", audience="", seconds=600)
        tokens = subject.edged.tokens
        for token in ("", "x", "a.b.c", "e30.W10.e30", JWT):
            tokens._asking[wish] = _Asking()
            expires = (datetime.now(UTC) - timedelta(days=1)).isoformat()
            tokens.take(
                {
                    "uid": "u",
                    "service_account": "s",
                    "audience": "",
                    "seconds": 600,
                    "token": token,
                    "expires": expires,
                }
            )
            assert tokens._signed_here(wish, tokens._held[wish]).expires > time.time()
        await subject.check()


def test_longest_names_of_kubernetes_fit_into_a_routing_key_and_stay_different() -> None:
    node = NodeName("n" * 63 + "." + "m" * 63)
    keys = {
        f"{first}{second}": ObjectKey(
            "devices.devices.kubeedge.io", "s" * 63, first + "x" * 250 + second
        )
        for first in "ab"
        for second in "cd"
    }
    addresses = {str(Address.of_object(node, key)) for key in keys.values()}
    local = {local_key(key.resource, key.namespace, key.name) for key in keys.values()}
    assert len(addresses) == len(local) == len(keys)
    for each in addresses:
        assert len(each) <= MAX_KEY_BYTES
        address = Address.parse(each)
        assert (address.node, address.message_class) == (node, MessageClass.STATE)
        assert address.words[0] == "devices.devices.kubeedge.io"
    assert all(each.startswith("object.devices_devices_kubeedge_io.") for each in local)
    for key in keys.values():
        change = Change(key=key, version=Version(10**18 - 1, 10**18 - 1), object=None)
        envelope = envelope_of(change, source="/cloud/hub")
        read = Envelope.read(headers=envelope.headers(), body=b"null", content_encoding=None)
        assert read == replace(envelope, time=read.time)


async def test_bad_uid_touches_no_other_folder(tmp_path: Path) -> None:
    async with SUBJECTS["edged"]() as subject:
        assert isinstance(subject, Edged)
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "kept").touch()
        key = ObjectKey("pods", "default", "a")
        for revision, uid in enumerate((str(outside), "../../../../" + str(outside)), start=1):
            put = Change(
                key=key,
                version=Version(revision, revision),
                object=pod_object("a", meta={"uid": uid}),
            )
            sample = Sample("object.pods.default.a", envelope_of(put, source="/node/edge-1/meta"))
            await give(subject, "edged.objects", sample)
        await subject.check()
        assert (outside / "kept").exists()
        assert subject.edged.pods.uids() == {"uid-good-11"}
