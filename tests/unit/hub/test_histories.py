"""What hub answers to a question for a device's history."""

import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any, cast

import httpx
import pytest

from fedge_fabric import UnavailableError, kinds
from fedge_fabric.fabric import Statistics
from fedge_hub.http import create_app
from fedge_hub.views import Views

HISTORY = {"items": [{"property": "temp", "side": "reported", "by": "device", "value": 1}]}


class Node:
    """Answers as a node does, or not at all."""

    def __init__(self, answer: Mapping[str, Any] | Exception) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str, Mapping[str, object]]] = []

    async def ask(
        self, node: str, kind: str, data: Mapping[str, object], **_: object
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        self.asked.append((node, kind, data))
        if isinstance(self.answer, Exception):
            raise self.answer
        yield self.answer

    async def get(self, path: str) -> httpx.Response:
        app = create_app(
            requests=cast("Any", self),
            views=cast("Views", None),
            is_ready=lambda: True,
            statistics=Statistics(),
        )
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://hub"
        ) as client:
            return await client.get(path)


async def test_answer_of_the_node_comes_as_it_is() -> None:
    node = Node({"status": 200, "body": json.dumps(HISTORY), "index": 0, "last": True})
    answer = await node.get("/nodes/gw.1/deviceHistory/plant/pump.7?property=a%2Fb&limit=5")
    assert answer.status_code == 200
    assert answer.json() == HISTORY
    [(name, kind, data)] = node.asked
    assert (name, kind) == ("gw.1", kinds.HISTORY_ASKED)
    assert data == {"namespace": "plant", "device": "pump.7", "property": "a/b", "limit": 5}


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        ({"status": 404, "body": "no such device\n", "last": True}, 404, "no such device"),
        (UnavailableError("node 'gw' is away since noon"), 503, "away since noon"),
        (TimeoutError(), 504, "did not answer within 15 s"),
    ],
)
async def test_refusal_says_why(
    answer: Mapping[str, Any] | Exception, code: int, said: str
) -> None:
    found = await Node(answer).get("/nodes/gw/deviceHistory/plant/ac")
    assert found.status_code == code
    assert said in found.text


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x"])
async def test_wrong_limit_is_refused_before_the_node_is_asked(limit: str) -> None:
    node = Node(UnavailableError("never asked"))
    found = await node.get(f"/nodes/gw/deviceHistory/plant/ac?limit={limit}")
    assert found.status_code == 400
    assert node.asked == []
