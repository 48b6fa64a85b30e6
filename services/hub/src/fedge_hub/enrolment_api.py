"""Hub's enrolment API, the only one that gateways without a certificate may speak to.

Small on purpose: whom to trust, join, renew. What is refused is said as problem details with a code
that stays (RFC 9457), and logged with where it came from.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from fedge_enrolment.authority import Authorities
from fedge_enrolment.records import RecordsAwayError
from fedge_enrolment.refusals import BAD_REQUEST, PROBLEM_TYPE, TOO_LARGE, UNAVAILABLE, RefusedError
from fedge_enrolment.registrar import Grant, JoinRequest, Registrar, RenewRequest
from fedge_fabric import UnavailableError
from fedge_objects import NodeName

log = structlog.stdlib.get_logger("fedge.hub")

MAX_BODY_BYTES: Final = 64 * 1024
BODY_SECONDS: Final = 10.0
_PEM: Final = "application/x-pem-file"
_CREATED: Final = 201

T = TypeVar("T")


class Problem(msgspec.Struct, kw_only=True):
    """What was refused (RFC 9457), with a code that stays and what to do about it."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    remedy: str


class EnrolmentApi:
    """The requests."""

    def __init__(
        self,
        *,
        registrar: Registrar,
        authorities: Authorities,
        provide: Callable[[str, NodeName], Awaitable[None]],
        peer: Callable[[Request], str],
    ) -> None:
        """Take note of who decides.

        Args:
            registrar: who grants.
            authorities: whom to trust.
            provide: lets a user log in at the broker.
            peer: says where a request came from.
        """
        self._registrar = registrar
        self._authorities = authorities
        self._provide = provide
        self._peer = peer

    def app(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route("/healthz", self._healthz),
                Route("/openapi.json", self._openapi),
                Route("/v1/ca", self._ca),
                Route("/v1/crl", self._crl),
                Route("/v1/join", self._join, methods=["POST"]),
                Route("/v1/renew", self._renew, methods=["POST"]),
            ],
            exception_handlers={
                RefusedError: self._refused,
                HTTPException: _not_so,
                RecordsAwayError: self._away,
                UnavailableError: self._away,
            },
        )

    async def _healthz(self, _: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _openapi(self, _: Request) -> Response:
        return JSONResponse(openapi())

    async def _ca(self, _: Request) -> Response:
        return Response((await self._authorities.current()).bundle, media_type=_PEM)

    async def _crl(self, _: Request) -> Response:
        return Response(await self._registrar.revocations(), media_type=_PEM)

    async def _join(self, request: Request) -> Response:
        grant = await self._registrar.join(await _body(request, JoinRequest))
        return await self._granted(grant)

    async def _renew(self, request: Request) -> Response:
        grant = await self._registrar.renew(await _body(request, RenewRequest))
        return await self._granted(grant)

    async def _granted(self, grant: Grant) -> Response:
        await self._provide(grant.user, NodeName(grant.node))
        return Response(
            msgspec.json.encode(grant), status_code=_CREATED, media_type="application/json"
        )

    async def _refused(self, request: Request, exc: Exception) -> Response:
        assert isinstance(exc, RefusedError)  # noqa: S101 - that is what it is registered for
        log.warning(
            "enrolment_refused",
            code=exc.code,
            peer=self._peer(request),
            path=request.url.path,
            reason=exc.detail,
        )
        return _problem(exc)

    async def _away(self, request: Request, exc: Exception) -> Response:
        log.warning("enrolment_not_now", peer=self._peer(request), reason=str(exc))
        return _problem(RefusedError("not_now", UNAVAILABLE, str(exc), "try again in a moment"))


def openapi() -> dict[str, Any]:
    """Return the description of the API (OpenAPI 3.1)."""
    kinds = (JoinRequest, RenewRequest, Grant, Problem)
    _, components = msgspec.json.schema_components(
        kinds, ref_template="#/components/schemas/{name}"
    )

    def body(kind: type) -> dict[str, Any]:
        schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
        return {"content": {"application/json": {"schema": schema}}}

    problem = {
        "description": "Refused; the code says why, the remedy what to do.",
        "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }

    def question(kind: type, summary: str) -> dict[str, Any]:
        return {
            "post": {
                "summary": summary,
                "requestBody": {"required": True, **body(kind)},
                "responses": {
                    "201": {"description": "Granted.", **body(Grant)},
                    "4XX": problem,
                    "503": problem,
                },
            }
        }

    def text(summary: str, media_type: str) -> dict[str, Any]:
        content = {media_type: {"schema": {"type": "string"}}}
        return {
            "get": {
                "summary": summary,
                "responses": {"200": {"description": summary, "content": content}},
            }
        }

    return {
        "openapi": "3.1.0",
        "info": {"title": "fedge enrolment", "version": "1"},
        "paths": {
            "/v1/ca": text("Certificates of the authorities, newest first.", _PEM),
            "/v1/crl": text("Certificates that are revoked.", _PEM),
            "/v1/join": question(JoinRequest, "Make a gateway a node."),
            "/v1/renew": question(RenewRequest, "Renew a node's certificate."),
            "/healthz": text("Whether hub is there.", "text/plain"),
        },
        "components": {"schemas": components},
    }


async def _body(request: Request, kind: type[T]) -> T:
    """Read a request's body, not too much of it and not for too long."""
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.stream():
                data += piece
                if len(data) > MAX_BODY_BYTES:
                    raise RefusedError(
                        "body_too_large", TOO_LARGE, f"the request is above {MAX_BODY_BYTES} bytes",
                        "send what the API describes at /openapi.json",
                    )  # fmt: skip
    except TimeoutError as exc:
        raise RefusedError(
            "body_too_slow", BAD_REQUEST, f"the request did not come within {BODY_SECONDS:.0f} s",
            "try again",
        ) from exc  # fmt: skip
    try:
        return msgspec.json.decode(bytes(data), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise RefusedError(
            "body_malformed", BAD_REQUEST, f"the request cannot be read: {exc}",
            "send what the API describes at /openapi.json",
        ) from exc  # fmt: skip


async def _not_so(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)  # noqa: S101 - that is what it is registered for
    code = exc.detail.lower().replace(" ", "_")
    return _problem(
        RefusedError(code, exc.status_code, exc.detail, "see /openapi.json for what there is")
    )


def _problem(refusal: RefusedError) -> Response:
    return JSONResponse(
        refusal.problem(), status_code=refusal.status or BAD_REQUEST, media_type=PROBLEM_TYPE
    )
