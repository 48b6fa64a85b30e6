"""Keeps pods of a template that have a number and a name of their own, one after another.

A name is given to one pod at a time: a pod that is being deleted keeps its name until its node has
let go of it. At the edge this may take as long as the node is away, and a rollout waits for it: it
is what such a set is for.

https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/
"""

from dataclasses import dataclass
from typing import Any, Final

from fedge_apiserver.controllers.workloads._amounts import available_in
from fedge_apiserver.controllers.workloads._loop import Loop, is_active, is_ready, pod_of
from fedge_apiserver.controllers.workloads._revisions import Revisions, template_of
from fedge_apiserver.registry import Registry
from fedge_apiserver.resources import PODS, STATEFUL_SETS
from fedge_objects import JsonObject

REVISION: Final = "controller-revision-hash"
NAME: Final = "statefulset.kubernetes.io/pod-name"
INDEX: Final = "apps.kubernetes.io/pod-index"


@dataclass(slots=True, kw_only=True)
class _Look:
    """A StatefulSet as it is at one look.

    Attributes:
        value: the set.
        pods: its pods by their number.
        current, update: the revision that a rollout comes from, and the one that it leads to.
    """

    value: JsonObject
    pods: dict[int, JsonObject]
    current: JsonObject
    update: JsonObject

    @property
    def spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = self.value["spec"]
        return spec

    @property
    def numbers(self) -> range:
        first = (self.spec.get("ordinals") or {}).get("start", 0)
        return range(first, first + self.spec["replicas"])

    @property
    def is_ordered(self) -> bool:
        return bool(self.spec["podManagementPolicy"] == "OrderedReady")

    def revision_for(self, number: int) -> JsonObject:
        """Return the revision that a new pod of a number is made of."""
        strategy = self.spec["updateStrategy"]
        if strategy["type"] != "RollingUpdate":
            return self.update
        kept = strategy["rollingUpdate"]["partition"] or (
            (self.value.get("status") or {}).get("currentReplicas", 0)
        )
        return self.current if number < self.numbers.start + kept else self.update


class StatefulSets(Loop):
    """Follows StatefulSets and their pods."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(registry, STATEFUL_SETS, PODS, "statefulset-controller")
        self._revisions = Revisions(self)

    async def settle(self, value: JsonObject) -> float | None:
        """Take the next step towards the pods that are wanted."""
        held = self._revisions.of(value)
        update = await self._revisions.newest(value, held)
        held = self._revisions.of(value)
        by_name = {each["metadata"]["name"]: each for each in held}
        current = by_name.get((value.get("status") or {}).get("currentRevision", ""), update)
        look = _Look(value=value, pods=self._pods(value), current=current, update=update)
        if await self._fill(look) and await self._shrink(look):
            await self._roll(look)
        look.pods = self._pods(value)
        later = await self._tell(look)
        live = {each["metadata"]["labels"].get(REVISION, "") for each in look.pods.values()}
        live |= {current["metadata"]["name"], update["metadata"]["name"]}
        await self._revisions.forget(value, held, live)
        return later

    def _pods(self, value: JsonObject) -> dict[int, JsonObject]:
        found = {}
        for pod in self.owned.of(value["metadata"]["uid"]):
            number = pod["metadata"]["name"].removeprefix(f"{value['metadata']['name']}-")
            if number.isdecimal():
                found[int(number)] = pod
        return found

    async def _fill(self, look: _Look) -> bool:
        """Make the pods that are missing; return whether none has to be waited for."""
        for number in look.numbers:
            pod = look.pods.get(number)
            if pod is None:
                await self._make(look, number)
            elif _has_ended(pod) and not pod["metadata"].get("deletionTimestamp"):
                await self._delete(look, pod)
            elif self._is_available(look, pod):
                continue
            if look.is_ordered:
                return False
        return True

    async def _shrink(self, look: _Look) -> bool:
        """Delete pods beyond the number, the highest first; return whether there are none."""
        surplus = sorted((n for n in look.pods if n not in look.numbers), reverse=True)
        for number in surplus:
            if not look.pods[number]["metadata"].get("deletionTimestamp"):
                await self._delete(look, look.pods[number])
            if look.is_ordered:
                return False
        return not surplus

    async def _roll(self, look: _Look) -> None:
        """Delete the highest pod of another template, when those above it are available."""
        strategy = look.spec["updateStrategy"]
        if strategy["type"] != "RollingUpdate":
            return
        kept = look.numbers.start + strategy["rollingUpdate"]["partition"]
        for number in reversed(look.numbers):
            pod = look.pods.get(number)
            if number < kept:
                return
            if pod is None or pod["metadata"].get("deletionTimestamp"):
                return
            if not _is_of(pod, look.update):
                await self._delete(look, pod)
                return
            if not self._is_available(look, pod):
                return

    def _is_available(self, look: _Look, pod: JsonObject) -> bool:
        wait = look.spec.get("minReadySeconds", 0)
        return available_in(pod, wait, self.registry.now()) == 0

    async def _make(self, look: _Look, number: int) -> None:
        value = look.value
        revision = look.revision_for(number)
        name = f"{value['metadata']['name']}-{number}"
        marks = {REVISION: revision["metadata"]["name"], NAME: name, INDEX: str(number)}
        template = template_of(revision)
        owner = {**value, "spec": {**value["spec"], "template": template}}
        pod = pod_of(owner, marks, hostname=name)
        del pod["metadata"]["generateName"]
        pod["metadata"]["name"] = name
        if service := value["spec"].get("serviceName"):
            pod["spec"]["subdomain"] = service
        await self.registry.create(PODS, value["metadata"]["namespace"], pod)
        await self.recorder.record(
            value,
            "Normal",
            "SuccessfulCreate",
            f"create Pod {name} in StatefulSet {value['metadata']['name']} successful",
        )

    async def _delete(self, look: _Look, pod: JsonObject) -> None:
        await self.remove(PODS, pod)
        name = pod["metadata"]["name"]
        await self.recorder.record(
            look.value,
            "Normal",
            "SuccessfulDelete",
            f"delete Pod {name} in StatefulSet {look.value['metadata']['name']} successful",
        )

    async def _tell(self, look: _Look) -> float | None:
        value, pods = look.value, list(look.pods.values())
        active = [pod for pod in pods if is_active(pod)]
        wait, now = look.spec.get("minReadySeconds", 0), self.registry.now()
        waits = [available_in(pod, wait, now) for pod in active]
        updated = sum(_is_of(pod, look.update) for pod in active)
        ready = sum(is_ready(pod) for pod in active)
        current = look.current
        is_done = updated == len(pods) == ready == look.spec["replicas"]
        if is_done and look.spec["updateStrategy"]["type"] == "RollingUpdate":
            current = look.update
        numbers = {
            "readyReplicas": ready,
            "currentReplicas": sum(_is_of(pod, current) for pod in active),
            "updatedReplicas": updated,
        }
        status: JsonObject = {
            "observedGeneration": value["metadata"]["generation"],
            "replicas": len(pods),
            "availableReplicas": sum(each == 0 for each in waits),
            "currentRevision": current["metadata"]["name"],
            "updateRevision": look.update["metadata"]["name"],
            "collisionCount": 0,
            **{field: number for field, number in numbers.items() if number},
        }
        await self.write_status(value, status)
        return min((each for each in waits if each), default=None)


def _is_of(pod: JsonObject, revision: JsonObject) -> bool:
    labels = pod["metadata"].get("labels") or {}
    return bool(labels.get(REVISION) == revision["metadata"]["name"])


def _has_ended(pod: JsonObject) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
