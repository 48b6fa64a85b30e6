"""The ASGI application: who may ask, what is asked, and who answers.

Paths are taken apart here and not by a table of routes, because resources come and go with their
definitions.
"""

from collections.abc import Awaitable
from typing import Final, Protocol

import structlog

from fedge_apiserver.access import ADMINISTRATOR, Authorizer, User, attributes_of
from fedge_apiserver.errors import (
    ApiError,
    bad_request,
    internal,
    method_not_allowed,
    no_such_path,
)
from fedge_apiserver.http._authentication import Accounts, Authentication, refused
from fedge_apiserver.http._discovery import VERSION, Discovery
from fedge_apiserver.http._execs import Execs, deny
from fedge_apiserver.http._histories import DEVICES, DeviceHistories
from fedge_apiserver.http._hub import Hub
from fedge_apiserver.http._logs import Logs
from fedge_apiserver.http._messages import (
    ClientGoneError,
    Receive,
    Request,
    Scope,
    Send,
)
from fedge_apiserver.http._openapi import V2_PROTOBUF, OpenApi
from fedge_apiserver.http._proxy import NodeProxy
from fedge_apiserver.http._reading import Reading
from fedge_apiserver.http._reviews import Reviews
from fedge_apiserver.http._services import ServiceProxy
from fedge_apiserver.http._subresources import Subresources
from fedge_apiserver.http._tokens import TokenService
from fedge_apiserver.http._writing import Writing
from fedge_apiserver.registry import Registry
from fedge_apiserver.resources import NODES, PODS, Resource
from fedge_apiserver.store import encode
from fedge_apiserver.tokens import TokenKey

log = structlog.stdlib.get_logger("fedge.apiserver.http")

_OPEN_PATHS: Final = ("/healthz", "/livez", "/readyz", "/version", "/version/")
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


class Elsewhere(Protocol):
    """Answers some requests in this server's stead, as one between a cloud and its users does."""

    async def decides(self, request: Request, parts: list[str]) -> bool:
        """Answer a request that others decide about, not the roles held here.

        Returns:
            Whether it was one; its answer is sent then.
        """
        ...

    async def answers(self, request: Request, parts: list[str]) -> bool:
        """Answer a request that the roles held here allow; returns as ``decides``."""
        ...


