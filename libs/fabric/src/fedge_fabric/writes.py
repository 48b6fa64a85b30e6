"""What a program on a node wants written to the Kubernetes API, as it travels.

Two forms. A *request* is what the program sent, to be passed on as it is while somebody waits. A
*change* is what it made of an object while the cloud was away: the state that it saw and the state
that it wants; only such a one can be merged, and repeated without harm.

``data`` as JSON::

    {"author": {"namespace": str, "name": str, "uid": of the pod | ""},
     "request": {"method", "path", "query", "content_type", "body": any},   or
     "change": {"verb", "group", "version", "plural", "namespace", "name", "manager",
                "base": object | null, "wanted": object | null},
     "seen": {"revision": int, "digest": str} | absent}
"""

import hashlib
import re
from dataclasses import asdict, dataclass
from typing import Any, Final

import msgspec

from fedge_fabric import fields
from fedge_fabric.errors import MalformedError
from fedge_objects import JsonObject, NodeName, ObjectKey, without_bookkeeping

ACCOUNT: Final = "system:serviceaccount"
NODES_NAMESPACE: Final = "fedge-nodes"
"""Whoever is root at a gateway writes as the service account of the node's name in this namespace,
which need not exist: roles are bound to it."""
VERBS: Final = ("create", "update", "patch", "delete")
METHODS: Final = ("POST", "PUT", "PATCH", "DELETE")
WRITTEN: Final = "fedge.io/written-at-edge"
"""Annotation: by which node, and as which of its writes, an object was last written at an edge."""
CONFLICT: Final = "fedge.io/conflict"
"""Annotation: what of an object was written at an edge and lost to the cloud's own change."""
NOT_BELIEVED: Final = "NotOnNode"
"""Reason of the refusal of somebody whom the cloud does not know to be on that node."""


_RESOURCE: Final = re.compile(r"[a-z0-9.-]{0,253}/v[a-z0-9]{1,62}/[a-z0-9]{1,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Who writes.

    Attributes:
        account: namespace and name of a service account.
        about: the pod that runs under it, or the node for whoever is root there.
        uid: of that pod; empty for the node.
    """

    account: tuple[str, str]
    about: ObjectKey
    uid: str = ""

    @property
    def user(self) -> str:
        """The account as a user."""
        return ":".join((ACCOUNT, *self.account))

    def speaks_for(self, node: NodeName) -> bool:
        """Whether this can be somebody on a node, as far as the words themselves tell."""
        namespace, name = self.account
        if self.about.resource == "nodes":
            return self.about.name == node == name and namespace == NODES_NAMESPACE
        return self.about.resource == "pods" and self.about.namespace == namespace


def node_author(node: NodeName) -> Author:
    """Return whoever is root at a gateway."""
    return Author(account=(NODES_NAMESPACE, node), about=ObjectKey("nodes", "", node))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a program sent, to be passed on as it is.

    Attributes:
        method: HTTP's.
        path: of the URL, not quoted.
        query: of the URL, quoted.
        content_type: that says what the body means.
        body: decoded; None: there is none.
    """

    method: str
    path: str
    query: str
    content_type: str
    body: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectChange:
    """What a program made of an object.

    Attributes:
        verb: one of ``VERBS``.
        group, version, plural: of the resource.
        namespace, name: of the object.
        manager: who is to be noted as manager of the fields; may be empty.
        base: the object as the program saw it; None for a new one.
        wanted: as it is to be; None: it is to go.
    """

    verb: str
    group: str
    version: str
    plural: str
    namespace: str
    name: str
    manager: str = ""
    base: JsonObject | None
    wanted: JsonObject | None

    @property
    def key(self) -> ObjectKey:
        """The object's key."""
        resource = f"{self.plural}.{self.group}" if self.group else self.plural
        return ObjectKey(resource, self.namespace, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Which state of an object a request with a resourceVersion speaks about.

    Attributes:
        revision: the cloud's revision of it that the node was told.
        digest: of its content then (``digest_of``): later revisions of the same are meant as well.
    """

    revision: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A write and who wants it."""

    author: Author
    request: Request | None = None
    change: ObjectChange | None = None
    seen: Seen | None = None

    def data(self) -> JsonObject:
        """Return it as a message's data."""
        namespace, name = self.author.account
        data: JsonObject = {
            "author": {"namespace": namespace, "name": name, "uid": self.author.uid}
        }
        if self.request is not None:
            data["request"] = asdict(self.request)
        if self.change is not None:
            data["change"] = asdict(self.change)
        if self.seen is not None:
            data["seen"] = asdict(self.seen)
        return data


def read_write(subject: str, data: object) -> Write:
    """Read a message's subject and data.

    Raises:
        MalformedError: it is no write.
    """
    said = fields.part(data, "author")
    account = fields.key_in(
        f"serviceaccounts/{fields.text(said, 'namespace')}/{fields.text(said, 'name')}"
    )
    author = Author(
        account=(account.namespace, account.name),
        about=fields.key_in(subject),
        uid=fields.text(said, "uid", default="", most=64),
    )
    given = fields.mapping(data)
    if ("request" in given) == ("change" in given):
        raise MalformedError("a write is either a request or a change")
    seen = None
    if given.get("seen") is not None:
        part = fields.part(data, "seen")
        seen = Seen(
            revision=fields.whole(part, "revision"), digest=fields.text(part, "digest", most=64)
        )
    if "request" in given:
        return Write(author=author, request=_request(fields.part(data, "request")), seen=seen)
    return Write(author=author, change=_change(fields.part(data, "change")), seen=seen)


def digest_of(obj: JsonObject) -> str:
    """Return a digest of what an object says, its status and the API's bookkeeping aside."""
    content = msgspec.json.encode(without_bookkeeping(obj), order="sorted")
    return hashlib.sha256(content).hexdigest()[:32]


def _request(part: dict[str, Any]) -> Request:
    method = fields.text(part, "method")
    if method not in METHODS:
        raise MalformedError(f"a write by the method {method!r}")
    return Request(
        method=method,
        path=fields.text(part, "path"),
        query=fields.text(part, "query", default=""),
        content_type=_line(fields.text(part, "content_type", default="", most=256)),
        body=part.get("body"),
    )


def _change(part: dict[str, Any]) -> ObjectChange:
    verb = fields.text(part, "verb")
    if verb not in VERBS:
        raise MalformedError(f"a change by the verb {verb!r}")
    texts = {
        name: fields.text(part, name, default="", most=253)
        for name in ("group", "version", "plural", "namespace", "name", "manager")
    }
    base = None if part.get("base") is None else fields.part(part, "base")
    wanted = None if part.get("wanted") is None else fields.part(part, "wanted")
    change = ObjectChange(verb=verb, base=base, wanted=wanted, **texts)
    if not _RESOURCE.fullmatch(f"{change.group}/{change.version}/{change.plural}"):
        raise MalformedError(f"a change of what is no resource: {str(change.key)[:128]!r}")
    fields.key_in(str(change.key))
    if (verb == "delete") != (wanted is None) or (verb != "create" and base is None):
        raise MalformedError(f"a change by the verb {verb!r} that lacks a state, or has one more")
    for each in (base, wanted):
        if each is not None and not isinstance(each.get("metadata"), dict):
            raise MalformedError("a change of an object without metadata")
    return change


def _line(text: str) -> str:
    if not text.isprintable():
        raise MalformedError(f"{text[:64]!r} cannot stand in a header")
    return text
