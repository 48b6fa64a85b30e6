"""Which version runs: the container's own image, or one from the volume (`fedge_slots`).

The container belongs to whoever started it; from inside it cannot be swapped. So its first process,
always of the container's own image, changes its root into a slot of the volume and begins the edge
of that. It stays above while a slot runs, as a shell of half a megabyte, and takes a version back
that ends, or that does not keep itself in time. Nothing that was accepted is lost by going back:

- With the same version of the broker its data is simply used on.
- Another version may change it for good (feature flags go one way). Then it is copied first, and
  devices, and whoever else speaks to the broker at the gateway, are kept out until the new version
  is kept: what the new broker took meanwhile is messages of our own services, which are told again.
"""

import hashlib
import os
import shlex
import shutil
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final, NoReturn

from fedge_boot import linux
from fedge_boot.errors import BootError
from fedge_boot.settings import Settings
from fedge_slots import MOST_STARTS, Outcome, Slots, State, broker_of

SLOT_VARIABLE: Final = "FEDGE_BOOT_SLOT"
"""Names the slot to whoever begins in it."""
_BILL: Final = Path("/usr/share/sbom/fedge-edge.spdx.json")
"""Lists all that is in an image, with hashes: another image has another."""
_PLACE: Final = "/var/tmp"  # noqa: S108 - a folder that every image has; nothing is written to it
_FROM_THE_HOST: Final = ("/etc/resolv.conf", "/etc/hosts", "/etc/hostname")
_DATA: Final = "mnesia"
_ASIDE: Final = "mnesia.before"
ROOM_BYTES: Final = 64 * 1024 * 1024

Say = Callable[[str], None]


def base() -> str:
    """Return what tells the container's own image from others."""
    try:
        return hashlib.sha256(_BILL.read_bytes()).hexdigest()[:16]
    except OSError:
        return "unknown"


def running_version(slots: Slots, slot: str) -> str:
    """Return the version that runs, for people."""
    installed = slots.installed(slot) if slot else None
    return installed.version if installed else version("fedge-boot")


def choose(slots: Slots, settings: Settings, own: str, *, say: Say) -> str:
    """Return the slot that is to run now; empty: the container's own image.

    A version that is tried out is counted each time that it begins.

    Args:
        slots: of the volume.
        settings: of the container.
        own: the container's own image.
        say: told what is decided.
    """
    state = slots.state()
    if (state.current or state.trial) and state.base != own:
        say("the container was started from another image: that is what runs from now on")
        _start_over(slots, state, settings)
        return ""
    if state.trial is None:
        shutil.rmtree(settings.data / "rabbitmq" / _ASIDE, ignore_errors=True)
        if state.current and not _is_whole(slots, state.current):
            say(f"version {state.current} is damaged: the container's own image runs instead")
            return ""
        return state.current
    if state.trial.starts >= MOST_STARTS:
        reason = f"it ended {MOST_STARTS} times before it was ready"
        return take_back(slots, settings, reason, say=say)
    try:
        if state.trial.starts == 0:
            state.trial.broker_kept = _keep_broker(slots, state, settings)
        state.trial.starts += 1
        slots.save(state)
    except (TrialError, OSError) as exc:
        return take_back(slots, settings, str(exc), say=say)
    say(f"trying version {running_version(slots, state.trial.slot)}")
    return state.trial.slot


def _is_whole(slots: Slots, slot: str) -> bool:
    """Whether a version can be begun at all; flash may have lost it."""
    program = slots.root(slot) / "usr/bin/python3"
    return slots.installed(slot) is not None and os.access(program, os.X_OK)


class TrialError(Exception):
    """A version cannot be tried out, or no longer."""


def take_back(slots: Slots, settings: Settings, reason: str, *, say: Say) -> str:
    """Have the version before run again, with the broker's data of before; return its slot."""
    state = slots.state()
    if state.trial is not None:
        if state.trial.broker_kept:
            _put_back_broker(settings)
        slots.take_back(reason)
        say(f"version {running_version(slots, state.trial.slot)} is taken back: {reason}")
    return slots.state().current


def enter(slots: Slots, slot: str, settings: Settings) -> NoReturn:
    """Change the root into a slot and begin the edge there.

    Raises:
        BootError: it cannot be.
    """
    try:
        linux.leave_mounts()
        # what is mounted below it is for this process and its children alone
        linux.mount("", "/", flags=linux.PRIVATE)
        linux.mount(str(slots.root(slot)), _PLACE, flags=linux.BIND)
        linux.mount("", _PLACE, flags=linux.PRIVATE)
        folders = ["/proc", "/sys", "/dev", str(settings.data), str(settings.socket.parent)]
        for folder in [*folders, str(S6_FOLDER)]:
            inside = Path(f"{_PLACE}{folder}")
            inside.mkdir(parents=True, exist_ok=True)
            linux.mount(folder, str(inside), flags=linux.BIND | linux.RECURSIVE)
        for file in _FROM_THE_HOST:
            if Path(file).exists():
                inside = Path(f"{_PLACE}{file}")
                inside.parent.mkdir(parents=True, exist_ok=True)
                inside.touch()
                linux.mount(file, str(inside), flags=linux.BIND)
        os.chroot(_PLACE)
        os.chdir("/")
        environment = {**os.environ, SLOT_VARIABLE: slot}
        os.execve("/usr/bin/python3", ["python3", "-m", "fedge_boot"], environment)  # noqa: S606
    except OSError as exc:
        raise BootError(f"version {slot!r} cannot be begun: {exc}") from exc


