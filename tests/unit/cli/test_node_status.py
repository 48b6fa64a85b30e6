"""``fedge status``: what is printed of what hub knows."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from fedge_cli import kubeconfig
from fedge_cli.app import app
from fedge_cli.errors import AwayError, CommandError, MissingError
from fedge_cli.kubeconfig import Access
from fedge_cli.node_status import (
    COLUMNS,
    get_status,
    get_statuses,
    problem_table,
    remarks,
    status_table,
)
from fedge_cli.printing import table_lines
from tests.unit.cli.server import Answer, Server

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
NODES = "GET /api/v1/nodes"


def status(name: str = "edge-1", *, seconds_ago: float = 3, **more: Any) -> dict[str, Any]:
    seen = NOW - timedelta(seconds=seconds_ago)
    return {
        "node": name,
        "link": "up",
        "last_seen": seen.isoformat().replace("+00:00", "Z"),
        "heartbeat_seconds": 10.0,
        "backlog": {
            "down": {"objects": 3, "messages": 4},
            "up": {"state": 2, "event": 9, "request": 1, "spans": 0},
        },
        "objects": {"wanted": 10, "sent": 10, "stored": 9, "applied": 8, "failed": 1},
        "problems": [],
        "events": {"received": 100, "duplicates": 2, "missing": 5},
        **more,
    }


PROBLEMS = [
    {
        "object": "pods/default/a",
        "version": "12.12",
        "state": "failed",
        "reason": "ErrImagePull: no such\nimage",
    },
    {"object": "configmaps/default/b", "version": "7.7", "state": "sent", "reason": ""},
]


def row(found: dict[str, Any]) -> dict[str, str]:
    [cells] = status_table([found], NOW).rows
    return dict(zip(COLUMNS, cells, strict=True))


def test_node_that_is_heard_is_told_with_sums() -> None:
    assert row(status()) == {
        "NODE": "edge-1",
        "LINK": "up",
        "LAST-SEEN": "3s ago",
        "BACKLOG-DOWN": "7",
        "BACKLOG-UP": "12",
        "WANTED": "10",
        "STORED": "9",
        "APPLIED": "8",
        "FAILED": "1",
        "GAPS": "5",
        "DUPLICATES": "2",
    }


def test_what_a_node_that_is_away_said_last_is_marked_as_old() -> None:
    found = row(status(link="down", seconds_ago=7300))
    assert (found["LINK"], found["LAST-SEEN"], found["BACKLOG-UP"]) == (
        "down", "2h ago", "12 (2h old)",
    )  # fmt: skip
    assert found["BACKLOG-DOWN"] == "7", "the cloud knows that itself"


def test_backlog_that_no_node_has_told_is_no_number() -> None:
    backlog = {"down": {"objects": 1, "messages": 0}, "up": None}
    found = row(status(link="down", last_seen=None, backlog=backlog))
    assert (found["LAST-SEEN"], found["BACKLOG-DOWN"], found["BACKLOG-UP"]) == ("-", "1", "-")


def test_clock_that_is_ahead_makes_no_negative_age() -> None:
    assert row(status(seconds_ago=-30))["LAST-SEEN"] == "0s ago"


@pytest.mark.parametrize(("link", "seen"), [("never", "never"), ("unknown", "-")])
def test_node_of_which_nothing_is_known_has_no_numbers(link: str, seen: str) -> None:
    found = row({"node": "n", "link": link})
    assert (found["LINK"], found["LAST-SEEN"]) == (link, seen)
    assert set(found.values()) == {"n", link, seen, "-"}


def test_objects_that_are_not_applied_are_told_with_reasons_of_one_line() -> None:
    assert table_lines(problem_table(status(problems=PROBLEMS))) == [
        "OBJECT                 VERSION   STATE    REASON",
        "pods/default/a         12.12     failed   ErrImagePull: no such image",
        "configmaps/default/b   7.7       sent     <none>",
    ]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (status(), "nothing is left to apply on node 'edge-1': it was given 10 objects"),
        (status(problems=PROBLEMS), ""),
        (
            status(link="down", seconds_ago=7300, problems=PROBLEMS),
            (
                "node 'edge-1' has not been heard for 2h: what it was given it goes on with; what "
                "it did since is told when it is back"
            ),
        ),
        (
            {"node": "n", "link": "never"},
            (
                "hub has never heard node 'n': check on the node that meta runs and that its "
                "broker reaches the cloud's (rabbitmqctl shovel_status)"
            ),
        ),
    ],
)
def test_remarks_say_what_numbers_do_not(found: dict[str, Any], said: str) -> None:
    assert "\n".join(remarks(found, NOW)) == said


def refused(code: int, reason: str, message: str) -> Answer:
    return code, {"kind": "Status", "reason": reason, "message": message, "code": code}


@pytest.fixture
def server() -> Server:
    names = ["edge-1", "edge-2", "new"]
    return Server(
        {
            NODES: {"items": [{"metadata": {"name": name}} for name in names]},
            **{f"{NODES}/{name}": {"metadata": {"name": name}} for name in names},
            f"{NODES}/edge-1/proxy/status": status("edge-1", problems=PROBLEMS),
            f"{NODES}/edge-2/proxy/status": status("edge-2", link="down", seconds_ago=7300),
            f"{NODES}/new/proxy/status": refused(404, "NotFound", "never heard of node 'new'"),
        }
    )


def test_all_nodes_are_asked_for_and_stay_in_order(server: Server) -> None:
    with server.api() as api:
        statuses, errors = get_statuses(api)
    assert [(each["node"], each["link"]) for each in statuses] == [
        ("edge-1", "up"), ("edge-2", "down"), ("new", "never"),
    ]  # fmt: skip
    assert errors == []


def test_many_nodes_are_asked_a_few_at_a_time() -> None:
    names = [f"n{number}" for number in range(30)]
    server = Server(
        {
            NODES: {"items": [{"metadata": {"name": name}} for name in names]},
            **{f"{NODES}/{name}/proxy/status": status(name) for name in names},
        }
    )
    with server.api() as api:
        statuses, _ = get_statuses(api)
    assert [each["node"] for each in statuses] == names


def test_hub_that_is_away_is_told_once_for_all_nodes(server: Server) -> None:
    away = refused(503, "ServiceUnavailable", "the hub cannot be reached: check that it runs")
    for name in ("edge-1", "edge-2"):
        server.routes[f"{NODES}/{name}/proxy/status"] = away
    with server.api() as api:
        statuses, errors = get_statuses(api)
    assert [each["link"] for each in statuses] == ["unknown", "unknown", "never"]
    assert [type(each) for each in errors] == [AwayError]


def test_node_that_is_not_there_is_missing_and_not_unheard(server: Server) -> None:
    with server.api() as api:
        assert get_status(api, "new") == {"node": "new", "link": "never"}
        with pytest.raises(MissingError, match="nobody"):
            get_status(api, "nobody")
    assert f"{NODES}/nobody/proxy/status" not in server.asked


@pytest.mark.parametrize(
    "answer",
    [
        refused(404, "NotFound", "the server could not find the requested resource"),
        refused(404, "NotFound", "404 page not found"),
    ],
    ids=["older server", "kubelet"],
)
def test_server_that_cannot_ask_hub_is_not_taken_for_an_unheard_node(
    server: Server, answer: Answer
) -> None:
    server.routes[f"{NODES}/edge-1/proxy/status"] = answer
    with server.api() as api, pytest.raises(CommandError, match="ask hub itself") as caught:
        get_status(api, "edge-1")
    assert caught.value.exit_code == CommandError.exit_code


@pytest.fixture
def served(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Have the command speak to that server."""
    access = Access(
        path=Path("kubeconfig"), server="http://api.test", context=None, token="t",
        namespace="default",
    )  # fmt: skip
    monkeypatch.delenv("FEDGE_OUTPUT", raising=False)
    monkeypatch.setattr(kubeconfig, "find", lambda _: access.path)
    monkeypatch.setattr(kubeconfig, "load", lambda _: access)
    transport = httpx.MockTransport(dated(server))
    opened = httpx.Client
    monkeypatch.setattr(
        httpx, "Client", lambda **options: opened(**{**options, "transport": transport})
    )
    return server


