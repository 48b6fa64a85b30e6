"""A runtime over the Container Runtime Interface."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import structlog
from typing_extensions import override

import fedge_tracing as tracing
from fedge_cri import translation as tr
from fedge_cri._generated import containerd_events_pb2 as ev
from fedge_cri._generated import runtime_v1_pb2 as v1
from fedge_cri.calling import CallError, Calls
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

_RUNTIME, _IMAGES = "runtime.v1.RuntimeService", "runtime.v1.ImageService"
_CONTAINERD_FILTERS = ['topic=="/tasks/exit",namespace==k8s.io']
_OF_IMAGES = {"ListImages", "ImageStatus", "PullImage", "RemoveImage", "ImageFsInfo"}
_TOLD = {v1.CONTAINER_STOPPED_EVENT, v1.CONTAINER_DELETED_EVENT}
"""What is done at the caller's own request needs no telling."""


class CriRuntime(Runtime):
    """``Runtime`` over a CRI socket (containerd, CRI-O)."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    @classmethod
    @asynccontextmanager
    async def connected(cls, socket: Path) -> AsyncIterator[Self]:
        """Open a client of the runtime that listens on ``socket``; it need not be there yet."""
        async with Calls.to_socket(socket) as calls:
            yield cls(calls)

    @override
    async def info(self) -> RuntimeInfo:
        answer = await self._call(v1.VersionRequest(version="v1"))
        return RuntimeInfo(name=answer.runtime_name, version=answer.runtime_version)

    @override
    async def unmet_conditions(self) -> Mapping[str, str]:
        answer = await self._call(v1.StatusRequest())
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
        answer = await self._call(request)
        return str(answer.pod_sandbox_id)

    @override
    async def stop_sandbox(self, sandbox_id: str) -> None:
        request = v1.StopPodSandboxRequest(pod_sandbox_id=sandbox_id)
        await self._if_there(self._call(request))

    @override
    async def remove_sandbox(self, sandbox_id: str) -> None:
        request = v1.RemovePodSandboxRequest(pod_sandbox_id=sandbox_id)
        await self._if_there(self._call(request))

    @override
    async def sandbox_ips(self, sandbox_id: str) -> Sequence[str]:
        request = v1.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id)
        network = (await self._call(request)).status.network
        ips = [network.ip, *(each.ip for each in network.additional_ips)]
        return [ip for ip in ips if ip]

    @override
    async def list_sandboxes(self) -> Sequence[Sandbox]:
        answer = await self._call(v1.ListPodSandboxRequest())
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
        answer = await self._call(request)
        return str(answer.container_id)

    @override
    async def start_container(self, container_id: str) -> None:
        request = v1.StartContainerRequest(container_id=container_id)
        await self._call(request)

    @override
    async def stop_container(self, container_id: str, *, grace_seconds: int) -> None:
        request = v1.StopContainerRequest(container_id=container_id, timeout=grace_seconds)
        await self._if_there(self._call(request, seconds=grace_seconds + STOP_MARGIN_SECONDS))

    @override
    async def remove_container(self, container_id: str) -> None:
        request = v1.RemoveContainerRequest(container_id=container_id)
        await self._if_there(self._call(request))

    @override
    async def list_containers(self) -> Sequence[Container]:
        answer = await self._call(v1.ListContainersRequest())
        return [tr.container(each) for each in answer.containers]

    @override
    async def container_status(self, container_id: str) -> ContainerStatus:
        request = v1.ContainerStatusRequest(container_id=container_id)
        answer = await self._call(request)
        return tr.container_status(answer.status)

    @override
    async def list_container_stats(self) -> Sequence[ContainerStats]:
        answer = await self._call(v1.ListContainerStatsRequest())
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
                answer = await self._calls.ask(
                    _method(request),
                    request,
                    v1.ExecSyncResponse,
                    seconds=whole + EXEC_MARGIN_SECONDS,
                )
            except CallError as exc:
                if exc.code == "DEADLINE_EXCEEDED" or "timeout" in exc.details:
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
        answer = await self._call(request)
        return str(answer.url)

    @override
    async def reopen_log(self, container_id: str) -> None:
        request = v1.ReopenContainerLogRequest(container_id=container_id)
        await self._call(request)

    @override
    async def list_images(self) -> Sequence[Image]:
        answer = await self._call(v1.ListImagesRequest())
        return [tr.image(each) for each in answer.images]

    @override
    async def find_image(self, reference: str) -> Image | None:
        request = v1.ImageStatusRequest(image=v1.ImageSpec(image=reference))
        answer = await self._call(request)
        return tr.image(answer.image) if answer.HasField("image") else None

    @override
    async def pull_image(self, reference: str, credentials: Credentials | None) -> str:
        request = v1.PullImageRequest(image=v1.ImageSpec(image=reference))
        if credentials is not None:
            request.auth.username = credentials.username
            request.auth.password = credentials.password
        answer = await self._call(request, seconds=PULL_SECONDS)
        return str(answer.image_ref)

    @override
    async def remove_image(self, image_id: str) -> None:
        request = v1.RemoveImageRequest(image=v1.ImageSpec(image=image_id))
        await self._if_there(self._call(request))

    @override
    async def image_filesystems(self) -> Sequence[FilesystemUsage]:
        answer = await self._call(v1.ImageFsInfoRequest())
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
                except CallError as exc:
                    if exc.code == "UNIMPLEMENTED":
                        stream = self._containerd_events
                    else:
                        log.info("event_stream_lost", reason=exc.details)
                if heard:
                    break

    async def _cri_events(self) -> AsyncIterator[RuntimeEvent | None]:
        method = f"{_RUNTIME}/GetContainerEvents"
        async for event in self._calls.follow(
            method, v1.GetEventsRequest(), v1.ContainerEventResponse
        ):
            if event is None:
                yield None
            elif event.container_event_type in _TOLD:
                yield RuntimeEvent(event.container_id)

    async def _containerd_events(self) -> AsyncIterator[RuntimeEvent | None]:
        request = ev.SubscribeRequest(filters=_CONTAINERD_FILTERS)
        async for envelope in self._calls.follow(
            "containerd.services.events.v1.Events/Subscribe",
            request,
            ev.Envelope,
            metadata={"containerd-namespace": "k8s.io"},
        ):
            if envelope is None:
                yield None
                continue
            event = ev.TaskEvent()
            event.ParseFromString(envelope.event.value)
            yield RuntimeEvent(event.container_id)

    async def _call(self, request: Any, *, seconds: float = CALL_SECONDS) -> Any:
        with _traced(request) as active:
            told = active.traceparent
            try:
                return await self._calls.ask(
                    _method(request),
                    request,
                    getattr(v1, f"{_name(request)}Response"),
                    seconds=seconds,
                    metadata={"traceparent": told} if told else None,
                )
            except CallError as exc:
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
    method = _method(request)
    return tracing.span(
        method,
        kind=tracing.SpanKind.CLIENT,
        attributes={
            names.RPC_SYSTEM_NAME: "grpc",
            names.RPC_METHOD: method,
            **_about(request),
        },
    )


def _name(request: Any) -> str:
    """Return the name of the method that takes a request."""
    return type(request).__name__.removesuffix("Request")


def _method(request: Any) -> str:
    """Return the method that takes a request, with its service."""
    name = _name(request)
    return f"{_IMAGES if name in _OF_IMAGES else _RUNTIME}/{name}"


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


def _translated(exc: CallError) -> RuntimeFaultError:
    text = exc.details or exc.code
    match exc.code:
        case "NOT_FOUND":
            return NotFoundError(text)
        case "ALREADY_EXISTS":
            return AlreadyThereError(text)
        case "UNAVAILABLE" | "DEADLINE_EXCEEDED":
            return UnavailableError(text)
        case _ if "is reserved for" in text:
            # containerd reserves the name of a sandbox or container while it is being made
            return AlreadyThereError(text)
        case _:
            return RefusedError(text)
