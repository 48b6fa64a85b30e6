"""The types of all messages, and the shape of what they carry.

Facts are in the past tense, wishes in the imperative. ``data`` is described as JSON.
"""

from typing import Final

OBJECT_PUT: Final = "fedge.object.put"
"""An object as the node should have it. subject: its key; version: set; data: the object."""

OBJECT_GONE: Final = "fedge.object.gone"
"""A tombstone. subject: the object's key; version: set; data: null."""

OBJECTS_LISTED: Final = "fedge.objects.listed"
"""All objects of one resource that concern a node, at one revision (cloud only).

subject: the resource; version: ``revision.revision`` of the list;
data: ``{"keys": ["pods/default/a", ...]}``. What is not listed and not newer is gone."""

OBJECT_CHANGED: Final = "fedge.object.changed"
"""An object in the edge's store changed (in meta's outbox only). subject: the key; data: null."""

OBJECT_STORED: Final = "fedge.object.stored"
"""The node holds this version on disk. subject: the key; version: set; data: null."""

STATUSES_ASKED: Final = "fedge.statuses.asked"
"""Hub asks edged and twin to report every status anew; a cloud service asks hub to. data: null."""

DIGEST_ASKED: Final = "fedge.digest.asked"
"""Hub asks meta what lies in branches of the tree of its versions (``fedge_objects.VersionTree``).

data: ``{"prefixes": [str, ...], "protocol": str}``; no prefixes: both sides have the same, nothing
is asked. ``protocol``: see ``fedge_fabric.protocol``."""

DIGEST_TAKEN: Final = "fedge.digest.taken"
"""What meta holds, tombstones too, as far as it was asked; unasked the hash of the whole.

data: ``{"hashes": {prefix: 16 hexadecimal digits}, "versions": {prefix: {key: "12.12"}}}``."""

OBJECTS_APPLIED: Final = "fedge.objects.applied"
"""What became of objects on the node: newest version, whether it is in effect, or why not.

data: ``{"objects": {key: {"version": str, "state": "applied" | "failed", "reason": str}}}``."""

STATUS_REPORTED: Final = "fedge.status.reported"
"""An object's status as the node sees it. subject: the key;

data: ``{"uid": str, "status": {...}, "observed": [incarnation, sequence], "finished": bool}``;
``observed`` rises; ``finished``: a deleted pod has ended and its object may go."""

NODE_ALIVE: Final = "fedge.node.alive"
"""A heartbeat; expires on its way.

data: ``{"interval_seconds": float, "protocol": str, "backlog": {class: messages that wait to go up}
| absent, "answer": bool | absent}``; ``protocol``: see ``fedge_fabric.protocol``; ``answer``:
whether hub shall answer."""

NODE_HEARD: Final = "fedge.node.heard"
"""Hub's answer to a heartbeat that asks for one: the way up and the way down work.

subject: the heartbeat's id; data: null."""

EVENT_RECORDED: Final = "fedge.event.recorded"
"""A Kubernetes Event. data: the ``v1`` Event object."""

TOKEN_ASKED: Final = "fedge.token.asked"  # noqa: S105 - the name of a message
"""A node asks for a token of a pod's service account. subject: the pod's key;

data: ``{"uid": str, "service_account": str, "audience": str, "seconds": int}``."""

TOKEN_ISSUED: Final = "fedge.token.issued"  # noqa: S105
"""The token that was asked for. subject: the pod's key; data: what was asked, and ``{"token": str,
"expires": RFC 3339, "issuer": str, "keys": [JWK]}``; the last two where the API tells them: by
which keys the node's own API knows such tokens."""

WRITE_ASKED: Final = "fedge.write.asked"
"""A program on a node wants something written to the Kubernetes API. subject: the pod that it runs
in, or the node for whoever is root there; data: see ``fedge_fabric.writes``."""

WRITE_ANSWERED: Final = "fedge.write.answered"
"""What the API answered to a write. subject: the question's id;

data: ``{"code": HTTP code, "body": str, "conflict": [{"path": str, "edge": any, "cloud": any}]}``;
a conflict: the write was not made, because the cloud's object was changed as well."""

LOGS_ASKED: Final = "fedge.logs.asked"
"""Asks for a container's log.

data: ``{"namespace", "pod", "container", "options": {...}, "deadline_seconds": float}``."""

HISTORY_ASKED: Final = "fedge.history.asked"
"""Asks twin what became of a device's properties.

data: ``{"namespace", "device", "property": str, "limit": int, "deadline_seconds": float}``; an
empty property means all. The body of the answer's one piece is ``{"items": [{"property", "side",
"by", "value", "time"}, ...]}``, newest first; its status is 404 where there is no such device."""

EXEC_ASKED: Final = "fedge.exec.asked"
"""Asks for a command in a container, whose answer goes on.

data: ``{"namespace", "pod", "container", "command": [str], "stdin": bool, "tty": bool,
"deadline_seconds": float}``. The node's first piece says ``"ready": true``; the command runs if the
node hears ``"begin": true`` within that time, once per id of a request. Pieces of the answer carry
a ``frame``: base64 of a channel's number and its content."""

STREAM_HEARD: Final = "fedge.stream.heard"
"""Whoever asked says how far it has read of an answer that goes on. subject: the request's id;

data: ``{"seen": int, "over": bool}``: how many pieces were read, and whether nobody reads on; with
``"begin": true``: a request with an effect may have it; with ``"number": int, "frame": str`` an
input, numbered from 0."""

ANSWERED: Final = "fedge.request.answered"
"""The answer to a request. subject: the request's id;

data: ``{"status": HTTP code, "body": str, "last": bool, "index": int}``: one or more pieces. Where
inputs are given, ``"taken": int`` says how many were used. ``"ready": true``: see ``EXEC_ASKED``.
``"cut": true``: no other piece will come, whichever were before; the node began this request once
and lost sight of it."""

RESYNC_ASKED: Final = "fedge.resync.asked"
"""Hub asks the cloud services to tell again what every node, or one node, should have.

data: ``{"node": str | null}``."""

REPLICA_HEARD: Final = "fedge.replica.heard"
"""A replica of a cloud service says to the others, and to itself, that it is there.

data: ``{"replica": str, "state": "joining" | "live" | "leaving", "asks": bool, "gone": [str]}``:
whether the others are to say so too, and which of them it takes for gone."""

SPANS_ENDED: Final = "fedge.spans.ended"
"""Spans of OpenTelemetry. data: ``{"otlp": base64 of an ExportTraceServiceRequest, "spans": int,
"dropped": int}``; dropped: those that the sender had no room for since its last message."""
