"""Requests to a Kubernetes API server."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

import fedge_tracing as tracing
from fedge_kube.errors import (
    ConflictError,
    ExpiredError,
    KubeError,
    NotFoundError,
    RefusedError,
    UnreachableError,
)
from fedge_kube.resources import Resource
from fedge_objects import JsonObject
from fedge_tracing import names

REQUEST_TIMEOUT_SECONDS = 20.0
WATCH_SECONDS = 300
"""How long one watch request lasts; then the next goes on from its revision."""
PAGE_SIZE = 500
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """All objects of a resource at one revision of the cluster."""

    items: list[JsonObject]
    revision: int


class KubeClient:
    """One API server. Safe to use from many tasks."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    @classmethod
    @asynccontextmanager
    async def connected(cls, kubeconfig: Path | None) -> AsyncIterator[Self]:
        """Open a client.

        Args:
            kubeconfig: the file that says where and as whom; None inside a cluster's pod.

        Raises:
            kubernetes.aio.config.ConfigException: the file, or the pod's account, is unusable.
        """
        configuration = Configuration()
        if kubeconfig is None:
            config.load_incluster_config(  # type: ignore[no-untyped-call]  # the library's
                client_configuration=configuration
            )
        else:
            await config.load_kube_config(  # type: ignore[no-untyped-call]  # the library's
                config_file=str(kubeconfig), client_configuration=configuration
            )
        configuration.connection_pool_maxsize = 64
        async with ApiClient(configuration) as api:
            yield cls(api)

    async def get(self, resource: Resource, namespace: str, name: str) -> JsonObject:
        """Return an object.

        Raises:
            NotFoundError: there is none.
            KubeError: as in ``fedge_kube.errors``; so for every method.
        """
        return await self._call("GET", resource.path(namespace, name))

    async def list(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        field_selector: str = "",
        label_selector: str = "",
    ) -> Listing:
        """Return all objects of ``resource``, or those of a namespace, in pages underneath."""
        items: list[JsonObject] = []
        query: dict[str, str] = {"limit": str(PAGE_SIZE)}
        if field_selector:
            query["fieldSelector"] = field_selector
        if label_selector:
            query["labelSelector"] = label_selector
        while True:
            page = await self._call("GET", resource.path(namespace), query=query)
            kind, version = page["kind"].removesuffix("List"), page["apiVersion"]
            # items of a list come without their type; a node needs it
            items.extend({"apiVersion": version, "kind": kind, **item} for item in page["items"])
            if not (more := page["metadata"].get("continue")):
                return Listing(items=items, revision=int(page["metadata"]["resourceVersion"]))
            query["continue"] = more

    async def create(self, resource: Resource, obj: JsonObject) -> JsonObject:
        """Create an object and return it as stored."""
        namespace = obj["metadata"].get("namespace", "")
        return await self._call("POST", resource.path(namespace), body=obj)

    async def replace(
        self, resource: Resource, obj: JsonObject, *, subresource: str = ""
    ) -> JsonObject:
        """Put an object, or its ``subresource``, in the place of the one of its name.

        Returns:
            The object as stored.

        Raises:
            ConflictError: it is no longer of the ``resourceVersion`` that ``obj`` says.
        """
        metadata = obj["metadata"]
        path = resource.path(metadata.get("namespace", ""), metadata["name"], subresource)
        return await self._call("PUT", path, body=obj)

    async def create_token(
        self, resource: Resource, namespace: str, account: str, spec: JsonObject
    ) -> JsonObject:
        """Ask for a token of a service account; return the request's status.

        https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1/

        Args:
            resource: service accounts.
            namespace: of the account.
            account: its name.
            spec: ``TokenRequestSpec``.
        """
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = resource.path(namespace, account, "token")
        answer = await self._call("POST", path, body=body)
        return dict(answer["status"])

    async def issuer_keys(self) -> tuple[str, JsonObject]:
        """Return who issues the tokens of service accounts, and the keys to check them by.

        https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/#service-account-issuer-discovery
        """
        said = await self._call("GET", "/.well-known/openid-configuration")
        return str(said["issuer"]), await self._call("GET", "/openid/v1/jwks")

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        patch: JsonObject,
        *,
        subresource: str = "",
        content_type: str = MERGE_PATCH,
    ) -> JsonObject:
        """Change an object, or its ``subresource``, and return it as stored."""
        return await self._call(
            "PATCH",
            resource.path(namespace, name, subresource),
            body=patch,
            content_type=content_type,
        )

    async def replace_status(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        status: JsonObject,
        *,
        uid: str | None = None,
    ) -> JsonObject:
        """Put a whole status in the place of the one that is there; return the object as stored.

        Unlike a merge patch this also takes away what ``status`` does not have, and keeps nulls.

        Args:
            resource: of which resource; it must have the subresource ``status``.
            namespace: of the object.
            name: its name.
            status: the status.
            uid: only if it still is that object; it is refused otherwise.
        """
        test = [] if uid is None else [{"op": "test", "path": "/metadata/uid", "value": uid}]
        return await self._call(
            "PATCH",
            resource.path(namespace, name, "status"),
            body=[*test, {"op": "add", "path": "/status", "value": status}],
            content_type=JSON_PATCH,
        )

    async def apply(self, resource: Resource, obj: JsonObject, *, field_manager: str) -> JsonObject:
        """Make the object's fields so, whether it exists or not (server-side apply)."""
        metadata = obj["metadata"]
        return await self._call(
            "PATCH",
            resource.path(metadata.get("namespace", ""), metadata["name"]),
            query={"fieldManager": field_manager, "force": "true"},
            body=obj,
            content_type=APPLY_PATCH,
        )

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        grace_seconds: int | None = None,
        uid: str | None = None,
    ) -> None:
        """Delete an object; with ``uid`` only if it still is that one."""
        options: JsonObject = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        await self._call("DELETE", resource.path(namespace, name), body=options)

    async def send_as(
        self,
        user: str,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: JsonObject | Sequence[JsonObject] | None = None,
        content_type: str = "application/json",
    ) -> tuple[int, str]:
        """Send a request as another user; return the code and the body of what is answered.

        https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation

        Args:
            user: in whose name; the roles of both let this pass.
            method: HTTP's.
            path: quoted.
            query: of the URL, not quoted.
            body: None: there is none.
            content_type: that says what the body means.

        Raises:
            UnreachableError: the API does not answer.
        """
        response = await self._send(
            method,
            path,
            query=dict(query),
            body=body,
            content_type=content_type,
            headers={"Impersonate-User": user},
        )
        try:
            return response.status, (await response.read()).decode("utf-8", "replace")
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            raise UnreachableError(f"{method} {path} broke off: {exc!r}") from exc

    async def watch(
        self,
        resource: Resource,
        revision: int,
        *,
        namespace: str = "",
        field_selector: str = "",
        label_selector: str = "",
    ) -> AsyncIterator[tuple[str, JsonObject]]:
        """Yield ``(type, object)`` for what happened after ``revision``, until the server ends it.

        Types are ADDED, MODIFIED, DELETED and BOOKMARK
        (https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes).

        Raises:
            ExpiredError: ``revision`` is too old; list again.
        """
        query = {
            "watch": "true",
            "resourceVersion": str(revision),
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
            **({"fieldSelector": field_selector} if field_selector else {}),
            **({"labelSelector": label_selector} if label_selector else {}),
        }
        path = resource.path(namespace)
        response = await self._send("GET", path, query=query, timeout_seconds=WATCH_SECONDS + 30)
        try:
            if response.status >= 300:  # noqa: PLR2004 - HTTP's line between success and the rest
                raise _error(response.status, await response.read())
            async for line in response.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise _error(event["object"].get("code", 500), json.dumps(event["object"]))
                yield event["type"], event["object"]
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as exc:
            raise UnreachableError(f"watch of {resource.name} broke off: {exc!r}") from exc
        finally:
            response.close()

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: JsonObject | Sequence[JsonObject] | None = None,
        content_type: str = "application/json",
    ) -> JsonObject:
        with tracing.span(
            f"{method} {_what(path)}",
            kind=tracing.SpanKind.CLIENT,
            attributes={names.HTTP_REQUEST_METHOD: method, names.URL_PATH: path},
        ) as active:
            response = await self._send(
                method, path, query=query, body=body, content_type=content_type
            )
            active.set(names.HTTP_RESPONSE_STATUS_CODE, response.status)
            try:
                data = await response.read()
            except (aiohttp.ClientError, OSError, TimeoutError) as exc:
                raise UnreachableError(f"{method} {path} broke off: {exc!r}") from exc
            if response.status >= 300:  # noqa: PLR2004
                raise _error(response.status, data)
        answer: JsonObject = json.loads(data)
        return answer

    async def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: JsonObject | Sequence[JsonObject] | None = None,
        content_type: str = "application/json",
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
        headers: Mapping[str, str] | None = None,
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": "application/json", "Content-Type": content_type, **(headers or {})}
        if told := tracing.traceparent():
            headers["traceparent"] = told
        try:
            verb, url, sent_headers, payload, _ = await self._api.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = await self._api.call_api(
                verb, url, sent_headers, payload, _request_timeout=timeout_seconds
            )
        except (aiohttp.ClientError, OSError, TimeoutError, asyncio.IncompleteReadError) as exc:
            raise UnreachableError(f"{method} {path}: {exc!r}") from exc
        response: aiohttp.ClientResponse = answer.response
        return response


def _what(path: str) -> str:
    """Return the resource, and the subresource if there is one, of a path without any names."""
    match path.strip("/").split("/"):
        case ["api", _, *rest] | ["apis", _, _, *rest]:
            pass
        case _:
            return path
    match rest:
        case ["namespaces", _, resource, *more] | [resource, *more]:
            return "/".join([resource, *more[1:]])
        case _:
            return path


def _error(code: int, body: bytes | str) -> KubeError:
    try:
        status = json.loads(body)
        message = str(status["message"])
        reason = str(status.get("reason", ""))
    except (ValueError, TypeError, KeyError, AttributeError):
        message, reason = f"HTTP {code}: {body[:200]!r}", ""
    match code, reason:
        case 404, _:
            return NotFoundError(message)
        case (410, _) | (_, "Expired"):
            return ExpiredError(message)
        case 409, _:
            return ConflictError(message)
        case (429 | 500 | 502 | 503 | 504, _):
            return UnreachableError(message)
        case _:
            return RefusedError(message)
