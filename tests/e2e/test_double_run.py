"""Nothing runs twice, whatever is killed when; ``make chaos-pods`` is the long version."""

import pytest

from fedge_cli.demo import EDGE, Story
from fedge_kube import KubeClient
from tests.chaos.pods import Chaos

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

SECONDS = 25.0
KINDS = {"kill services", "kill containerd", "kill container", "make anew"}


async def test_no_container_runs_twice_whatever_is_killed(story: Story) -> None:
    async with KubeClient.connected(story.stack.kubeconfig) as kube:
        chaos = Chaos(story.stack.edge(EDGE), kube, seed=1)
        await chaos.run(SECONDS)
    assert chaos.witness.doubles == []
    assert chaos.witness.overlaps() == []
    # else nothing was tried
    assert chaos.done.keys() == KINDS
    assert sum(map(len, chaos.witness.runs.values())) > 6
    assert chaos.witness.looks > 100
