"""Times as Kubernetes writes them (RFC 3339, whole seconds, UTC)."""

from datetime import UTC, datetime


def from_seconds(seconds: float) -> str:
    """Return the time of ``seconds`` since the epoch."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def from_nanoseconds(nanoseconds: int) -> str | None:
    """Return the time of ``nanoseconds`` since the epoch; None for 0, which is never."""
    return from_seconds(nanoseconds / 1e9) if nanoseconds > 0 else None
