"""The kinds of jobs, and how a third one is added: entry points ``fedge.controller.jobs``."""

import re
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, Final, Protocol

from fedge_controller.jobs.options import InvalidJobError, Options, confirmed_nodes, read_options
from fedge_kube import Resource
from fedge_objects import JsonObject
from fedge_operations import (
    CONFIG_UPDATE_JOB,
    IMAGE_PRE_PULL_JOB,
    JOB_GROUP,
    JOB_VERSION,
    MAX_IMAGES,
    NODE_UPGRADE_JOB,
    CheckItem,
    Pull,
    Update,
    Upgrade,
)

DEFAULT_EDGE_IMAGE: Final = "fedge/edge"
_MAX_RETRIES: Final = 100
_MAX_FIELDS: Final = 128
_DIGEST: Final = re.compile(r"^sha256:[0-9a-f]{64}$")
_TAG: Final = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")
_SECRET: Final = re.compile(r"^[a-z0-9][-a-z0-9]*/[a-z0-9][-a-z0-9.]*$")
_ARCHITECTURES: Final = ("amd64", "arm64")


class JobKind(Protocol):
    """One kind of job."""

    kind: str
    resource: Resource

    def options(self, job: JsonObject) -> Options:
        """Return how the job goes about it.

        Raises:
            InvalidJobError: the job cannot be done.
        """
        ...

    def work(self, job: JsonObject, node: str) -> Pull | Update | Upgrade:
        """Return what a node has to do.

        Raises:
            InvalidJobError: the job cannot be done.
        """
        ...

    def shown(self, task: JsonObject) -> JsonObject:
        """Return what the job's status shows of a node besides phase, reason and steps.

        Args:
            task: the status of the node's task; empty if it has none.
        """
        ...


class ImagePrePullJobs:
    """Fetches images ahead of the pods that will need them."""

    kind = IMAGE_PRE_PULL_JOB
    resource = Resource(JOB_GROUP, JOB_VERSION, "imageprepulljobs", namespaced=False)

    def options(self, job: JsonObject) -> Options:
        """See ``JobKind``."""
        return read_options(_template(job), _annotations(job), default_checks=(CheckItem.DISK,))

    def work(self, job: JsonObject, node: str) -> Pull:  # noqa: ARG002 - all nodes' is the same
        """See ``JobKind``."""
        template = _template(job)
        images = tuple(dict.fromkeys(template.get("images") or ()))
        if not images or len(images) > MAX_IMAGES:
            raise InvalidJobError(
                f"imagePrePullTemplate.images has {len(images)}: name 1 to {MAX_IMAGES} images"
            )
        secret = template.get("imageSecrets") or ""
        if secret and not _SECRET.match(secret):
            raise InvalidJobError(
                f"imagePrePullTemplate.imageSecrets is {secret!r}: write namespace/name"
            )
        retries = int(template.get("retryTimes") or 0)
        if not 0 <= retries <= _MAX_RETRIES:
            raise InvalidJobError(
                f"imagePrePullTemplate.retryTimes is {retries}: set 0 to {_MAX_RETRIES}"
            )
        return Pull(images=images, retry_times=retries, secret=secret)

    def shown(self, task: JsonObject) -> JsonObject:
        """See ``JobKind``."""
        images = task.get("images")
        return {"imageStatus": images} if images else {}


class ConfigUpdateJobs:
    """Changes settings of the services on nodes."""

    kind = CONFIG_UPDATE_JOB
    resource = Resource(JOB_GROUP, JOB_VERSION, "configupdatejobs", namespaced=False)

    def options(self, job: JsonObject) -> Options:
        """See ``JobKind``."""
        return read_options(job.get("spec") or {}, _annotations(job))

    def work(self, job: JsonObject, node: str) -> Update:  # noqa: ARG002 - all nodes' is the same
        """See ``JobKind``."""
        updated = (job.get("spec") or {}).get("updateFields") or {}
        if not updated or len(updated) > _MAX_FIELDS:
            raise InvalidJobError(
                f"updateFields has {len(updated)}: name 1 to {_MAX_FIELDS} settings"
            )
        return Update(fields=dict(updated))

    def shown(self, task: JsonObject) -> JsonObject:  # noqa: ARG002 - there is nothing more
        """See ``JobKind``."""
        return {}


class NodeUpgradeJobs:
    """Brings nodes to another version of fedge."""

    kind = NODE_UPGRADE_JOB
    resource = Resource(JOB_GROUP, JOB_VERSION, "nodeupgradejobs", namespaced=False)

    def options(self, job: JsonObject) -> Options:
        """See ``JobKind``."""
        return read_options(job.get("spec") or {}, _annotations(job))

    def work(self, job: JsonObject, node: str) -> Upgrade:
        """See ``JobKind``."""
        spec = job.get("spec") or {}
        version = str(spec.get("version") or "")
        if not _TAG.match(version):
            raise InvalidJobError(f"version is {version!r}: name the version to upgrade to")
        confirmed = confirmed_nodes(_annotations(job))
        return Upgrade(
            version=version,
            image=_repository(str(spec.get("image") or DEFAULT_EDGE_IMAGE)),
            digests=_digests(spec.get("imageDigestGatter") or {}),
            require_confirmation=bool(spec.get("requireConfirmation")),
            confirmed=bool(confirmed & {node, "*"}),
        )

    def shown(self, task: JsonObject) -> JsonObject:
        """See ``JobKind``."""
        names = ("currentVersion", "historicVersion")
        return {name: task[name] for name in names if task.get(name)}


def load_kinds() -> list[JobKind]:
    """Return the installed kinds of jobs."""
    return [entry.load()() for entry in entry_points(group="fedge.controller.jobs")]


def _template(job: JsonObject) -> Mapping[str, Any]:
    template: Mapping[str, Any] = (job.get("spec") or {}).get("imagePrePullTemplate") or {}
    return template


def _annotations(job: JsonObject) -> Mapping[str, str]:
    annotations: Mapping[str, str] = job["metadata"].get("annotations") or {}
    return annotations


def _repository(image: str) -> str:
    """Return an image's repository: its tag or digest gives way to the version, as in KubeEdge."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def _digests(getter: Mapping[str, Any]) -> dict[str, str]:
    if getter.get("registryAPI"):
        raise InvalidJobError(
            "imageDigestGatter.registryAPI: the registry is asked by the node itself; name the"
            " digests in imageDigestGatter.amd64 and .arm64 instead"
        )
    digests = {name: str(getter[name]) for name in _ARCHITECTURES if getter.get(name)}
    for name, digest in digests.items():
        if not _DIGEST.match(digest):
            raise InvalidJobError(
                f"imageDigestGatter.{name} is {digest!r}: write sha256: and 64 hexadecimal digits"
            )
    return digests
