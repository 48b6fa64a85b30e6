"""How far a node is with a task, as it reports it."""

from typing import Any, Final

import msgspec

from fedge_objects import JsonObject
from fedge_operations._kinds import Action, Outcome, TaskPhase

MAX_STEPS: Final = 32
MAX_IMAGES: Final = 256
MAX_REASON: Final = 1024
_MAX_TEXT: Final = 512
_MAX_SEQUENCE: Final = 2**53


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A step that ended, or that waits for somebody.

    Attributes:
        action: which.
        status: whether it succeeded.
        reason: why not.
        time: when, RFC 3339.
    """

    action: Action
    status: Outcome
    reason: str = ""
    time: str = ""


class ImageResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of an image."""

    image: str
    status: Outcome
    reason: str = ""


class Progress(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What a node says of a task.

    Attributes:
        phase: how far it is.
        sequence: rises with each change, from 1, over restarts of the node too; the highest counts.
        reason: why it failed, or what it waits for.
        steps: in the order in which they ended.
        images: what became of each; of a task that pulls images.
        current_version: of fedge on the node; of a task that upgrades it.
        historic_version: the one before.
    """

    phase: TaskPhase
    sequence: int
    reason: str = ""
    steps: tuple[Step, ...] = ()
    images: tuple[ImageResult, ...] = ()
    current_version: str = ""
    historic_version: str = ""

    def as_status(self) -> JsonObject:
        """Return it as the status of a NodeTask."""
        status: JsonObject = msgspec.to_builtins(self)
        return status


def read_progress(status: Any) -> Progress:
    """Read what a node says, within bounds.

    Raises:
        ValueError: it is no progress; the text names the field.
    """
    progress = msgspec.convert(status, Progress)
    if not 0 < progress.sequence <= _MAX_SEQUENCE:
        raise ValueError(f"status.sequence is {progress.sequence}: it begins at 1")
    if progress.phase not in {TaskPhase.IN_PROGRESS, TaskPhase.SUCCESSFUL, TaskPhase.FAILURE}:
        raise ValueError(f"status.phase is {progress.phase!r}, which is not for a node to say")
    if len(progress.steps) > MAX_STEPS or len(progress.images) > MAX_IMAGES:
        raise ValueError(f"status has more than {MAX_STEPS} steps or {MAX_IMAGES} images")
    texts = [
        progress.current_version,
        progress.historic_version,
        *(each.time for each in progress.steps),
        *(each.image for each in progress.images),
    ]
    reasons = [
        progress.reason,
        *(each.reason for each in progress.steps),
        *(each.reason for each in progress.images),
    ]
    if any(len(each) > _MAX_TEXT for each in texts) or any(
        len(each) > MAX_REASON for each in reasons
    ):
        raise ValueError(f"status has a text of more than {MAX_REASON} characters")
    return progress
