"""``fedge demo``: the main job, shown on this machine.

The story is a row of steps that return what they saw, so that a test tells it too and checks each.
"""

import asyncio
import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedge_cli import apply_trace, kubeconfig
from fedge_cli.api import Api
from fedge_cli.applying import apply
from fedge_cli.errors import CommandError, UsageError
from fedge_cli.finding_traces import TraceClient, read_asked
from fedge_cli.getting import Query, Table, get_table
from fedge_cli.local import DEFAULT_DATA_DIR, data_dir, require_root, translated
from fedge_cli.sizes import parse_bytes
from fedge_cli.telling import Telling, command_name
from fedge_cli.trace_layout import View, trace_lines
from fedge_cli.traces import Span
from fedge_local.containerd import Containerd
from fedge_local.stack import Stack, Step
from fedge_local.state import Line

if TYPE_CHECKING:
    from fedge_cri.client import CriRuntime

EDGE = "edge-1"
POD = "hello"
NAMESPACE = "default"
SETTINGS = {
    # a demo has no patience: an absent node shows after seconds, not after a minute
    "FEDGE_EDGE_HEARTBEAT_SECONDS": "2",
    "FEDGE_APISERVER_NODE_GRACE_SECONDS": "5",
}
_CRDS = Path("deploy/k8s/base/crds")
_EXAMPLE = Path("examples/hello")
_LOOK_SECONDS = 0.05
_SYSTEM = "fedge-system"
_TRACE_SECONDS = 15.0
_MARGIN = 4

Predicate = Callable[[dict[str, Any]], bool]


