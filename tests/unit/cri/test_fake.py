"""The runtime in memory keeps the contract, and fails when it is told to."""

import asyncio
from pathlib import Path

import pytest

from fedge_cri import ContainerState, NotFoundError, RefusedError, UnavailableError
from fedge_cri.fake import FakeRuntime
from tests.contract.runtime import Ground, RuntimeContract

IMAGE = "fedge.local/busybox:1"


def ground_of(runtime: FakeRuntime) -> Ground:
    async def end(container_id: str) -> None:
        runtime.exit_container(container_id, 137)

    runtime.add_image(IMAGE)
    return Ground(runtime=runtime, image=IMAGE, log_dir=Path("/nowhere"), cgroup_parent="", end=end)


class TestFakeRuntime(RuntimeContract):
    """Everything that the contract asks."""

    @pytest.fixture
    def ground(self) -> Ground:
        return ground_of(FakeRuntime())


class TestFakeRuntimeThatSettlesLate(RuntimeContract):
    """The same, when an end is listed some time after it was told."""

    @pytest.fixture
    def ground(self) -> Ground:
        runtime = FakeRuntime()
        runtime.settle_seconds = 0.02
        return ground_of(runtime)


async def test_planned_failure_happens_once_and_without_effect() -> None:
    runtime = FakeRuntime()
    ground = ground_of(runtime)
    runtime.fail_next("run_sandbox", RefusedError("no"))
    with pytest.raises(RefusedError):
        await ground.run(ground.sandbox())
    assert await runtime.list_sandboxes() == []
    await ground.run(ground.sandbox())


async def test_call_whose_answer_is_lost_has_its_effect() -> None:
    runtime = FakeRuntime()
    ground = ground_of(runtime)
    runtime.fail_next("run_sandbox", UnavailableError("late"), has_effect=True)
    with pytest.raises(UnavailableError):
        await ground.run(ground.sandbox())
    assert len(await runtime.list_sandboxes()) == 1


@pytest.mark.parametrize("finishes", [True, False])
async def test_call_that_is_given_up_is_finished_or_not(finishes: bool) -> None:
    runtime = FakeRuntime()
    ground = ground_of(runtime)
    runtime.takes["run_sandbox"] = 60
    runtime.finishes_cancelled = finishes
    task = asyncio.create_task(ground.run(ground.sandbox()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(runtime.sandboxes) == finishes


async def test_call_that_is_given_up_tells_nobody_that_it_failed() -> None:
    runtime = FakeRuntime()
    ground = ground_of(runtime)
    spec = ground.sandbox()
    await ground.run(spec)
    runtime.takes["run_sandbox"] = 60
    runtime.finishes_cancelled = True
    task = asyncio.create_task(ground.run(spec))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_power_cut_ends_everything_and_tells_nobody() -> None:
    runtime = FakeRuntime()
    _, container_id = await ground_of(runtime).started()
    events = runtime.events()
    assert await anext(events) is None
    runtime.cut_power()
    status = await runtime.container_status(container_id)
    assert (status.state, status.exit_code) == (ContainerState.EXITED, 255)
    assert [each.is_ready for each in await runtime.list_sandboxes()] == [False]
    runtime.come_back()
    assert await anext(events) is None


async def test_runtime_that_is_away_answers_nothing_and_keeps_what_runs() -> None:
    runtime = FakeRuntime()
    _, container_id = await ground_of(runtime).started()
    runtime.go_away()
    with pytest.raises(UnavailableError):
        await runtime.list_containers()
    runtime.come_back()
    assert (await runtime.container_status(container_id)).state is ContainerState.RUNNING


async def test_stubborn_container_is_killed_after_its_grace() -> None:
    runtime = FakeRuntime()
    runtime.stubborn.add("main")
    _, container_id = await ground_of(runtime).started()
    await runtime.stop_container(container_id, grace_seconds=0)
    assert (await runtime.container_status(container_id)).exit_code == 137


async def test_second_running_container_of_a_pod_is_noted() -> None:
    runtime = FakeRuntime()
    ground = ground_of(runtime)
    spec = ground.sandbox()
    sandbox_id = await ground.run(spec)
    for attempt in range(2):
        container_id = await runtime.create_container(
            sandbox_id, ground.container(attempt=attempt), spec
        )
        await runtime.start_container(container_id)
    assert runtime.doubles == [(spec.uid, "main")]


async def test_image_is_pulled_only_from_what_the_registry_has() -> None:
    runtime = FakeRuntime()
    runtime.registry.add("registry.example/a:1")
    image_id = await runtime.pull_image("registry.example/a:1", None)
    found = await runtime.find_image("registry.example/a:1")
    assert found is not None
    assert found.id == image_id
    with pytest.raises(NotFoundError):
        await runtime.pull_image("registry.example/b:1", None)
