"""How far the node is with a task: on the disk first, then told.

One small file per task, written when a step ends and at no other time. It goes when the task does.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import structlog

from fedge_edged.ports import Clock
from fedge_edged.timestamps import from_seconds
from fedge_operations import (
    MAX_REASON,
    MAX_STEPS,
    Action,
    ImageResult,
    Outcome,
    Progress,
    Step,
    TaskPhase,
)
from fedge_sealing import write_private

log = structlog.stdlib.get_logger("fedge.edged")

FOLDER: Final = "tasks"


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    progress: Progress
    began: float
    notes: dict[str, str] = {}


class Diary:
    """One task's file."""

    def __init__(
        self, path: Path, kept: _Kept | None, *, clock: Clock, tell: Callable[[Progress], None]
    ) -> None:
        self._path = path
        self._kept = kept
        self._clock = clock
        self._tell = tell

    @classmethod
    def opened(
        cls, folder: Path, uid: str, *, clock: Clock, tell: Callable[[Progress], None]
    ) -> "Diary":
        """Read a task's file, if it has one.

        Args:
            folder: of all tasks' files.
            uid: of the task.
            clock: tells when a step ended.
            tell: is told of the progress whenever it changed.
        """
        path = path_of(folder, uid)
        try:
            kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
        except FileNotFoundError:
            kept = None
        except ValueError as exc:
            log.warning("task_file_unreadable", path=str(path), reason=str(exc))
            kept = None
        return cls(path, kept, clock=clock, tell=tell)

    @property
    def has_begun(self) -> bool:
        """Whether the node has begun it."""
        return self._kept is not None

    @property
    def is_over(self) -> bool:
        """Whether the node is done with it, one way or the other."""
        return self._kept is not None and self._kept.progress.phase.is_told

    @property
    def progress(self) -> Progress | None:
        """What was told last."""
        return self._kept.progress if self._kept else None

    def begin(self) -> None:
        """Take note that it begins; nothing if it had begun before a restart."""
        if self._kept is None:
            progress = Progress(phase=TaskPhase.IN_PROGRESS, sequence=1)
            self._write(_Kept(progress=progress, began=self._clock.now()))

    def left_of(self, seconds: float) -> float:
        """Return how much of its time is left; a clock that jumped gives neither more nor less."""
        if self._kept is None:
            return seconds
        return min(seconds, max(0.0, self._kept.began + seconds - self._clock.now()))

    def restart_time(self) -> None:
        """Have all of its time before it again."""
        if self._kept is not None:
            began = self._clock.now()
            self._write(msgspec.structs.replace(self._kept, began=began), is_told=False)

    def has(self, action: Action) -> bool:
        """Whether a step was ended well."""
        return any(
            each.action is action and each.status is Outcome.TRUE for each in self._now.steps
        )

    def step(self, action: Action, reason: str = "", *, ok: bool = True) -> None:
        """Take note that a step ended."""
        self._add(action, Outcome.TRUE if ok else Outcome.FALSE, reason)

    def wait(self, action: Action, reason: str) -> None:
        """Take note that a step waits for somebody."""
        self._add(action, Outcome.UNKNOWN, reason)

    def image(self, result: ImageResult) -> None:
        """Take note of what became of an image."""
        others = tuple(each for each in self._now.images if each.image != result.image)
        self._change(images=(*others, result))

    def versions(self, *, current: str, historic: str) -> None:
        """Take note of the versions that the node runs and ran before."""
        self._change(current_version=current, historic_version=historic)

    def end(self, reason: str = "") -> None:
        """Take note that it is over: with a reason, it failed."""
        phase = TaskPhase.FAILURE if reason else TaskPhase.SUCCESSFUL
        self._change(phase=phase, reason=reason[:MAX_REASON])

    def tell(self) -> None:
        """Tell once more how far it is."""
        if self._kept is not None:
            self._tell(self._kept.progress)

    def note(self, name: str) -> str:
        """Return what was noted under a name; empty if nothing was."""
        return self._kept.notes.get(name, "") if self._kept else ""

    def keep_note(self, name: str, text: str) -> None:
        """Keep something of the work's own; nobody is told."""
        if self._kept is not None:
            notes = {**self._kept.notes, name: text}
            self._write(msgspec.structs.replace(self._kept, notes=notes), is_told=False)

    def forget(self) -> None:
        """Remove the file: the task is gone."""
        self._path.unlink(missing_ok=True)

    @property
    def _now(self) -> Progress:
        if self._kept is None:
            raise RuntimeError("a task that has not begun has no progress")
        return self._kept.progress

    def _add(self, action: Action, status: Outcome, reason: str) -> None:
        step = Step(
            action=action,
            status=status,
            reason=reason[:MAX_REASON],
            time=from_seconds(self._clock.now()),
        )
        # one that waited gives way to how it ended
        waited = [
            each
            for each in self._now.steps
            if each.action is not action or each.status is not Outcome.UNKNOWN
        ]
        self._change(
            steps=tuple([*waited, step][-MAX_STEPS:]),
            reason=reason[:MAX_REASON] if status is Outcome.UNKNOWN else "",
        )

    def _change(self, **fields: object) -> None:
        now = self._now
        new = msgspec.structs.replace(now, sequence=now.sequence + 1, **fields)
        if self._kept is not None:
            self._write(msgspec.structs.replace(self._kept, progress=new))

    def _write(self, kept: _Kept, *, is_told: bool = True) -> None:
        write_private(self._path, msgspec.json.encode(kept))
        self._kept = kept
        if is_told:
            self._tell(kept.progress)


def path_of(folder: Path, uid: str) -> Path:
    """Return a task's file; a uid is taken for a name and no more."""
    return folder / f"{uid.replace('/', '_')}.json"
