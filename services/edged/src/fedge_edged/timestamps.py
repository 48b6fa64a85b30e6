"""Times as Kubernetes writes them (RFC 3339, whole seconds, UTC)."""

import math
from datetime import UTC, datetime


def from_seconds(seconds: float) -> str:
    """Return the time of ``seconds`` since the epoch."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def from_nanoseconds(nanoseconds: int) -> str | None:
    """Return the time of ``nanoseconds`` since the epoch; None for 0, which is never."""
    return from_seconds(nanoseconds / 1e9) if nanoseconds > 0 else None


def seconds(text: str) -> float | None:
    """Return a number of seconds that was kept as text; None if it is none."""
    try:
        found = float(text)
    except ValueError:
        return None
    return found if math.isfinite(found) and found > 0 else None
