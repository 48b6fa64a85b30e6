"""The templates that a workload had, kept as ControllerRevisions: for rollouts and for going back.

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/controller-revision-v1/
"""

from fedge_apiserver.controllers.workloads._amounts import template_hash
from fedge_apiserver.controllers.workloads._loop import Loop, controller_of, owner_reference
from fedge_apiserver.resources import CONTROLLER_REVISIONS
from fedge_apiserver.store import decode
from fedge_objects import JsonObject


class Revisions:
    """Keeps the revisions of one loop's workloads."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._registry = loop.registry

    def of(self, value: JsonObject) -> list[JsonObject]:
        """Return a workload's revisions, the oldest first."""
        uid, namespace = value["metadata"]["uid"], value["metadata"]["namespace"]
        found = []
        for entry in list(self._registry.store.select(CONTROLLER_REVISIONS.storage, namespace)):
            owner = controller_of(entry)
            if owner is not None and owner[2] == uid:
                found.append(decode(entry.body))
        return sorted(found, key=lambda each: int(each["revision"]))

    async def newest(self, value: JsonObject, held: list[JsonObject]) -> JsonObject:
        """Return the revision of a workload's present template, made or marked as the last one.

        Args:
            value: the workload.
            held: its revisions, the oldest first.
        """
        meta = value["metadata"]
        template = value["spec"]["template"]
        last = int(held[-1]["revision"]) if held else 0
        found = next((each for each in held if template_of(each) == template), None)
        if found is not None and found["revision"] == last:
            return found
        if found is not None:
            name = found["metadata"]["name"]
            outcome = await self._registry.update(
                CONTROLLER_REVISIONS,
                meta["namespace"],
                name,
                lambda old: {**old, "revision": last + 1},
            )
            return outcome.value
        made: JsonObject = {
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": {
                "name": f"{meta['name']}-{template_hash(template)}",
                "namespace": meta["namespace"],
                "labels": dict(template["metadata"].get("labels") or {}),
                "ownerReferences": [owner_reference(value)],
            },
            # What takes a workload back is a patch of it.
            "data": {"spec": {"template": {**template, "$patch": "replace"}}},
            "revision": last + 1,
        }
        outcome = await self._registry.create(CONTROLLER_REVISIONS, meta["namespace"], made)
        return outcome.value

    async def forget(self, value: JsonObject, held: list[JsonObject], live: set[str]) -> None:
        """Delete the oldest revisions beyond the limit, but those that are in use, by name."""
        idle = [each for each in held if each["metadata"]["name"] not in live]
        for each in idle[: max(0, len(idle) - value["spec"]["revisionHistoryLimit"])]:
            await self._loop.remove(CONTROLLER_REVISIONS, each)


def template_of(revision: JsonObject) -> JsonObject:
    """Return the template of pods that a revision keeps."""
    template: JsonObject = revision["data"]["spec"]["template"]
    return {key: held for key, held in template.items() if key != "$patch"}
