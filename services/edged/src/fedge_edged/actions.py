"""What probes and lifecycle hooks do to a container.

https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#types-of-probe
https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/
"""

import asyncio
import contextlib
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Protocol
from urllib.parse import urljoin, urlsplit

from fedge_cri import ExecTimeoutError, Runtime, RuntimeFaultError, UnavailableError
from fedge_edged.pods import (
    Container,
    ExecAction,
    GrpcAction,
    HttpGetAction,
    LifecycleHandler,
    Probe,
    SleepAction,
    TcpSocketAction,
)

MAX_OUTPUT_BYTES = 10 * 1024
MAX_REDIRECTS = 10

Action = ExecAction | HttpGetAction | TcpSocketAction | GrpcAction | SleepAction


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an action went.

    Attributes:
        is_good: None if nothing is known, because the runtime did not answer.
        text: what a person wants to see of a failure.
    """

    is_good: bool | None
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The container that an action is about, and the pod's address as the node sees it."""

    container_id: str
    container: Container
    address: str


class Actions(Protocol):
    """Carries actions out. Never raises for a failed action."""

    async def run(self, action: Action, target: Target, *, timeout_seconds: float) -> Outcome:
        """Do it and say how it went."""
        ...


def action_of(handler: Probe | LifecycleHandler) -> Action | None:
    """Return the action that is set, if one is."""
    actions: list[Action | None] = [
        handler.exec,
        handler.http_get,
        handler.tcp_socket,
        handler.grpc if isinstance(handler, Probe) else handler.sleep,
    ]
    return next((each for each in actions if each is not None), None)


class NodeActions(Actions):
    """``Actions`` from the node: through the runtime, or over the pod's network."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def run(self, action: Action, target: Target, *, timeout_seconds: float) -> Outcome:
        """See ``Actions``."""
        try:
            async with asyncio.timeout(timeout_seconds):
                match action:
                    case ExecAction():
                        return await self._exec(action, target, timeout_seconds)
                    case HttpGetAction():
                        return await _http_get(action, target, timeout_seconds)
                    case TcpSocketAction():
                        return await _tcp_socket(action, target)
                    case GrpcAction():
                        return await _grpc(action, target, timeout_seconds)
                    case SleepAction():
                        await asyncio.sleep(action.seconds)
                        return Outcome(is_good=True)
        except TimeoutError:
            return Outcome(is_good=False, text=f"timed out after {timeout_seconds:g} s")
        except (OSError, HTTPException, ValueError) as exc:
            return Outcome(is_good=False, text=str(exc) or type(exc).__name__)

    async def _exec(self, action: ExecAction, target: Target, timeout_seconds: float) -> Outcome:
        try:
            result = await self._runtime.exec_sync(
                target.container_id, action.command, timeout_seconds=timeout_seconds
            )
        except UnavailableError as exc:
            return Outcome(is_good=None, text=str(exc))
        except ExecTimeoutError as exc:
            return Outcome(is_good=False, text=str(exc))
        except RuntimeFaultError as exc:
            return Outcome(is_good=False, text=str(exc))
        output = (result.stdout + result.stderr)[:MAX_OUTPUT_BYTES].decode(errors="replace").strip()
        if result.exit_code:
            return Outcome(
                is_good=False, text=output or f"command ended with exit code {result.exit_code}"
            )
        return Outcome(is_good=True, text=output)


def port_of(port: int | str, container: Container) -> int:
    """Return a port by its number or by its name in the container.

    Raises:
        ValueError: the container names no such port.
    """
    if isinstance(port, int) or port.isdecimal():
        return int(port)
    for each in container.ports:
        if each.name == port:
            return each.container_port
    raise ValueError(f'couldn\'t find port "{port}" in container {container.name}')


async def _tcp_socket(action: TcpSocketAction, target: Target) -> Outcome:
    host = action.host or target.address
    _, writer = await asyncio.open_connection(host, port_of(action.port, target.container))
    writer.close()
    with contextlib.suppress(OSError):  # the other side may have closed it first
        await writer.wait_closed()
    return Outcome(is_good=True)


async def _http_get(action: HttpGetAction, target: Target, timeout_seconds: float) -> Outcome:
    host = action.host or target.address
    scheme = action.scheme.lower()
    path = action.path if action.path.startswith("/") else f"/{action.path}"
    address = f"[{host}]" if ":" in host else host
    url = f"{scheme}://{address}:{port_of(action.port, target.container)}{path}"
    headers = {"User-Agent": "kube-probe/1.32", "Accept": "*/*", "Connection": "close"}
    headers |= {each.name: each.value for each in action.http_headers}
    return await asyncio.to_thread(_get, url, headers, timeout_seconds)


def _get(url: str, headers: dict[str, str], timeout_seconds: float) -> Outcome:
    """Fetch a page; redirects are followed on the same host only.

    https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/#http-probes
    """
    first = urlsplit(url).hostname
    for _ in range(MAX_REDIRECTS):
        parts = urlsplit(url)
        if parts.hostname != first:
            return Outcome(is_good=True, text=f"redirected to another host: {url}")
        with contextlib.closing(_connection(parts.scheme, parts.netloc, timeout_seconds)) as link:
            link.request(
                "GET",
                f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}",
                headers=headers,
            )
            response = link.getresponse()
            status, location = response.status, response.getheader("Location")
            text = _body(response)
        if not (HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST and location):
            if HTTPStatus.OK <= status < HTTPStatus.BAD_REQUEST:
                return Outcome(is_good=True, text=text)
            return Outcome(is_good=False, text=f"HTTP probe failed with statuscode: {status}")
        url = urljoin(url, location)
    return Outcome(is_good=False, text=f"stopped after {MAX_REDIRECTS} redirects")


def _connection(scheme: str, netloc: str, timeout_seconds: float) -> HTTPConnection:
    if scheme == "https":
        # the certificate is not checked, as documented: it names no pod's address
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return HTTPSConnection(netloc, timeout=timeout_seconds, context=context)
    return HTTPConnection(netloc, timeout=timeout_seconds)


def _body(response: HTTPResponse) -> str:
    return response.read(MAX_OUTPUT_BYTES).decode(errors="replace")


async def _grpc(action: GrpcAction, target: Target, timeout_seconds: float) -> Outcome:
    from fedge_cri.health import check_health  # noqa: PLC0415 - grpc is loaded if it is used

    address = f"[{target.address}]" if ":" in target.address else target.address
    state = await check_health(
        f"{address}:{action.port}", action.service, timeout_seconds=timeout_seconds
    )
    if state == "SERVING":
        return Outcome(is_good=True)
    return Outcome(is_good=False, text=f"service {action.service!r} is {state}")
