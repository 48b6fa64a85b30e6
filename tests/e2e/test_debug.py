"""Ephemeral containers by ``kubectl debug``, as its users do."""

import shutil

import pytest

from fedge_cli.demo import POD, RunningContainer, Story
from tests.e2e.pods import pod_becomes
from tests.e2e.test_exec import run

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
async def test_debugger_sees_the_processes_of_the_container(
    story: Story, container: RunningContainer
) -> None:
    assert container.id
    kubectl = ("kubectl", "--kubeconfig", str(story.stack.kubeconfig))
    image = ("--image", "fedge.local/busybox:1", "--image-pull-policy", "IfNotPresent")
    debug = ("debug", POD, *image, "--container", "debugger", "--target", "hello")
    code, _, err = await run(*kubectl, *debug, "--", "/bin/busybox", "ps")
    assert code == 0, err
    await pod_becomes(
        story,
        POD,
        lambda pod: any(
            "terminated" in each["state"]
            for each in (pod.get("status") or {}).get("ephemeralContainerStatuses") or ()
        ),
        "debugger ended",
    )
    code, out, err = await run(*kubectl, "logs", POD, "-c", "debugger")
    assert code == 0, err
    assert b"httpd" in out
