"""What restarts leave alone, and what they bring back, on a real containerd."""

import pytest

from fedge_cri import ContainerState
from tests.integration.edged.node import RealNode
from tests.unit.edged.kit import deleted, phase, restarts, state

pytestmark = pytest.mark.containerd


async def started_at(node: RealNode, container_id: str) -> int:
    return (await node.runtime.container_status(container_id)).started_at


async def test_restart_of_edged_touches_no_container(node: RealNode) -> None:
    node.put("pods", node.pod())
    before = await node.runs()
    [container] = await node.containers()
    began = await started_at(node, container.id)
    node.ears.statuses.clear()
    await node.restart()
    after = await node.runs()
    [same] = await node.containers()
    assert (same.id, same.state) == (container.id, ContainerState.RUNNING)
    assert await started_at(node, same.id) == began
    assert after == before


async def test_container_that_died_while_edged_was_away_runs_again(node: RealNode) -> None:
    node.put("pods", node.pod())
    await node.runs()
    [container] = await node.containers()
    await node.stop()
    await node.kill(container.id)
    await node.start()
    await node.shows(lambda: restarts(node.ears.newest()) == 1)
    [newest, oldest] = await node.containers()
    assert oldest.id == container.id
    assert newest.state is ContainerState.RUNNING


async def test_container_that_is_killed_runs_again_and_says_why(node: RealNode) -> None:
    node.put("pods", node.pod())
    await node.runs()
    [container] = await node.containers()
    await node.kill(container.id)
    await node.shows(lambda: restarts(node.ears.newest()) == 1)
    status = node.ears.newest()["containerStatuses"][0]
    assert "running" in status["state"]
    assert status["lastState"]["terminated"]["exitCode"] == 137


async def test_restart_of_containerd_is_recognised_and_carried_on(node: RealNode) -> None:
    node.put("pods", node.pod())
    await node.runs()
    [container] = await node.containers()
    await node.server.server.kill()
    late = node.pod("late")
    node.put("pods", late)
    await node.server.server.start()
    await node.server.server.ready()
    await node.runs("late")
    [same] = await node.containers()
    assert (same.id, same.state) == (container.id, ContainerState.RUNNING)
    # what happens from now on is heard again
    await node.kill(container.id)
    await node.shows(lambda: restarts(node.ears.newest()) == 1)
    node.put("pods", deleted(late, grace_seconds=1))
    await node.shows(lambda: node.ears.finished("late"))


async def test_pod_deleted_while_edged_was_away_ends(node: RealNode) -> None:
    pod = node.pod()
    node.put("pods", pod)
    await node.runs()
    await node.stop()
    node.put("pods", deleted(pod, grace_seconds=1))
    await node.start()
    await node.shows(node.ears.finished)
    assert await node.containers() == []


async def test_finished_job_stays_finished(node: RealNode) -> None:
    node.put(
        "pods", node.pod(restartPolicy="OnFailure", containers=[node.container(script="exit 0")])
    )
    await node.shows(lambda: phase(node.ears.newest()) == "Succeeded")
    node.ears.statuses.clear()
    await node.restart()
    await node.shows(lambda: phase(node.ears.newest()) == "Succeeded")
    assert state(node.ears.newest())["terminated"]["exitCode"] == 0
    assert len(await node.containers()) == 1
