"""Images: there already, or fetched as the pull policy says.

https://kubernetes.io/docs/concepts/containers/images/#image-pull-policy

One thing is done otherwise than by the kubelet: with the policy ``Always``, an image that is on the
node is used when its registry cannot be reached. A gateway that is cut off would otherwise not
start again what it has; a warning event tells.
"""

import asyncio
import base64
import json
import re
from collections import defaultdict

import structlog

from fedge_cri import Credentials, RefusedError, Runtime, RuntimeFaultError
from fedge_edged.errors import ImageError
from fedge_edged.pods import Container, Pod
from fedge_edged.ports import Clock, Objects, Reporter
from fedge_edged.restarts import Backoff
from fedge_objects import ObjectKey

log = structlog.stdlib.get_logger("fedge.edged")

_REFERENCE = re.compile(
    r"^[a-zA-Z0-9][a-zA-Z0-9._-]*(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
    r"(:[\w][\w.-]{0,127})?(@sha256:[0-9a-f]{64})?$"
)
_PARALLEL_PULLS = 3


class Images:
    """All images of the node."""

    def __init__(
        self, *, runtime: Runtime, objects: Objects, reporter: Reporter, clock: Clock
    ) -> None:
        self._runtime = runtime
        self._objects = objects
        self._reporter = reporter
        self._clock = clock
        self._present: dict[str, str] = {}
        self._backoff = Backoff()
        self._failed_at: dict[str, tuple[float, str]] = {}
        self._pulling: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._slots = asyncio.Semaphore(_PARALLEL_PULLS)

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
        if not _REFERENCE.match(reference):
            raise ImageError(
                "InvalidImageName",
                f'Failed to apply default image tag "{reference}": couldn\'t parse image name '
                f'"{reference}": invalid reference format',
            )
        policy = container.image_pull_policy or _default_policy(reference)
        present = await self._find(reference)
        if present and policy != "Always":
            self._event(
                pod,
                container,
                "Normal",
                "Pulled",
                f'Container image "{reference}" already present on machine',
            )
            return present
        if policy == "Never":
            raise ImageError(
                "ErrImageNeverPull",
                f'Container image "{reference}" is not present with pull policy of Never',
            )
        async with self._pulling[reference]:
            try:
                return await self._pull(pod, container, reference)
            except ImageError as exc:
                if not present:
                    raise
                self._event(
                    pod, container, "Warning", "PullFailed", f"{exc}; the image on the node is used"
                )
                return present

    def retry_in(self, container: Container) -> float:
        """Return after how many seconds a failed pull may be tried again."""
        failed = self._failed_at.get(container.image)
        if failed is None:
            return 0.0
        now = self._clock.now()
        return self._backoff.remaining(container.image, failed_at=failed[0], now=now)

    async def _find(self, reference: str) -> str | None:
        known = self._present.get(_normal(reference)) or self._present.get(reference)
        if known is not None:
            return known
        image = await self._runtime.find_image(reference)
        if image is None:
            return None
        self._present[_normal(reference)] = image.id
        return image.id

    async def _pull(self, pod: Pod, container: Container, reference: str) -> str:
        now = self._clock.now()
        failed = self._failed_at.get(reference)
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
                image_id = await self._runtime.pull_image(
                    reference, self._credentials(pod, reference)
                )
        except RuntimeFaultError as exc:
            self._failed_at[reference] = (self._clock.now(), str(exc))
            self._event(
                pod, container, "Warning", "Failed", f'Failed to pull image "{reference}": {exc}'
            )
            raise ImageError("ErrImagePull", str(exc)) from exc
        took = self._clock.now() - now
        self._failed_at.pop(reference, None)
        self._backoff.forget(reference)
        self._present[_normal(reference)] = image_id
        self._event(
            pod,
            container,
            "Normal",
            "Pulled",
            f'Successfully pulled image "{reference}" in {took:.3f}s',
        )
        return image_id

    def _credentials(self, pod: Pod, reference: str) -> Credentials | None:
        """Return what the pod's pull secrets say about the image's registry.

        https://kubernetes.io/docs/tasks/configure-pod-container/pull-image-private-registry/
        """
        registry = _normal(reference).split("/", 1)[0]
        for secret in pod.spec.image_pull_secrets:
            obj = self._objects.get(ObjectKey("secrets", pod.metadata.namespace, secret.name))
            encoded = ((obj or {}).get("data") or {}).get(".dockerconfigjson")
            if not encoded:
                continue
            try:
                auths = json.loads(base64.b64decode(encoded)).get("auths", {})
                for host, auth in auths.items():
                    if host.removeprefix("https://").split("/", 1)[0] != registry:
                        continue
                    if auth.get("auth"):
                        user, _, password = base64.b64decode(auth["auth"]).decode().partition(":")
                    else:
                        user, password = auth["username"], auth["password"]
                    return Credentials(username=user, password=password)
            except (ValueError, KeyError, AttributeError) as exc:
                raise RefusedError(
                    f'secret "{secret.name}" is no docker config: {type(exc).__name__}'
                ) from exc
        return None

    def _event(self, pod: Pod, container: Container, kind: str, reason: str, text: str) -> None:
        field = f"spec.containers{{{container.name}}}"
        self._reporter.event(pod, kind, reason, text, field=field)


def _default_policy(reference: str) -> str:
    """Return ``Always`` for ``:latest`` or no tag, else ``IfNotPresent``."""
    name = reference.rsplit("/", 1)[-1]
    if "@" in name:
        return "IfNotPresent"
    return "Always" if ":" not in name or name.endswith(":latest") else "IfNotPresent"


def _normal(reference: str) -> str:
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
