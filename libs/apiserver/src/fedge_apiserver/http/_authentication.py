"""Who asks: by token, client certificate or, for some, in another's name.

https://kubernetes.io/docs/reference/access-authn-authz/authentication/
"""

import hmac
from collections.abc import Mapping
from typing import Any, Final, Protocol
from urllib.parse import unquote

from fedge_apiserver.access import (
    ADMINISTRATOR,
    AUTHENTICATED,
    Attributes,
    Authorizer,
    User,
)
from fedge_apiserver.errors import ApiError, bad_request, unauthorized
from fedge_apiserver.http._messages import Request, Scope
from fedge_apiserver.tokens import TokenError

PEER: Final = "fedge.peer"
"""Key in a connection's ASGI state: the verified client certificate, as ``ssl`` describes it."""

_ACCOUNT_PARTS: Final = 4
_EXTRA: Final = "impersonate-extra-"


class Accounts(Protocol):
    """Knows the tokens of service accounts."""

    def user(self, token: str) -> User:
        """Return whose token it is, if it is for this server.

        Raises:
            TokenError: it is not valid.
        """
        ...


class Authentication:
    """Finds the user of a request."""

    def __init__(
        self,
        token: str | None,
        tokens: Accounts | None,
        authorizer: Authorizer,
        administrator: User = ADMINISTRATOR,
    ) -> None:
        """Know by what users prove who they are.

        Args:
            token: the administrator's; None: everybody is the administrator.
            tokens: knows those of service accounts; None: there are none.
            authorizer: says who may act in another's name.
            administrator: who holds ``token``.
        """
        self._administrator = administrator
        self._token = token.encode() if token is not None else None
        self._tokens = tokens
        self._authorizer = authorizer

    def user(self, scope: Scope, request: Request) -> User:
        """Return who asks.

        Raises:
            ApiError: 401, it cannot be told; 403, they may not act in that name.
        """
        user = self._real_user(scope, request)
        if b"impersonate-user" in request.headers:
            return self._impersonated(request, user)
        if any(name.startswith(b"impersonate-") for name in request.headers):
            raise bad_request(
                "requested groups, uid or extra without impersonating a user: set Impersonate-User"
            )
        return user

    def _real_user(self, scope: Scope, request: Request) -> User:
        if self._token is None:
            return self._administrator
        scheme, _, given = request.headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer":
            given = given.strip()
            if hmac.compare_digest(given, self._token):
                return self._administrator
            if self._tokens is not None:
                try:
                    return self._tokens.user(given.decode("latin-1"))
                except TokenError as exc:
                    raise unauthorized() from exc
            raise unauthorized()
        peer = (scope.get("state") or {}).get(PEER)
        if peer:
            return _certified(peer)
        raise unauthorized()

    def _impersonated(self, request: Request, real: User) -> User:
        name = request.header(b"impersonate-user")
        groups: list[str] = []
        extra: dict[str, list[str]] = {}
        for raw_field, raw_text in request.raw_headers:
            field, text = raw_field.decode("latin-1"), raw_text.decode("latin-1")
            if field == "impersonate-group":
                groups.append(text)
            elif field.startswith(_EXTRA):
                extra.setdefault(unquote(field.removeprefix(_EXTRA)), []).append(text)
        uid = request.header(b"impersonate-uid")
        asked = tuple(groups)
        account = name.split(":", _ACCOUNT_PARTS - 1)
        if account[:2] == ["system", "serviceaccount"] and len(account) == _ACCOUNT_PARTS:
            self._check(real, "serviceaccounts", account[3], namespace=account[2])
            if not groups:
                groups = ["system:serviceaccounts", f"system:serviceaccounts:{account[2]}"]
        else:
            self._check(real, "users", name)
        for group in asked:
            self._check(real, "groups", group)
        for key, values in extra.items():
            for each in values:
                self._check(
                    real, "userextras", each, subresource=key, group="authentication.k8s.io"
                )
        if uid:
            self._check(real, "uids", uid, group="authentication.k8s.io")
        if AUTHENTICATED not in groups:
            groups.append(AUTHENTICATED)
        return User(
            name,
            tuple(groups),
            uid,
            tuple((key, tuple(values)) for key, values in sorted(extra.items())),
        )

    def _check(
        self,
        real: User,
        resource: str,
        name: str,
        *,
        namespace: str = "",
        subresource: str = "",
        group: str = "",
    ) -> None:
        asked = Attributes(
            verb="impersonate",
            group=group,
            resource=resource,
            subresource=subresource,
            namespace=namespace,
            name=name,
        )
        if not self._authorizer.decide(real, asked).allowed:
            raise refused(asked, real)


def refused(attributes: Attributes, user: User) -> ApiError:
    """Return the refusal of what somebody may not do."""
    reason = attributes.refusal(user.name)
    if attributes.path:
        return ApiError(403, "Forbidden", f"forbidden: {reason}", details={})
    kind = f"{attributes.resource}.{attributes.group}" if attributes.group else attributes.resource
    named = f' "{attributes.name}"' if attributes.name else ""
    details = {"name": attributes.name} if attributes.name else {}
    if attributes.group:
        details["group"] = attributes.group
    details["kind"] = attributes.resource
    return ApiError(403, "Forbidden", f"{kind}{named} is forbidden: {reason}", details=details)


def _certified(peer: Mapping[str, Any]) -> User:
    """Return the user that a client certificate names: common name, and organizations as groups."""
    name, groups = "", []
    for part in peer.get("subject", ()):
        for field, value in part:
            if field == "commonName":
                name = value
            elif field == "organizationName":
                groups.append(value)
    if not name:
        raise unauthorized()
    return User(name, (*groups, AUTHENTICATED))
