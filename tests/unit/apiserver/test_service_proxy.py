"""What is passed on to hub by the path of a service, and what is not."""

from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from fedge_apiserver.errors import ApiError
from fedge_apiserver.http._hub import Hub
from fedge_apiserver.http._messages import Request
from fedge_apiserver.http._services import ServiceProxy

HUB = "fedge-hub:http"


class Asked:
    """A hub, as seen by what it is asked; and the client, as seen by what it gets."""

    def __init__(self, answer: httpx.Response | Exception) -> None:
        self.answer = answer
        self.requests: list[httpx.Request] = []
        self.sent: list[Mapping[str, Any]] = []
        self.hub = Hub("http://hub:8480")
        self.hub._client = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def ask(
        self,
        names: list[str],
        *,
        method: str = "GET",
        namespace: str = "fedge-system",
        query: bytes = b"",
        body: bytes = b"",
    ) -> bytes:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Mapping[str, Any]) -> None:
            self.sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": "/",
            "query_string": query,
            "headers": [(b"content-type", b"application/x-protobuf")],
        }
        request = Request.of(scope, receive, send)
        try:
            await ServiceProxy(self.hub).pass_on(request, namespace, names)
        finally:
            await self.hub.close()
        return b"".join(each.get("body", b"") for each in self.sent)


async def test_traces_are_asked_of_hub() -> None:
    asked = Asked(httpx.Response(200, json={"traces": []}))
    said = await asked.ask([HUB, "proxy", "traces"], query=b"object=pods%2Fdefault%2Fa&limit=5")
    assert said == b'{"traces":[]}'
    [request] = asked.requests
    assert request.url.path == "/traces"
    assert dict(request.url.params) == {"object": "pods/default/a", "limit": "5"}


async def test_spans_of_commands_are_handed_on() -> None:
    asked = Asked(httpx.Response(200))
    await asked.ask([HUB, "proxy", "v1", "traces"], method="POST", body=b"\x0a\x00")
    [request] = asked.requests
    assert (request.method, request.url.path) == ("POST", "/v1/traces")
    assert request.content == b"\x0a\x00"
    assert request.headers["content-type"] == "application/x-protobuf"


@pytest.mark.parametrize(
    ("names", "method", "namespace", "code"),
    [
        ([HUB, "proxy", "metrics"], "GET", "fedge-system", 404),
        ([HUB, "proxy"], "GET", "fedge-system", 404),
        ([HUB, "proxy", "nodes", "a", "exec"], "GET", "fedge-system", 404),
        ([HUB, "proxy", "traces"], "DELETE", "fedge-system", 405),
        ([HUB, "proxy", "v1", "traces"], "GET", "fedge-system", 405),
        (["other", "proxy", "traces"], "GET", "fedge-system", 404),
        ([HUB, "proxy", "traces"], "GET", "default", 404),
    ],
)
async def test_nothing_else_is_passed_on(
    names: list[str], method: str, namespace: str, code: int
) -> None:
    asked = Asked(httpx.Response(200))
    with pytest.raises(ApiError) as caught:
        await asked.ask(names, method=method, namespace=namespace)
    assert caught.value.code == code
    assert asked.requests == []


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (httpx.Response(404, text="trace 7 is not known"), 404),
        (httpx.Response(400, text="no id"), 400),
        (httpx.Response(503, text="Jaeger is away"), 503),
        (httpx.ConnectError("refused"), 503),
    ],
)
async def test_hub_that_refuses_or_is_away_is_told(
    answer: httpx.Response | Exception, code: int
) -> None:
    with pytest.raises(ApiError) as caught:
        await Asked(answer).ask([HUB, "proxy", "traces", "7"])
    assert caught.value.code == code
