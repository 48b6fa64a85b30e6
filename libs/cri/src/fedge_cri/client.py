"""A runtime over the Container Runtime Interface."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc
import structlog
from grpc import aio
from typing_extensions import override

import fedge_tracing as tracing
from fedge_cri import translation as tr
from fedge_cri._generated import containerd_events_pb2 as ev
from fedge_cri._generated import containerd_events_pb2_grpc as ev_grpc
from fedge_cri._generated import runtime_v1_pb2 as v1
from fedge_cri._generated import runtime_v1_pb2_grpc as v1_grpc
from fedge_cri.errors import (
    AlreadyThereError,
    ExecTimeoutError,
    NotFoundError,
    RefusedError,
    RuntimeFaultError,
    UnavailableError,
)
from fedge_cri.model import (
    Container,
    ContainerSpec,
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
from fedge_service import backoff
from fedge_tracing import names

log = structlog.stdlib.get_logger("fedge.cri")

T = TypeVar("T")

CALL_SECONDS = 120.0
"""Longest wait for an answer; starting a sandbox on a busy gateway takes a while."""
PULL_SECONDS = 3600.0
STOP_MARGIN_SECONDS = 60.0
EXEC_MARGIN_SECONDS = 5.0
MAX_MESSAGE_BYTES = 16 * 1024 * 1024

_CONTAINERD_FILTERS = ['topic=="/tasks/exit",namespace==k8s.io']
_OF_IMAGES = {"ListImages", "ImageStatus", "PullImage", "RemoveImage", "ImageFsInfo"}
_TOLD = {v1.CONTAINER_STOPPED_EVENT, v1.CONTAINER_DELETED_EVENT}
"""What is done at the caller's own request needs no telling."""


