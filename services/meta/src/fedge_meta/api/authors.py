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
        for pod in registry.objects(PODS, namespace):
            spec, status = pod.get("spec") or {}, pod.get("status") or {}
            is_alive = status.get("phase") not in _ENDED
            if is_alive and (spec.get("serviceAccountName") or "default") == account:
                meta = pod["metadata"]
                about = ObjectKey(PODS.storage, namespace, meta["name"])
                return Author(account=(namespace, account), about=about, uid=meta["uid"])
    raise ApiError(
        403,
        "Forbidden",
        f'User "{user.name}" cannot write by way of node {node}: only a service account under'
        " which a pod of this node runs can, and whoever is root there",
    )
