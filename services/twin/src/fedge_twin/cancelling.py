"""Being cancelled, in spite of Python 3.11.

Two of its parts can drop a cancellation: ``asyncio.wait_for``, when it comes in the same moment as
the result (https://github.com/python/cpython/issues/86296), and a ``TaskGroup`` whose children fail
while they are cancelled, of which only the failures are raised. A loop that goes on after either
asks here.
"""

import asyncio


def heed_cancellation() -> None:
    """Raise CancelledError if this task has been cancelled and still runs."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