def dated(server: Server) -> Any:
    def answer(request: httpx.Request) -> httpx.Response:
        response = server(request)
        response.headers["Date"] = NOW.strftime("%a, %d %b %Y %H:%M:%S GMT")
        return response

    return answer


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["status", *arguments])


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


@pytest.mark.usefixtures("served")
def test_all_nodes_are_printed_as_a_table() -> None:
    result = run()
    assert result.exit_code == 0
    assert lines(result.stdout) == [
        " ".join(COLUMNS),
        "edge-1 up 3s ago 7 12 10 9 8 1 5 2",
        "edge-2 down 2h ago 7 12 (2h old) 10 9 8 1 5 2",
        "new never never - - - - - - - -",
    ]
    assert result.stderr == ""


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("name", ["edge-1", "node/edge-1", "nodes/edge-1"])
def test_one_node_is_printed_with_what_it_has_not_applied(name: str) -> None:
    result = run(name)
    assert result.exit_code == 0
    assert lines(result.stdout)[1:] == [
        "edge-1 up 3s ago 7 12 10 9 8 1 5 2",
        "",
        "OBJECT VERSION STATE REASON",
        "pods/default/a 12.12 failed ErrImagePull: no such image",
        "configmaps/default/b 7.7 sent <none>",
    ]


@pytest.mark.usefixtures("served")
def test_json_is_the_data_as_it_is() -> None:
    one = run("edge-1", "-o", "json")
    assert json.loads(one.stdout) == status("edge-1", problems=PROBLEMS)
    assert one.stderr == ""
    everything = json.loads(run("-o", "json").stdout)
    assert [each["node"] for each in everything["nodes"]] == ["edge-1", "edge-2", "new"]
    assert everything["nodes"][1] == status("edge-2", link="down", seconds_ago=7300)


def test_hub_that_is_away_ends_with_4_and_the_remedy(served: Server) -> None:
    away = refused(503, "ServiceUnavailable", "the hub cannot be reached: check that it runs")
    for name in ("edge-1", "edge-2"):
        served.routes[f"{NODES}/{name}/proxy/status"] = away
    result = run()
    assert result.exit_code == AwayError.exit_code
    assert "edge-1 unknown - -" in "\n".join(lines(result.stdout))
    assert result.stderr.count("check that it runs") == 1
    one = run("edge-1")
    assert (one.exit_code, one.stdout) == (AwayError.exit_code, "")
    assert "check that it runs" in one.stderr


@pytest.mark.usefixtures("served")
def test_node_that_is_not_there_ends_with_3() -> None:
    result = run("nobody")
    assert (result.exit_code, result.stdout) == (MissingError.exit_code, "")


def test_no_nodes_are_no_error(served: Server) -> None:
    served.routes[NODES] = {"items": []}
    result = run()
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "No resources found\n"
