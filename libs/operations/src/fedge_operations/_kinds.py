"""The kinds of ``operations.kubeedge.io/v1alpha2``, and the words that their statuses are made of.

https://pkg.go.dev/github.com/kubeedge/api/apis/operations/v1alpha2
"""

from enum import StrEnum
from typing import Final

JOB_GROUP: Final = "operations.kubeedge.io"
JOB_VERSION: Final = "v1alpha2"
IMAGE_PRE_PULL_JOB: Final = "ImagePrePullJob"
CONFIG_UPDATE_JOB: Final = "ConfigUpdateJob"
NODE_UPGRADE_JOB: Final = "NodeUpgradeJob"

GROUP: Final = "operations.fedge.io"
VERSION: Final = "v1alpha1"
NODE_TASKS: Final = "nodetasks.operations.fedge.io"
"""A job's part on one node: an object of its own, so that a thousand nodes' reports are not a
thousand writes of one large object."""


class JobPhase(StrEnum):
    """How far a job is."""

    INIT = "Init"
    IN_PROGRESS = "InProgress"
    COMPLETED = "Completed"
    FAILURE = "Failure"

    @property
    def is_final(self) -> bool:
        """Whether it stays so."""
        return self in {JobPhase.COMPLETED, JobPhase.FAILURE}


class TaskPhase(StrEnum):
    """How far a job is on one node."""

    PENDING = "Pending"
    IN_PROGRESS = "InProgress"
    SUCCESSFUL = "Successful"
    FAILURE = "Failure"
    UNKNOWN = "Unknown"
    """The node said nothing in time. Should it still say something, that counts."""

    @property
    def is_told(self) -> bool:
        """Whether the node has told the end."""
        return self in {TaskPhase.SUCCESSFUL, TaskPhase.FAILURE}

    @property
    def is_over(self) -> bool:
        """Whether nothing more is awaited."""
        return self.is_told or self is TaskPhase.UNKNOWN


class Action(StrEnum):
    """A step of a task."""

    CHECK = "Check"
    PULL = "Pull"
    WAITING_CONFIRMATION = "WaitingConfirmation"
    BACK_UP = "BackUp"
    UPDATE = "Update"
    UPGRADE = "Upgrade"
    ROLL_BACK = "RollBack"


class Outcome(StrEnum):
    """Of a step or of an image: Kubernetes' ``ConditionStatus``."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class CheckItem(StrEnum):
    """What is looked at before a node begins."""

    CPU = "cpu"
    MEM = "mem"
    DISK = "disk"
