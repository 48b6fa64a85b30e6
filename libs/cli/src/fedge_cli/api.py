"""Requests to the API server, and the names of what it serves."""

import json
import re
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from fedge_cli.errors import AwayError, CommandError, MissingError
from fedge_cli.kubeconfig import Access

TIMEOUT_SECONDS = 30.0
STREAM_SECONDS = 240
"""How long one watch lasts before it is asked anew: a dead connection is noticed by then."""
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
_ALL_AT_ONCE = (
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
)
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_GONE = 410
_ECHO = re.compile(r'"\{(?:[^"\\]|\\.)*\}"')
"""An object that the server quotes as what it was sent: long, and maybe a secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceType:
    """A kind that the server serves."""

    group: str
    version: str
    plural: str
    singular: str
    kind: str
    short_names: tuple[str, ...]
    is_namespaced: bool

    @property
    def api_version(self) -> str:
        """``v1``, ``apps/v1``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def display(self) -> str:
        """``pod``, ``device.devices.kubeedge.io``, as kubectl prints it before a name."""
        return f"{self.singular}.{self.group}" if self.group else self.singular

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the URL path."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        scope = f"/namespaces/{namespace}" if self.is_namespaced and namespace else ""
        return "/".join(filter(None, (root + scope, self.plural, name, subresource)))

    def answers_to(self, name: str) -> bool:
        """Whether a user who says ``name`` means this kind."""
        word, _, group = name.lower().partition(".")
        if group and not f"{self.version}.{self.group}".endswith(group):
            return False
        return word in {self.plural, self.singular, self.kind.lower(), *self.short_names}


