"""Ports are looked for by binding them."""

import socket
from pathlib import Path

import pytest

from fedge_local import ports
from fedge_local.errors import PortTakenError


def test_chosen_ports_differ_and_are_free() -> None:
    chosen = ports.choose(["a", "b", "c"], seed=7)
    assert len(set(chosen.values())) == 3
    assert all(ports.is_free(port) for port in chosen.values())


def test_ports_that_are_spoken_for_are_not_chosen() -> None:
    first = ports.choose(["a"], seed=7)
    second = ports.choose(["a"], seed=7, taken=first.values())
    assert first != second


def test_taken_port_is_told_in_one_sentence_with_the_remedy() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTakenError) as failure:
            ports.require_free("redis", port, remembered_in=Path("/data/stack.json"))
    message = str(failure.value)
    assert f"port {port}" in message
    assert "redis" in message
    assert "remove /data/stack.json" in message
    assert "\n" not in message
