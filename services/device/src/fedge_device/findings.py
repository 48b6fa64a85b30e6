"""What holds of a device: the conditions of its status.

Pure: what is known in, conditions without times out.
https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md#typical-status-properties
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from fedge_device.words import Conflict, Word, Words
from fedge_devices import Declared, Model, Problem, as_text, problem_of

MAX_MESSAGE: Final = 1024
MAX_VALUE: Final = 64
_REASON: Final = re.compile(r"[A-Za-z]([A-Za-z0-9_,:]{0,126}[A-Za-z0-9_])?")


class Sync(StrEnum):
    """How the manifest's wishes and the device agree, in one word."""

    SYNCED = "Synced"
    PENDING = "Pending"
    SET_AT_EDGE = "SetAtEdge"
    CONFLICT = "Conflict"
    INVALID = "Invalid"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """A condition.

    Attributes:
        type: what it is about.
        holds: whether it does; None: nobody knows.
        reason: why, in one word.
        message: why.
    """

    type: str
    holds: bool | None
    reason: str
    message: str = ""

    @property
    def status(self) -> str:
        """Return the word of the API."""
        return "Unknown" if self.holds is None else str(self.holds)


def valid(declared: Mapping[str, Declared], model_name: str, model: Model | None) -> Finding:
    """Return whether the manifest's wishes keep to the model.

    Args:
        declared: what the manifest says.
        model_name: of the model that it names; empty if it names none.
        model: the model; None if it is not there.
    """
    if not model_name:
        return Finding("Valid", True, "NoModel", "the device names no model to keep to")
    if model is None:
        return Finding("Valid", False, "ModelNotFound", f"there is no device model {model_name!r}")
    problems = [
        found
        for name, said in declared.items()
        if (found := _problem(name, said, model_name, model))
    ]
    if problems:
        return Finding("Valid", False, problems[0].reason, _all(each.text for each in problems))
    return Finding("Valid", True, "KeepsToModel")


def _problem(name: str, said: Declared, model_name: str, model: Model) -> Problem | None:
    if said.wish is None:
        return None
    rule = model.get(name)
    if rule is None:
        return Problem("UnknownProperty", f"model {model_name!r} has no property {name!r}")
    metadata = said.wish.get("metadata")
    return problem_of(
        name,
        said.wish["value"],
        metadata if isinstance(metadata, dict) else {},
        rule,
        is_desired=True,
    )


def synced(
    declared: Mapping[str, Declared], node: str, words: Words | None, *, is_valid: bool
) -> Finding:
    """Return whether the device is as the manifest wishes.

    Args:
        declared: what the manifest says.
        node: of the device; empty if it has none.
        words: what the node says; None if nothing.
        is_valid: whether the manifest keeps to the model.
    """
    if not node:
        return Finding("Synced", None, "NoNode", "the device names no node")
    if words is None:
        return Finding("Synced", None, "NeverReported", f"node {node!r} has not reported it yet")
    at_edge, refused, waiting = [], [], []
    for name, said in declared.items():
        if said.wish is None:
            continue
        wished, word = as_text(said.wish["value"]), words.properties.get(name, Word())
        if word.problem is not None:
            refused.append(f"{name}: {word.problem.text or word.problem.reason}")
        elif word.by_edge and word.desired != wished:
            desired = _shown(word.desired)
            at_edge.append(
                f"desired of {name} is {desired} (set at the edge), the manifest says"
                f" {_shown(wished)}"
            )
        elif said.is_told and word.reported != wished:
            waiting.append(f"{name} should be {_shown(wished)} and is {_shown(word.reported)}")
    if not is_valid:
        text = "the manifest does not keep to its model (see Valid)"
        return Finding("Synced", False, "Invalid", text)
    if at_edge:
        return Finding("Synced", False, "SetAtEdge", _all(at_edge))
    if refused:
        text = f"node {node!r} has not taken what the manifest wishes: {_all(refused)}"
        return Finding("Synced", False, "Refused", text[:MAX_MESSAGE])
    if waiting:
        return Finding("Synced", False, "Pending", _all(waiting))
    return Finding("Synced", True, "AsDesired")


def conflict(words: Words | None) -> Finding:
    """Return whether a wish was lost without its maker's knowing."""
    if words is None:
        return Finding("Conflict", None, "NeverReported")
    found = [(name, each) for name, word in words.properties.items() if (each := word.conflict)]
    if not found:
        return Finding("Conflict", False, "NoConflict")
    reason = "".join(part.capitalize() for part in found[0][1].rule.split("-"))
    is_reason = _REASON.fullmatch(reason) is not None
    message = _all(_told(name, each) for name, each in found)
    return Finding("Conflict", True, reason if is_reason else "BothWished", message)


def _told(name: str, lost: Conflict) -> str:
    return (
        f"{name} is to be {lost.kept} ({lost.kept_by}); {lost.lost} ({lost.lost_by}) was lost by"
        f" {lost.rule} at {lost.time}"
    )


def sync_of(valid: Finding, synced: Finding, conflict: Finding) -> Sync:
    """Return the one word: the worst of the three."""
    if not valid.holds:
        return Sync.INVALID
    if synced.holds is None:
        return Sync.UNKNOWN
    if conflict.holds:
        return Sync.CONFLICT
    if synced.holds:
        return Sync.SYNCED
    return Sync.SET_AT_EDGE if synced.reason == "SetAtEdge" else Sync.PENDING


def _shown(value: str | None) -> str:
    if value is None:
        return "not known"
    return value if len(value) <= MAX_VALUE else f"{value[:MAX_VALUE]}..."


def _all(texts: Iterable[str]) -> str:
    text = "; ".join(texts)
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 3]}..."
