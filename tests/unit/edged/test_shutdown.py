"""How the pods end before the machine goes down, in virtual time."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import looptime
import pydantic
import pytest

from fedge_edged.settings import EdgedSettings
from fedge_edged.shutdown import Shutdown
from fedge_service import EdgeSettings
from tests.unit.edged.kit import phase, pod_object
from tests.unit.edged.node import Node


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture
async def shutdown(node: Node) -> AsyncIterator[Shutdown]:
    def begun() -> None:
        node.view = replace(node.view, is_shutting_down=True)

    with looptime.enabled(strict=True):  # as in the tests
        shutdown = Shutdown(
            workers=lambda: node.pods.workers if node.pods is not None else [],
            begun=begun,
            seconds=30,
            critical_seconds=10,
        )
        serving = asyncio.create_task(shutdown.run())
        await asyncio.sleep(0)
    yield shutdown
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def running(node: Node, name: str, **spec: Any) -> None:
    node.put("pods", pod_object(name, **spec))
    await node.shows(lambda: phase(node.ears.newest(name)) == "Running")


async def ended_at(node: Node, name: str) -> float:
    await node.shows(lambda: phase(node.ears.newest(name)) == "Failed")
    return now()


@pytest.mark.looptime
class TestShutdown:
    """https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/."""

    async def test_pods_are_told_why_they_end(self, node: Node, shutdown: Shutdown) -> None:
        await running(node, "a")
        shutdown.ask()
        await ended_at(node, "a")
        told = node.ears.newest("a")
        assert told["reason"] == "Terminated"
        assert told["message"] == "Pod was terminated in response to imminent node shutdown."
        assert any(each["type"] == "DisruptionTarget" for each in told["conditions"])
        assert not node.runtime.running("main")

    async def test_critical_pods_end_last(self, node: Node, shutdown: Shutdown) -> None:
        await running(node, "vital", priorityClassName="system-node-critical")
        await running(node, "plain")
        node.runtime.takes["stop_container"] = 3.0
        shutdown.ask()
        plain = await ended_at(node, "plain")
        assert phase(node.ears.newest("vital")) == "Running"
        assert await ended_at(node, "vital") >= plain + 3

    async def test_ordinary_pods_do_not_take_the_critical_ones_time(
        self, node: Node, shutdown: Shutdown
    ) -> None:
        await running(node, "vital", priority=2_000_000_000)
        await running(node, "plain", terminationGracePeriodSeconds=3600)
        node.runtime.takes["stop_container"] = 25.0
        began = now()
        shutdown.ask()
        await node.shows(lambda: "Killing" in node.ears.reasons("vital"))
        assert 20 <= now() - began < 21

    async def test_new_pods_are_refused(self, node: Node, shutdown: Shutdown) -> None:
        shutdown.ask()
        await asyncio.sleep(1)
        node.put("pods", pod_object("late"))
        await ended_at(node, "late")
        assert node.ears.newest("late")["reason"] == "NodeShutdown"

    async def test_until_it_is_asked_for_nothing_ends(self, node: Node, shutdown: Shutdown) -> None:
        assert shutdown is not None
        await running(node, "a")
        await asyncio.sleep(600)
        assert len(node.runtime.running("main")) == 1

    async def test_pods_stay_ended_after_the_boot(self, node: Node, shutdown: Shutdown) -> None:
        await running(node, "a")
        shutdown.ask()
        await ended_at(node, "a")
        await node.reboot()
        await asyncio.sleep(30)
        assert not node.runtime.running("main")
        assert node.ears.newest("a")["reason"] == "Terminated"

    async def test_what_has_ended_is_left_alone(self, node: Node, shutdown: Shutdown) -> None:
        await running(node, "a", restartPolicy="Never")
        node.runtime.exit_container(node.runtime.running("main")[0])
        await node.shows(lambda: phase(node.ears.newest("a")) == "Succeeded")
        shutdown.ask()
        await asyncio.sleep(60)
        assert phase(node.ears.newest("a")) == "Succeeded"


def settings(**values: Any) -> EdgedSettings:
    return EdgedSettings(edge=EdgeSettings(node_name="gw-1"), **values)


class TestSettings:
    """What may be set."""

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            (
                {"shutdown_grace_seconds": 5, "shutdown_grace_critical_seconds": 6},
                "more than shutdown_grace_seconds",
            ),
            ({"shutdown_grace_critical_seconds": 6}, "more than shutdown_grace_seconds"),
            ({"system_reserved": {"cpu": "much"}}, "no quantity"),
            ({"eviction_hard": {"memory.free": "1Mi"}}, "no eviction signal"),
            ({"max_pods": 0}, "greater than or equal to 1"),
        ],
    )
    def test_nonsense_is_refused(self, values: dict[str, Any], words: str) -> None:
        with pytest.raises(pydantic.ValidationError, match=words):
            settings(**values)

    def test_sense_is_taken(self) -> None:
        taken = settings(shutdown_grace_seconds=30, shutdown_grace_critical_seconds=10)
        assert taken.shutdown_grace_critical_seconds == 10
        assert taken.eviction_hard["memory.available"] == "100Mi"