class ApiApplication:
    """A Kubernetes API server as an ASGI application."""

    def __init__(
        self,
        registry: Registry,
        *,
        token: str | None = None,
        hub_url: str | None = None,
        hub_token: str = "",
        token_key: TokenKey | None = None,
        accounts: Accounts | None = None,
        administrator: User = ADMINISTRATOR,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        """Serve what ``registry`` holds.

        Args:
            registry: opened by the caller.
            token: the administrator's bearer token; None makes everybody the administrator.
            hub_url: the way to nodes: logs, commands, what is known of them; None has none of it.
            hub_token: what the hub wants to see for that; empty: nothing.
            token_key: signs the tokens of service accounts; None: this server gives none.
            accounts: knows tokens that others gave, where this server gives none.
            administrator: who holds ``token``.
            elsewhere: answers some of the requests; None: nobody does.
        """
        self._elsewhere = elsewhere
        self._registry = registry
        authorizer = Authorizer(registry)
        self._authorizer = authorizer
        self._reading = Reading(registry)
        self._writing = Writing(registry, self._reading, authorizer)
        self._subresources = Subresources(registry)
        self._reviews = Reviews(authorizer)
        self._discovery = Discovery(registry.catalog)
        self._openapi = OpenApi(registry.catalog)
        self._hub = Hub(hub_url, hub_token)
        self._logs = Logs(registry, self._hub)
        self._execs = Execs(registry, self._hub)
        self._proxy = NodeProxy(registry, self._hub)
        self._services = ServiceProxy(self._hub)
        self._histories = DeviceHistories(registry, self._hub)
        self._tokens = TokenService(registry, token_key) if token_key is not None else None
        self._authentication = Authentication(
            token, self._tokens or accounts, authorizer, administrator
        )

    @property
    def reading(self) -> Reading:
        """Who shows objects."""
        return self._reading

    @property
    def authorizer(self) -> Authorizer:
        """Who decides by the roles that are held here."""
        return self._authorizer

    def stop(self) -> None:
        """End the streams, so that the server can stop."""
        self._reading.stop()

    async def close(self) -> None:
        """Release connections."""
        await self._hub.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "websocket":
            await self._upgrade(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        is_started = False

        async def tracked_send(message: dict[str, object]) -> None:
            nonlocal is_started
            is_started = True
            await send(message)

        request = Request.of(scope, receive, tracked_send)
        try:
            parts = [part for part in request.path.split("/") if part]
            if request.path not in _OPEN_PATHS:
                request.user = self._authentication.user(scope, request)
            await self._answer(request, parts)
        except ApiError as exc:
            if is_started:
                raise
            await request.answer_error(exc)
        except OverflowError as exc:
            if is_started:
                raise
            await request.answer_error(
                bad_request(f"a number in the object does not fit 64 bits: {exc}")
            )
        except ClientGoneError:
            log.debug("client_gone", path=request.path)
        except Exception as exc:
            if is_started:
                raise
            log.exception("request_failed", method=request.method, path=request.path)
            await request.answer_error(internal(f"{type(exc).__name__}; see the server's log"))

    async def _answer(self, request: Request, parts: list[str]) -> None:
        """Answer one request, its user known, or have it answered elsewhere."""
        elsewhere, is_open = self._elsewhere, request.path in _OPEN_PATHS
        if not is_open:
            if elsewhere is not None and await elsewhere.decides(request, parts):
                return
            self._authorize(request, parts)
        if elsewhere is None or not await elsewhere.answers(request, parts):
            await self._dispatch(request, parts)

    async def _upgrade(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for a WebSocket."""
        request = Request.of({**scope, "method": "GET"}, receive, send)
        try:
            request.user = self._authentication.user(scope, request)
            parts = [part for part in request.path.split("/") if part]
            self._authorize(request, parts)
            # A command changes things, whatever HTTP calls the beginning of a WebSocket.
            self._authorize(request, parts, method="POST")
            match parts:
                case ["api", "v1", "namespaces", namespace, "pods", name, "exec"]:
                    await self._execs.serve(scope, receive, send, namespace=namespace, name=name)
                case _:
                    raise no_such_path()
        except ApiError as exc:
            await deny(send, exc, encode(exc.status()))

    def _authorize(self, request: Request, parts: list[str], *, method: str = "") -> None:
        attributes = attributes_of(method or request.method, request.path, parts, request.query)
        if not self._authorizer.decide(request.user, attributes).allowed:
            raise refused(attributes, request.user)

    async def _dispatch(self, request: Request, parts: list[str]) -> None:
        if request.method not in _METHODS:
            raise method_not_allowed()
        match parts:
            case _ if self._tokens is not None and await self._about_tokens(
                self._tokens, request, parts
            ):
                pass
            case ["api", "v1", *rest] if rest:
                await self._serve(request, "", "v1", rest)
            case ["apis", group, version, *rest] if rest:
                await self._serve(request, group, version, rest)
            case _:
                if request.method not in ("GET", "HEAD"):
                    raise method_not_allowed()
                await self._describe(request, parts)

    async def _about_tokens(self, tokens: TokenService, request: Request, parts: list[str]) -> bool:
        """Answer a request about tokens of service accounts; return whether it was one."""
        match request.method, parts:
            case "POST", ["api", "v1", "namespaces", namespace, "serviceaccounts", name, "token"]:
                await tokens.issue(request, namespace, name)
            case "POST", ["apis", "authentication.k8s.io", "v1", "tokenreviews"]:
                await tokens.review(request)
            case "GET", [".well-known", "openid-configuration"]:
                await request.answer_json(tokens.discovery())
            case "GET", ["openid", "v1", "jwks"]:
                await request.answer_json(tokens.key_set())
            case _:
                return False
        return True

    async def _describe(self, request: Request, parts: list[str]) -> None:
        """Answer what is about the server and not about objects."""
        match parts:
            case ["healthz" | "livez" | "readyz", *_]:
                await request.answer(b"ok", content_type=b"text/plain; charset=utf-8")
            case ["version"]:
                await request.answer_json(dict(VERSION))
            case []:
                paths = ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/readyz", "/version"]
                await request.answer_json({"paths": [*paths, "/openapi/v2", "/openapi/v3"]})
            case ["api" | "apis", *rest]:
                await self._discover(request, rest, is_core=parts[0] == "api")
            case ["openapi", *rest]:
                await self._document(request, rest)
            case _:
                raise no_such_path()

    async def _discover(self, request: Request, rest: list[str], *, is_core: bool) -> None:
        match rest:
            case []:
                await self._discovery.roots(request, is_core=is_core)
            case [version] if is_core:
                await self._answer_found(request, self._discovery.resources("", version))
            case [group]:
                await self._answer_found(request, self._discovery.group(group))
            case [group, version]:
                await self._answer_found(request, self._discovery.resources(group, version))
            case _:
                raise no_such_path()

    async def _document(self, request: Request, rest: list[str]) -> None:
        match rest:
            case ["v2"]:
                if V2_PROTOBUF in request.header(b"accept"):
                    await request.answer(
                        self._openapi.v2_protobuf(),
                        content_type=V2_PROTOBUF.replace("@", ".").encode(),
                    )
                else:
                    await request.answer_json(self._openapi.v2())
            case ["v3"]:
                await request.answer_json(self._openapi.v3_index())
            case ["v3", "api", "v1"]:
                await self._answer_found(request, self._openapi.v3("", "v1"))
            case ["v3", "apis", group, version]:
                await self._answer_found(request, self._openapi.v3(group, version))
            case _:
                raise no_such_path()

    async def _answer_found(self, request: Request, value: dict[str, object] | None) -> None:
        if value is None:
            raise no_such_path()
        await request.answer_json(value)

    async def _serve(self, request: Request, group: str, version: str, rest: list[str]) -> None:
        """Answer a request for objects."""
        if rest[0] == "watch" and len(rest) > 1:
            # The paths of old: /watch/ before the rest.
            rest = rest[1:]
            request.query["watch"] = "true"
        namespace = ""
        match rest:
            case ["namespaces", namespace, plural, *names] if plural not in ("status", "finalize"):
                pass
            case [plural, *names]:
                pass
            case _:
                raise no_such_path()
        if group == "" and plural == "bindings" and namespace and request.method == "POST":
            await self._subresources.bind(request, namespace, "")
            return
        if group == "" and self._services.knows(namespace, plural, names):
            await self._services.pass_on(request, namespace, names)
            return
        resource = self._registry.catalog.find(group, version, plural)
        if resource is None or (namespace and not resource.namespaced):
            raise no_such_path()
        match names:
            case []:
                await self._collection(request, resource, namespace)
            case [name]:
                await self._object(request, resource, namespace, name)
            case [name, *path] if _is_asked_of_node(resource, namespace, path):
                await self._ask_node(request, resource, namespace, name, path[1:])
            case [name, subresource] if subresource in resource.subresources:
                await self._subresource(request, resource, namespace, name, subresource)
            case _:
                raise no_such_path()

    async def _ask_node(
        self, request: Request, resource: Resource, namespace: str, name: str, path: list[str]
    ) -> None:
        """Answer with what a node says, or hub in its stead."""
        if request.method not in ("GET", "HEAD"):
            raise method_not_allowed()
        if resource is NODES:
            await self._proxy.get(request, name, path)
        else:
            await self._histories.get(request, resource, namespace, name)

    async def _collection(self, request: Request, resource: Resource, namespace: str) -> None:
        is_everywhere = resource.namespaced and not namespace
        match request.method:
            case "GET" | "HEAD" if "list" in resource.verbs:
                await self._reading.list_objects(request, resource, namespace)
            case "POST" if not resource.storage and not is_everywhere:
                await self._reviews.answer(request, resource, namespace)
            case "POST" if not is_everywhere:
                await self._writing.create(request, resource, namespace)
            case "DELETE" if "deletecollection" in resource.verbs and not is_everywhere:
                await self._writing.delete_all(request, resource, namespace)
            case _:
                raise method_not_allowed()

    async def _object(
        self, request: Request, resource: Resource, namespace: str, name: str
    ) -> None:
        if resource.namespaced and not namespace:
            raise no_such_path()
        if "get" not in resource.verbs:
            raise method_not_allowed()
        if request.method in ("GET", "HEAD") and request.flag("watch"):
            request.query["fieldSelector"] = f"metadata.name={name}"
            await self._reading.list_objects(request, resource, namespace)
            return
        await self._by_method(request, resource, namespace, name, "")

    def _by_method(
        self, request: Request, resource: Resource, namespace: str, name: str, subresource: str
    ) -> Awaitable[None]:
        match request.method:
            case "GET" | "HEAD":
                return self._reading.get(request, resource, namespace, name)
            case "PUT":
                return self._writing.replace(request, resource, namespace, name, subresource)
            case "PATCH":
                return self._writing.patch(request, resource, namespace, name, subresource)
            case "DELETE" if not subresource:
                return self._writing.delete(request, resource, namespace, name)
            case _:
                raise method_not_allowed()

    async def _subresource(
        self,
        request: Request,
        resource: Resource,
        namespace: str,
        name: str,
        subresource: str,
    ) -> None:
        if resource.namespaced and not namespace:
            raise no_such_path()
        match subresource:
            case "log" if resource is PODS and request.method == "GET":
                await self._logs.stream(request, namespace, name)
            case "exec" if resource is PODS:
                raise bad_request("you must upgrade the connection to a WebSocket for exec")
            case "ephemeralcontainers" if resource is PODS:
                await self._by_method(request, resource, namespace, name, subresource)
            case "binding" if resource is PODS and request.method == "POST":
                await self._subresources.bind(request, namespace, name)
            case "eviction" if resource is PODS and request.method == "POST":
                await self._subresources.evict(request, namespace, name)
            case "finalize" if request.method == "PUT":
                await self._writing.replace(request, resource, namespace, name, subresource)
            case "scale" if request.method in ("GET", "HEAD", "PUT", "PATCH"):
                await self._subresources.scale(request, resource, namespace, name)
            case "status":
                await self._by_method(request, resource, namespace, name, subresource)
            case _:
                raise method_not_allowed()


def _is_asked_of_node(resource: Resource, namespace: str, path: list[str]) -> bool:
    match path:
        case ["proxy", *_]:
            return resource is NODES
        case ["history"]:
            return resource.storage == DEVICES and namespace != ""
        case _:
            return False
