"""``fedge device`` at a node, with its broker and its twin, and no cloud."""

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fedge_cli.app import app
from tests.fixtures.servers import EdgeBroker
from tests.integration.twin.test_twin import (  # noqa: F401 - a fixture
    Player,
    desired_of,
    player,
    twin,
)

pytestmark = pytest.mark.broker


class Node:
    """The command as it is run on the node."""

    def __init__(self, data_dir: Path, mqtt_url: str) -> None:
        self._environment = {
            "FEDGE_EDGE_DATA_DIR": str(data_dir), "FEDGE_TWIN_MQTT_URL": mqtt_url,
            "FEDGE_NAMESPACE": "plant",
        }  # fmt: skip

    async def fedge(self, *arguments: str) -> Result:
        return await asyncio.to_thread(
            CliRunner().invoke, app, ["device", *arguments], env=self._environment
        )


async def test_device_is_set_and_looked_at_without_a_cloud(
    edge_broker: EdgeBroker,
    player: Player,  # noqa: F811
    tmp_path: Path,
) -> None:
    node = Node(tmp_path, edge_broker.mqtt_url)
    async with twin(edge_broker, tmp_path):
        await player.declare("ac.1", temp="20")
        await player.reported("ac.1", lambda status: desired_of(status, "temp") == "20")

        done = await node.fedge("set", "ac.1", "temp=24")
        assert (done.exit_code, done.stdout) == (0, "device plant/ac.1 set at the edge\n")
        shown = (await node.fedge("describe", "ac.1")).stdout
        assert "24" in shown
        assert "SetAtEdge" in shown
        late = await node.fedge("set", "ac.1", "temp=24", "--wait", "1s")
        assert late.exit_code == 1
        assert "temp should be 24 and is not reported" in late.stderr

        update = {"temp": {"actual": {"value": "24"}}}
        await player.say("plant/ac.1", "twin/update", twin=update)
        waited = await node.fedge("set", "ac.1", "temp=24", "--wait", "10s")
        assert waited.stdout.endswith("device plant/ac.1 reports it\n")

        withdrawn = await node.fedge("set", "ac.1", "temp-", "--wait", "10s")
        assert withdrawn.exit_code == 0, withdrawn.output
        await player.reported("ac.1", lambda status: desired_of(status, "temp") == "20")

        told = json.loads((await node.fedge("history", "ac.1", "temp", "-o", "json")).stdout)
        entries = [(each["side"], each["by"], each["value"]) for each in told["items"]]
        assert entries[0] == ("desired", "cloud", "20")
        assert ("reported", "device", "24") in entries
        assert entries[-1] == ("desired", "cloud", "20")
        missing = await node.fedge("set", "none", "temp=1")
        assert missing.exit_code == 3
        assert "device plant/none is not on this node" in missing.stderr
        await player.change("ac.1", None)


async def test_refusal_of_twin_is_told_in_its_words(
    edge_broker: EdgeBroker,
    player: Player,  # noqa: F811
    tmp_path: Path,
) -> None:
    node = Node(tmp_path / "elsewhere", edge_broker.mqtt_url)  # nothing can be read here
    async with twin(edge_broker, tmp_path):
        await player.declare("fan", speed="1")
        await player.reported("fan", lambda status: desired_of(status, "speed") == "1")
        refused = await node.fedge("set", "none", "speed=2")
        assert refused.exit_code == 1
        assert "twin refuses: device plant/none is not on this node (404)" in refused.stderr
        await player.change("fan", None)


async def test_broker_that_is_not_there_is_told(tmp_path: Path) -> None:
    away = await Node(tmp_path, "mqtt://a:b@127.0.0.1:1").fedge("set", "ac", "temp=1")
    assert away.exit_code == 4
    assert "the MQTT broker at 127.0.0.1:1 cannot be used" in away.stderr
    assert "a:b" not in away.output
    wrong = await Node(tmp_path, "http://x").fedge("set", "ac", "temp=1")
    assert wrong.exit_code == 2
