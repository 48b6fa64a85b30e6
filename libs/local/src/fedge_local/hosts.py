"""An edge host: a machine of its own as far as its processes can tell, that can lose its power.

It is a set of namespaces (network, processes, mounts, host name, IPC) held by one small init
process. Killing init kills every process in it at once, and its mounts and its network go with its
namespaces: a power cut. What it wrote to its data folder stays, what lay in ``/run`` does not.
The line to the cloud is a veth pair on the stack's bridge (`fedge_local.network`).
"""

import asyncio
import ctypes
import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from fedge_local import cgroups, network
from fedge_local.commands import environment, program, run
from fedge_local.errors import NotReadyError
from fedge_local.processes import CONNECT_SECONDS, Process, children, last_words, spawn

_CNI_STATE = Path("/var/lib/cni")
_RESOLVER = Path("/etc/resolv.conf")
_READY_FD = 3
_CLONE_NEWNET = 0x40000000

# init: prepare what a boot prepares, say so, then collect orphans for ever. ash collects every
# child there is while it waits for its own.
_INIT = """
set -e
hostname "$1"
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755,size=16m tmpfs /var/lib/cni
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mkdir -p /run/lock
if [ -n "$2" ]; then mkdir -p "${2%/*}"; cp "$3" "$2"; fi
ip link set lo up
echo ready >&3
exec 3>&-
set +e
trap : TERM INT HUP
while :; do
    sleep 2147483647 &
    wait
done
"""

# nsenter has to fork to enter a process namespace; the shell leaves the program to init, tells
# which process it is there, and both are gone.
_LEAVE_TO_INIT = """
log=$1; shift
setsid "$@" </dev/null >>"$log" 2>&1 &
echo $!
"""


class EdgeHost:
    """One edge host. Nothing is started before `boot`."""

    def __init__(
        self, *, name: str, folder: Path, subnet: network.Subnet, index: int, cgroup_parent: str
    ) -> None:
        self.name = name
        self.folder = folder
        self.cgroup_parent = cgroup_parent
        self._subnet = subnet
        self._index = index
        self._pid_file = folder / "init.pid"
        self._log = folder / "init.log"

    @property
    def address(self) -> str:
        """The host's address on the line."""
        return self._subnet.edge_address(self._index)

    @property
    def init(self) -> Process | None:
        """The init process, if the host has power."""
        process = Process.load(self._pid_file)
        return process if process is not None and process.is_alive else None

    @property
    def is_on(self) -> bool:
        """Whether the host has power."""
        return self.init is not None

    def seen_from_outside(self, path: Path) -> Path:
        """Return by which path this machine reaches the host's file ``path``, ``/run`` included.

        It holds until the next power cut; while the host is off there is no such file.
        """
        init = self.init
        root = Path("/proc/0" if init is None else f"/proc/{init.pid}") / "root"
        return root / path.relative_to("/")

    async def boot(self, *, line_up: bool = True) -> None:
        """Switch the host on, if it is off.

        Args:
            line_up: whether the line to the cloud works from the start.

        Raises:
            NotReadyError: init did not come up.
            MissingError: the kernel keeps something back that containers need.
        """
        if self.is_on:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        await network.unplug(self._subnet, self._index)
        self._clear()
        cgroups.hand_down_controllers()
        init = self._start_init()
        init.save(self._pid_file)
        try:
            await network.plug_in(self._subnet, self._index, pid=init.pid, up=line_up)
        except BaseException:
            await self.power_cut()
            raise

    async def power_cut(self) -> None:
        """Kill everything in the host at once, without a word; its run state is gone."""
        init = self.init
        if init is not None:
            parent = _parent_of(init)
            await init.kill()
            if parent is not None:
                await parent.ended()
        await network.unplug(self._subnet, self._index)
        self._pid_file.unlink(missing_ok=True)
        self._clear()

    async def cut(self) -> None:
        """Cut the line: the carrier is lost at both ends."""
        await network.set_cable(self._subnet, self._index, up=False)

    async def heal(self) -> None:
        """Mend the line."""
        await network.set_cable(self._subnet, self._index, up=True)

    async def spawn(self, argv: Sequence[str], *, env: Mapping[str, str], log: Path) -> Process:
        """Start a process in the host, its output appended to ``log``.

        Raises:
            NotReadyError: the host is off, or the program cannot be started.
        """
        init = self._init_or_fail()
        read, write = os.pipe()
        try:
            leave = ["/bin/busybox", "sh", "-c", _LEAVE_TO_INIT, "sh", str(log)]
            stub = spawn(
                [*self._enter(init), *leave, *argv],
                env=dict(env),
                log=log,
                keep={1: write},
            )
            os.close(write)
            write = -1
            await stub.ended()
            inner = os.read(read, 32).decode().strip()
        finally:
            os.close(read)
            if write >= 0:
                os.close(write)
        if not inner:
            raise NotReadyError(f"{argv[0]} could not be started in {self.name}{last_words(log)}")
        pid = _outer_pid(init.pid, int(inner))
        if pid is None:
            raise NotReadyError(f"{argv[0]} ended at once in {self.name}{last_words(log)}")
        return Process.of(pid)

    async def connect(self, address: str, port: int) -> socket.socket:
        """Return a connection, made inside the host, to what listens there.

        Raises:
            NotReadyError: the host is off.
            OSError: nothing listens there.
        """
        return await asyncio.to_thread(_connect, self._init_or_fail().pid, address, port)

    async def run(self, *argv: str, timeout_seconds: float = 30.0) -> str:
        """Run a command in the host to its end and return its output."""
        command = [*self._enter(self._init_or_fail()), *argv]
        return await run(command, timeout_seconds=timeout_seconds)

    def _start_init(self) -> Process:
        read, write = os.pipe()
        resolver = _resolver_in_run()
        saved = self.folder / "resolv.conf"
        if resolver:
            shutil.copyfile(_RESOLVER, saved)
        try:
            stub = spawn(
                [
                    program("unshare"), "--net", "--pid", "--fork", "--kill-child", "--mount",
                    "--mount-proc", "--uts", "--ipc", "--",
                    "/bin/busybox", "sh", "-c", _INIT, "init", self.name, resolver, str(saved),
                ],
                env=environment(),
                log=self._log,
                keep={_READY_FD: write},
            )  # fmt: skip
            os.close(write)
            write = -1
            if not os.read(read, 16):
                raise NotReadyError(f"{self.name} did not boot{last_words(self._log)}")
        finally:
            os.close(read)
            if write >= 0:
                os.close(write)
        return Process.of(children(stub.pid)[0])

    def _enter(self, init: Process) -> list[str]:
        # the root too: this machine may itself live below the root of its mount namespace
        namespaces = ["--net", "--pid", "--mount", "--root", "--wd", "--uts", "--ipc"]
        return [program("nsenter"), f"--target={init.pid}", *namespaces, "--"]

    def _init_or_fail(self) -> Process:
        init = self.init
        if init is None:
            raise NotReadyError(f"{self.name} is switched off: start it first")
        return init

    def _clear(self) -> None:
        """Remove what a reboot would not find again; all else was in memory of the host."""
        _CNI_STATE.mkdir(parents=True, exist_ok=True)
        cgroups.remove_leftovers(self.cgroup_parent)


