"""Tokens of service accounts for pods on nodes.

A node asks for a token of one of its pods. What it says is not believed: the pod has to be bound to
that very node and has to run under that account; the token is bound to the pod and ends with it.
https://kubernetes.io/docs/reference/access-authn-authz/node/
"""

from datetime import timedelta
from typing import Any

import structlog

from fedge_dispatch import answered
from fedge_fabric import Address, Envelope, InvalidError, MessageClass, fields, kinds
from fedge_fabric import topology as t
from fedge_fabric.fabric import Delivery, Fabric
from fedge_kube import (
    PODS,
    SERVICE_ACCOUNTS,
    ConflictError,
    KubeClient,
    NotFoundError,
    RefusedError,
)
from fedge_objects import JsonObject, NodeName, ObjectKey

log = structlog.stdlib.get_logger("fedge.controller")

ANSWER_SECONDS = 60


class Tokens:
    """The way of tokens from the API to the nodes."""

    def __init__(self, kube: KubeClient, fabric: Fabric) -> None:
        self._kube = kube
        self._fabric = fabric

    def subscribe(self) -> None:
        """Take part in the queue."""
        self._fabric.subscribe(t.token_requests("controller"), self.on_asked)

    async def on_asked(self, delivery: Delivery) -> None:
        """Ask the API for a token, and send it to the node.

        The answer goes to the node alone, expires soon and is kept by no queue: one that is lost is
        asked for again.
        """
        envelope, node = delivery.envelope, Address.parse(delivery.routing_key).node
        if envelope.type != kinds.TOKEN_ASKED:
            raise InvalidError(f"message type {envelope.type!r} asks for no token")
        key = fields.key_in(envelope.subject)
        if key.resource != PODS.name:
            raise InvalidError(f"only pods have tokens, not {key}")
        data: dict[str, Any] = {
            **{name: fields.text(envelope.data, name) for name in ("uid", "audience")},
            "service_account": fields.key_in(
                f"serviceaccounts/-/{fields.text(envelope.data, 'service_account')}"
            ).name,
            "seconds": fields.whole(envelope.data, "seconds", least=1),
        }
        issued = await self.token(node, key, data)
        if issued is None:
            return
        await self._fabric.publish(
            Envelope(
                type=kinds.TOKEN_ISSUED,
                source="/cloud/controller",
                subject=envelope.subject,
                data={**data, **issued},
            ),
            exchange=t.DOWN,
            routing_key=str(Address(node, MessageClass.REQUEST, ("token",))),
            expires_after=timedelta(seconds=ANSWER_SECONDS),
        )

    async def token(
        self, node: NodeName, key: ObjectKey, data: dict[str, Any]
    ) -> JsonObject | None:
        """Return a token and its end, or None if the node is to have none."""
        async with answered():
            try:
                pod = await self._kube.get(PODS, key.namespace, key.name)
                if not _may_ask(node, pod, data):
                    log.warning("token_refused", node=node, pod=str(key))
                    return None
                bound = {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": key.name,
                    "uid": pod["metadata"]["uid"],
                }
                spec: JsonObject = {
                    "audiences": [data["audience"]] if data["audience"] else [],
                    "expirationSeconds": int(data["seconds"]),
                    "boundObjectRef": bound,
                }
                status = await self._kube.create_token(
                    SERVICE_ACCOUNTS, key.namespace, str(data["service_account"]), spec
                )
                issuer = await self._issuer()
            except (NotFoundError, ConflictError) as exc:
                log.info("token_not_issued", node=node, pod=str(key), reason=str(exc))
                return None
        return {"token": status["token"], "expires": status["expirationTimestamp"], **issuer}

    async def _issuer(self) -> JsonObject:
        """Return by which keys the node can check tokens itself; nothing if nobody tells us."""
        try:
            issuer, keys = await self._kube.issuer_keys()
        except (RefusedError, NotFoundError) as exc:
            log.warning("issuer_keys_not_told", reason=str(exc))
            return {}
        return {"issuer": issuer, "keys": keys.get("keys") or []}


def _may_ask(node: NodeName, pod: JsonObject, data: dict[str, Any]) -> bool:
    """Whether the pod is the one that is meant, lives on the node and runs under the account."""
    spec = pod.get("spec") or {}
    return (
        pod["metadata"]["uid"] == data["uid"]
        and spec.get("nodeName") == node
        and (spec.get("serviceAccountName") or "default") == data["service_account"]
    )
