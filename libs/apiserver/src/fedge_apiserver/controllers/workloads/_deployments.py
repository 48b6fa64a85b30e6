"""Brings pods from one template to the next, by ReplicaSets of which one is the newest.

https://kubernetes.io/docs/concepts/workloads/controllers/deployment/
"""

from datetime import datetime
from typing import Any, Final

from fedge_apiserver.controllers.workloads._amounts import share, template_hash
from fedge_apiserver.controllers.workloads._loop import Loop, condition, owner_reference
from fedge_apiserver.objects import timestamp
from fedge_apiserver.registry import Registry
from fedge_apiserver.resources import DEPLOYMENTS, REPLICA_SETS
from fedge_objects import JsonObject

HASH: Final = "pod-template-hash"
REVISION: Final = "deployment.kubernetes.io/revision"
_DESIRED: Final = "deployment.kubernetes.io/desired-replicas"
_MOST: Final = "deployment.kubernetes.io/max-replicas"
_NOT_INHERITED: Final = (REVISION, "kubectl.kubernetes.io/last-applied-configuration")


class Deployments(Loop):
    """Follows Deployments and their ReplicaSets."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(registry, DEPLOYMENTS, REPLICA_SETS, "deployment-controller")

    async def settle(self, value: JsonObject) -> float | None:
        """Take the next step of a rollout, or of a change of size."""
        spec = value["spec"]
        sets = sorted(self.owned.of(value["metadata"]["uid"]), key=_revision)
        newest = next((each for each in sets if _is_of(each, spec["template"])), None)
        old = [each for each in sets if each is not newest]
        if spec.get("paused"):
            await self._resize(value, newest, old)
            return await self._tell(value)
        newest = await self._newest(value, newest, old)
        if spec["strategy"]["type"] == "Recreate":
            await self._recreate(value, newest, old)
        else:
            await self._roll(value, newest, old)
        await self._forget(value, old)
        return await self._tell(value)

    async def _newest(
        self, value: JsonObject, newest: JsonObject | None, old: list[JsonObject]
    ) -> JsonObject:
        """Return the ReplicaSet of the present template, made or marked as the last revision."""
        meta, spec = value["metadata"], value["spec"]
        highest = max((_revision(each) for each in old), default=0)
        if newest is None:
            revision = highest + 1
            newest = await self._make_set(value, revision, 0)
        elif (revision := _revision(newest)) <= highest:
            revision = highest + 1
            newest = await self._annotate(REPLICA_SETS, newest, {REVISION: str(revision)})
        wanted = {
            _DESIRED: str(spec["replicas"]),
            _MOST: str(spec["replicas"] + _surge(spec)),
        }
        held = newest["metadata"].get("annotations") or {}
        if any(held.get(key) != text for key, text in wanted.items()):
            newest = await self._annotate(REPLICA_SETS, newest, wanted)
        if (meta.get("annotations") or {}).get(REVISION) != str(revision):
            await self._annotate(DEPLOYMENTS, value, {REVISION: str(revision)})
        return newest

    async def _make_set(self, value: JsonObject, revision: int, replicas: int) -> JsonObject:
        meta, spec = value["metadata"], value["spec"]
        template = spec["template"]
        mark = template_hash(template)
        labels = {**(template["metadata"].get("labels") or {}), HASH: mark}
        inherited = {
            key: text
            for key, text in (meta.get("annotations") or {}).items()
            if key not in _NOT_INHERITED
        }
        selector = dict(spec["selector"])
        selector["matchLabels"] = {**(selector.get("matchLabels") or {}), HASH: mark}
        made: JsonObject = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": f"{meta['name']}-{mark}",
                "namespace": meta["namespace"],
                "labels": labels,
                "annotations": {**inherited, REVISION: str(revision)},
                "ownerReferences": [owner_reference(value)],
            },
            "spec": {
                "replicas": replicas,
                "selector": selector,
                "template": {
                    **template,
                    "metadata": {**template["metadata"], "labels": labels},
                },
            },
        }
        if "minReadySeconds" in spec:
            made["spec"]["minReadySeconds"] = spec["minReadySeconds"]
        outcome = await self.registry.create(REPLICA_SETS, meta["namespace"], made)
        return outcome.value

    async def _annotate(
        self, resource: Any, value: JsonObject, annotations: dict[str, str]
    ) -> JsonObject:
        meta = value["metadata"]

        def change(old: JsonObject) -> JsonObject:
            held = old["metadata"]
            merged = {**(held.get("annotations") or {}), **annotations}
            return {**old, "metadata": {**held, "annotations": merged}}

        outcome = await self.registry.update(resource, meta["namespace"], meta["name"], change)
        return outcome.value

    async def _recreate(self, value: JsonObject, newest: JsonObject, old: list[JsonObject]) -> None:
        for each in old:
            await self._scale(value, each, 0)
        if not any(_count(each, "replicas") for each in old):
            await self._scale(value, newest, value["spec"]["replicas"])

    async def _roll(self, value: JsonObject, newest: JsonObject, old: list[JsonObject]) -> None:
        """Scale the newest up and the others down, as far as the strategy lets it."""
        spec = value["spec"]
        wanted, surge = spec["replicas"], _surge(spec)
        sizes = {each["metadata"]["name"]: each["spec"]["replicas"] for each in (newest, *old)}
        total = sum(sizes.values())
        have = sizes[newest["metadata"]["name"]]
        if have > wanted:
            await self._scale(value, newest, wanted)
        elif have < wanted:
            more = min(wanted - have, max(0, wanted + surge - total))
            if more:
                await self._scale(value, newest, have + more)
                have += more
        if not any(each["spec"]["replicas"] for each in old):
            return
        unavailable = share(
            spec["strategy"]["rollingUpdate"].get("maxUnavailable"), wanted, up=False
        )
        if not unavailable and not surge:
            unavailable = 1
        least = wanted - min(unavailable, wanted)
        pending = max(0, have - _count(newest, "availableReplicas"))
        may_go = sum(each["spec"]["replicas"] for each in old) + have - least - pending
        available = _count(newest, "availableReplicas")
        # Pods that do nothing for anybody go first, then the oldest templates'.
        for each in old:
            idle = each["spec"]["replicas"] - _count(each, "availableReplicas")
            gone = min(idle, max(0, may_go))
            if gone > 0:
                await self._scale(value, each, each["spec"]["replicas"] - gone)
                each["spec"]["replicas"] -= gone
                may_go -= gone
            available += min(each["spec"]["replicas"], _count(each, "availableReplicas"))
        spare = min(may_go, available - least)
        for each in old:
            gone = min(each["spec"]["replicas"], max(0, spare))
            if gone > 0:
                await self._scale(value, each, each["spec"]["replicas"] - gone)
                spare -= gone

    async def _resize(
        self, value: JsonObject, newest: JsonObject | None, old: list[JsonObject]
    ) -> None:
        """Give a paused rollout the size that is wanted: the last set that has pods grows."""
        with_pods = [
            each for each in (*old, *([newest] if newest else ())) if each["spec"]["replicas"]
        ]
        if len(with_pods) == 1:
            await self._scale(value, with_pods[0], value["spec"]["replicas"])

    async def _scale(self, value: JsonObject, target: JsonObject, replicas: int) -> None:
        held = target["spec"]["replicas"]
        if held == replicas:
            return
        meta = target["metadata"]
        await self.registry.update(
            REPLICA_SETS,
            meta["namespace"],
            meta["name"],
            lambda old: {**old, "spec": {**old["spec"], "replicas": replicas}},
        )
        way = "up" if replicas > held else "down"
        await self.recorder.record(
            value,
            "Normal",
            "ScalingReplicaSet",
            f"Scaled {way} replica set {meta['name']} from {held} to {replicas}",
        )

    async def _forget(self, value: JsonObject, old: list[JsonObject]) -> None:
        """Delete the sets of long ago that have no pods."""
        spare = [
            each for each in old if not each["spec"]["replicas"] and not _count(each, "replicas")
        ]
        surplus = len(spare) - value["spec"]["revisionHistoryLimit"]
        for each in spare[: max(0, surplus)]:
            await self.remove(REPLICA_SETS, each)

    async def _tell(self, value: JsonObject) -> float | None:
        """Write the status; return when the rollout's deadline is."""
        meta = value["metadata"]
        value = self.registry.read(DEPLOYMENTS, meta["namespace"], meta["name"]) or value
        spec = value["spec"]
        sets = self.owned.of(meta["uid"])
        newest = next((each for each in sets if _is_of(each, spec["template"])), None)
        total, ready, available = (
            sum(_count(each, field) for each in sets)
            for field in ("replicas", "readyReplicas", "availableReplicas")
        )
        updated = _count(newest, "replicas") if newest is not None else 0
        wanted = spec["replicas"]
        numbers = {
            "replicas": total,
            "updatedReplicas": updated,
            "readyReplicas": ready,
            "availableReplicas": available,
            "unavailableReplicas": max(0, max(total, wanted) - available),
        }
        status: JsonObject = {key: number for key, number in numbers.items() if number}
        status["observedGeneration"] = value["metadata"]["generation"]
        now = self.registry.now()
        unavailable = 0
        if spec["strategy"]["type"] == "RollingUpdate":
            unavailable = share(
                spec["strategy"]["rollingUpdate"].get("maxUnavailable"), wanted, up=False
            )
        enough = available >= wanted - unavailable
        is_done = updated == wanted == total == available
        progress, later = _progress(value, numbers, newest, now, is_done=is_done)
        status["conditions"] = [
            _condition(
                value,
                now,
                "Available",
                is_true=enough,
                reason="MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
                message="Deployment has minimum availability."
                if enough
                else "Deployment does not have minimum availability.",
            ),
            progress,
        ]
        await self.write_status(value, status)
        return later


