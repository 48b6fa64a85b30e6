"""``fedge demo``: the main job, shown on this machine.

The story is a row of steps that return what they saw, so that a test tells it too and checks each.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from fedge_cli import kubeconfig
from fedge_cli.api import Api
from fedge_cli.applying import apply
from fedge_cli.errors import AwayError, CommandError, MissingError, UsageError
from fedge_cli.getting import Query, Table, get_table
from fedge_cli.local import data_dir
from fedge_local.errors import LocalError
from fedge_local.errors import MissingError as MissingProgramError
from fedge_local.stack import Stack, Step

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

Predicate = Callable[[dict[str, Any]], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningContainer:
    """A container as the edge's own runtime has it.

    Attributes:
        id: given anew each time a container is made.
        image: what it runs.
        args: its command line.
        env: its environment, without the host name of its sandbox.
        mounts: what it sees, where.
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
        """Apply examples/hello and return what was done."""
        return self.apply(self.repository / _EXAMPLE)

    def api(self) -> Any:
        """Open the cloud's API."""
        return Api.opened(kubeconfig.load(self.stack.kubeconfig))

    async def pod_running(self, *, restarts: int, seconds: float = 60) -> dict[str, Any]:
        """Wait until the cloud sees the pod run after so many restarts; return it."""

        def is_so(pod: dict[str, Any]) -> bool:
            status = pod.get("status") or {}
            statuses = status.get("containerStatuses") or ()
            return (
                status.get("phase") == "Running"
                and bool(statuses)
                and all("running" in each["state"] for each in statuses)
                and sum(each["restartCount"] for each in statuses) >= restarts
            )

        path = f"/api/v1/namespaces/{NAMESPACE}/pods"
        what = f"pod {POD} Running with {restarts} restarts"
        return await self._seen(path, POD, is_so, what=what, seconds=seconds)

    async def node_ready(self, ready: str, *, seconds: float = 60) -> dict[str, Any]:
        """Wait until the cloud holds the node's Ready condition to be ``ready``; return it."""

        def is_so(node: dict[str, Any]) -> bool:
            conditions = (node.get("status") or {}).get("conditions") or ()
            return any(c["type"] == "Ready" and c["status"] == ready for c in conditions)

        what = f"node {EDGE} with Ready={ready}"
        return await self._seen("/api/v1/nodes", EDGE, is_so, what=what, seconds=seconds)

    async def container(self) -> RunningContainer | None:
        """Return the pod's container as the edge's own runtime has it, if it runs."""
        from fedge_cri import ContainerState, UnavailableError  # noqa: PLC0415 - loads grpc
        from fedge_cri.client import CriRuntime  # noqa: PLC0415

        containerd = self.stack.edge(EDGE).parts.containerd
        async with CriRuntime.connected(containerd.socket) as runtime:
            try:
                found = [
                    each
                    for each in await runtime.list_containers()
                    if each.labels.get("io.kubernetes.pod.name") == POD
                    and each.state is ContainerState.RUNNING
                ]
            except UnavailableError:
                return None
        if not found:
            return None
        if len(found) > 1:
            raise CommandError(f"pod {POD} runs {len(found)} times: {[each.id for each in found]}")
        spec = json.loads(await containerd.ctr("containers", "info", found[0].id))["Spec"]
        return RunningContainer(
            id=found[0].id,
            image=found[0].image,
            args=tuple(spec["process"]["args"]),
            env=tuple(sorted(spec["process"]["env"])),
            mounts=tuple(
                sorted(
                    (each["destination"], each["source"])
                    for each in spec["mounts"]
                    if "/sandboxes/" not in each["source"]
                )
            ),
        )

    async def container_running(self, *, seconds: float = 60) -> RunningContainer:
        """Wait until the edge itself runs the pod's container; return it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = await self.container()
            if found is not None:
                return found
            await asyncio.sleep(0.05)
        log = self.stack.edge(EDGE).parts.services.log
        raise CommandError(f"the edge did not run pod {POD} within {seconds:.0f} s; see {log}")

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
                query = {
                    **field,
                    "watch": "true",
                    "resourceVersion": listed["metadata"]["resourceVersion"],
                    "timeoutSeconds": str(max(1, int(left))),
                }
                for line in api.stream(path, query=query, accept="application/json"):
                    event = json.loads(line)
                    if event["type"] in {"ADDED", "MODIFIED"}:
                        last = event["object"]
                        if is_so(last):
                            return last
        found = json.dumps((last or {}).get("status"), ensure_ascii=False)
        raise CommandError(
            f"waited {seconds:.0f} s for {what}; it is {found}; logs are in {self.stack.folder}"
        )


def show(folder: Path | None) -> None:
    """Tell the story on the terminal.

    Raises:
        CommandError: a step did not come to its end.
    """
    asyncio.run(_show(Stack(data_dir(folder), edges=(EDGE,), settings=SETTINGS)))


def stop(folder: Path | None) -> None:
    """Stop what runs in ``folder``."""
    stack = Stack(data_dir(folder))
    if not stack.exists:
        sys.stdout.write(f"nothing was started in {stack.folder}\n")
        return
    telling = _Telling()
    telling.heading(f"Stopping what runs in {stack.folder}")
    _translated(lambda: asyncio.run(stack.down(telling.step)))


async def _show(stack: Stack) -> None:
    telling = _Telling()
    story = Story(stack, repository=_repository())
    edge = None
    try:
        telling.heading("1. Start a cloud and an edge; the edge dials out, nobody dials in")
        await story.start(telling.step)
        await story.node_ready("True")
        edge = stack.edge(EDGE)

        telling.heading("2. Apply examples/hello: a Pod, a ConfigMap and a Secret")
        began = time.monotonic()
        for line in story.apply_example():
            telling.line(line)
        pod = await story.pod_running(restarts=0)
        telling.done(f"Running, seen at the API after {time.monotonic() - began:.2f} s")
        before = await story.container_running()
        telling.table(story.table("nodes"))
        telling.table(story.table("pods"))
        telling.line(f"log: {story.log()}")

        telling.heading("3. Cut the line")
        await edge.cut()
        await story.node_ready("Unknown")
        telling.done("the cloud says what it knows, and how old that is")
        telling.table(story.table("pods"))

        telling.heading("4. Take the edge's power: every process and container dies")
        await edge.power_cut()
        telling.done("the edge is dark")

        telling.heading("5. Power is back; the cloud is still out of reach")
        await edge.start(telling.step)
        began = time.monotonic()
        after = await story.container_running()
        telling.done(f"{POD} runs again {time.monotonic() - began:.2f} s after the services' start")
        same = "the same spec" if after.same_spec(before) else "ANOTHER SPEC"
        telling.line(f"container {before.id[:12]} before, {after.id[:12]} now, {same}")

        telling.heading("6. Mend the line")
        await edge.heal()
        began = time.monotonic()
        restarts = sum(each["restartCount"] for each in pod["status"]["containerStatuses"])
        await story.node_ready("True")
        await story.pod_running(restarts=restarts + 1)
        telling.done(f"the cloud has caught up after {time.monotonic() - began:.1f} s")
        telling.table(story.table("nodes"))
        telling.table(story.table("pods"))
        if not after.same_spec(before):
            raise CommandError(f"the container came back with another spec: {before} {after}")
    except LocalError as exc:
        raise _as_command_error(exc) from exc
    finally:
        if edge is not None and edge.line.name != "UP":
            await edge.heal()
    telling.next_steps(stack)


def _repository() -> Path:
    """Return the folder with the manifests: this one, or that of an installation for editing."""
    for folder in (Path.cwd(), *Path(__file__).resolve().parents):
        if (folder / _EXAMPLE).is_dir() and (folder / _CRDS).is_dir():
            return folder
    raise UsageError(f"{_EXAMPLE} is not found: run `fedge demo` in a clone of the repository")


def _translated(call: Callable[[], None]) -> None:
    try:
        call()
    except LocalError as exc:
        raise _as_command_error(exc) from exc


def _as_command_error(exc: LocalError) -> CommandError:
    if isinstance(exc, MissingProgramError):
        return MissingError(f"{exc}")
    return AwayError(f"{exc}")


class _Telling:
    """Prints the story."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._began = time.monotonic()

    def heading(self, text: str) -> None:
        elapsed = time.monotonic() - self._began
        self._console.print(f"\n[bold]{text}[/bold]  [dim]{elapsed:5.1f} s[/dim]")

    def step(self, step: Step) -> None:
        if step.state != "starting":
            self._console.print(
                f"   {step.where:<8} {step.name:<12} {step.state}  [dim]{step.seconds:5.1f} s[/dim]"
            )

    def line(self, text: str) -> None:
        self._console.print(f"   {text}", markup=False)

    def done(self, text: str) -> None:
        self._console.print(f"   [green]✓[/green] {text}")

    def table(self, table: Table) -> None:
        rows: Sequence[list[str]] = [table.columns, *table.rows]
        widths = [max(len(row[at]) for row in rows) for at in range(len(table.columns))]
        self._console.print()
        for row in rows:
            cells = zip(row, widths, strict=True)
            text = "   ".join(cell.ljust(width) for cell, width in cells)
            self._console.print(f"   {text.rstrip()}", markup=False)
        self._console.print()

    def next_steps(self, stack: Stack) -> None:
        elapsed = time.monotonic() - self._began
        fedge = "fedge" if _on_path() else ".venv/bin/fedge"
        steps: Mapping[str, str] = {
            f"{fedge} get nodes": "what there is",
            f"{fedge} describe pod {POD}": "all about the pod, with its events",
            f"{fedge} logs {POD}": "what it wrote, read through the cloud",
            f"{fedge} apply -f examples/thermometer": "a device, driven by manifests",
            f"export KUBECONFIG={stack.kubeconfig}": "the same for kubectl",
            f"curl {stack.hub_url}/metrics": "hub's counters",
            "make down": "stop all of it",
        }
        self.heading(f"Done in {elapsed:.1f} s; the system is up. Try:")
        width = max(map(len, steps))
        for command, why in steps.items():
            self._console.print(f"   {command.ljust(width)}   [dim]{why}[/dim]")
        self._console.print(f"\n   Kubernetes API {stack.apiserver_url}   hub {stack.hub_url}")


def _on_path() -> bool:
    import shutil  # noqa: PLC0415 - only at the end

    return shutil.which("fedge") is not None