_LAST_WORDS = "/dev/termination-log"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningContainer:
    """A container as the edge's own runtime has it.

    Attributes:
        id: given anew each time a container is made.
        image: what it runs.
        args: its command line.
        env: its environment, without the host name of its sandbox.
        mounts: what it sees, where; but the file for its last words, which each attempt has anew.
    """

    id: str
    image: str
    args: tuple[str, ...]
    env: tuple[str, ...]
    mounts: tuple[tuple[str, str], ...]

    def same_spec(self, other: "RunningContainer") -> bool:
        """Whether both were made of the same spec."""
        return (self.image, self.args, self.env, self.mounts) == (
            other.image,
            other.args,
            other.env,
            other.mounts,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Back:
    """What came back after the power did.

    Attributes:
        container: the pod's.
        seconds: from the start of the edge's services until it ran.
    """

    container: RunningContainer
    seconds: float


class Story:
    """The main job, step by step, on a stack."""

    def __init__(self, stack: Stack, *, repository: Path) -> None:
        self.stack = stack
        self.repository = repository

    async def start(self, observe: Callable[[Step], None]) -> None:
        """Start the cloud and the edge, and define the kinds of devices."""
        await self.stack.up(observe)
        self.apply(self.repository / _CRDS)

    def apply(self, path: Path) -> list[str]:
        """Apply manifests and return what was done.

        Raises:
            CommandError: one of them was refused.
        """
        done = []
        with self.api() as api:
            for line in apply(api, str(path), namespace=NAMESPACE):
                if isinstance(line, CommandError):
                    raise line
                done.append(line)
        return done

    def apply_example(self) -> list[str]:
        """Apply examples/hello, traced, and return what was done."""
        with self.api() as api, apply_trace.begun(api, _SYSTEM) as trace:
            done = self.apply(self.repository / _EXAMPLE)
            trace.is_wanted = any(not line.endswith("unchanged") for line in done)
        return done

    def trace(self) -> list[str]:
        """Return the trace of the pod's last change, drawn."""
        with self.api() as api:
            asked = read_asked(f"pod/{POD}", NAMESPACE)
            found = TraceClient(api, _SYSTEM).find(asked, wait_seconds=_TRACE_SECONDS)
        spans = [Span.read(each) for each in found.answer["spans"]]
        width = shutil.get_terminal_size((100, 24)).columns - _MARGIN
        return list(trace_lines(spans, View(about=found.about, width=width)))

    def api(self) -> Any:
        """Open the cloud's API."""
        return Api.opened(kubeconfig.load(self.stack.kubeconfig))

    async def pod_running(
        self, *, restarts: int, container: RunningContainer | None = None, seconds: float = 60
    ) -> dict[str, Any]:
        """Wait until the cloud sees the pod run after so many restarts; return it.

        Args:
            restarts: at least so many.
            container: the very one that is to be seen; None takes what the cloud knows, old or new.
            seconds: how long to wait.
        """
        ids = None if container is None else [f"containerd://{container.id}"]

        def is_so(pod: dict[str, Any]) -> bool:
            status = pod.get("status") or {}
            statuses = status.get("containerStatuses") or ()
            return (
                status.get("phase") == "Running"
                and bool(statuses)
                and all("running" in each["state"] for each in statuses)
                and sum(each["restartCount"] for each in statuses) >= restarts
                and (ids is None or [each.get("containerID") for each in statuses] == ids)
            )

        path = f"/api/v1/namespaces/{NAMESPACE}/pods"
        which = "" if container is None else f" as container {container.id[:12]}"
        what = f"pod {POD} Running with {restarts} restarts{which}"
        return await self._seen(path, POD, is_so, what=what, seconds=seconds)

    async def node_ready(self, ready: str, *, seconds: float = 60) -> dict[str, Any]:
        """Wait until the cloud holds the node's Ready condition to be ``ready``; return it."""

        def is_so(node: dict[str, Any]) -> bool:
            conditions = (node.get("status") or {}).get("conditions") or ()
            return any(c["type"] == "Ready" and c["status"] == ready for c in conditions)

        what = f"node {EDGE} with Ready={ready}"
        return await self._seen("/api/v1/nodes", EDGE, is_so, what=what, seconds=seconds)

    async def container(self) -> RunningContainer | None:
        """Return the pod's container as the edge's own runtime has it, if it runs.

        Raises:
            CommandError: it runs twice.
        """
        from fedge_cri import UnavailableError  # noqa: PLC0415 - loads grpc
        from fedge_cri.client import CriRuntime  # noqa: PLC0415

        async with CriRuntime.connected(self._containerd.socket) as runtime:
            try:
                return await self._container_in(runtime)
            except UnavailableError:
                return None

    async def container_running(self, *, seconds: float = 60) -> RunningContainer:
        """Wait until the edge itself runs the pod's container; return it.

        The runtime's events tell of ends only, so an onlooker has to look.

        Raises:
            CommandError: it does not in time.
        """
        from fedge_cri import RuntimeFaultError  # noqa: PLC0415 - loads grpc
        from fedge_cri.client import CriRuntime  # noqa: PLC0415

        last: RuntimeFaultError | None = None
        deadline = time.monotonic() + seconds
        async with CriRuntime.connected(self._containerd.socket) as runtime:
            while time.monotonic() < deadline:
                try:
                    found = await self._container_in(runtime)
                except RuntimeFaultError as exc:
                    last = exc  # it may just be starting
                    found = None
                if found is not None:
                    return found
                await asyncio.sleep(_LOOK_SECONDS)
        why = f" ({last})" if last is not None else ""
        raise CommandError(
            f"waited {seconds:.0f} s for the edge to run pod {POD}, and it does not{why}; "
            f"its log is {self.stack.edge(EDGE).parts.services.log}"
        )

    @property
    def _containerd(self) -> Containerd:
        return self.stack.edge(EDGE).parts.containerd

    async def _container_in(self, runtime: "CriRuntime") -> RunningContainer | None:
        from fedge_cri import ContainerState  # noqa: PLC0415 - loads grpc

        found = [
            each
            for each in await runtime.list_containers()
            if each.labels.get("io.kubernetes.pod.name") == POD
            and each.state is ContainerState.RUNNING
        ]
        if not found:
            return None
        if len(found) > 1:
            raise CommandError(f"pod {POD} runs {len(found)} times: {[each.id for each in found]}")
        info = json.loads(await self._containerd.ctr("containers", "info", found[0].id))
        process, mounts = info["Spec"]["process"], info["Spec"]["mounts"]
        return RunningContainer(
            id=found[0].id,
            image=found[0].image,
            args=tuple(process["args"]),
            env=tuple(sorted(process["env"])),
            mounts=tuple(
                sorted(
                    (each["destination"], each["source"])
                    for each in mounts
                    if "/sandboxes/" not in each["source"] and each["destination"] != _LAST_WORDS
                )
            ),
        )

    async def cut_line(self) -> dict[str, Any]:
        """Cut the edge's line to the cloud; return the node as soon as the cloud knows."""
        await self.stack.edge(EDGE).cut()
        return await self.node_ready("Unknown")

    async def cut_power(self) -> None:
        """Take the edge's power: every process and container of it dies.

        Raises:
            CommandError: something survived.
        """
        edge = self.stack.edge(EDGE)
        await edge.power_cut()
        left = None if not edge.is_on else "its host"
        if await self.container() is not None:
            left = f"pod {POD}"
        if left is not None:
            raise CommandError(f"the edge has no power, and {left} still runs")

    async def restore_power(self, observe: Callable[[Step], None], *, seconds: float = 60) -> Back:
        """Switch the edge on again and wait until it runs the pod, whoever else is there."""
        await self.stack.edge(EDGE).start(observe)
        began = time.monotonic()
        container = await self.container_running(seconds=seconds)
        return Back(container=container, seconds=time.monotonic() - began)

    async def mend_line(self, *, back: Back, restarts: int) -> dict[str, Any]:
        """Mend the line; return the pod when the cloud knows what came back."""
        await self.stack.edge(EDGE).heal()
        await self.node_ready("True")
        return await self.pod_running(restarts=restarts, container=back.container)

    def table(self, kind: str) -> Table:
        """Return what ``fedge get`` prints."""
        with self.api() as api:
            query = Query(kinds=kind, names=(), namespace=NAMESPACE)
            return get_table(api, api.find_type(kind), (), query)

    def log(self) -> str:
        """Return the pod's log, read through the cloud."""
        with self.api() as api:
            path = f"/api/v1/namespaces/{NAMESPACE}/pods/{POD}/log"
            return "\n".join(api.stream(path, query={"tailLines": "5"}, accept="text/plain, */*"))

    async def _seen(
        self, path: str, name: str, is_so: Predicate, *, what: str, seconds: float
    ) -> dict[str, Any]:
        return await asyncio.to_thread(self._watch, path, name, is_so, what, seconds)

    def _watch(
        self, path: str, name: str, is_so: Predicate, what: str, seconds: float
    ) -> dict[str, Any]:
        """Wait until an object is as wished, by list and watch."""
        deadline = time.monotonic() + seconds
        last: dict[str, Any] = {}
        field = {"fieldSelector": f"metadata.name={name}"}
        with self.api() as api:
            while (left := deadline - time.monotonic()) > 0:
                listed = api.request("GET", path, query=field)
                for last in listed["items"]:
                    if is_so(last):
                        return last
                events = api.watch(
                    path,
                    resource_version=listed["metadata"]["resourceVersion"],
                    query=field,
                    seconds=max(1, round(left)),
                )
                for event in events:
                    if event["type"] in {"ADDED", "MODIFIED"}:
                        last = event["object"]
                        if is_so(last):
                            return last
        found = json.dumps(last.get("status"), ensure_ascii=False) if last else "not there"
        raise CommandError(
            f"waited {seconds:.0f} s for {what}; its status is {found}; "
            f"the logs are in {self.stack.folder}"
        )


def show(
    folder: Path | None, *, edge_disk: str = "", fake_clock: bool = False, edge_image: str = ""
) -> None:
    """Tell the story on the terminal.

    Args:
        folder: where all of it is; None: the default.
        edge_disk: size of a disk of the edge's own, as a quantity; empty: as it was.
        fake_clock: whether the clock of the edge's services can be set; False: as it was.
        edge_image: archive of the image that the edge runs from; empty: it runs from here.

    Raises:
        UsageError: this is not the place, or not the user, for it.
        CommandError: a step did not come to its end.
    """
    require_root("the demo makes network namespaces and containers", "sudo make demo")
    with translated():
        stack = Stack(
            data_dir(folder),
            edges=(EDGE,),
            settings=SETTINGS,
            edge_disk_bytes=parse_bytes("--edge-disk", edge_disk) if edge_disk else None,
            fake_clock=fake_clock or None,
            edge_image=Path(edge_image),
        )
        asyncio.run(_show(Story(stack, repository=_repository()), Telling()))


def stop(folder: Path | None) -> None:
    """Stop what runs in ``folder``."""
    with translated():
        stack = Stack(data_dir(folder))
        if not stack.exists:
            sys.stdout.write(f"nothing was started in {stack.folder}\n")
            return
        telling = Telling()
        telling.heading(f"Stopping what runs in {stack.folder}")
        with telling.steps() as steps:
            asyncio.run(stack.down(steps))


async def _show(story: Story, telling: Telling) -> None:
    try:
        await _tell(story, telling)
    finally:
        # whatever went wrong, what stays up is whole
        if story.stack.exists and EDGE in story.stack.edge_names:
            edge = story.stack.edge(EDGE)
            if edge.line is not Line.UP:
                await edge.heal()
    _next_steps(story.stack, telling)


async def _tell(story: Story, telling: Telling) -> None:
    telling.heading("1. Start a cloud and an edge; the edge dials out, nobody dials in")
    with telling.steps() as steps:
        await story.start(steps)
    with telling.waiting("the node to be Ready"):
        await story.node_ready("True")
    telling.done(f"node {EDGE} is Ready")

    telling.heading("2. Apply examples/hello: a Pod, a ConfigMap and a Secret")
    began = time.monotonic()
    for line in story.apply_example():
        telling.line(line)
    with telling.waiting("the pod to be Running, seen at the API"):
        await story.pod_running(restarts=0)
        before = await story.container_running()
        pod = await story.pod_running(restarts=0, container=before)
    telling.done(f"Running, seen at the API after {time.monotonic() - began:.2f} s")
    _tables(story, telling)
    telling.line("")
    telling.line(f"its log, read through the cloud: {story.log()}")
    telling.line("")
    with telling.waiting("the trace of all that"):
        lines = await asyncio.to_thread(story.trace)
    for line in lines:
        telling.line(line)

    telling.heading("3. Cut the line")
    with telling.waiting("the cloud to know"):
        await story.cut_line()
    telling.done("the cloud says what it knows, and how old that is")
    _tables(story, telling)

    telling.heading("4. Take the edge's power")
    await story.cut_power()
    telling.done("every process and container of the edge is dead")

    telling.heading("5. Power is back; the cloud is still out of reach")
    with telling.steps() as steps:
        back = await story.restore_power(steps)
    telling.done(f"{POD} runs again {back.seconds:.2f} s after the edge's services were started")
    telling.table(_compared(before, back.container))
    if not back.container.same_spec(before):
        raise CommandError(f"the container came back with another spec: {before} {back.container}")

    telling.heading("6. Mend the line")
    began = time.monotonic()
    restarts = sum(each["restartCount"] for each in pod["status"]["containerStatuses"])
    with telling.waiting("the cloud to catch up"):
        await story.mend_line(back=back, restarts=restarts + 1)
    telling.done(f"the cloud has caught up after {time.monotonic() - began:.1f} s")
    _tables(story, telling)


def _tables(story: Story, telling: Telling) -> None:
    telling.table(story.table("nodes"))
    telling.table(story.table("pods"))


def _compared(before: RunningContainer, now: RunningContainer) -> Table:
    """Return both containers side by side, as the edge's own containerd has them."""

    def row(title: str, each: RunningContainer) -> list[str]:
        numbers = [f"{len(each.env)} variables", f"{len(each.mounts)} mounts"]
        image = each.image.removeprefix("sha256:")[:12] if "sha256:" in each.image else each.image
        return [title, each.id[:12], image, " ".join(each.args), *numbers]

    spec = ["same" if one == other else "DIFFERENT" for one, other in _pairs(before, now)]
    new = "same" if before.id == now.id else "new"
    columns = ["", "CONTAINER", "IMAGE", "COMMAND", "ENVIRONMENT", "VOLUMES"]
    return Table(columns, [row("before", before), row("now", now), ["", new, *spec]])


def _pairs(before: RunningContainer, now: RunningContainer) -> list[tuple[object, object]]:
    return [
        (before.image, now.image),
        (before.args, now.args),
        (before.env, now.env),
        (before.mounts, now.mounts),
    ]


def _next_steps(stack: Stack, telling: Telling) -> None:
    fedge = command_name()
    steps: dict[str, str] = {}
    if stack.folder != data_dir():
        steps[f"export FEDGE_DATA_DIR={stack.folder}"] = "first: where this system is"
    steps |= {
        f"{fedge} get nodes": "what there is",
        f"{fedge} get pods -w": "every change, as it comes",
        f"{fedge} describe pod {POD}": "all about the pod, with its events",
        f"{fedge} logs {POD}": "what it wrote, read through the cloud",
        f"{fedge} apply -f examples/air-conditioner/": "a device, see the README there",
        f"export KUBECONFIG={stack.kubeconfig}": "the same for kubectl",
        "make down" if stack.folder == DEFAULT_DATA_DIR else f"{fedge} down": "stop all of it",
    }
    title = f"Done in {telling.elapsed_seconds:.1f} s; the system is up. Try"
    telling.next_steps(title, steps)
    telling.line("")
    telling.line(f"Kubernetes API {stack.apiserver_url}")
    telling.line(f"hub            {stack.hub_url}/readyz, {stack.hub_url}/metrics")


def _repository() -> Path:
    """Return the folder with the manifests: this one, or that of an installation for editing."""
    for folder in (Path.cwd(), *Path(__file__).resolve().parents):
        if (folder / _EXAMPLE).is_dir() and (folder / _CRDS).is_dir():
            return folder
    raise UsageError(f"{_EXAMPLE} is not found: run `fedge demo` in a clone of the repository")
