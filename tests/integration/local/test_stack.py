"""A stack is started once, found again, and stopped without a trace."""

import socket
import subprocess
from pathlib import Path

import pytest

from fedge_local import ports
from fedge_local.errors import LocalError, PortTakenError
from fedge_local.network import tag_of
from fedge_local.processes import Process
from fedge_local.stack import Stack
from fedge_local.state import EdgeState, Line, StackState, alone

pytestmark = pytest.mark.stack

EDGE = "gw-1.plant.example"


def traces(folder: Path) -> list[str]:
    """Return what of a stack is on this machine outside its folder: devices, filters, groups."""
    tag = tag_of(folder)
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True)
    return [
        *(str(each) for each in Path("/sys/class/net").glob(f"fe*{tag}*")),
        *(line for line in tables.stdout.splitlines() if tag in line),
        *(str(each) for each in Path("/sys/fs/cgroup").glob(f"**/fedge-{tag}")),
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder whose path is longer than that of a socket may be."""
    return tmp_path / ("deep" * 20)


async def test_stack_is_started_found_and_stopped_without_a_trace(folder: Path) -> None:
    stack = Stack(folder, edges=(EDGE,))
    processes: list[Process] = []
    try:
        await stack.up()
        assert stack.is_running
        processes = [Process.of(each.pid) for each in stack.status() if each.pid is not None]
        assert len(processes) == 9

        found = Stack(folder, edges=())
        await found.up()
        assert found.edge_names == [EDGE]
        now = [Process.of(each.pid) for each in found.status() if each.pid is not None]
        assert now == processes

        edge = found.edge(EDGE)
        await edge.cut()
        await edge.power_cut()
        assert not edge.is_on
        assert {each.where for each in found.status() if each.pid is None} == {EDGE}
        assert edge.line is Line.CUT
    finally:
        await stack.down()
    assert not any(each.is_alive for each in processes)
    assert traces(folder) == []


async def test_taken_port_stops_the_start_before_anything_runs(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        names = ("amqp", "amqp-dist", "amqps", "management", "redis", "hub", "enrolment")
        chosen = ports.choose(names, seed=1) | {"apiserver": other.getsockname()[1]}
        StackState(
            password="p",
            network="198.19.254.0/24",
            ports=chosen,
            edges={EDGE: EdgeState(index=0, password="p")},
        ).save(tmp_path / "stack.json")
        stack = Stack(tmp_path, edges=(EDGE,))
        with pytest.raises(PortTakenError, match=str(chosen["apiserver"])):
            await stack.up()
        assert all(each.pid is None for each in stack.status())
        assert traces(tmp_path) == []


async def test_second_command_is_told_to_wait_for_the_first(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(LocalError, match="wait for it"):
        await Stack(tmp_path).up()
