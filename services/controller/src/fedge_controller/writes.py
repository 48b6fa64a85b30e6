"""What programs on nodes write to the API: by their own accounts' roles, never by the controller's.

A node is believed nothing: the pod that a write names has to exist with that uid, be bound to that
node and run under that account, whose name the request then bears. So a stolen node writes as its
own pods may, and as nobody else.

What was written with the cloud away comes as a *change* and is merged (``merging``); what somebody
waits for comes as a *request* and is passed on.
"""

import json
import re
from datetime import timedelta
from typing import Any, Final
from urllib.parse import parse_qsl, quote

import structlog

from fedge_controller.merging import Merging, Outcome, refusal
from fedge_fabric import Address, Envelope, InvalidError, MessageClass, kinds
from fedge_fabric import topology as t
from fedge_fabric.fabric import Delivery, Fabric
from fedge_fabric.writes import NOT_BELIEVED, Author, Request, Seen, Write, digest_of, read_write
from fedge_kube import PODS, KubeClient, KubeError, NotFoundError, UnreachableError
from fedge_objects import NodeName

log = structlog.stdlib.get_logger("fedge.controller")

ANSWER_SECONDS: Final = 60
_TRIES: Final = 3
_PATH: Final = re.compile(
    r"/(api/v1|apis/[a-z0-9][a-z0-9.-]*/[a-z0-9]+)(/[A-Za-z0-9][A-Za-z0-9._:@-]*)+"
)
_JSON_PATCH: Final = "application/json-patch+json"
_PATCHES: Final = (
    _JSON_PATCH,
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)


class Writes:
    """The way of writes from nodes into the API."""

    def __init__(self, kube: KubeClient, fabric: Fabric) -> None:
        self._kube = kube
        self._fabric = fabric
        self._merging = Merging(kube)

    def subscribe(self) -> None:
        """Take part in the queue."""
        self._fabric.subscribe(t.writes("controller"), self.on_asked)

    async def on_asked(self, delivery: Delivery) -> None:
        """Write, and answer the node that asked.

        The answer goes to that node only; one that is lost is asked for again.
        """
        envelope, node = delivery.envelope, Address.parse(delivery.routing_key).node
        if envelope.type != kinds.WRITE_ASKED:
            raise InvalidError(f"message type {envelope.type!r} is no write")
        outcome = await self.write(node, envelope.id, read_write(envelope.subject, envelope.data))
        await self._fabric.publish(
            Envelope(
                type=kinds.WRITE_ANSWERED,
                source="/cloud/controller",
                subject=envelope.id,
                data={
                    "code": outcome.code,
                    "body": outcome.body,
                    "conflict": list(outcome.conflict),
                },
            ),
            exchange=t.DOWN,
            routing_key=str(Address(node, MessageClass.REQUEST, ("written",))),
            expires_after=timedelta(seconds=ANSWER_SECONDS),
        )

    async def write(self, node: NodeName, write_id: str, write: Write) -> Outcome:
        """Do what a node asks for, if it may ask."""
        try:
            if not await self._is_believed(node, write.author):
                log.warning(
                    "write_refused",
                    node=node,
                    user=write.author.user,
                    about=str(write.author.about),
                )
                message = f"{write.author.user} is no account of a pod on node {node}"
                return refusal(403, NOT_BELIEVED, message)
            if write.request is not None:
                return await self._pass_on(write.author, write.request, write.seen)
            if write.change is not None:
                return await self._merging.merge(
                    write.author.user, write.change, node=node, write_id=write_id
                )
        except UnreachableError as exc:
            log.info("write_waits", node=node, reason=str(exc))
            return refusal(503, "ServiceUnavailable", f"the cluster's API does not answer: {exc}")
        except KubeError as exc:
            return refusal(403, "Forbidden", f"the cluster's API does not tell of the pod: {exc}")
        raise InvalidError("a write of nothing")

    async def _is_believed(self, node: NodeName, author: Author) -> bool:
        """Whether the account is one that somebody on the node can have."""
        if not author.speaks_for(node):
            return False
        if author.about.resource != PODS.name:
            return True
        try:
            pod = await self._kube.get(PODS, author.about.namespace, author.about.name)
        except NotFoundError:
            return False
        spec = pod.get("spec") or {}
        return (
            pod["metadata"]["uid"] == author.uid
            and spec.get("nodeName") == node
            and (spec.get("serviceAccountName") or "default") == author.account[1]
        )

    async def _pass_on(self, author: Author, request: Request, seen: Seen | None) -> Outcome:
        is_patch = request.method == "PATCH"
        if not _PATH.fullmatch(request.path) or (is_patch and request.content_type not in _PATCHES):
            return refusal(400, "BadRequest", f"{request.path!r} cannot be written to so")
        if (request.content_type == _JSON_PATCH) != isinstance(request.body, list):
            return refusal(400, "BadRequest", "the body is not what its type says")
        body = request.body
        path, query = quote(request.path, safe="/"), parse_qsl(request.query)
        for _ in range(_TRIES):
            code, answer = await self._kube.send_as(
                author.user,
                request.method,
                path,
                query=query,
                body=body,
                content_type=request.content_type if is_patch else "application/json",
            )
            newer = None
            if code == 409 and seen is not None:  # noqa: PLR2004 - HTTP: conflict
                newer = await self._same_content(author, path, seen)
            if newer is None or seen is None:
                return Outcome(code=code, body=answer)
            # only what nodes are not told has changed: the state that was seen still holds
            body = _at_revision(body, str(seen.revision), newer)
            seen = Seen(revision=int(newer), digest=seen.digest)
        return refusal(409, "Conflict", f"{request.path!r} changes all the time: try again")

    async def _same_content(self, author: Author, path: str, seen: Seen) -> str | None:
        """Return the revision of an object whose content is still what was seen."""
        code, answer = await self._kube.send_as(author.user, "GET", path)
        if code != 200 or not seen.digest:  # noqa: PLR2004 - HTTP: OK
            return None
        held = json.loads(answer)
        revision = str(held["metadata"]["resourceVersion"])
        is_same = digest_of(held) == seen.digest and revision != str(seen.revision)
        return revision if is_same else None


def _at_revision(body: Any, old: str, new: str) -> Any:
    """Return a body that speaks of another revision."""
    if isinstance(body, list):
        return [
            {**step, "value": new}
            if isinstance(step, dict) and step.get("path") == "/metadata/resourceVersion"
            else step
            for step in body
        ]
    changed = dict(body)
    for field in ("metadata", "preconditions"):
        part = changed.get(field)
        if isinstance(part, dict) and part.get("resourceVersion") == old:
            changed[field] = {**part, "resourceVersion": new}
    return changed
