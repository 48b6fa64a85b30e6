"""Users, as authentication finds them.

https://kubernetes.io/docs/reference/access-authn-authz/authentication/
"""

from dataclasses import dataclass
from typing import Final

from fedge_objects import JsonObject

MASTERS: Final = "system:masters"
"""The group that may do everything, whatever the roles say."""
AUTHENTICATED: Final = "system:authenticated"
ACCOUNTS: Final = "system:serviceaccounts"
ACCOUNT_PREFIX: Final = "system:serviceaccount:"


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who asks.

    Attributes:
        name: e.g. ``system:serviceaccount:default:app``.
        groups: those that roles may be bound to.
        uid: tells apart users that had the same name at different times; may be empty.
        extra: what else the authenticator knows, by name.
    """

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def info(self) -> JsonObject:
        """Return the user as ``UserInfo`` of ``authentication.k8s.io/v1``."""
        value: JsonObject = {"username": self.name}
        if self.uid:
            value["uid"] = self.uid
        if self.groups:
            value["groups"] = list(self.groups)
        if self.extra:
            value["extra"] = {name: list(values) for name, values in self.extra}
        return value


ADMINISTRATOR: Final = User("fedge-admin", (MASTERS, AUTHENTICATED))
"""Who holds the token in the server's data folder."""


def account_user(namespace: str, name: str, uid: str = "") -> User:
    """Return a service account as a user."""
    return User(
        f"{ACCOUNT_PREFIX}{namespace}:{name}",
        (ACCOUNTS, f"{ACCOUNTS}:{namespace}", AUTHENTICATED),
        uid,
    )
