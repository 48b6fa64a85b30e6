"""Edged, put together.

The order matters: the store is read and the pods are brought up before the broker's client is even
loaded, so that a gateway that was switched on has its pods back at once, with the cloud away.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from fedge_cri import Runtime, RuntimeFaultError
from fedge_edged import node_status
from fedge_edged.actions import NodeActions
from fedge_edged.amounts import amounts_of, as_quantities
from fedge_edged.api_access import FOLDER, ApiAccess
from fedge_edged.cgroups import Cgroups
from fedge_edged.context import Tools
from fedge_edged.dns import Names
from fedge_edged.environment import Environment
from fedge_edged.evictor import Evictor, observing
from fedge_edged.execs import Execs
from fedge_edged.image_gc import ImageGC
from fedge_edged.images import Images
from fedge_edged.incarnation import next_incarnation
from fedge_edged.limits import memory_of_node
from fedge_edged.local_node import LocalNode
from fedge_edged.local_socket import LocalSocket
from fedge_edged.log_requests import LogRequests
from fedge_edged.log_rotation import LogRotation
from fedge_edged.node_pods import NodeObjects, NodePods
from fedge_edged.once import Once
from fedge_edged.pressure import Pressure, parse_thresholds
from fedge_edged.reporting import Reporting
from fedge_edged.runtimes import load_runtime
from fedge_edged.settings import EdgedSettings
from fedge_edged.specs import Places, Specs
from fedge_edged.tokens import NodeTokens
from fedge_edged.verdicts import Records
from fedge_edged.volumes import Volumes
from fedge_objects import Change, JsonObject, NodeName, ObjectKey, parse_quantity
from fedge_operations import NODE_TASKS
from fedge_sealing import NodeSeal, SealError
from fedge_service import Ready, ServicePlugin
from fedge_store import BegunRequests, ObjectReader

if TYPE_CHECKING:
    from fedge_edged.node_tasks.at_the_node import AtTheNode
    from fedge_edged.node_tasks.running import NodeTasks
    from fedge_edged.node_tasks.upgrading import Upgrading
    from fedge_fabric.fabric import Fabric

log = structlog.stdlib.get_logger("fedge.edged")

STORE_NAME = "meta.db"
BEGUN_NAME = "begun.db"
RESOURCES_BEFORE_PODS = ("configmaps", "secrets", "serviceaccounts", "nodes")
NODE_LOOK_SECONDS = 30.0


class _SystemClock:
    def now(self) -> float:
        return time.time()


class _Edged:
    def __init__(self, settings: EdgedSettings, runtime: Runtime, tasks: asyncio.TaskGroup) -> None:
        edge = settings.edge
        self.settings = settings
        self.node = NodeName(edge.node_name)
        self.runtime = runtime
        self.clock = _SystemClock()
        self.store_path = edge.data_dir / STORE_NAME
        self.seal = NodeSeal(edge.sealing_key_file, joined=edge.joined_file)
        self._tasks = tasks
        self._objects = objects = NodeObjects()
        self._node_tasks: NodeTasks | None = None
        self._upgrading: Upgrading | None = None
        self._at_the_node: AtTheNode | None = None
        self.fabric: Fabric | None = None
        self._report_node_now = asyncio.Event()
        self.reporting = Reporting(
            node=self.node,
            incarnation=next_incarnation(edge.data_dir / "edged.incarnation"),
            clock=self.clock,
        )
        thresholds = parse_thresholds(settings.eviction_hard)
        self.local = LocalNode(
            name=self.node,
            address=node_status.host_address(),
            nodefs=edge.data_dir,
            objects=objects,
            pressure=Pressure(thresholds, transition_seconds=settings.eviction_transition_seconds),
            reserved=(amounts_of(settings.system_reserved), amounts_of(settings.kube_reserved)),
            thresholds=thresholds,
            max_pods=settings.max_pods,
        )
        memory_bytes = memory_of_node()
        usable = as_quantities(self.local.allocatable())
        pods_dir = edge.data_dir / "pods"
        access = ApiAccess(edge.data_dir)
        self.specs = Specs(
            environment=Environment(objects, node=usable, access=access),
            places=Places(
                logs=settings.pod_log_dir,
                pods=pods_dir,
                memory=settings.run_dir,
                seccomp=settings.seccomp_profile_dir,
            ),
            cgroups=Cgroups(settings.cgroup_parent),
            memory_bytes=memory_bytes,
            names=Names(
                cluster_dns=settings.cluster_dns,
                cluster_domain=settings.cluster_domain,
                resolver=settings.resolv_conf,
            ),
        )
        self.images = Images(
            runtime=runtime,
            objects=objects,
            reporter=self.reporting,
            clock=self.clock,
            parallel_pulls=settings.max_parallel_image_pulls,
        )
        self.tokens = NodeTokens(
            folder=pods_dir,
            key_file=edge.data_dir / "token.key",
            issuers_file=edge.data_dir / FOLDER / "issuers.json",
            node=self.node,
            clock=self.clock,
            offline=settings.offline_tokens,
            seal=self.seal,
            renewed=self._token_renewed,
        )
        tools = Tools(
            runtime=runtime,
            specs=self.specs,
            volumes=Volumes(
                objects,
                disk=pods_dir,
                memory=settings.run_dir,
                node=usable,
                tokens=self.tokens,
                access=access,
            ),
            images=self.images,
            reporter=self.reporting,
            clock=self.clock,
            starts=asyncio.Semaphore(settings.max_parallel_starts),
            actions=NodeActions(runtime),
            records=Records(pods_dir),
            host_ip=self.local.address,
        )
        self.pods = NodePods(
            tools=tools, objects=objects, tasks=tasks, look_at_node=self.local.view
        )
        self.log_requests = LogRequests(self.pods, self.specs)
        begun = BegunRequests(edge.data_dir / BEGUN_NAME)
        self.execs = Execs(runtime, self.pods, Once(begun, self.clock))
        self.socket = LocalSocket(
            settings.socket or settings.run_dir / "edged.sock",
            pods=self.pods,
            logs=self.log_requests,
            execs=self.execs,
            at_the_node=self._serve_at_the_node,
        )
        self.log_rotation = LogRotation(
            runtime=runtime,
            clock=self.clock,
            running=lambda: self.pods.running_logs(self.specs.log_folder),
            max_bytes=int(parse_quantity(settings.container_log_max_size)),
            max_files=settings.container_log_max_files,
        )
        self.image_gc = ImageGC(
            runtime=runtime,
            clock=self.clock,
            high_percent=settings.image_gc_high_percent,
            low_percent=settings.image_gc_low_percent,
            wanted=lambda: (
                container.image
                for worker in self.pods.workers
                if worker.pod is not None and not worker.is_over
                for container in worker.pod.all_containers
            ),
        )
        self.evictor = Evictor(
            workers=lambda: self.pods.workers,
            tools=tools,
            pressure=self.local.pressure,
            observe=observing(runtime, edge.data_dir),
            free_images=self.image_gc.free,
            pods_dir=pods_dir,
            changed=self._report_node_now.set,
        )

    def _token_renewed(self, uid: str) -> None:
        self.pods.volumes_changed(uid)

    async def read_store(self) -> None:
        """Take everything that the node was given."""
        try:
            async with ObjectReader.opened(self.store_path) as reader:
                for resource in (*RESOURCES_BEFORE_PODS, "pods", NODE_TASKS):
                    changes = await reader.list(resource, with_tombstones=True)
                    for change in self.pods.in_order(changes):
                        self.take(change)
        except FileNotFoundError:
            log.info("store_not_there_yet", path=str(self.store_path))

    def follow_shutdown(self, tasks: asyncio.TaskGroup) -> None:
        """End the pods when the machine is about to go down, if that is wanted."""
        settings = self.settings
        if not settings.shutdown_grace_seconds:
            return
        from fedge_edged.shutdown import Shutdown  # noqa: PLC0415 - few nodes are set up for it

        shutdown = Shutdown(
            workers=lambda: self.pods.workers,
            begun=self._shutdown_begun,
            seconds=settings.shutdown_grace_seconds,
            critical_seconds=settings.shutdown_grace_critical_seconds,
        )
        asyncio.get_running_loop().add_signal_handler(signal.SIGPWR, shutdown.ask)
        tasks.create_task(shutdown.run(), name="shutdown")

    def _shutdown_begun(self) -> None:
        self.local.is_shutting_down = True
        self._report_node_now.set()

    async def read_static_pods(self, tasks: asyncio.TaskGroup) -> None:
        """Take the pods of the node's own files, and follow these."""
        folder = self.settings.static_pod_dir
        if folder is None:
            self.pods.statics_are_known = True  # there are none
            return
        from fedge_edged.static_pods import StaticPods  # noqa: PLC0415 - few nodes have any

        statics = StaticPods(folder, node=self.node, pods=self.pods)
        await statics.scan()
        tasks.create_task(statics.run(), name="static pods")

    async def is_known(self, key: ObjectKey) -> bool:
        """Whether the store says anything of an object, be it that it is gone."""
        try:
            async with ObjectReader.opened(self.store_path) as reader:
                return await reader.is_known(key)
        except FileNotFoundError:
            return False

    def report_all(self) -> None:
        """Report everything anew."""
        self.pods.report_all()
        if self._node_tasks is not None:
            self._node_tasks.report_all()
        self.reporting.tell_effects_again()
        self._report_node_now.set()

    def take(self, change: Change) -> None:
        """Take an object or its tombstone."""
        try:
            change = self.seal.unsealed(change)
        except SealError as exc:
            log.warning("object_not_unsealed", object=str(change.key), reason=str(exc))
            self.reporting.failed(change.key, change.version, str(exc))
            return
        if change.key.resource == NODE_TASKS:
            self.node_tasks.take(change)
            return
        is_news = self.pods.apply(change)
        if self._node_tasks is not None:
            self._node_tasks.saw(change.key)
        if not is_news or change.key.resource != "nodes":
            return
        if change.object and _is_unknown(change.object):
            # the cloud gave us up for lost, and waits to hear otherwise
            self._report_node_now.set()

    @property
    def node_tasks(self) -> "NodeTasks":
        """What jobs ask of the node; loaded by the first of them."""
        if self._node_tasks is None:
            from fedge_edged.node_tasks.checks import Checks  # noqa: PLC0415
            from fedge_edged.node_tasks.diary import FOLDER  # noqa: PLC0415
            from fedge_edged.node_tasks.pulling import Pulling  # noqa: PLC0415
            from fedge_edged.node_tasks.running import NodeTasks  # noqa: PLC0415
            from fedge_edged.node_tasks.updating import Updating  # noqa: PLC0415

            data = self.settings.edge.data_dir
            self._node_tasks = NodeTasks(
                folder=data / FOLDER,
                node=self.node,
                clock=self.clock,
                reporter=self.reporting,
                pulling=Pulling(
                    images=self.images,
                    runtime=self.runtime,
                    objects=self._objects,
                    checks=Checks(data),
                ),
                updating=Updating(),
                upgrading=self.upgrading,
                tasks=self._tasks,
            )
        return self._node_tasks

    def _serve_at_the_node(self) -> "AtTheNode":
        if self._at_the_node is None:
            from fedge_edged.node_tasks.at_the_node import AtTheNode  # noqa: PLC0415

            self._at_the_node = AtTheNode(self.node, self.upgrading)
        return self._at_the_node

    @property
    def was_upgraded(self) -> bool:
        """Whether this edge ran, or runs, another version than that of its container's image."""
        versions = self.settings.edge.data_dir / "versions" / "state.json"
        return self.settings.boot_file is not None and versions.exists()

    @property
    def upgrading(self) -> "Upgrading":
        """What brings this edge to another version; loaded when it is to."""
        if self._upgrading is None:
            from fedge_edged.node_tasks.checks import Checks  # noqa: PLC0415
            from fedge_edged.node_tasks.health import Health  # noqa: PLC0415
            from fedge_edged.node_tasks.image import OwnImage  # noqa: PLC0415
            from fedge_edged.node_tasks.installing import Installing  # noqa: PLC0415
            from fedge_edged.node_tasks.upgrading import Upgrading  # noqa: PLC0415
            from fedge_slots import Slots  # noqa: PLC0415

            data = self.settings.edge.data_dir
            slots = Slots(data)
            self._upgrading = Upgrading(
                slots=slots,
                own=OwnImage.told(self.settings.boot_file),
                installing=Installing(
                    slots=slots,
                    runtime=self.runtime,
                    images=self.images,
                    logs=self.settings.pod_log_dir,
                ),
                checks=Checks(data),
                health=Health(
                    broker=lambda: self.fabric,
                    is_answered=self._is_answered,
                    workers=lambda: self.pods.workers,
                ),
            )
        return self._upgrading

    async def _is_answered(self) -> bool:
        fabric = self.fabric
        return fabric is not None and await self.reporting.is_answered(
            fabric, self.settings.edge.heartbeat_seconds
        )

    async def report_node(self) -> None:
        """Report the node's status when it changed, when asked, and every so often."""
        previous: JsonObject | None = None
        reported_at = 0.0
        while True:
            asked = self._report_node_now.is_set()
            self._report_node_now.clear()
            status = await self._node_status(previous)
            now = self.clock.now()
            due = now - reported_at >= self.settings.report_seconds
            if asked or due or _changed(previous, status):
                self.reporting.node_status(status, node_status.labels(self.node))
                previous, reported_at = status, now
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(NODE_LOOK_SECONDS):
                    await self._report_node_now.wait()

    async def _node_status(self, previous: JsonObject | None) -> JsonObject:
        try:
            info = await self.runtime.info()
            unmet = await self.runtime.unmet_conditions()
            images = await self.runtime.list_images()
        except RuntimeFaultError as exc:
            log.warning("runtime_away", reason=str(exc))
            info, unmet, images = None, {}, ()
        return self.local.status(
            runtime=info,
            unmet=unmet,
            images=images,
            now=self.clock.now(),
            previous=previous,
        )


