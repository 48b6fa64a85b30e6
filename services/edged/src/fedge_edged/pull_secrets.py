"""Which credentials a pod has for an image's registry.

https://kubernetes.io/docs/tasks/configure-pod-container/pull-image-private-registry/
https://kubernetes.io/docs/concepts/containers/images/#config-json
"""

import base64
import binascii
import json
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any

import structlog

from fedge_cri import Credentials
from fedge_edged.pods import Pod
from fedge_edged.ports import Objects
from fedge_objects import JsonObject, ObjectKey

log = structlog.stdlib.get_logger("fedge.edged")

_CONFIG_JSON = ".dockerconfigjson"
_CONFIG = ".dockercfg"
_DOCKER_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})


def credentials_for(pod: Pod, image: str, objects: Objects) -> list[Credentials]:
    """Return what may open the image's registry, in the order in which it is to be tried.

    The pod's own pull secrets come first, then those of its service account. A secret that is not
    there, or is none of this kind, is passed over, as the kubelet does: the pull says what is
    wrong.

    Args:
        pod: the image is for.
        image: its full name, registry included.
        objects: of the node.
    """
    return credentials_in(
        [
            ObjectKey("secrets", pod.metadata.namespace, name)
            for name in _secret_names(pod, objects)
        ],
        image,
        objects,
    )


def credentials_in(secrets: Iterable[ObjectKey], image: str, objects: Objects) -> list[Credentials]:
    """Return what in these secrets may open the image's registry, as ``credentials_for`` does."""
    found: list[Credentials] = []
    for key in secrets:
        secret = objects.get(key)
        if secret is None:
            log.info("pull_secret_missing", secret=str(key))
            continue
        try:
            auths = _auths_of(secret)
            # the longest path is the most particular one
            fitting = sorted((each for each in auths if matches(each, image)), key=len)
            found += [_credentials(auths[each]) for each in reversed(fitting)]
        except (ValueError, KeyError, AttributeError, TypeError) as exc:
            log.warning("pull_secret_unreadable", secret=str(key), reason=type(exc).__name__)
    return list(dict.fromkeys(found))


def matches(pattern: str, image: str) -> bool:
    """Whether an entry of a docker config is about an image.

    Each part of the host may be a glob, ports must be equal, and the path is a prefix.
    """
    host, _, path = _without_scheme(pattern).partition("/")
    image_host, _, image_path = image.partition("/")
    name, _, port = host.partition(":")
    image_name, _, image_port = image_host.partition(":")
    if name in _DOCKER_HUB and image_name in _DOCKER_HUB:
        return True
    labels, image_labels = name.split("."), image_name.split(".")
    if port != image_port or len(labels) != len(image_labels):
        return False
    if not all(map(fnmatchcase, image_labels, labels)):
        return False
    path = path.rstrip("/")
    if path in {"", "v1", "v2"}:
        return True
    return image_path == path or image_path.startswith((f"{path}/", f"{path}:", f"{path}@"))


def _secret_names(pod: Pod, objects: Objects) -> Iterator[str]:
    for reference in pod.spec.image_pull_secrets:
        yield reference.name
    key = ObjectKey("serviceaccounts", pod.metadata.namespace, pod.spec.service_account_name)
    account = objects.get(key) or {}
    for each in account.get("imagePullSecrets") or ():
        if each.get("name"):
            yield str(each["name"])


def _auths_of(secret: JsonObject) -> dict[str, Any]:
    data = secret.get("data") or {}
    try:
        if _CONFIG_JSON in data:
            auths = json.loads(base64.b64decode(data[_CONFIG_JSON])).get("auths") or {}
        elif _CONFIG in data:
            auths = json.loads(base64.b64decode(data[_CONFIG]))
        else:
            auths = {}
    except binascii.Error as exc:
        raise ValueError(str(exc)) from exc
    return dict(auths)


def _credentials(auth: JsonObject) -> Credentials:
    if auth.get("auth"):
        decoded = base64.b64decode(auth["auth"], validate=True).decode()
        user, colon, password = decoded.partition(":")
        if not colon:
            raise ValueError("auth is not a user and a password")
        return Credentials(username=user, password=password.rstrip("\0"))
    return Credentials(username=auth["username"], password=auth["password"])


def _without_scheme(pattern: str) -> str:
    return pattern.removeprefix("https://").removeprefix("http://")
