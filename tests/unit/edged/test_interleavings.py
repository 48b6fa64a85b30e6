"""Whatever happens in whatever order: never two of the same, and in the end what was wanted."""

import asyncio
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from fedge_cri import RefusedError, RuntimeFaultError, UnavailableError
from tests.unit.edged.kit import IMAGE, container_object, deleted, pod_object
from tests.unit.edged.node import Node

pytestmark = pytest.mark.looptime

OTHER_IMAGE = "fedge.local/other:1"
NAMES = ("a", "b", "c")
CALLS = (
    "run_sandbox",
    "stop_sandbox",
    "remove_sandbox",
    "sandbox_ips",
    "list_sandboxes",
    "create_container",
    "start_container",
    "stop_container",
    "remove_container",
    "list_containers",
    "container_status",
    "find_image",
)
QUIET_SECONDS = 1800.0
"""Longer than every back-off and retry."""


@dataclass(frozen=True, slots=True)
class Apply:
    """Make a pod, or change the image of one that is there."""

    name: str
    image: str
    containers: int


@dataclass(frozen=True, slots=True)
class Delete:
    """Ask for a pod's deletion."""

    name: str
    grace_seconds: int


@dataclass(frozen=True, slots=True)
class Vanish:
    """Have a pod gone from the cluster."""

    name: str


@dataclass(frozen=True, slots=True)
class Exit:
    """End a process."""

    which: int
    code: int


@dataclass(frozen=True, slots=True)
class Fail:
    """Have calls fail, with or without effect."""

    call: str
    error: type[RuntimeFaultError]
    times: int
    has_effect: bool


@dataclass(frozen=True, slots=True)
class Slow:
    """Have a call take its time."""

    call: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Do:
    """Do one thing to the whole node."""

    what: str


@dataclass(frozen=True, slots=True)
class Pass:
    """Let time pass; 0 lets only what is ready go on."""

    seconds: float


Step = Apply | Delete | Vanish | Exit | Fail | Slow | Do | Pass

APPLY = st.builds(
    Apply, st.sampled_from(NAMES), st.sampled_from([IMAGE, OTHER_IMAGE]), st.integers(1, 2)
)
STEPS = st.one_of(
    APPLY,
    APPLY,
    st.builds(Delete, st.sampled_from(NAMES), st.sampled_from([0, 5])),
    st.builds(Vanish, st.sampled_from(NAMES)),
    st.builds(Exit, st.integers(0, 5), st.sampled_from([0, 1])),
    st.builds(
        Fail,
        st.sampled_from(CALLS),
        st.sampled_from([UnavailableError, RefusedError]),
        st.integers(1, 3),
        st.booleans(),
    ),
    st.builds(Slow, st.sampled_from(CALLS), st.sampled_from([0.0, 0.5, 30.0])),
    st.builds(
        Do,
        st.sampled_from(
            ["restart edged", "power cut", "reboot", "runtime away", "runtime back", "stubborn"]
        ),
    ),
    st.builds(Pass, st.sampled_from([0.0, 0.0, 0.1, 1.0, 15.0, 120.0])),
)


class World:
    """A node, and the cluster that has pods for it."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._uids = 0

    def wanted(self) -> Iterator[tuple[str, str, str]]:
        """Yield pod, container and image of what should run."""
        for key, each in self._node.store.items():
            if each.object is not None and "deletionTimestamp" not in each.object["metadata"]:
                for container in each.object["spec"]["containers"]:
                    yield each.object["metadata"]["uid"], container["name"], container["image"]
                assert key.resource == "pods"

    def runs(self) -> list[tuple[str, str, str]]:
        return [
            (each.pod_uid, each.spec.name, self._image(each.spec.image))
            for each in self._node.runtime.containers.values()
            if each.is_running
        ]

    def _image(self, image_id: str) -> str:
        images = {image.id: image.tags[0] for image in self._node.runtime._images.values()}
        return images.get(image_id, image_id)

    async def take(self, step: Step) -> None:
        runtime = self._node.runtime
        match step:
            case Apply(name, image, containers):
                self._apply(name, image, containers)
            case Delete(name, grace_seconds):
                self._delete(name, grace_seconds)
            case Vanish(name):
                self._node.take("pods", name, None)
            case Exit(which, code):
                alive = sorted(runtime.running())
                if alive:
                    runtime.exit_container(alive[which % len(alive)], code)
            case Fail(call, error, times, has_effect):
                runtime.fail_next(call, error("planned"), times=times, has_effect=has_effect)
            case Slow(call, seconds):
                runtime.takes[call] = seconds
            case Pass(seconds):
                await asyncio.sleep(seconds)
            case Do(what):
                await self._do(what)

    async def _do(self, what: str) -> None:
        node, runtime = self._node, self._node.runtime
        match what:
            case "restart edged":
                await node.restart()
            case "power cut":
                runtime.cut_power()
            case "reboot":
                await node.reboot()
            case "runtime away":
                runtime.go_away()
            case "runtime back":
                runtime.come_back()
            case "stubborn":
                runtime.stubborn ^= {"c0"}

    def _apply(self, name: str, image: str, containers: int) -> None:
        held = next((c.object for k, c in self._node.store.items() if k.name == name), None)
        if held is not None and "deletionTimestamp" in held["metadata"]:
            return  # the API server lets nobody change that
        if held is None:
            self._uids += 1
            uid, count = f"uid-{name}-{self._uids}", containers
        else:
            uid, count = held["metadata"]["uid"], len(held["spec"]["containers"])
        made = [container_object(f"c{number}", image=image) for number in range(count)]
        self._node.put("pods", pod_object(name, meta={"uid": uid}, containers=made))

    def _delete(self, name: str, grace_seconds: int) -> None:
        held = next((c.object for k, c in self._node.store.items() if k.name == name), None)
        if held is not None:
            self._node.put("pods", deleted(held, grace_seconds=grace_seconds))


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    steps=st.lists(STEPS, max_size=25),
    finishes_cancelled=st.booleans(),
    settle_seconds=st.sampled_from([0.0, 0.05]),
)
async def test_no_container_runs_twice_and_all_ends_as_wanted(
    steps: list[Step], finishes_cancelled: bool, settle_seconds: float
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        node = Node(Path(folder))
        runtime, world = node.runtime, World(node)
        runtime.add_image(OTHER_IMAGE)
        runtime.finishes_cancelled = finishes_cancelled
        runtime.settle_seconds = settle_seconds
        async with node.running():
            for step in steps:
                await world.take(step)
                assert runtime.doubles == []
            runtime.stop_failing()
            runtime.come_back()
            await asyncio.sleep(QUIET_SECONDS)
            assert runtime.doubles == []
            wanted = sorted(world.wanted())
            event(f"{len(wanted)} containers wanted")
            assert sorted(world.runs()) == wanted
            pods = {uid for uid, _, _ in wanted}
            assert {each.spec.uid for each in runtime.sandboxes.values()} == pods
            assert sum(each.is_ready for each in runtime.sandboxes.values()) == len(pods)
