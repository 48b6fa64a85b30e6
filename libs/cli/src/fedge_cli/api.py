"""Requests to the API server, and the names of what it serves."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import httpx

from fedge_cli.errors import AwayError, CommandError, MissingError, UsageError
from fedge_cli.kubeconfig import Access

TIMEOUT_SECONDS = 30.0
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


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

    def __init__(self, client: httpx.Client, *, server: str) -> None:
        self._client = client
        self._server = server
        self._types: list[ResourceType] | None = None

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
        ) as client:
            yield cls(client, server=access.server)

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
        with self._sent():
            answer = self._client.request(
                method,
                path,
                params=query,
                content=None if body is None else json.dumps(body),
                headers={"Accept": accept, "Content-Type": content_type},
            )
        if answer.is_error:
            raise refusal(answer.status_code, answer.text)
        return dict(answer.json())

    def stream(self, path: str, *, query: Mapping[str, str], accept: str) -> Iterator[str]:
        """Yield the answer's lines as they come; errors as in ``request``."""
        with (
            self._sent(),
            self._client.stream(
                "GET", path, params=query, headers={"Accept": accept}, timeout=None
            ) as answer,
        ):
            if answer.is_error:
                raise refusal(answer.status_code, answer.read().decode())
            yield from answer.iter_lines()

    def types(self) -> list[ResourceType]:
        """Return everything that the server serves, preferred versions first."""
        if self._types is None:
            self._types = list(self._discover())
        return self._types

    def find_type(self, name: str) -> ResourceType:
        """Return the kind that a user calls ``name``.

        Raises:
            MissingError: the server serves none.
        """
        for each in self.types():
            if each.answers_to(name):
                return each
        raise MissingError(f'the server doesn\'t have a resource type "{name}"')

    def type_of(self, manifest: Mapping[str, Any]) -> ResourceType:
        """Return the kind of an object.

        Raises:
            MissingError: the server does not serve it.
        """
        version, kind = manifest["apiVersion"], manifest["kind"]
        for each in self.types():
            if each.api_version == version and each.kind == kind:
                return each
        raise MissingError(
            f'no matches for kind "{kind}" in version "{version}": ensure CRDs are installed first'
        )

    def forget_types(self) -> None:
        """Ask anew next time: a definition of a kind was just applied."""
        self._types = None

    def _discover(self) -> Iterator[ResourceType]:
        yield from self._resources("/api/v1", "", "v1")
        for group in self.request("GET", "/apis")["groups"]:
            versions = [group["preferredVersion"], *group["versions"]]
            for version in dict.fromkeys(each["version"] for each in versions):
                yield from self._resources(
                    f"/apis/{group['name']}/{version}", group["name"], version
                )

    def _resources(self, path: str, group: str, version: str) -> Iterator[ResourceType]:
        for each in self.request("GET", path)["resources"]:
            if "/" in each["name"]:
                continue
            yield ResourceType(
                group=group,
                version=version,
                plural=each["name"],
                singular=each.get("singularName") or each["kind"].lower(),
                kind=each["kind"],
                short_names=tuple(each.get("shortNames") or ()),
                is_namespaced=each["namespaced"],
            )

    @contextmanager
    def _sent(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as exc:
            raise AwayError(
                f"the server {self._server} does not answer: {str(exc) or type(exc).__name__}; "
                "is it running? `make demo` starts one on this machine"
            ) from exc
        except (ValueError, KeyError) as exc:
            raise CommandError(
                f"the server {self._server} answered with something unexpected: {exc!r}"
            ) from exc


def refusal(code: int, text: str) -> CommandError:
    """Return what the server's answer means, in its own words."""
    try:
        status = json.loads(text)
        message = f"Error from server ({status.get('reason') or code}): {status['message']}"
    except (ValueError, KeyError, TypeError):
        message = f"Error from server ({code}): {text.strip()}"
    match code:
        case 404:
            return MissingError(message)
        case 401 | 403:
            return UsageError(message)
        case 429 | 502 | 503 | 504:
            return AwayError(message)
        case _:
            return CommandError(message)
