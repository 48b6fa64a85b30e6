"""Who may reach into nodes by hub's HTTP."""

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from fedge_hub.guard import Guard

LOGS = "/nodes/gw.1/containerLogs/default/p/main"


async def get(path: str, *, token: str, host: str, shown: str | None = None) -> int:
    async def answer(_: Request) -> Response:
        return PlainTextResponse("ok")

    app = Guard(Starlette(routes=[Route("/{rest:path}", answer)]), token=token, host=host)
    headers = {} if shown is None else {"Authorization": shown}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://hub"
    ) as client:
        return (await client.get(path, headers=headers)).status_code


@pytest.mark.parametrize("what", ["containerLogs", "exec", "deviceHistory"])
@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])  # noqa: S104 - nothing listens here
async def test_with_a_token_only_who_shows_it_reaches_into_a_node(what: str, host: str) -> None:
    path = f"/nodes/gw.1/{what}/default/p/main"
    assert await get(path, token="t", host=host) == 401
    assert await get(path, token="t", host=host, shown="Bearer other") == 401
    assert await get(path, token="t", host=host, shown="Basic t") == 401
    assert await get(path, token="t", host=host, shown="Bearer t") == 200
    assert await get(path, token="t", host=host, shown="bearer t") == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("::1", 200),
        ("localhost", 200),
        ("0.0.0.0", 403),  # noqa: S104 - nothing listens here
        ("::", 403),
        ("hub.example", 403),
    ],
)
async def test_without_a_token_only_this_machine_reaches_into_a_node(
    host: str, status: int
) -> None:
    assert await get(LOGS, token="", host=host) == status
    assert await get(LOGS, token="", host=host, shown="Bearer ") == status


@pytest.mark.parametrize("path", ["/livez", "/metrics", "/nodes/gw.1/status", "/traces"])
async def test_what_hub_itself_knows_is_for_everybody(path: str) -> None:
    assert await get(path, token="t", host="0.0.0.0") == 200  # noqa: S104