def _progress(
    value: JsonObject,
    numbers: dict[str, int],
    newest: JsonObject | None,
    now: datetime,
    *,
    is_done: bool,
) -> tuple[JsonObject, float | None]:
    """Return the condition Progressing, and in how many seconds it would be given up."""
    name = newest["metadata"]["name"] if newest is not None else ""
    before = condition(value, "Progressing")
    if value["spec"].get("paused"):
        shown = _condition(
            value,
            now,
            "Progressing",
            is_true=None,
            reason="DeploymentPaused",
            message="Deployment is paused",
        )
        return shown, None
    if is_done:
        message = f'ReplicaSet "{name}" has successfully progressed.'
        shown = _condition(
            value,
            now,
            "Progressing",
            is_true=True,
            reason="NewReplicaSetAvailable",
            message=message,
        )
        return shown, None
    held = value.get("status") or {}
    was_seen = held.get("observedGeneration") == value["metadata"]["generation"]
    moved = not was_seen or any(held.get(key, 0) != number for key, number in numbers.items())
    since = str(before.get("lastUpdateTime") or timestamp(now))
    if before.get("reason") == "NewReplicaSetAvailable" or moved:
        since = timestamp(now)
    deadline = value["spec"]["progressDeadlineSeconds"]
    left = deadline - (now - datetime.fromisoformat(since)).total_seconds()
    is_late = left <= 0 and not moved
    reason = "ProgressDeadlineExceeded" if is_late else "ReplicaSetUpdated"
    message = (
        f'ReplicaSet "{name}" has timed out progressing.'
        if is_late
        else f'ReplicaSet "{name}" is progressing.'
    )
    shown = _condition(
        value, now, "Progressing", is_true=not is_late, reason=reason, message=message
    )
    return {**shown, "lastUpdateTime": since}, None if is_late else max(1.0, left)