def _is_unknown(node: JsonObject) -> bool:
    """Whether the cloud holds that it does not know how the node is."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "Unknown" for each in conditions)


def _changed(before: JsonObject | None, after: JsonObject) -> bool:
    """Whether a status says anything new, beside the time of its heartbeats."""

    def said(status: JsonObject) -> JsonObject:
        conditions = [
            {name: value for name, value in each.items() if name != "lastHeartbeatTime"}
            for each in status["conditions"]
        ]
        return {**status, "conditions": conditions}

    return before is None or said(before) != said(after)


async def run(settings: EdgedSettings, ready: Ready) -> None:
    """Serve until cancelled."""
    for folder in (settings.edge.data_dir, settings.run_dir, settings.pod_log_dir):
        await asyncio.to_thread(_make, folder)
    async with (
        load_runtime(settings.runtime)(settings) as runtime,
        asyncio.TaskGroup() as tasks,
    ):
        edged = _Edged(settings, runtime, tasks)
        await _answering(edged.pods.look_at_runtime)
        await edged.read_store()
        await edged.read_static_pods(tasks)
        edged.follow_shutdown(tasks)
        tasks.create_task(
            edged.pods.follow_runtime(
                relist_seconds=settings.relist_seconds, is_known=edged.is_known
            ),
            name="follow runtime",
        )
        tasks.create_task(edged.report_node(), name="report node")
        tasks.create_task(edged.evictor.run(), name="evict pods")
        tasks.create_task(edged.image_gc.run(), name="image gc")
        tasks.create_task(edged.log_rotation.run(), name="rotate logs")
        tasks.create_task(_serve_socket(edged.socket), name="serve socket")
        tasks.create_task(_serve_broker(edged, ready, tasks), name="serve broker")


async def _serve_socket(socket: LocalSocket) -> None:
    async with socket.serving():
        await asyncio.get_running_loop().create_future()


async def _serve_broker(edged: _Edged, ready: Ready, streams: asyncio.TaskGroup) -> None:
    # loaded only now: it takes a second on a small gateway
    from fedge_edged.handlers import Handlers  # noqa: PLC0415
    from fedge_fabric import topology  # noqa: PLC0415
    from fedge_fabric.fabric import Fabric  # noqa: PLC0415

    edge = edged.settings.edge
    fabric = Fabric(
        edge.amqp_url.get_secret_value(), service="edged", exchanges=topology.EDGE_EXCHANGES
    )
    handlers = Handlers(
        node=edged.node,
        log_requests=edged.log_requests,
        execs=edged.execs,
        fabric=fabric,
        take=edged.take,
        report_all=edged.report_all,
        take_token=edged.tokens.take,
        take_heard=edged.reporting.heard,
        tasks=streams,
    )
    handlers.subscribe()
    lost = await edged.execs.begun_before()
    async with fabric.running(), asyncio.TaskGroup() as tasks:
        edged.fabric = fabric
        if edged.was_upgraded:
            tasks.create_task(edged.upgrading.keep_what_works(), name="keep what works")
        # what was stored before our queue was there
        await edged.read_store()
        await handlers.tell_lost(lost)
        tasks.create_task(edged.reporting.run(fabric), name="reporting")
        tasks.create_task(
            edged.tokens.run(edged.reporting.asking_for_tokens(fabric), edged.pods.uids),
            name="tokens",
        )
        tasks.create_task(edged.reporting.alive(fabric, edge.heartbeat_seconds), name="heartbeats")
        ready()


async def _answering(look: Callable[[], Awaitable[None]]) -> None:
    """Look at the runtime once; if it is not there yet, the relist will."""
    try:
        await look()
    except RuntimeFaultError as exc:
        log.warning("runtime_away", reason=str(exc))


def _make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)


plugin = ServicePlugin(
    name="edged",
    side="edge",
    summary="the node's containers, as its pods say",
    settings=EdgedSettings,
    run=run,
)
