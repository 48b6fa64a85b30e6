"""What a request is about, as far as roles can tell it apart.

https://kubernetes.io/docs/reference/access-authn-authz/authorization/#review-your-request-attributes
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_VERBS: Final = {"POST": "create", "PUT": "update", "PATCH": "patch"}
_OF_NAMESPACE: Final = ("status", "finalize")
_NAME_SELECTOR: Final = re.compile(r"(?:^|,)\s*metadata\.name\s*==?\s*([^,\s]+)\s*(?:,|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """A request.

    Attributes:
        verb: ``get``, ``list``, ``watch``, ``create``, ...; for a path the HTTP method.
        group, resource, subresource: what is asked for; empty for a path.
        namespace: empty for what lies in none, and for all.
        name: of the object, if one is named.
        path: of a request that is not for a resource, e.g. ``/version``.
    """

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @property
    def full_resource(self) -> str:
        """Resource and subresource as rules name them: ``pods/log``."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource

    def refusal(self, user: str) -> str:
        """Return what somebody who may not do this is told."""
        if self.path:
            return f'User "{user}" cannot {self.verb} path "{self.path}"'
        where = f'in the namespace "{self.namespace}"' if self.namespace else "at the cluster scope"
        return (
            f'User "{user}" cannot {self.verb} resource "{self.full_resource}" in API group '
            f'"{self.group}" {where}'
        )


def attributes_of(
    method: str, path: str, parts: Sequence[str], query: Mapping[str, str]
) -> Attributes:
    """Return what a request is about.

    Args:
        method: HTTP's.
        path: whole.
        parts: of the path, without empty ones.
        query: parameters.
    """
    match parts:
        case ["api", _, *rest] if rest:
            group = ""
        case ["apis", group, _, *rest] if rest:
            pass
        case _:
            verb = "get" if method == "HEAD" else method.lower()
            return Attributes(verb=verb, path=path)
    is_watch = rest[0] == "watch" and len(rest) > 1
    if is_watch:
        rest = rest[1:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 1:
        namespace = rest[1]
        if len(rest) > 2 and rest[2] not in _OF_NAMESPACE:  # noqa: PLR2004 - namespaces/NAME/what
            rest = rest[2:]
    resource, name, subresource = (*rest, "", "")[:3]
    if not name and method not in _VERBS:
        found = _NAME_SELECTOR.search(query.get("fieldSelector", ""))
        name = found[1] if found else ""
        is_one = False
    else:
        is_one = bool(name)
    is_watch = is_watch or query.get("watch", "") in ("1", "t", "T", "true", "TRUE", "True")
    return Attributes(
        verb=_verb(method, is_one=is_one, is_watch=is_watch and not subresource),
        group=group,
        resource=resource,
        subresource=subresource,
        namespace=namespace,
        name=name,
    )


def _verb(method: str, *, is_one: bool, is_watch: bool) -> str:
    match method:
        case "GET" | "HEAD":
            if is_watch:
                return "watch"
            return "get" if is_one else "list"
        case "DELETE":
            return "delete" if is_one else "deletecollection"
        case _:
            return _VERBS.get(method, method.lower())
