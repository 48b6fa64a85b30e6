"""Several controllers: each node has one of them, whichever are killed, stopped and started."""

import asyncio
import os
import random
import signal
import uuid
from pathlib import Path

import pytest

from fedge_kube import PODS
from fedge_objects import NodeName
from tests.fixtures.servers import Broker
from tests.integration.controller.world import DEADLINE_SECONDS, World, world

pytestmark = pytest.mark.broker

NODES, PODS_EACH = 24, 2
FAULTS = int(os.environ.get("FEDGE_REPLICA_FAULTS", "2"))
"""More make a long run."""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP)


async def stream(made: World, chance: random.Random, stop: asyncio.Event) -> None:
    """Report statuses, change config maps, remove and make pods, until told to stop."""
    number = 0
    while not stop.is_set():
        number += 1
        keys = sorted(made.edges.numbers)
        for key in chance.sample(keys, 8):
            await made.edges.report(key)
        await made.change_config(chance.choice(keys).name, str(number))
        if number % 10 == 0:
            await made.remove_pod(chance.choice(keys))
            await made.make_pod(f"more-{number}", chance.choice(made.nodes))
        await asyncio.sleep(0.05)


async def test_statuses_end_in_the_newest_and_nothing_is_deleted_whichever_replica_is_killed(
    rabbitmq: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance, run = random.Random(11), uuid.uuid4().hex[:6]  # noqa: S311 - to be repeated
    nodes = [NodeName(f"gw-{number}.{run}") for number in range(NODES)]
    async with world(rabbitmq.url, tmp_path, nodes, monkeypatch) as made:
        for number, node in enumerate(nodes):
            for each in range(PODS_EACH):
                await made.make_pod(f"pod-{number}-{each}", node)
        for _ in range(3):
            await made.start()
        await made.shared()
        assert min(nodes for _, nodes in (each.share() for each in made.replicas)) > 0
        await made.nodes_have_what_they_should()

        await calm(made)

        stop = asyncio.Event()
        streaming = asyncio.create_task(stream(made, chance, stop))
        for number in range(FAULTS):
            replica, fault = chance.choice(made.replicas), SIGNALS[number % len(SIGNALS)]
            if fault is signal.SIGSTOP:
                await made.paused(replica)
            else:
                await made.end(replica, fault)
                await made.shared()
                await made.start()
            await made.shared()
        stop.set()
        await streaming
        await made.nodes_have_what_they_should()
        await made.statuses_are_newest()
        pods = await made.pods()
        assert not [each for each in made.edges.deleted if each.key in pods]

        await calm(made)


async def calm(made: World) -> None:
    """Wait until each change of a status is written once, and no node is asked for any more.

    What a node was asked for before may still be on its way, and is written once more.
    """
    paths = [PODS.path(key.namespace, key.name, "status") for key in made.edges.numbers]
    written: set[int] = set()
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while written != {2} or made.edges.asked:
                await made.statuses_are_newest()
                made.writes.clear()
                made.edges.asked.clear()
                for _ in range(2):
                    for key in made.edges.numbers:
                        await made.edges.report(key)
                    await made.statuses_are_newest()
                written = {made.writes[path] for path in paths}
    except TimeoutError:
        raise AssertionError(f"two changes of a status are written {written} times") from None


async def test_one_replica_says_one_word_and_takes_over_nothing(
    rabbitmq: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [NodeName(f"gw-{number}.{uuid.uuid4().hex[:6]}") for number in range(3)]
    async with world(rabbitmq.url, tmp_path, nodes, monkeypatch) as made:
        for number, node in enumerate(nodes):
            await made.make_pod(f"pod-{number}", node)
        replica = await made.start()
        await made.nodes_have_what_they_should()
        await calm(made)
        assert not replica.said("nodes_taken_over")
        listed = [each["resource"] for each in replica.said("listed")]
        assert len(listed) == len(set(listed))
        await made.end(replica, signal.SIGTERM)
