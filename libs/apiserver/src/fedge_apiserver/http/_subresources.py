"""What is asked of a part of an object: its node, its number of replicas, that it goes.

https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

import asyncio
from typing import Any

from fedge_apiserver.decoding import decode_json, decode_object, media_type
from fedge_apiserver.disruption import budget_status, covers
from fedge_apiserver.errors import (
    Causes,
    bad_request,
    internal,
    invalid,
    no_such_path,
    too_many_requests,
    unsupported_media_type,
)
from fedge_apiserver.http._messages import Request
from fedge_apiserver.http._writing import (
    JSON_PATCH,
    MERGE_PATCH,
    STRATEGIC_PATCH,
    is_trial,
    refused_patch,
)
from fedge_apiserver.patching import PatchError, apply_operations, merge
from fedge_apiserver.registry import Registry, parse_delete_options
from fedge_apiserver.resources import DISRUPTION_BUDGETS, PODS, REPLICAS, Resource
from fedge_apiserver.scaling import scale_of, scaled
from fedge_apiserver.store import decode
from fedge_objects import JsonObject


class Subresources:
    """Binding, scale and eviction."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._evicting = asyncio.Lock()
        """Each eviction must see what the one before it did to the budget."""

    async def bind(self, request: Request, namespace: str, name: str) -> None:
        """Give a pod to the node that the Binding in the body names."""
        body = await request.body()
        value, _ = decode_object(body, request.header(b"content-type"), "Binding")
        target: Any = value.get("target")
        node = target.get("name") if isinstance(target, dict) else None
        meta = value.get("metadata")
        meta = meta if isinstance(meta, dict) else {}
        pod = name or str(meta.get("name") or "")
        if not node or not pod:
            causes = Causes()
            causes.required("target.name")
            raise invalid(_Binding, pod, causes)
        if self._registry.store.get(PODS.storage, namespace, pod) is None and not name:
            raise no_such_path()
        await self._registry.bind(namespace, pod, str(node), uid=meta.get("uid"))
        await request.answer_json(
            {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}, code=201
        )

    async def scale(self, request: Request, resource: Resource, namespace: str, name: str) -> None:
        """Show, or change, how many replicas an object wants."""
        paths = resource.scale or REPLICAS
        if request.method in ("GET", "HEAD"):
            held = decode(self._registry.get(resource, namespace, name).body)
            await request.answer_json(scale_of(held, paths))
            return
        body = await request.body()
        kind = media_type(request.header(b"content-type"))

        def change(held: JsonObject) -> JsonObject:
            if request.method == "PUT":
                given, _ = decode_object(body, kind, "Scale", "Scale")
                return scaled(held, given, paths)
            try:
                patch = decode_json(body)
                view = scale_of(held, paths)
                if kind == JSON_PATCH:
                    changed = apply_operations(view, patch)
                elif kind in (MERGE_PATCH, STRATEGIC_PATCH):
                    changed = merge(view, patch)
                else:
                    raise unsupported_media_type([JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH])
            except PatchError as exc:
                raise refused_patch(kind, str(exc)) from exc
            except ValueError as exc:
                raise bad_request(f"error decoding patch: {exc}") from exc
            if not isinstance(changed, dict):
                raise bad_request("the patch does not lead to an object")
            return scaled(held, changed, paths)

        outcome = await self._registry.update(
            resource, namespace, name, change, dry_run=is_trial(request)
        )
        await request.answer_json(scale_of(outcome.value, paths))

    async def evict(self, request: Request, namespace: str, name: str) -> None:
        """Delete a pod, if the budgets that are about it let it go.

        https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/
        """
        content_type = request.header(b"content-type")
        value, _ = decode_object(await request.body(), content_type, "Eviction", "Eviction")
        meta = value.get("metadata") or {}
        if isinstance(meta, dict) and meta.get("name", name) != name:
            raise bad_request(f"name in URL does not match name in Eviction object: {name}")
        try:
            options, trial = parse_delete_options(value.get("deleteOptions") or {}, request.query)
        except ValueError as exc:
            raise bad_request(f"DeleteOptions cannot be handled: {exc}") from exc
        async with self._evicting:
            pod = decode(self._registry.get(PODS, namespace, name).body)
            self._check_budgets(pod)
            await self._registry.delete(PODS, namespace, name, options, dry_run=trial)
        await request.answer_json(
            {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}, code=201
        )

    def _check_budgets(self, pod: JsonObject) -> None:
        meta = pod["metadata"]
        phase = (pod.get("status") or {}).get("phase")
        if meta.get("deletionTimestamp") or phase in ("Succeeded", "Failed", "Pending"):
            return
        namespace = meta["namespace"]
        registry = self._registry
        budgets = [b for b in registry.objects(DISRUPTION_BUDGETS, namespace) if covers(b, pod)]
        if not budgets:
            return
        if len(budgets) > 1:
            raise internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource "
                "does not support."
            )
        [budget] = budgets
        status = budget_status(budget, registry.objects(PODS, namespace))
        if not status["disruptionsAllowed"]:
            raise too_many_requests(
                "Cannot evict pod as it would violate the pod's disruption budget.",
                cause="DisruptionBudget",
                text=f"The disruption budget {budget['metadata']['name']} needs "
                f"{status['desiredHealthy']} healthy pods and has {status['currentHealthy']} "
                "currently",
            )


class _Binding:
    """Names a Binding in messages."""

    group = ""
    plural = "bindings"
    kind = "Binding"
