"""Commands: whoever asks learns how it ended, or that nobody knows."""

import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, MutableMapping
from typing import Any

import pytest
from starlette.websockets import WebSocket
from typing_extensions import override

from fedge_fabric import UnavailableError
from fedge_hub.execs import ContainerExec
from fedge_hub.ports import NodeAwayError, RequestLink
from fedge_objects import NodeName

READY = {"status": 200, "body": "", "ready": True}
RUNS = {"status": 200, "body": ""}
Said = Mapping[str, Any] | Exception


def frame(content: bytes) -> Mapping[str, Any]:
    return {**RUNS, "frame": base64.b64encode(content).decode()}


class Node(RequestLink):
    """A node that answers what it is told to."""

    def __init__(self, *says: Said) -> None:
        self._says = says
        self.said = 0

    @override
    async def ask(
        self,
        node: NodeName,
        kind: str,
        data: Mapping[str, object],
        *,
        deadline_seconds: float,
        goes_on: bool = False,
        inputs: AsyncIterator[bytes] | None = None,
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        for each in self._says:
            if isinstance(each, Exception):
                raise each
            self.said += 1
            yield {"last": False, **each}


class Client:
    """A client whose WebSocket stays open; what it gets."""

    def __init__(self) -> None:
        self.got: list[Mapping[str, Any]] = []
        self.is_gone = False

    async def run(self, *says: Said) -> None:
        """Have a command run at a node that says this."""
        await self.run_at(Node(*says))

    async def run_at(self, node: Node) -> None:
        """Have a command run at a node."""
        scope = {
            "type": "websocket",
            "path_params": {"node": "gw", "namespace": "d", "pod": "p", "container": "c"},
            "query_string": b"command=ls",
            "headers": [],
            "extensions": {"websocket.http.response": {}},
        }
        await ContainerExec(node).serve(WebSocket(scope, self._receive, self._send))

    async def _receive(self) -> MutableMapping[str, Any]:
        return {"type": "websocket.connect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        if self.is_gone and message["type"] == "websocket.send":
            raise OSError("gone")
        self.got.append(message)

    def frames(self) -> list[bytes]:
        """Return what came between opening and closing, without frames of no output."""
        assert (self.got[0]["type"], self.got[-1]["type"]) == (
            "websocket.accept",
            "websocket.close",
        )
        return [each["bytes"] for each in self.got[1:-1] if each["bytes"] != b"\1"]


AWAY = NodeAwayError("node 'gw' is away since noon")
IN_TIME = "node 'gw' did not answer within 15 s"


@pytest.mark.parametrize(
    ("says", "status", "text"),
    [
        ([AWAY], 503, f"{AWAY}; the command was not begun\n"),
        ([READY, AWAY], 503, f"{AWAY}; whether the command ran is not known\n"),
        ([TimeoutError()], 504, f"{IN_TIME}; the command was not begun\n"),
        ([READY, TimeoutError()], 504, f"{IN_TIME}; whether the command ran is not known\n"),
        ([{"status": 404, "body": "no such pod\n"}], 404, "no such pod\n"),
        ([READY, {"status": 409, "body": "begun before\n", "cut": True}], 409, "begun before\n"),
    ],
)
async def test_refusal_says_whether_the_command_may_have_run(
    says: list[Said], status: int, text: str
) -> None:
    client = Client()
    await client.run(*says)
    start, *bodies = client.got
    assert (start["type"], start["status"]) == ("websocket.http.response.start", status)
    assert b"".join(each["body"] for each in bodies).decode() == text


async def test_command_says_itself_how_it_ended() -> None:
    client = Client()
    await client.run(READY, RUNS, frame(b"\1out"), RUNS, frame(b"\3{}"))
    assert client.frames() == [b"\1out", b"\3{}"]


async def test_client_is_looked_after_while_a_command_is_silent_and_left_alone_after_its_end() -> (
    None
):
    client = Client()
    await client.run(READY, RUNS, RUNS, frame(b"\3{}"), RUNS, {**RUNS, "last": True})
    assert [each.get("bytes") for each in client.got[1:-1]] == [b"\1", b"\3{}"]


async def test_command_is_given_up_when_its_client_is_found_gone() -> None:
    client = Client()
    client.is_gone = True
    node = Node(READY, RUNS, *[RUNS] * 3, frame(b"\3{}"))
    await client.run_at(node)
    assert [each["type"] for each in client.got] == ["websocket.accept"]
    assert node.said == 3


@pytest.mark.parametrize(
    ("says", "text"),
    [
        ([{"status": 409, "body": "begun before\n", "cut": True}], "begun before"),
        ([{"status": 500, "body": "the runtime is away\n"}], "the runtime is away"),
        ([AWAY], f"{AWAY}; whether the command goes on is not known"),
        (
            [UnavailableError("the broker is away")],
            "the broker is away; whether the command goes on is not known",
        ),
        ([TimeoutError()], "node 'gw' fell silent; whether the command goes on is not known"),
        ([], "node 'gw' lost sight of the command"),
    ],
)
async def test_command_that_was_lost_sight_of_never_looks_as_if_it_had_succeeded(
    says: list[Said], text: str
) -> None:
    client = Client()
    await client.run(READY, RUNS, *says)
    [told] = client.frames()
    status = json.loads(told[1:])
    assert (told[:1], status["status"], status["message"]) == (b"\3", "Failure", text)
