"""The token, the authorities and the namespace that a pod's containers reach the API with.

As the admission plugin ServiceAccount of a cluster does, with one difference: a pod of the account
``default`` gets them only if it or the account asks (``automountServiceAccountToken: true``). Most
such pods never speak to the API, and each would wait for a token before its first start.

https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#serviceaccount-admission-controller
"""

import secrets
from typing import Any, Final

from fedge_objects import JsonObject

PATH: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
_TOKEN_SECONDS: Final = 3607


def add_account_access(pod: JsonObject, account: JsonObject | None) -> JsonObject:
    """Return a new pod with the volume and its mounts, or as it is if it is to have none.

    Args:
        pod: as it was sent; its fields have the types of a pod's.
        account: its service account; None: there is none.
    """
    spec: dict[str, Any] = pod.get("spec") or {}
    if not _is_wanted(spec, account or {}):
        return pod
    name = f"kube-api-access-{''.join(secrets.choice(_LETTERS) for _ in range(5))}"
    mount = {"name": name, "readOnly": True, "mountPath": PATH}
    changed = dict(spec)
    for field in ("containers", "initContainers"):
        if field in spec:
            changed[field] = [_with_mount(each, mount) for each in spec[field] or ()]
    if changed == spec:
        return pod
    changed["volumes"] = [*(spec.get("volumes") or ()), _volume(name)]
    return {**pod, "spec": changed}


def _is_wanted(spec: dict[str, Any], account: JsonObject) -> bool:
    for asked in (
        spec.get("automountServiceAccountToken"),
        account.get("automountServiceAccountToken"),
    ):
        if asked is not None:
            return bool(asked)
    return (spec.get("serviceAccountName") or "default") != "default"


def _with_mount(container: Any, mount: dict[str, Any]) -> Any:
    mounts = container.get("volumeMounts") or []
    if any(each.get("mountPath") == PATH for each in mounts):
        return container
    return {**container, "volumeMounts": [*mounts, mount]}


def _volume(name: str) -> dict[str, Any]:
    namespace = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    return {
        "name": name,
        "projected": {
            "defaultMode": 420,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": _TOKEN_SECONDS, "path": "token"}},
                {
                    "configMap": {
                        "name": "kube-root-ca.crt",
                        "items": [{"key": "ca.crt", "path": "ca.crt"}],
                        # this API publishes none: the edge adds its own API's authority
                        "optional": True,
                    }
                },
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": namespace}]}},
            ],
        },
    }
