"""A job's part on one node: the object ``NodeTask`` of ``operations.fedge.io/v1alpha1``."""

import hashlib
from typing import Any, Final

import msgspec

from fedge_objects import JsonObject
from fedge_operations._kinds import CheckItem, TaskPhase

_MAX_NAME: Final = 253
_MAX_SECONDS: Final = 7 * 86400


class Pull(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Images to be fetched.

    Attributes:
        images: their references.
        retry_times: how often one that failed is tried again.
        secret: ``namespace/name`` of a pull secret; empty for none.
    """

    images: tuple[str, ...]
    retry_times: int = 0
    secret: str = ""


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """Settings to be changed: KubeEdge's path or our variable, and the value as text."""

    fields: dict[str, str]


class Upgrade(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """The version of the edge that is wanted.

    Attributes:
        version: its tag.
        image: repository, without tag; empty where it was sent as a file.
        digests: ``sha256:...`` by architecture as Go names it; with one, nothing else is run.
        require_confirmation: whether somebody has to agree when everything is checked.
        confirmed: whether somebody has.
    """

    version: str
    image: str = ""
    digests: dict[str, str] = {}
    require_confirmation: bool = False
    confirmed: bool = False


class _Job(msgspec.Struct, frozen=True, kw_only=True):
    kind: str
    name: str


class _Spec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    node_name: str
    job: _Job
    timeout_seconds: int
    check_items: tuple[CheckItem, ...] = ()
    pull: Pull | None = None
    update: Update | None = None
    upgrade: Upgrade | None = None


class _Status(msgspec.Struct, frozen=True, kw_only=True):
    phase: TaskPhase | None = None


class _Metadata(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    uid: str


class _NodeTask(msgspec.Struct, frozen=True, kw_only=True):
    metadata: _Metadata
    spec: _Spec
    status: _Status = _Status()


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What one node has to do.

    Attributes:
        name: of the NodeTask.
        uid: its uid; a new job of the same name is another task.
        node: whose it is.
        job: kind and name of the job, for people.
        timeout_seconds: how long it may take, by the node's clock, from its begin.
        check_items: what is looked at first.
        work: what is to be done.
        is_over: whether the cloud awaits nothing more of it: it is not to be begun any more.
        is_told: whether the cloud knows how it ended.
    """

    name: str
    uid: str
    node: str
    job: str
    timeout_seconds: int
    check_items: tuple[CheckItem, ...]
    work: Pull | Update | Upgrade
    is_over: bool = False
    is_told: bool = False


def read_task(obj: Any) -> Task:
    """Read a NodeTask as a node is given it.

    Raises:
        ValueError: it is none; the text names the field.
    """
    read = msgspec.convert(obj, _NodeTask)
    spec = read.spec
    works = [each for each in (spec.pull, spec.update, spec.upgrade) if each is not None]
    if len(works) != 1:
        raise ValueError(
            "spec has to hold exactly one of pull, update and upgrade: a newer fedge may know more"
            " of them, upgrade this node first"
        )
    if not 0 < spec.timeout_seconds <= _MAX_SECONDS:
        raise ValueError(f"spec.timeoutSeconds is {spec.timeout_seconds}: 1 to {_MAX_SECONDS}")
    return Task(
        name=read.metadata.name,
        uid=read.metadata.uid,
        node=spec.node_name,
        job=f"{spec.job.kind}/{spec.job.name}",
        timeout_seconds=spec.timeout_seconds,
        check_items=spec.check_items,
        work=works[0],
        is_over=read.status.phase is not None and read.status.phase.is_over,
        is_told=read.status.phase is not None and read.status.phase.is_told,
    )


def task_name(kind: str, job: str, node: str) -> str:
    """Return the name of a job's task on a node, the same whenever it is asked for."""
    name = f"{kind.lower()}.{job}.{node}"
    if len(name) <= _MAX_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{kind.lower()}.{digest}"


def as_spec(work: Pull | Update | Upgrade) -> JsonObject:
    """Return the part of a NodeTask's spec that says what is to be done."""
    name = {Pull: "pull", Update: "update", Upgrade: "upgrade"}[type(work)]
    return {name: msgspec.to_builtins(work)}
