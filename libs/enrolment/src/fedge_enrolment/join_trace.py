"""The trace of a gateway's joining: made before there is a way for it, and sent once there is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import fedge_tracing as tracing
from fedge_objects import ObjectKey
from fedge_sealing import write_private
from fedge_tracing import names


@contextmanager
def traced(node: str, file: Path, *, ratio: float, warn: Callable[[str], None]) -> Iterator[None]:
    """Trace what is done within; its spans are left in a file, for meta to send.

    Args:
        node: that joins.
        file: where to (``Identity.join_spans``).
        ratio: share of the joinings that are recorded, from 0 to 1.
        warn: told if the file cannot be written, which stops nothing.
    """
    buffer = tracing.configure(ratio=ratio, node=node)
    about = {names.OBJECT: str(ObjectKey("nodes", "", node))}
    try:
        with tracing.Tracer("join").root("join", attributes=about):
            yield
        spans, _ = buffer.take_now()
    finally:
        tracing.stop()
    if len(spans) <= 1:
        return  # it had joined before
    try:
        write_private(file, tracing.encode(spans))
    except OSError as exc:
        warn(f"the trace of joining is not kept: {exc}")
