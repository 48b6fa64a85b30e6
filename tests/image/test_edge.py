"""The edge from its image, on a real containerd: it works, comes back, and says what is wrong."""

from pathlib import Path

import pytest

from fedge_boot.errors import NOT_NOW, NOT_SO
from fedge_cli.demo import EDGE, POD, Story
from fedge_local.edge import MQTT_PORT
from images.cached import Built
from tests.e2e.pods import (
    apply_text,
    is_running,
    pod_at_the_api,
    pod_becomes,
    pod_manifest,
    remove,
    running_by_name,
)
from tests.image.containers import (
    host_of,
    inside,
    on_host,
    run_image,
    until_health_is,
    until_healthy,
    volume,
)

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

RESTORED_WITHIN_SECONDS = 30.0
"""A bound that only a defect passes; speed itself is measured by bench/footprint.py."""


def data_of(story: Story) -> Path:
    return story.stack.edge(EDGE).parts.folder / "data"


async def test_pod_runs_and_its_secret_is_in_memory_of_the_host(story: Story) -> None:
    pod = pod_at_the_api(story)
    assert pod["spec"]["nodeName"] == EDGE
    container = await story.container_running()
    secret = dict(container.mounts)["/etc/password"]
    kind = await host_of(story).run("stat", "--file-system", "--format=%T", secret)
    assert kind.strip() == "tmpfs"
    assert story.log() == f"Good morning from {EDGE} ({POD})"
    await until_healthy(story)


async def test_nothing_runs_but_supervisor_broker_and_one_python(story: Story) -> None:
    listed = await inside(story, "ps", "-o", "pid,args")
    programs = [line.split(None, 1)[1] for line in listed.lines[1:]]
    assert programs[0].startswith("s6-svscan")
    assert sum("fedge_service" in each for each in programs) == 1
    assert sum("/beam.smp" in each for each in programs) == 1
    assert not any(each.partition(" ")[0].endswith("epmd") for each in programs)


async def test_broker_that_is_killed_is_started_again_and_pods_run_on(story: Story) -> None:
    before = await story.container_running()
    assert (await inside(story, "s6-svc", "-k", "/run/fedge-s6/scan/broker")).code == 0

    ill = await until_health_is(story, code=1)
    assert len(ill.lines) == 1
    assert "broker" in ill.text or "services are not ready" in ill.text
    await until_healthy(story)
    assert await story.container_running() == before


async def test_container_that_is_stopped_and_started_touches_no_pod(story: Story) -> None:
    edge = story.stack.edge(EDGE)
    before = await story.container_running()
    await edge.parts.services.stop()
    log = edge.parts.services.log.read_text()
    assert "fedge: stopping" in log
    assert '"event": "stopped"' in log  # in good order
    assert "s6-svc: fatal" not in log
    assert await story.container_running() == before
    await edge.parts.services.start()
    await until_healthy(story)
    name = "after-a-restart"
    with story.api() as api:
        apply_text(api, pod_manifest(name))
    await pod_becomes(story, name, is_running, "Running")
    remove(story, name)
    assert (await running_by_name(story))[POD] == [before.id]


async def test_pods_are_back_after_a_power_cut_with_the_cloud_away(story: Story) -> None:
    edge = story.stack.edge(EDGE)
    before = await story.container_running()
    await edge.cut()
    try:
        await edge.power_cut()
        await edge.start()
        back = await story.container_running(seconds=RESTORED_WITHIN_SECONDS)
        assert back.id != before.id
        assert back.same_spec(before)
        await until_healthy(story)  # without its cloud it is not ill
    finally:
        await edge.heal()
    await story.node_ready("True")


async def test_damaged_databases_are_set_aside_and_filled_again_from_the_cloud(
    story: Story,
) -> None:
    edge, data = story.stack.edge(EDGE), data_of(story)
    before = await story.container_running()
    await edge.parts.services.stop()
    was = {}
    for name in ("meta.db", "twin.db"):
        (data / name).write_bytes(b"\xa5" * 8192)
        was[name] = (data / name).read_bytes()
    await edge.parts.services.start()
    await until_healthy(story)
    for name, content in was.items():
        [aside] = data.glob(f"{name}.damaged-*[0-9]")
        assert aside.read_bytes() == content
    name = "after-damage"
    with story.api() as api:
        apply_text(api, pod_manifest(name))
    await pod_becomes(story, name, is_running, "Running")
    # the old pod was not touched, and is minded again: it can be deleted
    assert (await running_by_name(story))[POD] == [before.id]
    remove(story, name)


async def test_missing_volume_is_said_in_one_line(story: Story, built: Built) -> None:
    ended = await run_image(story, built)
    assert ended.code == NOT_SO
    assert len(ended.lines) == 1
    assert "no volume is mounted at /var/lib/fedge" in ended.text


async def test_volume_that_is_not_shared_or_not_at_its_path_is_said(
    story: Story, built: Built
) -> None:
    here = data_of(story)
    at = [f"FEDGE_EDGE_DATA_DIR={here}"]
    may_mount = "--cap-add=CAP_SYS_ADMIN"
    shared = ["--rootfs-propagation=rshared", may_mount]
    for mount, env, options, words in (
        (volume(here), at, [may_mount], "is not shared"),
        (volume(here, to=Path("/var/lib/fedge")), [], shared, "is the folder"),
        (volume(here, options="rbind:rshared:ro"), at, shared, "cannot be written to"),
    ):
        ended = await run_image(story, built, mounts=[mount], env=env, options=options)
        assert (ended.code, len(ended.lines)) == (NOT_SO, 1), ended.text
        assert words in ended.text


async def test_missing_right_to_mount_is_said(story: Story, built: Built, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    for step in (["--bind", str(fresh), str(fresh)], ["--make-rshared", str(fresh)]):
        await host_of(story).run("mount", *step)
    ended = await run_image(
        story, built, mounts=[volume(fresh)], env=[f"FEDGE_EDGE_DATA_DIR={fresh}"],
        options=["--rootfs-propagation=rshared"],
    )  # fmt: skip
    assert (ended.code, "SYS_ADMIN" in ended.text) == (NOT_SO, True), ended.text
    # with the right, but no token
    ended = await run_image(
        story, built, mounts=[volume(fresh)], env=[f"FEDGE_EDGE_DATA_DIR={fresh}"]
    )
    assert ended.code == NOT_SO
    assert "no socket" in ended.lines[0]
    assert "set FEDGE_JOIN_TOKEN" in ended.lines[-1]
    await on_host(story, "umount", "--recursive", str(fresh))


async def test_port_in_use_is_said_by_a_second_edge(story: Story, built: Built) -> None:
    here = data_of(story)
    ended = await run_image(
        story, built, mounts=[volume(here)],
        env=[
            f"FEDGE_EDGE_DATA_DIR={here}",
            "FEDGE_BOOT_AMQP_PORT=5699",
            "FEDGE_BOOT_DIST_PORT=5698",
        ],
    )  # fmt: skip
    assert ended.code == NOT_NOW
    assert f"port {MQTT_PORT} of 0.0.0.0 cannot be had" in ended.lines[-1]
    assert "FEDGE_BOOT_MQTT_PORT" in ended.lines[-1]
    await until_healthy(story)
