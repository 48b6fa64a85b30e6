"""What every container runtime promises (``fedge_cri.Runtime``), whatever it is made of."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fedge_cri import (
    AlreadyThereError,
    ContainerSpec,
    ContainerState,
    ContainerStatus,
    NotFoundError,
    RefusedError,
    Runtime,
    RuntimeEvent,
    RuntimeFaultError,
    SandboxSpec,
)

STAYS = ("/bin/busybox", "sleep", "1000")
UNKNOWN = "0" * 64


@dataclass(slots=True, kw_only=True)
class Ground:
    """A runtime to test, and what only its maker knows.

    Attributes:
        end: end the process of a container from outside, as ``kill -9`` does.
    """

    runtime: Runtime
    image: str
    log_dir: Path
    cgroup_parent: str
    end: Callable[[str], Awaitable[None]]
    made: list[str] = field(default_factory=list)

    def sandbox(
        self, *, attempt: int = 0, uid: str = "", host_network: bool = False
    ) -> SandboxSpec:
        uid = uid or uuid.uuid4().hex[:12]
        return SandboxSpec(
            name=f"pod-{uid}",
            namespace="contract",
            uid=uid,
            attempt=attempt,
            log_directory=str(self.log_dir / uid),
            labels={"app": "contract"},
            annotations={"note": "kept"},
            cgroup_parent=self.cgroup_parent,
            host_network=host_network,
        )

    def container(self, *, attempt: int = 0, image: str = "") -> ContainerSpec:
        return ContainerSpec(
            name="main",
            attempt=attempt,
            image=image or self.image,
            log_path=f"main/{attempt}.log",
            command=STAYS,
            labels={"app": "contract"},
            annotations={"note": "kept"},
        )

    async def run(self, spec: SandboxSpec) -> str:
        sandbox_id = await self.runtime.run_sandbox(spec)
        self.made.append(sandbox_id)
        return sandbox_id

    async def started(self) -> tuple[str, str]:
        """Return a sandbox with a running container."""
        spec = self.sandbox()
        sandbox_id = await self.run(spec)
        container_id = await self.runtime.create_container(sandbox_id, self.container(), spec)
        await self.runtime.start_container(container_id)
        return sandbox_id, container_id

    async def exited(self, container_id: str) -> ContainerStatus:
        """Return the status once the runtime shows that the container has ended."""
        async with asyncio.timeout(20):
            while True:
                status = await self.runtime.container_status(container_id)
                if status.state is ContainerState.EXITED:
                    return status
                await asyncio.sleep(0.01)  # the port tells an end before it lists it

    async def clear(self) -> None:
        for sandbox_id in self.made:
            await self.runtime.remove_sandbox(sandbox_id)


async def _told(ground: Ground, end: Callable[[str, str], Awaitable[str]]) -> None:
    """Make containers and end them until an end is told.

    None says that the stream was opened anew, and what happened before is not told: a runtime may
    say so more than once at first, but not for ever.
    """
    events = ground.runtime.events()
    heard: asyncio.Queue[RuntimeEvent | None] = asyncio.Queue()

    async def listen() -> None:
        async for event in events:
            heard.put_nowait(event)

    listening = asyncio.create_task(listen(), name="listen")
    try:
        async with asyncio.timeout(30):
            assert await heard.get() is None
            for _ in range(4):
                ended = await end(*await ground.started())
                while (event := await heard.get()) is not None:
                    if event == RuntimeEvent(ended):
                        return
        pytest.fail("the end of a container was never told")
    finally:
        listening.cancel()
        await asyncio.wait({listening})


class RuntimeContract:
    """Inherited by the tests of each implementation, which give a fixture ``ground``."""

    async def test_runtime_says_what_it_is(self, ground: Ground) -> None:
        info = await ground.runtime.info()
        assert info.name
        assert info.version
        assert await ground.runtime.unmet_conditions() == {}

    async def test_sandbox_is_listed_as_it_was_asked_for(self, ground: Ground) -> None:
        spec = ground.sandbox(attempt=3)
        sandbox_id = await ground.run(spec)
        [found] = [e for e in await ground.runtime.list_sandboxes() if e.id == sandbox_id]
        assert (found.name, found.namespace, found.uid, found.attempt) == (
            spec.name,
            spec.namespace,
            spec.uid,
            3,
        )
        assert found.is_ready
        assert found.created_at > 0
        assert found.labels == {"app": "contract"}
        assert found.annotations == {"note": "kept"}

    async def test_sandbox_has_an_address_of_its_own(self, ground: Ground) -> None:
        first, second = await ground.run(ground.sandbox()), await ground.run(ground.sandbox())
        [one] = await ground.runtime.sandbox_ips(first)
        [other] = await ground.runtime.sandbox_ips(second)
        assert one != other

    async def test_sandbox_on_the_hosts_network_has_none(self, ground: Ground) -> None:
        sandbox_id = await ground.run(ground.sandbox(host_network=True))
        assert list(await ground.runtime.sandbox_ips(sandbox_id)) == []

    async def test_same_sandbox_cannot_be_made_twice(self, ground: Ground) -> None:
        spec = ground.sandbox()
        await ground.run(spec)
        with pytest.raises(AlreadyThereError):
            await ground.run(spec)

    async def test_next_attempt_of_a_sandbox_can_be_made(self, ground: Ground) -> None:
        spec = ground.sandbox()
        first = await ground.run(spec)
        await ground.runtime.stop_sandbox(first)
        second = await ground.run(ground.sandbox(uid=spec.uid, attempt=1))
        ready = {e.id: e.is_ready for e in await ground.runtime.list_sandboxes()}
        assert (ready[first], ready[second]) == (False, True)

    async def test_container_goes_from_created_to_running_to_exited(self, ground: Ground) -> None:
        runtime, spec = ground.runtime, ground.sandbox()
        sandbox_id = await ground.run(spec)
        container_id = await runtime.create_container(sandbox_id, ground.container(), spec)
        created = await runtime.container_status(container_id)
        assert created.state is ContainerState.CREATED
        assert (created.started_at, created.finished_at) == (0, 0)
        await runtime.start_container(container_id)
        running = await runtime.container_status(container_id)
        assert running.state is ContainerState.RUNNING
        assert running.started_at > 0
        await runtime.stop_container(container_id, grace_seconds=0)
        ended = await runtime.container_status(container_id)
        assert ended.state is ContainerState.EXITED
        assert (ended.exit_code, ended.reason) == (137, "Error")
        assert ended.finished_at >= running.started_at

    async def test_container_is_listed_as_it_was_asked_for(self, ground: Ground) -> None:
        sandbox_id, container_id = await ground.started()
        [found] = [e for e in await ground.runtime.list_containers() if e.id == container_id]
        assert (found.sandbox_id, found.name, found.attempt) == (sandbox_id, "main", 0)
        assert found.state is ContainerState.RUNNING
        assert found.labels == {"app": "contract"}
        assert found.annotations == {"note": "kept"}
        assert found.image_ref

    async def test_same_container_cannot_be_made_twice(self, ground: Ground) -> None:
        spec = ground.sandbox()
        sandbox_id = await ground.run(spec)
        await ground.runtime.create_container(sandbox_id, ground.container(), spec)
        with pytest.raises(AlreadyThereError):
            await ground.runtime.create_container(sandbox_id, ground.container(), spec)

    async def test_name_and_attempt_are_taken_across_sandboxes_of_a_pod(
        self, ground: Ground
    ) -> None:
        spec = ground.sandbox()
        first = await ground.run(spec)
        await ground.runtime.create_container(first, ground.container(), spec)
        await ground.runtime.stop_sandbox(first)
        again = ground.sandbox(uid=spec.uid, attempt=1)
        second = await ground.run(again)
        with pytest.raises(AlreadyThereError):
            await ground.runtime.create_container(second, ground.container(), again)
        await ground.runtime.create_container(second, ground.container(attempt=1), again)

    async def test_started_container_cannot_be_started_again(self, ground: Ground) -> None:
        _, container_id = await ground.started()
        with pytest.raises(RefusedError):
            await ground.runtime.start_container(container_id)

    async def test_container_of_a_stopped_sandbox_cannot_be_made(self, ground: Ground) -> None:
        spec = ground.sandbox()
        sandbox_id = await ground.run(spec)
        await ground.runtime.stop_sandbox(sandbox_id)
        with pytest.raises(RuntimeFaultError):
            await ground.runtime.create_container(sandbox_id, ground.container(), spec)

    async def test_container_of_an_unknown_image_cannot_be_made(self, ground: Ground) -> None:
        spec = ground.sandbox()
        sandbox_id = await ground.run(spec)
        with pytest.raises(NotFoundError):
            await ground.runtime.create_container(
                sandbox_id, ground.container(image="fedge.local/none:1"), spec
            )

    async def test_stopped_sandbox_has_no_running_container(self, ground: Ground) -> None:
        sandbox_id, container_id = await ground.started()
        await ground.runtime.stop_sandbox(sandbox_id)
        status = await ground.exited(container_id)
        assert status.exit_code != 0

    async def test_removed_sandbox_takes_its_containers_along(self, ground: Ground) -> None:
        sandbox_id, container_id = await ground.started()
        await ground.runtime.remove_sandbox(sandbox_id)
        assert sandbox_id not in {e.id for e in await ground.runtime.list_sandboxes()}
        assert container_id not in {e.id for e in await ground.runtime.list_containers()}
        with pytest.raises(NotFoundError):
            await ground.runtime.container_status(container_id)

    async def test_running_container_can_be_removed(self, ground: Ground) -> None:
        _, container_id = await ground.started()
        await ground.runtime.remove_container(container_id)
        with pytest.raises(NotFoundError):
            await ground.runtime.container_status(container_id)

    async def test_stops_and_removals_can_be_repeated(self, ground: Ground) -> None:
        sandbox_id, container_id = await ground.started()
        for _ in range(2):
            await ground.runtime.stop_container(container_id, grace_seconds=0)
        for _ in range(2):
            await ground.runtime.remove_container(container_id)
        for _ in range(2):
            await ground.runtime.stop_sandbox(sandbox_id)
        for _ in range(2):
            await ground.runtime.remove_sandbox(sandbox_id)

    async def test_unknown_ids_are_not_found_where_something_is_wanted(
        self, ground: Ground
    ) -> None:
        runtime, spec = ground.runtime, ground.sandbox()
        for wanted in (
            lambda: runtime.container_status(UNKNOWN),
            lambda: runtime.start_container(UNKNOWN),
            lambda: runtime.sandbox_ips(UNKNOWN),
            lambda: runtime.create_container(UNKNOWN, ground.container(), spec),
        ):
            with pytest.raises(NotFoundError):
                await wanted()

    async def test_container_that_was_killed_shows_it(self, ground: Ground) -> None:
        _, container_id = await ground.started()
        await ground.end(container_id)
        status = await ground.exited(container_id)
        assert (status.exit_code, status.reason) == (137, "Error")

    async def test_end_of_a_container_is_told(self, ground: Ground) -> None:
        async def end(_sandbox_id: str, container_id: str) -> str:
            await ground.end(container_id)
            return container_id

        await _told(ground, end)

    async def test_end_of_a_sandbox_is_told(self, ground: Ground) -> None:
        async def end(sandbox_id: str, _container_id: str) -> str:
            await ground.runtime.stop_sandbox(sandbox_id)
            return sandbox_id

        await _told(ground, end)

    async def test_image_is_found_by_name_and_by_id(self, ground: Ground) -> None:
        found = await ground.runtime.find_image(ground.image)
        assert found is not None
        assert ground.image in found.tags
        assert await ground.runtime.find_image(found.id) == found
        assert found.id in {each.id for each in await ground.runtime.list_images()}
        assert await ground.runtime.find_image("fedge.local/none:1") is None

    async def test_image_that_nobody_has_cannot_be_pulled(self, ground: Ground) -> None:
        with pytest.raises(RuntimeFaultError):
            await ground.runtime.pull_image("127.0.0.1:9/none:1", None)

    async def test_command_runs_in_a_running_container_only(self, ground: Ground) -> None:
        _, container_id = await ground.started()
        result = await ground.runtime.exec_sync(
            container_id, ["/bin/busybox", "true"], timeout_seconds=10
        )
        assert (result.exit_code, result.stdout, result.stderr) == (0, b"", b"")
        await ground.runtime.stop_container(container_id, grace_seconds=0)
        with pytest.raises(RuntimeFaultError):
            await ground.runtime.exec_sync(
                container_id, ["/bin/busybox", "true"], timeout_seconds=10
            )
        with pytest.raises(NotFoundError):
            await ground.runtime.exec_sync(UNKNOWN, ["/bin/busybox", "true"], timeout_seconds=10)

    async def test_streams_of_a_command_are_offered_for_a_running_container_only(
        self, ground: Ground
    ) -> None:
        _, container_id = await ground.started()
        url = await ground.runtime.exec_url(
            container_id, ["/bin/busybox"], stdin=True, stdout=True, stderr=False, tty=True
        )
        assert url.startswith("http")
        with pytest.raises(RuntimeFaultError):
            await ground.runtime.exec_url(
                UNKNOWN, ["/bin/busybox"], stdin=True, stdout=True, stderr=False, tty=True
            )

    async def test_running_container_has_statistics_and_reopens_its_log(
        self, ground: Ground
    ) -> None:
        _, container_id = await ground.started()
        stats = {each.id: each for each in await ground.runtime.list_container_stats()}
        assert stats[container_id].memory_working_set_bytes >= 0
        await ground.runtime.reopen_log(container_id)
        with pytest.raises(RuntimeFaultError):
            await ground.runtime.reopen_log(UNKNOWN)

    async def test_unknown_image_can_be_removed_again_and_again(self, ground: Ground) -> None:
        for _ in range(2):
            await ground.runtime.remove_image(f"sha256:{UNKNOWN}")