S6_FOLDER: Final = Path("/run/fedge-s6")
AGAIN: Final = S6_FOLDER / "again"
"""There once whoever ends the edge wants it to begin anew."""
_GUARD: Final = """\
# The first process while a version from the volume runs.
stopping=
stop() { stopping=1; kill -s TERM "$child" 2>/dev/null; }
trap stop TERM INT QUIT
trap 'kill -s PWR "$child" 2>/dev/null' PWR
rm -f %(again)s
%(boot)s enter %(slot)s &
child=$!
watch=
if [ -n "%(seconds)s" ]; then
    ( sleep "%(seconds)s"; exec %(boot)s judge "$child" ) &
    watch=$!
fi
code=0
while kill -0 "$child" 2>/dev/null; do wait "$child"; code=$?; done
[ -z "$watch" ] || kill "$watch" 2>/dev/null
[ -z "$stopping" ] || exit 0
if [ -e %(again)s ] || [ -n "%(seconds)s" ]; then exec %(boot)s; fi
exit "$code"
"""


def guard(slots: Slots, slot: str) -> NoReturn:
    """Become the shell that runs a slot, and looks after it while it is being tried out.

    Raises:
        BootError: there is no place in memory.
    """
    trial = slots.state().trial
    seconds = f"{trial.seconds:.0f}" if trial is not None and trial.slot == slot else ""
    mount_s6_folder()
    script = _GUARD % {
        "boot": "/usr/bin/python3 -m fedge_boot",
        "slot": shlex.quote(slot),
        "seconds": seconds,
        "again": AGAIN,
    }
    os.execv("/usr/bin/sh", ["sh", "-c", script])  # noqa: S606 - the script is ours


def mount_s6_folder() -> None:
    """Have an empty folder in memory for what the supervisor reads.

    Raises:
        BootError: there is none.
    """
    S6_FOLDER.mkdir(exist_ok=True)
    try:
        if not os.path.ismount(S6_FOLDER):
            linux.mount("tmpfs", str(S6_FOLDER), kind="tmpfs", options="mode=0700,size=1m")
    except OSError as exc:
        raise BootError(f"{S6_FOLDER} cannot be mounted: {exc.strerror}") from exc
    for path in S6_FOLDER.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def judge(slots: Slots, settings: Settings, *, say: Say) -> bool:
    """Take the version back that is being tried out, for its time is up; return whether it was."""
    trial = slots.state().trial
    if trial is None:
        return False
    reason = f"it did not work as the one before within {trial.seconds:.0f} s"
    take_back(slots, settings, reason, say=say)
    return True


def about(slots: Slots, environment: Mapping[str, str]) -> dict[str, object]:
    """Return what the services are told of the image that they run from."""
    slot = environment.get(SLOT_VARIABLE, "")
    return {
        "slot": slot,
        "base": environment.get("FEDGE_BOOT_BASE") or base(),
        "version": running_version(slots, slot),
        "begin_anew": [str(S6_FOLDER / "begin-anew")],
    }


def _start_over(slots: Slots, state: State, settings: Settings) -> None:
    """Take that whoever has the gateway has chosen another image."""
    outcome = state.outcome
    if state.trial is not None:
        if state.trial.broker_kept:
            _put_back_broker(settings)
        reason = "the container was started from another image meanwhile"
        outcome = Outcome(id=state.trial.id, slot=state.trial.slot, reason=reason)
    slots.save(State(outcome=outcome))


def _keep_broker(slots: Slots, state: State, settings: Settings) -> bool:
    """Copy the broker's data if the version that is tried out has another broker.

    Raises:
        TrialError: there is no room for it.
    """
    if state.trial is None:
        return False
    before = slots.root(state.trial.before) if state.trial.before else Path("/")
    if broker_of(before) == broker_of(slots.root(state.trial.slot)):
        return False
    folder = settings.data / "rabbitmq"
    data, aside = folder / _DATA, folder / _ASIDE
    shutil.rmtree(aside, ignore_errors=True)
    if not data.exists():
        return False
    size = sum(each.stat().st_size for each in data.rglob("*") if each.is_file())
    free = shutil.disk_usage(folder).free
    if free < size + ROOM_BYTES:
        raise TrialError(
            f"its broker is another, and there is no room to keep the data of the one before:"
            f" {size // 2**20} MiB, and {free // 2**20} MiB are free"
        )
    part = aside.with_name(f"{aside.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(data, part, symlinks=True)
    os.sync()
    part.rename(aside)
    return True


def _put_back_broker(settings: Settings) -> None:
    """Put the broker's data of before in its place; whatever is killed meanwhile, it is there."""
    folder = settings.data / "rabbitmq"
    data, aside = folder / _DATA, folder / _ASIDE
    if aside.exists():
        shutil.rmtree(data, ignore_errors=True)
        aside.rename(data)