class CriRuntime(Runtime):
    """``Runtime`` over a CRI socket (containerd, CRI-O)."""

    def __init__(self, channel: aio.Channel) -> None:
        self._runtime: Any = v1_grpc.RuntimeServiceStub(channel)
        self._images: Any = v1_grpc.ImageServiceStub(channel)
        self._containerd: Any = ev_grpc.EventsStub(channel)

    @classmethod
    @asynccontextmanager
    async def connected(cls, socket: Path) -> AsyncIterator[Self]:
        """Open a client of the runtime that listens on ``socket``; it need not be there yet."""
        options = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_reconnect_backoff_ms", 1000),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.enable_http_proxy", 0),
        ]
        async with aio.insecure_channel(f"unix://{socket}", options=options) as channel:
            yield cls(channel)

    @override
    async def info(self) -> RuntimeInfo:
        answer = await self._call(self._runtime.Version, v1.VersionRequest(version="v1"))
        return RuntimeInfo(name=answer.runtime_name, version=answer.runtime_version)

    @override
    async def unmet_conditions(self) -> Mapping[str, str]:
        answer = await self._call(self._runtime.Status, v1.StatusRequest())
        return {
            each.type: f"{each.reason}: {each.message}".strip(": ")
            for each in answer.status.conditions
            if not each.status
        }

    @override
    async def run_sandbox(self, spec: SandboxSpec) -> str:
        request = v1.RunPodSandboxRequest(
            config=tr.sandbox_config(spec), runtime_handler=spec.runtime_handler
        )
        answer = await self._call(self._runtime.RunPodSandbox, request)
        return str(answer.pod_sandbox_id)

    @override
    async def stop_sandbox(self, sandbox_id: str) -> None:
        request = v1.StopPodSandboxRequest(pod_sandbox_id=sandbox_id)
        await self._if_there(self._call(self._runtime.StopPodSandbox, request))

    @override
    async def remove_sandbox(self, sandbox_id: str) -> None:
        request = v1.RemovePodSandboxRequest(pod_sandbox_id=sandbox_id)
        await self._if_there(self._call(self._runtime.RemovePodSandbox, request))

    @override
    async def sandbox_ips(self, sandbox_id: str) -> Sequence[str]:
        request = v1.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id)
        network = (await self._call(self._runtime.PodSandboxStatus, request)).status.network
        ips = [network.ip, *(each.ip for each in network.additional_ips)]
        return [ip for ip in ips if ip]

    @override
    async def list_sandboxes(self) -> Sequence[Sandbox]:
        answer = await self._call(self._runtime.ListPodSandbox, v1.ListPodSandboxRequest())
        return [tr.sandbox(each) for each in answer.items]

    @override
    async def create_container(
        self, sandbox_id: str, spec: ContainerSpec, sandbox: SandboxSpec
    ) -> str:
        request = v1.CreateContainerRequest(
            pod_sandbox_id=sandbox_id,
            config=tr.container_config(spec, sandbox),
            sandbox_config=tr.sandbox_config(sandbox),
        )
        answer = await self._call(self._runtime.CreateContainer, request)
        return str(answer.container_id)

    @override
    async def start_container(self, container_id: str) -> None:
        request = v1.StartContainerRequest(container_id=container_id)
        await self._call(self._runtime.StartContainer, request)

    @override
    async def stop_container(self, container_id: str, *, grace_seconds: int) -> None:
        request = v1.StopContainerRequest(container_id=container_id, timeout=grace_seconds)
        await self._if_there(
            self._call(
                self._runtime.StopContainer, request, seconds=grace_seconds + STOP_MARGIN_SECONDS
            )
        )

    @override
    async def remove_container(self, container_id: str) -> None:
        request = v1.RemoveContainerRequest(container_id=container_id)
        await self._if_there(self._call(self._runtime.RemoveContainer, request))

    @override
    async def list_containers(self) -> Sequence[Container]:
        answer = await self._call(self._runtime.ListContainers, v1.ListContainersRequest())
        return [tr.container(each) for each in answer.containers]

    @override
    async def container_status(self, container_id: str) -> ContainerStatus:
        request = v1.ContainerStatusRequest(container_id=container_id)
        answer = await self._call(self._runtime.ContainerStatus, request)
        return tr.container_status(answer.status)

    @override
    async def list_container_stats(self) -> Sequence[ContainerStats]:
        answer = await self._call(self._runtime.ListContainerStats, v1.ListContainerStatsRequest())
        return [tr.container_stats(each) for each in answer.stats]

    @override
    async def exec_sync(
        self, container_id: str, command: Sequence[str], *, timeout_seconds: float
    ) -> ExecResult:
        # the protocol counts in whole seconds, and 0 means for ever
        whole = max(1, math.ceil(timeout_seconds))
        request = v1.ExecSyncRequest(container_id=container_id, cmd=command, timeout=whole)
        with _traced(request):
            try:
                answer = await self._runtime.ExecSync(request, timeout=whole + EXEC_MARGIN_SECONDS)
            except aio.AioRpcError as exc:
                if exc.code() is grpc.StatusCode.DEADLINE_EXCEEDED or "timeout" in (
                    exc.details() or ""
                ):
                    raise ExecTimeoutError(
                        f"command {list(command)} timed out after {whole} s"
                    ) from exc
                raise _translated(exc) from exc
        return ExecResult(stdout=answer.stdout, stderr=answer.stderr, exit_code=answer.exit_code)

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
        request = v1.ExecRequest(
            container_id=container_id,
            cmd=command,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            tty=tty,
        )
        answer = await self._call(self._runtime.Exec, request)
        return str(answer.url)

    @override
    async def reopen_log(self, container_id: str) -> None:
        request = v1.ReopenContainerLogRequest(container_id=container_id)
        await self._call(self._runtime.ReopenContainerLog, request)

    @override
    async def list_images(self) -> Sequence[Image]:
        answer = await self._call(self._images.ListImages, v1.ListImagesRequest())
        return [tr.image(each) for each in answer.images]

    @override
    async def find_image(self, reference: str) -> Image | None:
        request = v1.ImageStatusRequest(image=v1.ImageSpec(image=reference))
        answer = await self._call(self._images.ImageStatus, request)
        return tr.image(answer.image) if answer.HasField("image") else None

    @override
    async def pull_image(self, reference: str, credentials: Credentials | None) -> str:
        request = v1.PullImageRequest(image=v1.ImageSpec(image=reference))
        if credentials is not None:
            request.auth.username = credentials.username
            request.auth.password = credentials.password
        answer = await self._call(self._images.PullImage, request, seconds=PULL_SECONDS)
        return str(answer.image_ref)

    @override
    async def remove_image(self, image_id: str) -> None:
        request = v1.RemoveImageRequest(image=v1.ImageSpec(image=image_id))
        await self._if_there(self._call(self._images.RemoveImage, request))

    @override
    async def image_filesystems(self) -> Sequence[FilesystemUsage]:
        answer = await self._call(self._images.ImageFsInfo, v1.ImageFsInfoRequest())
        return [tr.filesystem(each) for each in answer.image_filesystems]

    @override
    async def events(self) -> AsyncIterator[RuntimeEvent | None]:
        stream: Callable[[], AsyncIterator[RuntimeEvent | None]] = self._cri_events
        while True:
            async for _ in backoff(first_seconds=0.2, most_seconds=5):
                heard = False
                try:
                    async for event in stream():
                        heard = True
                        yield event
                except aio.AioRpcError as exc:
                    if exc.code() is grpc.StatusCode.UNIMPLEMENTED:
                        stream = self._containerd_events
                    else:
                        log.info("event_stream_lost", reason=exc.details())
                if heard:
                    break

    async def _cri_events(self) -> AsyncIterator[RuntimeEvent | None]:
        call = self._runtime.GetContainerEvents(v1.GetEventsRequest(), wait_for_ready=True)
        async for event in _after_opening(call):
            if event is None:
                yield None
            elif event.container_event_type in _TOLD:
                yield RuntimeEvent(event.container_id)

    async def _containerd_events(self) -> AsyncIterator[RuntimeEvent | None]:
        request = ev.SubscribeRequest(filters=_CONTAINERD_FILTERS)
        call = self._containerd.Subscribe(
            request, wait_for_ready=True, metadata=(("containerd-namespace", "k8s.io"),)
        )
        async for envelope in _after_opening(call):
            if envelope is None:
                yield None
                continue
            event = ev.TaskEvent()
            event.ParseFromString(envelope.event.value)
            yield RuntimeEvent(event.container_id)

    @staticmethod
    async def _call(method: Any, request: Any, *, seconds: float = CALL_SECONDS) -> Any:
        with _traced(request) as active:
            told = active.traceparent
            try:
                return await method(
                    request,
                    timeout=seconds,
                    wait_for_ready=False,
                    metadata=(("traceparent", told),) if told else None,
                )
            except aio.AioRpcError as exc:
                raise _translated(exc) from exc

    @staticmethod
    async def _if_there(call: Awaitable[object]) -> None:
        try:
            await call
        except NotFoundError as exc:
            log.debug("already_gone", reason=str(exc))


