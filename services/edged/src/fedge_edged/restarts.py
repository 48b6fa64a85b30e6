"""When an exited container may run again.

https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy
"""

from dataclasses import dataclass

FIRST_SECONDS = 10.0
MOST_SECONDS = 300.0
RESET_AFTER_SECONDS = 600.0


@dataclass(slots=True)
class _Delay:
    seconds: float
    since: float


class Backoff:
    """Waits per name: none for the first retry, then 10 s doubling to 5 min.

    After 10 minutes without a retry they begin anew.
    """

    def __init__(self) -> None:
        self._delays: dict[str, _Delay] = {}

    def remaining(self, name: str, *, failed_at: float, now: float) -> float:
        """Return for how many seconds ``name``, which failed at ``failed_at``, must wait yet."""
        delay = self._delays.get(name)
        if delay is None or failed_at - delay.since > RESET_AFTER_SECONDS:
            return 0.0
        return max(0.0, failed_at + delay.seconds - now)

    def seconds(self, name: str) -> float:
        """Return the length of the present wait."""
        delay = self._delays.get(name)
        return 0.0 if delay is None else delay.seconds

    def retried(self, name: str, now: float) -> None:
        """Note that ``name`` is tried again: should it fail, the next try waits longer."""
        delay = self._delays.get(name)
        if delay is None or now - delay.since > RESET_AFTER_SECONDS:
            self._delays[name] = _Delay(FIRST_SECONDS, now)
        else:
            self._delays[name] = _Delay(min(delay.seconds * 2, MOST_SECONDS), now)

    def forget(self, name: str) -> None:
        """Begin anew."""
        self._delays.pop(name, None)


def should_restart(policy: str, exit_code: int) -> bool:
    """Whether a container that ended with ``exit_code`` is to run again."""
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)