def _condition(
    value: JsonObject,
    now: datetime,
    kind: str,
    *,
    is_true: bool | None,
    reason: str,
    message: str,
) -> JsonObject:
    before = condition(value, kind)
    status = "Unknown" if is_true is None else "True" if is_true else "False"
    changed = timestamp(now)
    same = before.get("status") == status
    is_old = same and before.get("reason") == reason and before.get("message") == message
    return {
        "type": kind,
        "status": status,
        "lastUpdateTime": before["lastUpdateTime"] if is_old else changed,
        "lastTransitionTime": before["lastTransitionTime"] if same else changed,
        "reason": reason,
        "message": message,
    }


def _surge(spec: JsonObject) -> int:
    rolling = spec["strategy"].get("rollingUpdate") or {}
    return share(rolling.get("maxSurge"), spec["replicas"], up=True)


def _revision(value: JsonObject) -> int:
    text = (value["metadata"].get("annotations") or {}).get(REVISION, "")
    return int(text) if text.isdecimal() else 0


def _count(value: JsonObject, field: str) -> int:
    return int((value.get("status") or {}).get(field) or 0)


def _is_of(replica_set: JsonObject, template: JsonObject) -> bool:
    held = replica_set["spec"]["template"]
    labels = {k: v for k, v in (held["metadata"].get("labels") or {}).items() if k != HASH}
    meta = {**held["metadata"], "labels": labels}
    wanted = {**template["metadata"], "labels": template["metadata"].get("labels") or {}}
    return bool({**held, "metadata": meta} == {**template, "metadata": wanted})
