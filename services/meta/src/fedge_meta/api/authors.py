"""Who a user is to the cloud, which believes a node only about its own pods.

https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/
"""

from fedge_apiserver.access import User
from fedge_apiserver.errors import ApiError
from fedge_apiserver.registry import Registry
from fedge_apiserver.resources import PODS
from fedge_fabric.writes import ACCOUNT, Author, node_author
from fedge_meta.api.accounts import POD_NAME, POD_UID
from fedge_objects import NodeName, ObjectKey

_ENDED = ("Succeeded", "Failed")


def author_of(user: User, registry: Registry, node: NodeName) -> Author:
    """Return a user as one who writes.

    Raises:
        ApiError: 403, the cloud would not believe that it is somebody on this node.
    """
    root = node_author(node)
    if user.name == root.user:
        return root
    namespace, _, account = user.name.removeprefix(f"{ACCOUNT}:").partition(":")
    if user.name.startswith(f"{ACCOUNT}:") and account:
        extra = dict(user.extra)
        if POD_NAME in extra and POD_UID in extra:
            about = ObjectKey(PODS.storage, namespace, extra[POD_NAME][0])
            return Author(account=(namespace, account), about=about, uid=extra[POD_UID][0])
        author = _of_account(namespace, account, registry)
        if author is not None:
            return author
    raise ApiError(
        403,
        "Forbidden",
        f'User "{user.name}" cannot write by way of node {node}: only a service account under'
        " which a pod of this node runs can, and whoever is root there",
    )


def still_there(author: Author, registry: Registry) -> Author:
    """Return an author whose pod is there: of another pod of the account, if its own is gone."""
    about = author.about
    if about.resource != PODS.storage:
        return author
    held = registry.read(PODS, about.namespace, about.name)
    if held is not None and held["metadata"]["uid"] == author.uid:
        return author
    return _of_account(*author.account, registry) or author


def _of_account(namespace: str, account: str, registry: Registry) -> Author | None:
    for pod in registry.objects(PODS, namespace):
        spec, status = pod.get("spec") or {}, pod.get("status") or {}
        is_alive = status.get("phase") not in _ENDED
        if is_alive and (spec.get("serviceAccountName") or "default") == account:
            about = ObjectKey(PODS.storage, namespace, pod["metadata"]["name"])
            return Author(account=(namespace, account), about=about, uid=pod["metadata"]["uid"])
    return None
