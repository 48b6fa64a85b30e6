"""Which versions are in the volume, which one runs, and which one is being tried out."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

FOLDER: Final = "versions"
_STATE: Final = "state.json"
_DESCRIPTION: Final = "version.json"
_ROOT: Final = "root"
_PART: Final = ".part"
MOST_STARTS: Final = 2
"""A version that ends so often before it has proved itself is taken back at the next start."""
ROOM_LEFT_BYTES: Final = 64 * 1024 * 1024
"""An edge whose disk is full to the brim is no edge to upgrade."""


class SlotError(Exception):
    """A version cannot be installed or tried out; the text says why and what to do."""


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    """A version in the volume.

    Attributes:
        name: of its slot.
        version: its tag.
        digest: of its image, ``sha256:...``; empty if it is not known.
        broker: version of its broker.
    """

    name: str
    version: str
    digest: str = ""
    broker: str = ""


class Was(msgspec.Struct, frozen=True, kw_only=True):
    """What worked before a version was tried out.

    Attributes:
        linked: whether messages went up to the cloud.
        answered: whether the cloud's answer to one came down.
        pods: uids of those that ran.
    """

    linked: bool = False
    answered: bool = False
    pods: tuple[str, ...] = ()


_NOTHING: Final = Was()


class Trial(msgspec.Struct, kw_only=True):
    """A version that has not proved itself yet.

    Attributes:
        slot: its name.
        before: the slot that ran before; empty for the container's own image.
        id: who asked for it.
        seconds: how long it has, from its first start.
        starts: how often it has begun.
        broker_kept: whether the broker's data of before lies aside, because its version differs.
        was: what worked before, and has to work again.
    """

    slot: str
    before: str
    id: str
    seconds: float
    starts: int = 0
    broker_kept: bool = False
    was: Was = Was()


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the last version that was tried out; an empty reason: it is kept."""

    id: str
    slot: str
    reason: str = ""


class State(msgspec.Struct, kw_only=True):
    """What runs.

    Attributes:
        current: slot that runs; empty: the container's own image does.
        base: the container's own image, as it was when the slot was chosen. Whoever starts the
            container from another image has chosen that, and the slots are over.
        trial: what is being tried out.
        outcome: of the last trial.
    """

    current: str = ""
    base: str = ""
    trial: Trial | None = None
    outcome: Outcome | None = None


class Part:
    """A version that is being installed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.described = Installed(name=root.parent.name.removesuffix(_PART), version="")


class Slots:
    """The folder of versions. Constructing it reads nothing."""

    def __init__(self, data: Path) -> None:
        """Take the volume."""
        self.folder = data / FOLDER

    def state(self) -> State:
        """Return what runs; without a file, or with one that cannot be read: the own image."""
        try:
            return msgspec.json.decode((self.folder / _STATE).read_bytes(), type=State)
        except (FileNotFoundError, ValueError):
            return State()

    def root(self, slot: str) -> Path:
        """Return the root folder of a slot."""
        return self.folder / slot / _ROOT

    def installed(self, slot: str) -> Installed | None:
        """Return what is in a slot; None if nothing whole is."""
        try:
            content = (self.folder / slot / _DESCRIPTION).read_bytes()
            return msgspec.json.decode(content, type=Installed)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None

    @contextmanager
    def installing(self, name: str, *, needs_bytes: int = 0) -> Iterator["Part | None"]:
        """Give an empty root folder for a version; what is put in is a slot, or nothing is.

        Args:
            name: of the slot.
            needs_bytes: as much room as it takes.

        Yields:
            Where it goes, and where to say what it is; None if it is there already.

        Raises:
            SlotError: there is no room.
        """
        if self.installed(name) is not None:
            yield None
            return
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._clear()
        free = shutil.disk_usage(self.folder).free
        if free < needs_bytes + ROOM_LEFT_BYTES:
            raise SlotError(
                f"the new version takes {_mib(needs_bytes)} MiB and leaves {_mib(ROOM_LEFT_BYTES)}"
                f" free, and {_mib(free)} MiB are free at {self.folder}: make room there"
            )
        folder = self.folder / f"{name}{_PART}"
        part = Part(folder / _ROOT)
        part.root.mkdir(mode=0o755, parents=True)
        try:
            yield part
            content = msgspec.json.format(msgspec.json.encode(part.described))
            _write(folder / _DESCRIPTION, content)
            # all of it has to be there when the state says so
            os.sync()
            folder.rename(self.folder / name)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def try_out(
        self,
        slot: str,
        *,
        id: str,  # noqa: A002
        seconds: float,
        base: str,
        was: Was = _NOTHING,
    ) -> None:
        """Have a slot run from the next start on, if it proves itself.

        Args:
            slot: that is installed.
            id: who asks for it.
            seconds: how long it has.
            base: the container's own image.
            was: what worked until now.

        Raises:
            SlotError: it is not installed, or another is being tried out.
        """
        state = self.state()
        if self.installed(slot) is None:
            raise SlotError(f"version {slot!r} is not installed")
        if state.trial is not None and state.trial.id != id:
            raise SlotError(f"version {state.trial.slot!r} is being tried out")
        state.trial = Trial(slot=slot, before=state.current, id=id, seconds=seconds, was=was)
        state.base = base
        self.save(state)

    def keep(self) -> None:
        """Have the version that is being tried out stay; the one before stays beside it."""
        state = self.state()
        if state.trial is None:
            return
        trial = state.trial
        state.outcome = Outcome(id=trial.id, slot=trial.slot)
        state.current, state.trial = trial.slot, None
        self.save(state)
        self._clear(also=trial.before)

    def take_back(self, reason: str) -> None:
        """Have the version before run from the next start on."""
        state = self.state()
        if state.trial is None:
            return
        state.outcome = Outcome(id=state.trial.id, slot=state.trial.slot, reason=reason)
        state.current, state.trial = state.trial.before, None
        self.save(state)

    def save(self, state: State) -> None:
        """Write what runs: whole or not at all, and on the disk."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(self.folder / _STATE, msgspec.json.format(msgspec.json.encode(state)))

    def _clear(self, *, also: str = "") -> None:
        """Remove what neither runs nor ran before: two versions at most beside a new one."""
        state = self.state()
        kept = {state.current, also}
        if state.trial is not None:
            kept |= {state.trial.slot, state.trial.before}
        for path in self.folder.iterdir():
            if path.is_dir() and path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)


def _write(path: Path, content: bytes) -> None:
    new = path.with_name(f"{path.name}.new")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def broker_of(root: Path) -> str:
    """Return the version of the broker in a root folder; empty if there is none."""
    found = sorted(root.glob("usr/lib/rabbitmq/lib/rabbitmq_server-*"))
    return found[-1].name.partition("-")[2] if found else ""


def _mib(size: int) -> int:
    return size // (1024 * 1024)
