"""Settings that were changed from afar, in a file of the data folder, above the environment's.

A change is tried out: should the services not come to be ready with it, the settings before take
its place again, by themselves, whatever happens meanwhile. What became of it is kept for whoever
asked for it.
"""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import structlog

log = structlog.stdlib.get_logger("fedge.service")

FILE: Final = "settings.json"
DEFAULT_FOLDER: Final = "/var/lib/fedge"
MOST_STARTS: Final = 3
"""A process that ends so often before a change has proved itself is taken to end because of it."""


class Trial(msgspec.Struct, kw_only=True):
    """A change that has not proved itself yet.

    Attributes:
        id: whose change it is.
        before: the values before.
        starts: how often a process has begun with it.
    """

    id: str
    before: dict[str, str]
    starts: int = 0


class Outcome(msgspec.Struct, kw_only=True, frozen=True):
    """What became of the last change; an empty reason: it holds."""

    id: str
    reason: str = ""


class _Kept(msgspec.Struct, kw_only=True):
    values: dict[str, str] = {}
    trial: Trial | None = None
    outcome: Outcome | None = None


class KeptSettings:
    """The file. Constructing it reads nothing; a file that cannot be read is as good as none."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self.decided = asyncio.Event()
        """Set once a change that was being tried out holds or was taken back."""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "KeptSettings":
        """Return those of the edge that an environment describes."""
        return cls(Path(environment.get("FEDGE_EDGE_DATA_DIR") or DEFAULT_FOLDER))

    @property
    def values(self) -> dict[str, str]:
        """The variables that were changed, and their values."""
        return self._read().values

    @property
    def trial(self) -> Trial | None:
        """The change that is being tried out."""
        return self._read().trial

    @property
    def outcome(self) -> Outcome | None:
        """What became of the last change."""
        return self._read().outcome

    def try_out(self, values: Mapping[str, str], *, id: str) -> None:  # noqa: A002
        """Take values that hold from the next start on, if they prove themselves.

        Args:
            values: all that are to differ from the environment's, those of before included.
            id: whose change it is.
        """
        before = self._read()
        was = before.trial.before if before.trial is not None else before.values
        self._write(
            _Kept(values=dict(values), trial=Trial(id=id, before=dict(was)), outcome=before.outcome)
        )

    def begin(self) -> dict[str, str]:
        """Take note that a process begins; return the values that it is to begin with."""
        kept = self._read()
        if kept.trial is None:
            return kept.values
        kept.trial.starts += 1
        if kept.trial.starts > MOST_STARTS:
            self.take_back(f"the services ended {MOST_STARTS} times before they were ready")
            return self.values
        try:
            self._write(kept)
        except OSError as exc:
            # the change is tried out all the same; only a process that ends is not counted
            log.warning("start_not_counted", path=str(self._path), reason=str(exc))
        return kept.values

    def keep(self) -> None:
        """Have the change that is being tried out hold."""
        kept = self._read()
        if kept.trial is not None:
            self._write(_Kept(values=kept.values, outcome=Outcome(id=kept.trial.id)))
            log.info("settings_kept", settings=sorted(kept.values))
        self.decided.set()

    def take_back(self, reason: str) -> None:
        """Put the values before in the place of those that are being tried out."""
        kept = self._read()
        if kept.trial is not None:
            outcome = Outcome(id=kept.trial.id, reason=reason)
            self._write(_Kept(values=kept.trial.before, outcome=outcome))
            log.warning("settings_taken_back", reason=reason)
        self.decided.set()

    def _read(self) -> _Kept:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Kept)
        except FileNotFoundError:
            return _Kept()
        except (OSError, ValueError) as exc:
            log.warning("settings_unreadable", path=str(self._path), reason=str(exc))
            return _Kept()

    def _write(self, kept: _Kept) -> None:
        new = self._path.with_suffix(".new")
        new.touch(mode=0o600)
        with new.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(kept)))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