def _connect(pid: int, address: str, port: int) -> socket.socket:
    """Connect from the network of ``pid``; a thread has a network namespace of its own.

    A socket stays in the namespace it was made in (https://man7.org/linux/man-pages/man2/setns.2.html).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with (
        Path("/proc/thread-self/ns/net").open("rb") as ours,
        Path(f"/proc/{pid}/ns/net").open("rb") as its,
    ):
        _enter_network(libc, its.fileno())
        try:
            return socket.create_connection((address, port), CONNECT_SECONDS)
        finally:
            _enter_network(libc, ours.fileno())  # the thread goes back to a pool


def _enter_network(libc: ctypes.CDLL, fd: int) -> None:
    if libc.setns(fd, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot enter a network namespace: {os.strerror(number)}")


def _parent_of(process: Process) -> Process | None:
    """Return the process that waits for init: unshare, which ends with it."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == "PPid" and int(value) > 1:
            try:
                return Process.of(int(value))
            except ProcessLookupError:
                return None
    return None


def _outer_pid(init: int, inner: int) -> int | None:
    """Return the pid by which the machine knows the process ``inner`` of a host."""
    namespace = Path(f"/proc/{init}/ns/pid").readlink()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if (entry / "ns/pid").readlink() != namespace:
                continue
            status = (entry / "status").read_text()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended while we looked
        for line in status.splitlines():
            if line.startswith("NSpid:") and int(line.split()[-1]) == inner:
                return int(entry.name)
    return None


def _resolver_in_run() -> str:
    """Return where ``/etc/resolv.conf`` really is if an empty ``/run`` would hide it, else ""."""
    real = _RESOLVER.resolve()
    return str(real) if real.is_relative_to("/run") and real.exists() else ""
