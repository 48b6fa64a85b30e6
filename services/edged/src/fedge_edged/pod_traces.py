"""Which trace the work on a pod belongs to.

What is done because of a change belongs to the change's trace until the pod is as it was wanted.
What is done later (a container ended, the gateway was switched on again) begins a trace of its own,
linked to the change.
"""

import time

from fedge_edged.pods import Pod
from fedge_objects import JsonObject
from fedge_tracing import LINK_AFTER_SECONDS, Cause, Spanning, Tracer, names

SYNC = "sync pod"
WAIT = "wait for edged"
SHOWN_AFTER_SECONDS = 0.001
OPEN_SECONDS = 600.0
"""A pod that is not ready by then has had its trace: one that fails for ever would make it grow."""

_tracer = Tracer("edged")


class PodTrace:
    """The trace of one pod's work."""

    def __init__(self, *, is_new: bool) -> None:
        """Take whether the runtime is known to have nothing of the pod: else its trace was had."""
        self._was_begun = not is_new
        self._cause = Cause()
        self._is_open = False
        self._has_begun = False

    def wanted(self, cause: Cause) -> None:
        """Take what the newest version of the pod came with."""
        if cause.traceparent:
            self._cause, self._is_open, self._has_begun = cause, not self._was_begun, False
        self._was_begun = False

    def close(self) -> None:
        """Take that the change is in effect, or was once."""
        self._is_open = False

    def look(self, status: JsonObject | None) -> None:
        """Close the trace if a status says that the pod is as it should be, or over."""
        if status is None:
            return
        conditions = status.get("conditions") or ()
        is_ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
        if is_ready or status.get("phase") in {"Succeeded", "Failed"}:
            self.close()

    def round(self, pod: Pod | None, uid: str) -> Spanning:
        """Return the span of one round; there is none of a round in which nothing happens."""
        about = {names.K8S_POD_UID: uid}
        if pod is not None:
            about[names.OBJECT] = str(pod.key)
            about[names.K8S_NAMESPACE_NAME] = pod.metadata.namespace
            about[names.K8S_POD_NAME] = pod.metadata.name
        cause, now = self._cause, time.time()
        if not self._is_open or now - cause.since > OPEN_SECONDS:
            causes = (cause,) if cause.traceparent else ()
            return _tracer.root(SYNC, attributes=about, causes=causes, lazily=True)
        waited = now - cause.since if cause.since and not self._has_begun else 0.0
        self._has_begun = True
        if waited > SHOWN_AFTER_SECONDS:
            wait = {names.WAIT_SECONDS: round(waited, 6)}
            with _tracer.child(cause.traceparent, WAIT, attributes=wait, start=cause.since):
                pass
        return _tracer.child(
            cause.traceparent,
            SYNC,
            attributes=about,
            causes=(cause,) if waited > LINK_AFTER_SECONDS else (),
            lazily=True,
        )
