"""Images: there already, or fetched as the pull policy says.

https://kubernetes.io/docs/concepts/containers/images/#image-pull-policy

One thing is done otherwise than by the kubelet: with the policy ``Always``, an image that is on the
node is used when its registry cannot be reached. A gateway that is cut off would otherwise not
start again what it has; a warning event tells.
"""

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

import structlog

from fedge_cri import Credentials, RefusedError, Runtime, RuntimeFaultError
from fedge_edged.errors import ImageError
from fedge_edged.pods import Container, Pod
from fedge_edged.ports import Clock, Objects, Reporter
from fedge_edged.pull_secrets import credentials_for, credentials_in
from fedge_edged.restarts import Backoff
from fedge_objects import ObjectKey

log = structlog.stdlib.get_logger("fedge.edged")

_REFERENCE = re.compile(
    r"^[a-zA-Z0-9][a-zA-Z0-9._-]*(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
    r"(:[\w][\w.-]{0,127})?(@sha256:[0-9a-f]{64})?$"
)
TELL_FIRST_SECONDS = 30.0
TELL_MOST_SECONDS = 600.0
"""When it is told that a pull goes on: after 30 s, a minute, two, and so on up to ten."""


class Images:
    """All images of the node."""

    def __init__(
        self,
        *,
        runtime: Runtime,
        objects: Objects,
        reporter: Reporter,
        clock: Clock,
        parallel_pulls: int = 3,
    ) -> None:
        """Prepare; no more than ``parallel_pulls`` images are fetched at once."""
        self._runtime = runtime
        self._objects = objects
        self._reporter = reporter
        self._clock = clock
        self._present: dict[str, str] = {}
        self._backoff = Backoff()
        self._failed_at: dict[str, tuple[float, str]] = {}
        self._pulling: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._slots = asyncio.Semaphore(parallel_pulls)

    async def refresh(self) -> None:
        """Learn what is there."""
        self._present = {
            name: image.id
            for image in await self._runtime.list_images()
            for name in (*image.tags, *image.digests, image.id)
        }

    async def ensure(self, pod: Pod, container: Container) -> str:
        """Return the id of the container's image, fetching it if it has to be.

        Raises:
            ImageError: it cannot be had now; the reason is the kubelet's.
        """
        reference = container.image
        _check_reference(reference)
        policy = container.image_pull_policy or _default_policy(reference)
        present = await self._find(reference)
        if present and policy != "Always":
            self._say_present(pod, container)
            return present
        if policy == "Never":
            raise ImageError(
                "ErrImageNeverPull",
                f'Container image "{reference}" is not present with pull policy of Never',
            )
        async with self._pulling[reference]:
            if policy != "Always" and (pulled := await self._find(reference)):
                self._say_present(pod, container)  # another pod has just pulled it
                return pulled
            try:
                return await self._pull(pod, container, reference)
            except ImageError as exc:
                if not present:
                    raise
                self._event(
                    pod, container, "Warning", "PullFailed", f"{exc}; the image on the node is used"
                )
                return present

    async def fetch(self, reference: str, secrets: Iterable[ObjectKey] = ()) -> str:
        """Return the id of an image, fetching it ahead of any pod.

        One whose name may mean something newer (``:latest``) is asked for even if it is here.

        Args:
            reference: of the image.
            secrets: pull secrets of the node that may open its registry.

        Raises:
            ImageError: it cannot be had now.
        """
        _check_reference(reference)
        async with self._pulling[reference]:
            try:
                present = await self._find(reference)
                if present and _default_policy(reference) == "IfNotPresent":
                    return present
                found = credentials_in(secrets, normal_reference(reference), self._objects)
                async with self._slots:
                    image_id = await self._pull_with(found, reference)
            except RuntimeFaultError as exc:
                raise ImageError("ErrImagePull", str(exc)) from exc
            self._failed_at.pop(reference, None)
            self._backoff.forget(reference)
            self._present[normal_reference(reference)] = image_id
            return image_id

    def retry_in(self, container: Container) -> float:
        """Return after how many seconds a failed pull may be tried again."""
        failed = self._failed_at.get(container.image)
        if failed is None:
            return 0.0
        now = self._clock.now()
        return self._backoff.remaining(container.image, failed_at=failed[0], now=now)

    async def _find(self, reference: str) -> str | None:
        known = self._present.get(normal_reference(reference)) or self._present.get(reference)
        if known is not None:
            return known
        image = await self._runtime.find_image(reference)
        if image is None:
            return None
        self._present[normal_reference(reference)] = image.id
        return image.id

    async def _pull(self, pod: Pod, container: Container, reference: str) -> str:
        failed = self._failed_at.get(reference)
        now = self._clock.now()
        if failed and self._backoff.remaining(reference, failed_at=failed[0], now=now):
            self._event(
                pod, container, "Normal", "BackOff", f'Back-off pulling image "{reference}"'
            )
            raise ImageError(
                "ImagePullBackOff", f'Back-off pulling image "{reference}": {failed[1]}'
            )
        self._event(pod, container, "Normal", "Pulling", f'Pulling image "{reference}"')
        self._backoff.retried(reference, now)
        try:
            async with self._slots:
                started = self._clock.now()
                image_id = await self._told(pod, container, reference)
        except RuntimeFaultError as exc:
            self._failed_at[reference] = (self._clock.now(), str(exc))
            self._event(
                pod, container, "Warning", "Failed", f'Failed to pull image "{reference}": {exc}'
            )
            raise ImageError("ErrImagePull", str(exc)) from exc
        took, waited = self._clock.now() - started, self._clock.now() - now
        self._failed_at.pop(reference, None)
        self._backoff.forget(reference)
        self._present[normal_reference(reference)] = image_id
        self._event(
            pod,
            container,
            "Normal",
            "Pulled",
            f'Successfully pulled image "{reference}" in {took:.3f}s ({waited:.3f}s including '
            f"waiting).{await self._size(image_id)}",
        )
        return image_id

    async def _told(self, pod: Pod, container: Container, reference: str) -> str:
        """Pull, and tell every so often that it goes on: a slow line takes its time."""
        pulling = asyncio.create_task(self._pull_as(pod, reference), name=f"pull {reference}")
        began, wait = self._clock.now(), TELL_FIRST_SECONDS
        try:
            while True:
                done, _ = await asyncio.wait({pulling}, timeout=wait)
                if done:
                    return pulling.result()
                took = self._clock.now() - began
                self._event(
                    pod,
                    container,
                    "Normal",
                    "Pulling",
                    f'Still pulling image "{reference}" after {took:.0f}s',
                )
                wait = min(wait * 2, TELL_MOST_SECONDS)
        finally:
            pulling.cancel()

    async def _pull_as(self, pod: Pod, reference: str) -> str:
        """Pull with each of the pod's credentials in turn; without any if it has none."""
        found = credentials_for(pod, normal_reference(reference), self._objects)
        return await self._pull_with(found, reference)

    async def _pull_with(self, found: Sequence[Credentials], reference: str) -> str:
        for credentials in found[:-1]:
            try:
                return await self._runtime.pull_image(reference, credentials)
            except RefusedError as exc:
                log.info("pull_refused", image=reference, reason=str(exc))
        return await self._runtime.pull_image(reference, found[-1] if found else None)

    async def _size(self, image_id: str) -> str:
        try:
            image = await self._runtime.find_image(image_id)
        except RuntimeFaultError:
            return ""  # it was pulled all the same
        return f" Image size: {image.size_bytes} bytes." if image is not None else ""

    def _say_present(self, pod: Pod, container: Container) -> None:
        text = f'Container image "{container.image}" already present on machine'
        self._event(pod, container, "Normal", "Pulled", text)

    def _event(self, pod: Pod, container: Container, kind: str, reason: str, text: str) -> None:
        field = f"spec.containers{{{container.name}}}"
        self._reporter.event(pod, kind, reason, text, field=field)


def _check_reference(reference: str) -> None:
    if not _REFERENCE.match(reference):
        raise ImageError(
            "InvalidImageName",
            f'Failed to apply default image tag "{reference}": couldn\'t parse image name '
            f'"{reference}": invalid reference format',
        )


def _default_policy(reference: str) -> str:
    """Return ``Always`` for ``:latest`` or no tag, else ``IfNotPresent``."""
    name = reference.rsplit("/", 1)[-1]
    if "@" in name:
        return "IfNotPresent"
    return "Always" if ":" not in name or name.endswith(":latest") else "IfNotPresent"


def normal_reference(reference: str) -> str:
    """Return the full form: ``busybox`` is ``docker.io/library/busybox:latest``."""
    host, slash, rest = reference.partition("/")
    if not slash:
        full = f"docker.io/library/{reference}"
    elif "." in host or ":" in host or host == "localhost":
        full = reference
    else:
        full = f"docker.io/{host}/{rest}"
    name = full.rsplit("/", 1)[-1]
    return full if ":" in name or "@" in name else f"{full}:latest"