class Api:
    """One API server."""

    def __init__(
        self,
        client: httpx.Client,
        *,
        server: str,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._client = client
        self._server = server
        self._context = context
        self._by_path: dict[str, list[ResourceType]] = {}
        self._grouped: list[ResourceType] | None = None
        self._server_time: datetime | None = None

    @classmethod
    @contextmanager
    def opened(cls, access: Access, transport: httpx.BaseTransport | None = None) -> Iterator[Self]:
        """Open a client; ``transport`` is for tests."""
        headers = {"Authorization": f"Bearer {access.token}"} if access.token else {}
        with httpx.Client(
            base_url=access.server,
            headers=headers,
            verify=access.context if access.context is not None else True,
            timeout=TIMEOUT_SECONDS,
            transport=transport,
            # what listens on this machine is not reached through anybody's proxy
            trust_env=urlsplit(access.server).hostname not in _LOOPBACK,
        ) as client:
            yield cls(client, server=access.server, context=access.context)

    def socket_access(self, path: str) -> tuple[str, dict[str, str], ssl.SSLContext | None]:
        """Return the address of a WebSocket, the headers to send and whom to trust."""
        token = self._client.headers.get("Authorization")
        headers = {"Authorization": token} if token else {}
        url = f"{self._server.rstrip('/')}{path}".replace("http", "ws", 1)
        return url, headers, self._context if url.startswith("wss") else None

    @property
    def now(self) -> datetime:
        """The server's time as of its last answer, so that a wrong clock here misleads nobody."""
        return self._server_time or datetime.now(UTC)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> dict[str, Any]:
        """Send a request and return the answer.

        Raises:
            MissingError: 404.
            AwayError: the server does not answer.
            CommandError: it refuses; the text is its own.
        """
        content = None if body is None else json.dumps(body)
        headers = {"Accept": accept}
        if content is not None:
            headers["Content-Type"] = content_type
        with self._sent():
            answer = self._client.request(
                method, path, params=query, content=content, headers=headers
            )
        self._note_time(answer)
        if answer.is_error:
            raise refusal(answer.status_code, answer.text)
        try:
            return dict(answer.json())
        except (ValueError, TypeError) as exc:
            raise CommandError(
                f"the server {self._server} answered {path} with something that is no object: is "
                "this the address of a Kubernetes API?"
            ) from exc

    def send_bytes(self, path: str, body: bytes, *, content_type: str) -> None:
        """Send what is no JSON; errors as in ``request``."""
        with self._sent():
            answer = self._client.post(path, content=body, headers={"Content-Type": content_type})
        if answer.is_error:
            raise refusal(answer.status_code, answer.text)

    def stream(self, path: str, *, query: Mapping[str, str], accept: str) -> Iterator[str]:
        """Yield the answer's lines as they come; errors as in ``request``."""
        with self._streamed(path, query, accept) as answer:
            yield from answer.iter_lines()

    def stream_bytes(self, path: str, *, query: Mapping[str, str]) -> Iterator[bytes]:
        """Yield an answer that is no JSON as it comes; errors as in ``request``."""
        with self._streamed(path, query, "text/plain, */*") as answer:
            yield from answer.iter_bytes()

    def watch(
        self,
        path: str,
        *,
        resource_version: str,
        query: Mapping[str, str] | None = None,
        accept: str = "application/json",
        seconds: int = STREAM_SECONDS,
    ) -> Iterator[dict[str, Any]]:
        """Yield events after ``resource_version`` until ``seconds`` have passed.

        https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes

        Raises:
            CommandError: as in ``request``; with status 410 one has to list anew.
        """
        parameters = {
            **(query or {}),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(seconds),
        }
        for line in self.stream(path, query=parameters, accept=accept):
            if not line:
                continue
            event = json.loads(line)
            if event["type"] == "ERROR":
                status = event["object"]
                raise refusal(int(status.get("code") or 0), json.dumps(status))
            yield dict(event)

    def find_type(self, name: str) -> ResourceType:
        """Return the kind that a user calls ``name``.

        Raises:
            MissingError: the server serves none.
        """
        # most are asked for the core's kinds, which one request names
        for each in self._resources("/api/v1", "", "v1"):
            if each.answers_to(name):
                return each
        for each in self._in_groups():
            if each.answers_to(name):
                return each
        raise MissingError(f'the server doesn\'t have a resource type "{name}"')

    def type_of(self, manifest: Mapping[str, Any]) -> ResourceType:
        """Return the kind of an object.

        Raises:
            MissingError: the server does not serve it.
        """
        api_version, kind = str(manifest["apiVersion"]), manifest["kind"]
        group, _, version = api_version.rpartition("/")
        path = f"/apis/{api_version}" if group else f"/api/{api_version}"
        try:
            found = self._resources(path, group, version)
        except MissingError:
            found = []
        for each in found:
            if each.kind == kind:
                return each
        raise MissingError(
            f'no matches for kind "{kind}" in version "{api_version}": '
            "ensure CRDs are installed first"
        )

    def forget_types(self) -> None:
        """Ask anew next time: a definition of a kind was just applied."""
        self._by_path.clear()
        self._grouped = None

    def _in_groups(self) -> list[ResourceType]:
        """Return all kinds outside the core, preferred versions first."""
        if self._grouped is None:
            answer = self.request("GET", "/apis", accept=_ALL_AT_ONCE)
            if answer.get("kind") == "APIGroupDiscoveryList":
                self._grouped = list(_aggregated(answer["items"]))
            else:
                self._grouped = list(self._one_by_one(answer["groups"]))
        return self._grouped

    def _one_by_one(self, groups: Iterable[dict[str, Any]]) -> Iterator[ResourceType]:
        for group in groups:
            versions = [group["preferredVersion"], *group["versions"]]
            for version in dict.fromkeys(each["version"] for each in versions):
                try:
                    path = f"/apis/{group['name']}/{version}"
                    yield from self._resources(path, group["name"], version)
                except (AwayError, MissingError):
                    continue  # one extension that is down takes no other kind with it

    def _resources(self, path: str, group: str, version: str) -> list[ResourceType]:
        if path not in self._by_path:
            self._by_path[path] = [
                ResourceType(
                    group=group,
                    version=version,
                    plural=each["name"],
                    singular=each.get("singularName") or each["kind"].lower(),
                    kind=each["kind"],
                    short_names=tuple(each.get("shortNames") or ()),
                    is_namespaced=each["namespaced"],
                )
                for each in self.request("GET", path)["resources"]
                if "/" not in each["name"]
            ]
        return self._by_path[path]

    @contextmanager
    def _streamed(
        self, path: str, query: Mapping[str, str], accept: str
    ) -> Iterator[httpx.Response]:
        # a stream may be silent for long, but not for ever: the server ends a watch by itself
        silent = float(query["timeoutSeconds"]) + TIMEOUT_SECONDS if "watch" in query else None
        timeout = httpx.Timeout(TIMEOUT_SECONDS, read=silent)
        with (
            self._sent(),
            self._client.stream(
                "GET", path, params=query, headers={"Accept": accept}, timeout=timeout
            ) as answer,
        ):
            self._note_time(answer)
            if answer.is_error:
                raise refusal(answer.status_code, answer.read().decode(errors="replace"))
            yield answer

    def _note_time(self, answer: httpx.Response) -> None:
        try:
            told = parsedate_to_datetime(answer.headers["Date"])
        except (KeyError, ValueError):
            return
        self._server_time = told if told.tzinfo is not None else told.replace(tzinfo=UTC)

    @contextmanager
    def _sent(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as exc:
            raise AwayError(
                f"the server {self._server} does not answer: {str(exc) or type(exc).__name__}; "
                "is it running? `make demo` starts one on this machine"
            ) from exc


def _aggregated(groups: Iterable[dict[str, Any]]) -> Iterator[ResourceType]:
    """Yield the kinds of an aggregated answer.

    https://kubernetes.io/docs/concepts/overview/kubernetes-api/#aggregated-discovery
    """
    for group in groups:
        for version in group.get("versions") or ():
            for each in version.get("resources") or ():
                kind = each["responseKind"]["kind"]
                yield ResourceType(
                    group=group["metadata"]["name"],
                    version=version["version"],
                    plural=each["resource"],
                    singular=each.get("singularResource") or kind.lower(),
                    kind=kind,
                    short_names=tuple(each.get("shortNames") or ()),
                    is_namespaced=each["scope"] == "Namespaced",
                )


def refusal(code: int, text: str) -> CommandError:
    """Return what the server's answer means, in its own words."""
    try:
        status = json.loads(text)
        said = _ECHO.sub('"{...}"', str(status["message"]))
        message = f"Error from server ({status.get('reason') or code}): {said}"
    except (ValueError, KeyError, TypeError, AttributeError):
        message = f"Error from server ({code}): {text.strip()}"
    match code:
        case 404:
            return MissingError(message, status=code)
        case 429 | 502 | 503 | 504:
            return AwayError(message, status=code)
        case _:
            return CommandError(message, status=code)


def is_expired(exc: CommandError) -> bool:
    """Whether a watch must be begun anew with a list."""
    return exc.status == _GONE