def _traced(request: Any) -> tracing.Spanning:
    """Return the span of a call.

    https://opentelemetry.io/docs/specs/semconv/rpc/grpc/
    """
    what = type(request).__name__.removesuffix("Request")
    service = "ImageService" if what in _OF_IMAGES else "RuntimeService"
    method = f"runtime.v1.{service}/{what}"
    return tracing.span(
        method,
        kind=tracing.SpanKind.CLIENT,
        attributes={
            names.RPC_SYSTEM_NAME: "grpc",
            names.RPC_METHOD: method,
            **_about(request),
        },
    )


def _about(request: Any) -> dict[str, str]:
    match request:
        case v1.PullImageRequest() | v1.ImageStatusRequest():
            return {names.CONTAINER_IMAGE_NAME: request.image.image}
        case v1.CreateContainerRequest():
            return {names.K8S_CONTAINER_NAME: request.config.metadata.name}
        case (
            v1.StartContainerRequest()
            | v1.StopContainerRequest()
            | v1.ContainerStatusRequest()
            | v1.ExecSyncRequest()
        ):
            return {names.CONTAINER_ID: request.container_id}
        case _:
            return {}


async def _after_opening(call: Any) -> AsyncIterator[Any]:
    """Yield None once the runtime has accepted the subscription, then its messages.

    A server that has nothing to say yet may send no headers; a short wait stands for them, and
    whoever listens looks at everything after the None, and again with the slow relist.
    """
    opening = asyncio.ensure_future(call.initial_metadata())
    try:
        done, _ = await asyncio.wait({opening}, timeout=1.0)
        if done:
            opening.result()
        yield None
        async for message in call:
            yield message
    finally:
        opening.cancel()
        call.cancel()


def _translated(exc: aio.AioRpcError) -> RuntimeFaultError:
    text = exc.details() or str(exc.code())
    match exc.code():
        case grpc.StatusCode.NOT_FOUND:
            return NotFoundError(text)
        case grpc.StatusCode.ALREADY_EXISTS:
            return AlreadyThereError(text)
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.DEADLINE_EXCEEDED:
            return UnavailableError(text)
        case _ if "is reserved for" in text:
            # containerd reserves the name of a sandbox or container while it is being made
            return AlreadyThereError(text)
        case _:
            return RefusedError(text)
