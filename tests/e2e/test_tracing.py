"""One trace per change: whole, without orphans, and it says where the time went."""

import asyncio
import json
import os
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fedge_cli.demo import EDGE, NAMESPACE, Story
from fedge_cli.node_status import get_status
from fedge_service import backoff
from tests.e2e.pods import is_running, pod_becomes, pod_manifest, remove
from tests.fixtures.otlp import Received, Receiver, explained, orphans, outline, roots

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

EXPLAINED = 0.95
STATUS = "PATCH pods/status"
DEVICES = "devices.devices.kubeedge.io"


async def fedge(story: Story, *words: str) -> tuple[str, str]:
    """Run a command as a person does; return what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "fedge_cli",
        *words,
        env={**os.environ, "KUBECONFIG": str(story.stack.kubeconfig)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode(), err.decode()


async def apply(story: Story, tmp_path: Path, manifest: str) -> str:
    """Apply a manifest with the command; return the id of the trace that it told."""
    path = tmp_path / "manifest.yaml"
    path.write_text(manifest)
    _, err = await fedge(story, "apply", "-f", str(path))
    found = re.search(r"^trace ([0-9a-f]{32})$", err, re.MULTILINE)
    assert found, err
    return found[1]


def named(*names: str) -> Callable[[list[Received]], bool]:
    return lambda spans: {*names} <= {each.name for each in spans}


async def until(condition: Callable[[], Any]) -> Any:
    """Wait until a condition holds, and return what it found."""
    async with asyncio.timeout(30):
        async for _ in backoff(first_seconds=0.05, most_seconds=0.2):
            if found := condition():
                return found
    raise AssertionError("backoff has no end")


def one(spans: list[Received], name: str, about: str = "") -> Received:
    found = [
        each
        for each in spans
        if each.name == name and (not about or each.attributes.get("fedge.object") == about)
    ]
    assert len(found) == 1, f"{len(found)} spans {name!r}:\n{outline(spans)}"
    return found[0]


def check_whole(spans: list[Received]) -> None:
    assert not orphans(spans), outline(spans)
    assert len(roots(spans)) == 1, outline(spans)


def above(spans: list[Received], span: Received) -> list[str]:
    """Return the names of a span and of what caused it, up to the root."""
    by_id = {each.span_id: each for each in spans}
    names = [span.name]
    while span.parent_id:
        span = by_id[span.parent_id]
        names.append(span.name)
    return names


def check_explained(spans: list[Received]) -> None:
    """From the command to the moment in which the API says that the pod runs."""
    start = roots(spans)[0].start
    end = max(each.end for each in spans if each.name == STATUS)
    share = explained(spans, start, end)
    assert share >= EXPLAINED, f"{share:.3f} of {end - start:.3f} s:\n{outline(spans)}"


async def test_pod_is_traced_from_the_command_to_its_status(
    story: Story, spans: Receiver, tmp_path: Path
) -> None:
    trace_id = await apply(story, tmp_path, pod_manifest("traced"))
    pod = await pod_becomes(story, "traced", is_running, "traced runs")
    found = await spans.whole(trace_id, named(STATUS))
    try:
        check_whole(found)
        check_explained(found)
        sync = one(found, "sync pod")
        assert sync.service == "fedge-edged"
        assert sync.node == EDGE
        assert sync.attributes["k8s.pod.name"] == "traced"
        assert sync.attributes["k8s.pod.uid"] == pod["metadata"]["uid"]
        way = above(found, one(found, STATUS))
        assert way == [
            STATUS, "process controller.reported.state", "send fedge.reported",
            "process hub.up.state", "send fedge.up", "sync pod", "process edged.objects",
            "send fedge.local", "process meta.state", "send fedge.down", "process hub.wanted",
            "send fedge.wanted", "observe pods", "apply pods", "apply",
        ]  # fmt: skip
        for call in ("RunPodSandbox", "CreateContainer", "StartContainer"):
            span = one(found, f"runtime.v1.RuntimeService/{call}")
            assert above(found, span)[1] == "sync pod"
            assert span.attributes["rpc.system.name"] == "grpc"
        stored = one(found, "put objects", f"pods/{NAMESPACE}/traced")
        assert stored.attributes["db.system.name"] == "sqlite"
        sent = [each for each in found if each.name == "send fedge.down"]
        assert {each.attributes["messaging.system"] for each in sent} == {"rabbitmq"}
        assert [each for each in found if each.error is not None] == []
    finally:
        remove(story, "traced")


async def test_deleting_a_pod_is_a_trace_too(story: Story, spans: Receiver, tmp_path: Path) -> None:
    await apply(story, tmp_path, pod_manifest("short-lived"))
    await pod_becomes(story, "short-lived", is_running, "it runs")
    key = f"pods/{NAMESPACE}/short-lived"
    before = set(spans.about(key))
    remove(story, "short-lived")
    stop = "runtime.v1.RuntimeService/RemovePodSandbox"
    trace_id = await until(
        lambda: next(
            (
                trace_id
                for trace_id in spans.about(key)
                if trace_id not in before and named(stop)(spans.of(trace_id))
            ),
            None,
        )
    )
    check_whole(await spans.whole(trace_id, named(stop, "observe pods")))


def is_absent(story: Story) -> bool:
    """Whether hub sends the node nothing any more."""
    with story.api() as api:
        return bool(get_status(api, EDGE)["link"] == "down")


async def test_trace_goes_on_through_an_outage_and_says_how_long_it_waited(
    story: Story, spans: Receiver, tmp_path: Path
) -> None:
    edge = story.stack.edge(EDGE)
    await edge.cut()
    try:
        await until(partial(is_absent, story))
        trace_id = await apply(story, tmp_path, pod_manifest("waited", nodeName=EDGE))
        await spans.whole(trace_id, named("process hub.wanted"))
    finally:
        await edge.heal()
    try:
        await pod_becomes(story, "waited", is_running, "waited runs")
        found = await spans.whole(trace_id, named(STATUS))
        check_whole(found)
        check_explained(found)
        waited = [
            each
            for each in found
            if each.name == "send fedge.down"
            and each.attributes.get("fedge.object") == f"pods/{NAMESPACE}/waited"
        ]
        [(linked, _, attributes)] = waited[0].links
        assert linked == trace_id
        assert attributes["fedge.wait_seconds"] > 1
        wait = [each for each in found if each.name == "wait to send fedge.down"]
        assert any(each.end - each.start > 1 for each in wait), outline(found)
    finally:
        remove(story, "waited")


async def test_trace_goes_on_when_the_gateway_is_switched_on(
    story: Story, spans: Receiver, tmp_path: Path
) -> None:
    edge = story.stack.edge(EDGE)
    await edge.power_cut()
    try:
        trace_id = await apply(story, tmp_path, pod_manifest("woken", nodeName=EDGE))
        await spans.whole(trace_id, named("observe pods"))
    finally:
        await edge.start()
    try:
        await pod_becomes(story, "woken", is_running, "woken runs")
        found = await spans.whole(trace_id, named(STATUS))
        check_whole(found)
        check_explained(found)
    finally:
        remove(story, "woken")


async def test_what_a_pod_does_after_a_power_cut_is_linked_to_its_change(
    story: Story, spans: Receiver, tmp_path: Path
) -> None:
    trace_id = await apply(story, tmp_path, pod_manifest("restored"))
    key = f"pods/{NAMESPACE}/restored"
    try:
        await pod_becomes(story, "restored", is_running, "restored runs")
        change = await spans.whole(trace_id, named(STATUS))
        edge = story.stack.edge(EDGE)
        await edge.power_cut()
        await edge.start()

        def again(pod: dict[str, Any]) -> bool:
            statuses = (pod.get("status") or {}).get("containerStatuses") or [{}]
            return is_running(pod) and statuses[0].get("restartCount", 0) > 0

        await pod_becomes(story, "restored", again, "restored runs again")
        made = named("sync pod", "runtime.v1.RuntimeService/RunPodSandbox")
        later = await until(
            lambda: [each for each in spans.about(key) if each != trace_id and made(spans.of(each))]
        )
        found = await spans.whole(later[0], named("sync pod", STATUS))
        check_whole(found)
        [(linked, span_id, attributes)] = one(found, "sync pod").links
        assert linked == trace_id
        assert span_id in {each.span_id for each in change}
        assert attributes["fedge.wait_seconds"] > 0
        # what was traced before is as it was
        assert {each.span_id for each in spans.of(trace_id)} == {each.span_id for each in change}
    finally:
        remove(story, "restored")


async def test_annotation_joins_the_trace_of_whoever_made_the_change(
    story: Story, spans: Receiver
) -> None:
    trace_id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    manifest = json.loads(pod_manifest("annotated"))
    manifest["metadata"]["annotations"] = {"fedge.io/traceparent": f"00-{trace_id}-{parent}-01"}
    path = f"/api/v1/namespaces/{NAMESPACE}/pods"
    with story.api() as api:
        api.request("POST", path, body=manifest)
    try:
        await pod_becomes(story, "annotated", is_running, "annotated runs")
        found = await spans.whole(trace_id, named(STATUS))
        assert {each.parent_id for each in orphans(found)} == {parent}, outline(found)
        assert one(found, "observe pods").parent_id == parent
        assert not roots(found)
    finally:
        remove(story, "annotated")


async def test_device_is_traced_from_its_wish_to_its_status(
    story: Story, spans: Receiver, tmp_path: Path
) -> None:
    manifest = {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "Device",
        "metadata": {"name": "traced"},
        "spec": {
            "nodeName": EDGE,
            "properties": [{"name": "power", "desired": {"value": "on"}}],
        },
    }
    key = f"{DEVICES}/{NAMESPACE}/traced"
    trace_id = await apply(story, tmp_path, json.dumps(manifest))
    try:
        found = await spans.whole(trace_id, named("PATCH devicestatuses/status"))
        check_whole(found)
        assert one(found, "put twins").attributes["fedge.object"] == key
        deltas = [each for each in found if each.name == "publish to device"]
        topics = {each.attributes["messaging.destination.name"] for each in deltas}
        assert f"$hw/events/device/{NAMESPACE}/traced/twin/update/delta" in topics
        assert {each.service for each in deltas} == {"fedge-twin"}

        await fedge(story, "device", "set", "traced", "power=off")
        changed = named("PATCH devicestatuses/status", "publish to device")
        later = await until(lambda: [each for each in spans.about(key) if each != trace_id])
        second = await spans.whole(later[0], changed)
        check_whole(second)
    finally:
        with story.api() as api:
            device = f"/apis/devices.kubeedge.io/v1beta1/namespaces/{NAMESPACE}/devices/traced"
            api.request("DELETE", device)


async def test_command_and_log_are_traced_to_the_answer(
    story: Story, spans: Receiver, tmp_path: Path
) -> None:
    def answered(name: str) -> list[Received]:
        return [
            each
            for each in spans.spans
            if each.name == name and "/asked/" in each.attributes["url.path"]
        ]

    await apply(story, tmp_path, pod_manifest("asked"))
    try:
        await pod_becomes(story, "asked", is_running, "asked runs")
        await fedge(story, "exec", "asked", "--", "true")
        await fedge(story, "logs", "asked")
        for route, work in (("exec", "answer with command"), ("containerLogs", "answer with log")):
            name = f"GET /nodes/{{node}}/{route}"
            found = await until(partial(answered, name))
            whole = await spans.whole(
                found[0].trace_id, named(name, work, "process hub.up.request")
            )
            check_whole(whole)
            assert one(whole, work).node == EDGE
    finally:
        remove(story, "asked")


async def test_joining_is_traced_from_the_gateway_to_the_certificate(
    story: Story, spans: Receiver
) -> None:
    assert story.stack.exists  # it joined when the system was started
    key = f"nodes/-/{EDGE}"
    wanted = named("join", "make keys", "ask for certificate", "POST /v1/join")
    trace_ids = await until(lambda: [each for each in spans.about(key) if wanted(spans.of(each))])
    found = await spans.whole(trace_ids[0], wanted)
    check_whole(found)
    # hub may not have been ready yet when it was asked first: each try is a span
    *_, granted = [each for each in found if each.name == "POST /v1/join"]
    assert granted.error is None
    assert above(found, granted) == [
        "POST /v1/join", "ask for certificate", "join",
    ]  # fmt: skip
    assert one(found, "join").node == EDGE


async def test_tree_is_drawn_in_the_terminal(story: Story, spans: Receiver, tmp_path: Path) -> None:
    trace_id = await apply(story, tmp_path, pod_manifest("drawn"))
    try:
        await pod_becomes(story, "drawn", is_running, "drawn runs")
        await spans.whole(trace_id, named(STATUS))
        out, _ = await fedge(story, "trace", "pod/drawn", "--wait", "10")
        assert f"Trace:    {trace_id}" in out
        for name in ("apply", "observe pods", "sync pod", "StartContainer", STATUS):
            assert name in out, out
        by_id, _ = await fedge(story, "trace", trace_id, "-o", "json")
        told = {each["span_id"] for each in json.loads(by_id)["spans"]}
        assert told == {each.span_id for each in spans.of(trace_id)}
    finally:
        remove(story, "drawn")


def _lines(story: Story, *parts: str) -> list[dict[str, Any]]:
    text = story.stack.state_file.parent.joinpath(*parts).read_text()
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


async def test_logs_say_where_they_come_from_and_which_trace_they_belong_to(
    story: Story, spans: Receiver, tmp_path: Path
) -> None:
    trace_id = await apply(story, tmp_path, pod_manifest("logged"))
    try:
        await pod_becomes(story, "logged", is_running, "logged runs")
        found = await spans.whole(trace_id, named(STATUS))
        lines = _lines(story, "edges", EDGE, "services", "edge.log")
        [started] = [
            each
            for each in lines
            if each["event"] == "container_started" and each["pod"].endswith("/logged")
        ]
        assert started["service"] == "edged"
        assert started["node"] == EDGE
        assert started["trace_id"] == trace_id
        assert started["span_id"] in {each.span_id for each in found}
        for cloud in ("hub", "controller", "device"):
            said = _lines(story, "cloud", cloud, f"{cloud}.log")
            assert {each["service"] for each in said} == {cloud}
            [first, *_] = [each for each in said if each["event"] == "starting"]
            assert {"settings", "fedge", "python"} <= first.keys()
            assert "***" in json.dumps(first["settings"])
            assert any(each["event"] == "ready" for each in said)
    finally:
        remove(story, "logged")
