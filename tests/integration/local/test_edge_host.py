"""An edge host is a machine: it can be cut off, and it can lose its power."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fedge_cri import ContainerSpec, ContainerState, SandboxSpec
from fedge_cri.client import CriRuntime
from fedge_local import images, network
from fedge_local.commands import environment
from fedge_local.containerd import Containerd
from fedge_local.errors import CommandFailedError, NotReadyError
from fedge_local.hosts import EdgeHost
from fedge_local.network import Impairment, Subnet
from fedge_local.processes import Process

pytestmark = pytest.mark.containerd

PING = ("/bin/busybox", "ping", "-c", "1", "-W", "1")


@pytest.fixture
async def subnet(tmp_path: Path) -> AsyncIterator[Subnet]:
    subnet = await network.choose_subnet(tmp_path)
    await network.bring_up(subnet)
    yield subnet
    await network.take_down(subnet)


@pytest.fixture
async def host(tmp_path: Path, subnet: Subnet) -> AsyncIterator[EdgeHost]:
    host = EdgeHost(
        name="gw-1",
        folder=tmp_path / "gw-1",
        subnet=subnet,
        index=0,
        cgroup_parent=f"/fedge-{subnet.tag}/gw-1",
    )
    yield host
    await host.power_cut()


def pids_in(namespace: Path) -> list[int]:
    """Processes of the machine that live in a process namespace."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "ns/pid").readlink() == namespace:
                    found.append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # it ended, or is none of ours
    return found


def process_namespace(host: EdgeHost) -> Path:
    init = host.init
    assert init is not None
    return Path(f"/proc/{init.pid}/ns/pid").readlink()


def pids_of(command: str) -> list[int]:
    """Return the processes of the machine whose command line ends so."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "cmdline").read_text().endswith(command):
                    found.append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def zombies_in(namespace: Path) -> list[int]:
    stats = {pid: Path(f"/proc/{pid}/stat") for pid in pids_in(namespace)}
    return [pid for pid, stat in stats.items() if stat.exists() and ") Z " in stat.read_text()]


def leftovers(host: EdgeHost, tag: str) -> list[str]:
    """Return what mentions the host or its stack: mounts, devices, control groups."""
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    groups = [str(each) for each in Path("/sys/fs/cgroup").glob(f"**/fedge-{tag}/**")]
    return [
        *(line for line in mounts if str(host.folder) in line),
        *(each.name for each in Path("/sys/class/net").glob(f"fe{tag}*")),
        *(each for each in groups if "gw-1" in each),
    ]


async def run_pod(containerd: Containerd, host: EdgeHost) -> str:
    """Run a pod that sleeps; return the pid of its process on this machine."""
    logs = host.folder / "pods"
    logs.mkdir()
    sandbox = SandboxSpec(
        name="sleeper",
        namespace="default",
        uid="1",
        attempt=0,
        log_directory=str(logs),
        cgroup_parent=host.cgroup_parent,
    )
    container = ContainerSpec(
        name="main",
        attempt=0,
        image=images.SHELL.name,
        log_path="main.log",
        command=("/bin/sleep", "7654321"),
    )
    async with CriRuntime.connected(containerd.socket) as runtime:
        sandbox_id = await runtime.run_sandbox(sandbox)
        container_id = await runtime.create_container(sandbox_id, container, sandbox)
        await runtime.start_container(container_id)
        status = await runtime.container_status(container_id)
        assert status.state is ContainerState.RUNNING
        assert await runtime.sandbox_ips(sandbox_id)
    return container_id


async def test_power_cut_ends_all_at_once_and_leaves_nothing(
    host: EdgeHost, subnet: Subnet, tmp_path: Path
) -> None:
    await host.boot()
    containerd = Containerd(host=host, folder=tmp_path / "containerd")
    await containerd.start()
    await containerd.ready()
    await run_pod(containerd, host)
    namespace = process_namespace(host)
    containers = pids_of("sleep\x007654321\x00")
    assert len(containers) == 1
    everything = [Process.of(pid) for pid in [*pids_in(namespace), *containers]]

    await host.power_cut()

    assert not any(process.is_alive for process in everything)
    assert pids_in(namespace) == []
    assert leftovers(host, subnet.tag) == []
    assert not containerd.socket.exists()

    await host.boot()
    await containerd.start()
    await containerd.ready()
    async with CriRuntime.connected(containerd.socket) as runtime:
        assert [each.state for each in await runtime.list_containers()] == [ContainerState.EXITED]


async def test_line_can_be_cut_and_mended_and_stays_cut_over_a_power_cut(
    host: EdgeHost, subnet: Subnet
) -> None:
    await host.boot()
    await host.run(*PING, subnet.cloud_address)
    await host.cut()
    with pytest.raises(CommandFailedError):
        await host.run(*PING, subnet.cloud_address)
    await host.power_cut()
    await host.boot(line_up=False)
    with pytest.raises(CommandFailedError):
        await host.run(*PING, subnet.cloud_address)
    await host.heal()
    # the kernel looks at carriers once a second
    async with asyncio.timeout(10):
        while not await answers_to(host, subnet.cloud_address):
            continue


async def test_swallowed_packets_vanish_until_told_otherwise(
    host: EdgeHost, subnet: Subnet
) -> None:
    await host.boot()
    await network.impair(subnet, {0: Impairment(drops_up=True, drops_down=True)})
    with pytest.raises(CommandFailedError):
        await host.run(*PING, subnet.cloud_address)
    await network.impair(subnet, {})
    await host.run(*PING, subnet.cloud_address)


async def test_host_that_is_off_says_so(host: EdgeHost, tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="gw-1 is switched off"):
        await host.spawn(["/bin/true"], env=environment(), log=tmp_path / "log")


async def test_orphans_are_reaped(host: EdgeHost) -> None:
    await host.boot()
    orphan = "echo $$ > /run/orphan; exit 3"
    await host.run("sh", "-c", f"(sh -c '{orphan}' &) ; true")
    namespace = process_namespace(host)
    async with asyncio.timeout(5):
        while zombies_in(namespace) or not await written(host):
            continue


async def answers_to(host: EdgeHost, address: str) -> bool:
    try:
        await host.run(*PING, address)
    except CommandFailedError:
        return False
    return True


async def written(host: EdgeHost) -> bool:
    try:
        await host.run("test", "-s", "/run/orphan")
    except CommandFailedError:
        return False
    return True
