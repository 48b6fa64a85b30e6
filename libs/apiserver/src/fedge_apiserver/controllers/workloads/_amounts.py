"""Numbers and times that rollouts are made of."""

import hashlib
import math
from datetime import datetime
from typing import Final

import msgspec

from fedge_apiserver.controllers.workloads._loop import condition, is_active, is_ready
from fedge_objects import JsonObject

_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
_HASH_LENGTH: Final = 10


def template_hash(template: JsonObject) -> str:
    """Return what tells a template from others, as a label's value."""
    encoded = msgspec.json.encode(template, order="sorted")
    digest = hashlib.sha256(encoded).digest()
    return "".join(_LETTERS[byte % len(_LETTERS)] for byte in digest[:_HASH_LENGTH])


def share(amount: int | str | None, whole: int, *, up: bool) -> int:
    """Return a number, or a percentage of a whole, rounded up or down."""
    if amount is None:
        return 0
    if isinstance(amount, int):
        return amount
    exact = int(amount.removesuffix("%")) * whole / 100
    return math.ceil(exact) if up else math.floor(exact)


def available_in(pod: JsonObject, min_ready_seconds: int, now: datetime) -> float | None:
    """Return in how many seconds a pod counts as available, if it stays ready; None: it is not."""
    if not is_active(pod) or not is_ready(pod):
        return None
    since = condition(pod, "Ready").get("lastTransitionTime")
    if not min_ready_seconds or not since:
        return 0.0
    return max(0.0, min_ready_seconds - (now - datetime.fromisoformat(since)).total_seconds())
