"""A command in another root is the process that was started, and leaves nothing behind.

The other root is this machine's own: what matters is what the command sees of it.
"""

import asyncio
from pathlib import Path

import pytest

from fedge_local.commands import environment, run
from fedge_local.other_root import within
from fedge_local.processes import spawn

pytestmark = pytest.mark.containerd

MACHINE = Path("/")


def mounts() -> list[str]:
    """What is mounted where the new root is put together, as this machine sees it."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line for line in lines if line.split()[1].startswith("/mnt")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "inside"
    folder.mkdir()
    (tmp_path / "outside").touch()
    return folder


async def test_command_writes_to_its_folder_and_sees_none_beside_it(folder: Path) -> None:
    script = f"echo mine >{folder}/file; ls {folder.parent}"
    seen = await run(within(MACHINE, [folder], ["/bin/sh", "-c", script]))
    assert seen.split() == ["inside"]
    assert (folder / "file").read_text() == "mine\n"


async def test_command_cannot_change_the_other_root(folder: Path) -> None:
    script = "touch /usr/fedge-test /etc/fedge-test || echo refused"
    assert await run(within(MACHINE, [folder], ["/bin/sh", "-c", script])) == "refused\n"


async def test_command_has_the_names_of_hosts_of_this_machine(folder: Path) -> None:
    hosts = ["/bin/cat", "/etc/hosts"]
    assert await run(within(MACHINE, [folder], hosts)) == await run(hosts)


async def test_command_keeps_the_pid_and_leaves_no_mount(folder: Path) -> None:
    before = mounts()
    script = f"echo $$ >{folder}/new; mv {folder}/new {folder}/pid; exec sleep 1000"
    process = spawn(
        within(MACHINE, [folder], ["/bin/sh", "-c", script]),
        env=environment(),
        log=folder / "log",
    )
    try:
        async with asyncio.timeout(10):
            while not (folder / "pid").exists():
                assert process.is_alive, (folder / "log").read_text()
                # a file that will appear tells nobody
                await asyncio.sleep(0.01)
        assert int((folder / "pid").read_text()) == process.pid
        assert mounts() == before
    finally:
        await process.kill()
    assert mounts() == before


async def test_command_sees_each_folder_that_it_is_given(folder: Path) -> None:
    other = folder.parent / "other" / "made"
    script = f"echo mine >{other}/file; ls {folder.parent}"
    seen = await run(within(MACHINE, [folder, other], ["/bin/sh", "-c", script]))
    assert seen.split() == ["inside", "other"]
    assert (other / "file").read_text() == "mine\n"
