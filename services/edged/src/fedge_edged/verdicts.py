"""What the node has decided about a pod for good, kept on disk so that it outlives a restart.

A pod that was evicted or refused must not run again because edged was killed before the cloud heard
of it. The time at which a pod was taken up is kept for pods with a deadline only: flash is not
written without need.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

log = structlog.stdlib.get_logger("fedge.edged")

_NAME = "record.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a pod ended, if its containers did not decide it.

    https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-phase

    Attributes:
        phase: ``Failed`` or ``Succeeded``.
        reason: as the kubelet names it, e.g. ``Evicted``, ``DeadlineExceeded``, ``OutOfcpu``.
        message: for people.
        disrupts: whether the node ended a pod that ran, which its condition ``DisruptionTarget``
            tells to whoever counts failures.
    """

    phase: str = "Failed"
    reason: str
    message: str = ""
    disrupts: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is kept of one pod. ``started_at`` in seconds since the epoch."""

    verdict: Verdict | None = None
    started_at: float | None = None


class Records:
    """The records of all pods, one small file each, below the pod's own folder."""

    def __init__(self, folder: Path) -> None:
        """Take the folder in which each pod has one that is called by its uid."""
        self._folder = folder

    def read(self, uid: str) -> Record:
        """Return what is kept of a pod; one that cannot be read is as good as none."""
        path = self._folder / uid / _NAME
        try:
            data = json.loads(path.read_text())
            verdict = data.get("verdict")
            return Record(
                verdict=Verdict(**verdict) if verdict else None, started_at=data.get("started_at")
            )
        except FileNotFoundError:
            return Record()
        except (ValueError, TypeError, AttributeError) as exc:
            log.warning("record_unreadable", path=str(path), reason=str(exc))
            return Record()

    def write(self, uid: str, record: Record) -> None:
        """Keep a record; it is on the disk before this returns. It goes with the pod's folder."""
        folder = self._folder / uid
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f"{_NAME}.new"
        with temporary.open("w") as file:
            json.dump(asdict(record), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(folder / _NAME)
