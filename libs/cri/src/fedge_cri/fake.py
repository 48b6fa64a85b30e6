"""A runtime in memory, for the tests of whoever uses one.

It passes the same contract suite as the real ones (``tests/contract/runtime.py``) and does what
they do where it matters to a caller: names are taken once, an end is told before it is listed, a
call may have its effect although its answer is lost, a power cut ends everything without a word.

A container runs until ``exit_container`` or a stop; nothing here takes time unless it is told to.
What no runtime may be made to do, to run one container of a pod twice, is kept in ``doubles``.
"""

import asyncio
import itertools
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from typing_extensions import override

from fedge_cri.errors import (
    AlreadyThereError,
    NotFoundError,
    RefusedError,
    RuntimeFaultError,
    UnavailableError,
)
from fedge_cri.model import (
    Container,
    ContainerSpec,
    ContainerState,
    ContainerStats,
    ContainerStatus,
    Credentials,
    ExecResult,
    FilesystemUsage,
    Image,
    RuntimeEvent,
    RuntimeInfo,
    Sandbox,
    SandboxSpec,
)
from fedge_cri.port import Runtime

TERMINATED_EXIT_CODE = 143
KILLED_EXIT_CODE = 137
UNKNOWN_EXIT_CODE = 255
"""What is shown for a process whose end nobody saw."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """How a call fails.

    Attributes:
        error: what the caller gets.
        has_effect: whether the call does its work all the same, and only its answer is lost.
    """

    error: RuntimeFaultError
    has_effect: bool = False


@dataclass(slots=True)
class FakeContainer:
    """A container, what it was made of, and what became of it."""

    sandbox_id: str
    pod_uid: str
    spec: ContainerSpec
    created_at: int
    status: ContainerStatus
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_running(self) -> bool:
        """Whether its process lives, as the runtime lists it."""
        return self.status.state is ContainerState.RUNNING


@dataclass(slots=True)
class FakeSandbox:
    """A sandbox, and what it was made of."""

    id: str
    spec: SandboxSpec
    created_at: int
    ip: str
    is_ready: bool = True


class FakeRuntime(Runtime):
    """``Runtime`` in memory.

    Attributes:
        sandboxes: by id.
        containers: by id.
        calls: what was asked, in order: the call's name and what it was about.
        registry: references that can be pulled; the others are not found.
        pulled_with: the credentials of each pull.
        stubborn: names of containers that do not end when asked to.
        takes: seconds that a call takes, by its name.
        finishes_cancelled: whether a call that its caller gave up while it took time is carried
            out nevertheless; real runtimes do either.
        settle_seconds: how long after an end was told a container is still listed as running.
        faults: asked at each call, by its name, whether it fails; see also ``fail_next``.
        unmet: the runtime's own conditions that do not hold.
        commands: what a command in a container yields, asked by container id and command.
        stats: what ``list_container_stats`` says of a container, by its id; else all zeros.
        filesystems: what ``image_filesystems`` says.
        doubles: pod and container of which a second was started while one ran.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self.sandboxes: dict[str, FakeSandbox] = {}
        self.containers: dict[str, FakeContainer] = {}
        self.calls: list[tuple[str, str]] = []
        self.registry: set[str] = set()
        self.pulled_with: list[Credentials | None] = []
        self.stubborn: set[str] = set()
        self.takes: dict[str, float] = {}
        self.finishes_cancelled = False
        self.settle_seconds = 0.0
        self.faults: Callable[[str], Fault | None] = lambda _: None
        self.unmet: dict[str, str] = {}
        self.commands: Callable[[str, Sequence[str]], ExecResult | RuntimeFaultError] = (
            lambda _id, _command: ExecResult(stdout=b"", stderr=b"", exit_code=0)
        )
        self.stats: dict[str, ContainerStats] = {}
        self.filesystems: list[FilesystemUsage] = []
        self.doubles: list[tuple[str, str]] = []
        self._images: dict[str, Image] = {}
        self._clock = clock
        self._ids = itertools.count(1)
        self._planned: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._listeners: list[asyncio.Queue[RuntimeEvent | None]] = []
        self._is_away = False

    # what a test does to it

    def add_image(self, reference: str, *, uid: int | None = None, username: str = "") -> Image:
        """Have an image on the node."""
        number = next(self._ids)
        name = reference.partition("@")[0].rpartition(":")[0] or reference
        image = Image(
            id=f"sha256:{number:064x}",
            tags=(reference,),
            digests=(f"{name}@sha256:{number:064x}",),
            size_bytes=1000,
            uid=uid,
            username=username,
        )
        self._images[reference] = image
        return image

    def fail_next(
        self, call: str, error: RuntimeFaultError, *, times: int = 1, has_effect: bool = False
    ) -> None:
        """Have the next calls of one name fail."""
        self._planned[call].extend([Fault(error=error, has_effect=has_effect)] * times)

    def stop_failing(self) -> None:
        """Forget all planned failures and delays."""
        self._planned.clear()
        self.takes.clear()
        self.faults = lambda _: None

    def go_away(self) -> None:
        """Answer nothing, as while the runtime restarts; what runs, runs on."""
        self._is_away = True

    def come_back(self) -> None:
        """Answer again; who listens is told to look at everything."""
        self._is_away = False
        self._tell(None)

    def exit_container(self, container_id: str, exit_code: int = 0, *, reason: str = "") -> None:
        """End a container's process."""
        self._tell(RuntimeEvent(container_id))
        if self.settle_seconds:
            asyncio.get_running_loop().call_later(
                self.settle_seconds, self._end, container_id, exit_code, reason
            )
        else:
            self._end(container_id, exit_code, reason)

    def cut_power(self) -> None:
        """End everything at once without a word, as it is after the power came back."""
        for sandbox in self.sandboxes.values():
            sandbox.is_ready = False
        for container in self.containers.values():
            if container.is_running:
                self._end(container.status.id, UNKNOWN_EXIT_CODE, "Unknown")

    def running(self, name: str | None = None) -> list[str]:
        """Return the ids of the containers that run, of all names or of one."""
        return [
            each.status.id
            for each in self.containers.values()
            if each.is_running and name in {None, each.spec.name}
        ]

    def count(self, call: str) -> int:
        """Return how often a call was made."""
        return sum(1 for name, _ in self.calls if name == call)

    # the port

    @override
    async def info(self) -> RuntimeInfo:
        async with self._call("info"):
            return RuntimeInfo(name="fake", version="1.0")

    @override
    async def unmet_conditions(self) -> Mapping[str, str]:
        async with self._call("unmet_conditions"):
            return dict(self.unmet)

    @override
    async def run_sandbox(self, spec: SandboxSpec) -> str:
        async with self._call("run_sandbox", spec.name):
            for other in self.sandboxes.values():
                if _identity(other.spec) == _identity(spec):
                    raise AlreadyThereError(
                        f"failed to reserve sandbox name {spec.name!r}: name is reserved for "
                        f"{other.id!r}"
                    )
            number = next(self._ids)
            sandbox_id = f"sandbox-{number}"
            ip = "" if spec.host_network else f"10.88.{number // 256}.{number % 256}"
            self.sandboxes[sandbox_id] = FakeSandbox(sandbox_id, spec, self._now(), ip)
            return sandbox_id

    @override
    async def stop_sandbox(self, sandbox_id: str) -> None:
        async with self._call("stop_sandbox", sandbox_id):
            self._stop_sandbox(sandbox_id)

    @override
    async def remove_sandbox(self, sandbox_id: str) -> None:
        async with self._call("remove_sandbox", sandbox_id):
            self._stop_sandbox(sandbox_id)
            self.sandboxes.pop(sandbox_id, None)
            self.containers = {
                key: each for key, each in self.containers.items() if each.sandbox_id != sandbox_id
            }

    @override
    async def sandbox_ips(self, sandbox_id: str) -> Sequence[str]:
        async with self._call("sandbox_ips", sandbox_id):
            sandbox = self._sandbox(sandbox_id)
            return [sandbox.ip] if sandbox.ip and sandbox.is_ready else []

    @override
    async def list_sandboxes(self) -> Sequence[Sandbox]:
        async with self._call("list_sandboxes"):
            return [
                Sandbox(
                    id=each.id,
                    name=each.spec.name,
                    namespace=each.spec.namespace,
                    uid=each.spec.uid,
                    attempt=each.spec.attempt,
                    is_ready=each.is_ready,
                    created_at=each.created_at,
                    labels=dict(each.spec.labels),
                    annotations=dict(each.spec.annotations),
                )
                for each in self.sandboxes.values()
            ]

    @override
    async def create_container(
        self, sandbox_id: str, spec: ContainerSpec, sandbox: SandboxSpec
    ) -> str:
        async with self._call("create_container", spec.name):
            made = self._sandbox(sandbox_id)
            if not made.is_ready:
                raise RefusedError(f"failed to get sandbox container task: {sandbox_id!r} is gone")
            image = self._find(spec.image)
            if image is None:
                raise NotFoundError(f"failed to resolve image {spec.image!r}: not found")
            for other in self.containers.values():
                taken = (other.pod_uid, other.spec.name, other.spec.attempt)
                if taken == (sandbox.uid, spec.name, spec.attempt):
                    raise AlreadyThereError(
                        f"failed to reserve container name {spec.name!r}: name is reserved for "
                        f"{other.status.id!r}"
                    )
            container_id = f"container-{next(self._ids)}"
            self.containers[container_id] = FakeContainer(
                sandbox_id,
                sandbox.uid,
                spec,
                self._now(),
                ContainerStatus(
                    id=container_id,
                    state=ContainerState.CREATED,
                    started_at=0,
                    finished_at=0,
                    exit_code=0,
                    reason="",
                    message="",
                    image=next(iter(image.tags), image.id),
                    image_ref=image.id,
                ),
            )
            return container_id

    @override
    async def start_container(self, container_id: str) -> None:
        async with self._call("start_container", container_id):
            container = self._container(container_id)
            state = container.status.state
            if state is not ContainerState.CREATED:
                raise RefusedError(f"container {container_id!r} is in {state.value} state")
            if not self._sandbox(container.sandbox_id).is_ready:
                raise RefusedError(f"sandbox container {container.sandbox_id!r} is not running")
            name = (container.pod_uid, container.spec.name)
            if any(
                (each.pod_uid, each.spec.name) == name and each.is_running
                for each in self.containers.values()
            ):
                self.doubles.append(name)
            container.status = replace(
                container.status, state=ContainerState.RUNNING, started_at=self._now()
            )

    @override
    async def stop_container(self, container_id: str, *, grace_seconds: int) -> None:
        async with self._call("stop_container", container_id):
            container = self.containers.get(container_id)
        if container is None or not container.is_running:
            return
        if container.spec.name in self.stubborn:
            try:
                async with asyncio.timeout(grace_seconds):
                    await container.ended.wait()
            except TimeoutError:
                self.exit_container(container_id, KILLED_EXIT_CODE)
        else:
            code = TERMINATED_EXIT_CODE if grace_seconds else KILLED_EXIT_CODE
            self.exit_container(container_id, code)
        await container.ended.wait()

    @override
    async def remove_container(self, container_id: str) -> None:
        async with self._call("remove_container", container_id):
            container = self.containers.get(container_id)
            if container is not None and container.is_running:
                self._kill(container_id)
            self.containers.pop(container_id, None)

    @override
    async def list_containers(self) -> Sequence[Container]:
        async with self._call("list_containers"):
            return [
                Container(
                    id=key,
                    sandbox_id=each.sandbox_id,
                    name=each.spec.name,
                    attempt=each.spec.attempt,
                    image=each.spec.image,
                    image_ref=each.status.image_ref,
                    state=each.status.state,
                    created_at=each.created_at,
                    labels=dict(each.spec.labels),
                    annotations=dict(each.spec.annotations),
                )
                for key, each in self.containers.items()
            ]

    @override
    async def container_status(self, container_id: str) -> ContainerStatus:
        async with self._call("container_status", container_id):
            return self._container(container_id).status

    @override
    async def list_container_stats(self) -> Sequence[ContainerStats]:
        async with self._call("list_container_stats"):
            return [
                self.stats.get(key)
                or ContainerStats(
                    id=key,
                    cpu_core_nanoseconds=0,
                    memory_working_set_bytes=0,
                    writable_layer_bytes=0,
                    writable_layer_inodes=0,
                )
                for key, each in self.containers.items()
                if each.is_running
            ]

    @override
    async def exec_sync(
        self, container_id: str, command: Sequence[str], *, timeout_seconds: float
    ) -> ExecResult:
        async with self._call("exec_sync", container_id):
            self._running_container(container_id)
            result = self.commands(container_id, command)
            if isinstance(result, RuntimeFaultError):
                raise result
            return result

    @override
    async def exec_url(
        self,
        container_id: str,
        command: Sequence[str],
        *,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        tty: bool,
    ) -> str:
        async with self._call("exec_url", container_id):
            self._running_container(container_id)
            return f"http://127.0.0.1:1/exec/{next(self._ids)}"

    @override
    async def reopen_log(self, container_id: str) -> None:
        async with self._call("reopen_log", container_id):
            self._running_container(container_id)

    @override
    async def list_images(self) -> Sequence[Image]:
        async with self._call("list_images"):
            return list(self._images.values())

    @override
    async def find_image(self, reference: str) -> Image | None:
        async with self._call("find_image", reference):
            return self._find(reference)

    @override
    async def pull_image(self, reference: str, credentials: Credentials | None) -> str:
        self.pulled_with.append(credentials)
        async with self._call("pull_image", reference):
            if reference not in self.registry:
                raise NotFoundError(f"failed to resolve reference {reference!r}: not found")
            return self.add_image(reference).id

    @override
    async def remove_image(self, image_id: str) -> None:
        async with self._call("remove_image", image_id):
            self._images = {
                name: image for name, image in self._images.items() if image.id != image_id
            }

    @override
    async def image_filesystems(self) -> Sequence[FilesystemUsage]:
        async with self._call("image_filesystems"):
            return list(self.filesystems)

    @override
    async def events(self) -> AsyncIterator[RuntimeEvent | None]:
        queue: asyncio.Queue[RuntimeEvent | None] = asyncio.Queue()
        self._listeners.append(queue)
        try:
            if not self._is_away:
                yield None
            while True:
                yield await queue.get()
        finally:
            self._listeners.remove(queue)

    # inside

    @asynccontextmanager
    async def _call(self, call: str, about: str = "") -> AsyncIterator[None]:
        """Surround a call's work with the time it takes and the way it fails."""
        self.calls.append((call, about))
        self._answer_or_fail()
        fault = self._planned[call].popleft() if self._planned[call] else self.faults(call)
        if fault is not None and not fault.has_effect:
            raise fault.error
        given_up: asyncio.CancelledError | None = None
        try:
            await asyncio.sleep(self.takes.get(call, 0.0))
        except asyncio.CancelledError as exc:
            if not self.finishes_cancelled:
                raise
            given_up = exc
            if self._is_away:
                raise
        try:
            self._answer_or_fail()
            yield
        except RuntimeFaultError:
            if given_up is None:
                raise
        if given_up is not None:
            raise given_up  # nobody hears how it ended
        if fault is not None:
            raise fault.error

    def _answer_or_fail(self) -> None:
        if self._is_away:
            raise UnavailableError("failed to connect to all addresses: the runtime is away")

    def _stop_sandbox(self, sandbox_id: str) -> None:
        sandbox = self.sandboxes.get(sandbox_id)
        if sandbox is None:
            return
        for each in list(self.containers.values()):
            if each.sandbox_id == sandbox_id and each.is_running:
                self._kill(each.status.id)
        if sandbox.is_ready:
            sandbox.is_ready = False
            self._tell(RuntimeEvent(sandbox_id))

    def _kill(self, container_id: str) -> None:
        self._tell(RuntimeEvent(container_id))
        self._end(container_id, KILLED_EXIT_CODE, "")

    def _end(self, container_id: str, exit_code: int, reason: str) -> None:
        container = self.containers.get(container_id)
        if container is None or not container.is_running:
            return
        container.status = replace(
            container.status,
            state=ContainerState.EXITED,
            finished_at=self._now(),
            exit_code=exit_code,
            reason=reason or ("Completed" if exit_code == 0 else "Error"),
        )
        container.ended.set()

    def _tell(self, event: RuntimeEvent | None) -> None:
        for listener in self._listeners:
            listener.put_nowait(event)

    def _find(self, reference: str) -> Image | None:
        for image in self._images.values():
            if reference in {image.id, *image.tags, *image.digests}:
                return image
        return None

    def _sandbox(self, sandbox_id: str) -> FakeSandbox:
        try:
            return self.sandboxes[sandbox_id]
        except KeyError:
            raise NotFoundError(f"an error occurred: sandbox {sandbox_id!r}: not found") from None

    def _container(self, container_id: str) -> FakeContainer:
        try:
            return self.containers[container_id]
        except KeyError:
            raise NotFoundError(
                f"an error occurred: container {container_id!r}: not found"
            ) from None

    def _running_container(self, container_id: str) -> FakeContainer:
        container = self._container(container_id)
        if not container.is_running:
            raise RefusedError(
                f"container {container_id!r} is in {container.status.state.value} state"
            )
        return container

    def _now(self) -> int:
        return int(self._clock() * 1e9)


def _identity(spec: SandboxSpec) -> tuple[str, str, str, int]:
    return (spec.name, spec.namespace, spec.uid, spec.attempt)
