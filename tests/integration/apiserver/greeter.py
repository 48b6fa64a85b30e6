"""A small operator written with kopf, as a user would write one: greetings become config maps."""

from typing import Any

import kopf

GROUP, VERSION, PLURAL = "example.com", "v1", "greetings"


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    """Tell no events; wait little between tries."""
    settings.posting.enabled = False
    settings.networking.error_backoffs = [0.2] * 50


@kopf.on.create(GROUP, VERSION, PLURAL)
@kopf.on.update(GROUP, VERSION, PLURAL)
def greet(spec: kopf.Spec, name: str | None, namespace: str | None, **_: Any) -> dict[str, str]:
    """Write the config map, and say in the greeting's status what it says."""
    import os  # noqa: PLC0415

    from kubernetes import client, config  # noqa: PLC0415 - in the operator's process only

    config.load_kube_config(os.environ["KUBECONFIG"])  # type: ignore[no-untyped-call]  # theirs
    text = f"Hello, {spec['name']}!"
    body: Any = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {"text": text},
    }
    kopf.adopt(body)
    core = client.CoreV1Api()
    try:
        core.create_namespaced_config_map(str(namespace), body)
    except client.ApiException as exc:
        if exc.status != 409:
            raise
        core.patch_namespaced_config_map(str(name), str(namespace), {"data": {"text": text}})
    return {"text": text}


@kopf.on.delete(GROUP, VERSION, PLURAL)
def farewell(**_: Any) -> None:
    """Be asked before the greeting goes: kopf puts a finalizer for this."""
