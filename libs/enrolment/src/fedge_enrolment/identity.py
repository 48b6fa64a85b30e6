"""A gateway's identity: the folder in which its key, its certificate and whom it trusts lie.

Only the owner can read it. `joined.json` is written last: while it is not there, the gateway has
not joined. Reading needs nothing but the standard library.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from fedge_objects import NodeName
from fedge_sealing import write_private

FOLDER: Final = "identity"
KEY: Final = "key.pem"
CERTIFICATE: Final = "certificate.pem"
AUTHORITIES: Final = "ca.pem"
SEALING_KEY: Final = "sealing.key"
SEALING_KEY_VARIABLE: Final = "FEDGE_EDGE_SEALING_KEY"
JOINED: Final = "joined.json"


class IdentityError(Exception):
    """The folder cannot be used; it says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """What a gateway was told when it joined or last renewed its certificate.

    Attributes:
        node: its name.
        user: of the cloud's broker.
        cloud: ``host:port`` of hub's enrolment port.
        broker: ``host:port`` of the cloud's broker.
        renew_after: seconds since the epoch.
        expires: seconds since the epoch.
    """

    node: NodeName
    user: str
    cloud: str
    broker: str
    renew_after: int
    expires: int


class Identity:
    """The folder. Nothing is read before it is asked for."""

    def __init__(self, folder: Path, *, sealing_key: Path | None = None) -> None:
        """Take note.

        Args:
            folder: of the identity.
            sealing_key: another file of the key by which Secrets are unsealed, which the host may
                have handed in; None: one in the folder.
        """
        self.folder = folder
        self._sealing_key = sealing_key

    @classmethod
    def of(cls, folder: Path, environment: Mapping[str, str]) -> Self:
        """Return the identity in a folder, with the sealing key that the environment names."""
        path = environment.get(SEALING_KEY_VARIABLE)
        return cls(folder, sealing_key=Path(path) if path else None)

    @property
    def key(self) -> Path:
        """The private key; it never leaves the gateway."""
        return self.folder / KEY

    @property
    def join_spans(self) -> Path:
        """What the way of joining was, as spans (OTLP), until meta has sent them."""
        return self.folder / "join.otlp"

    @property
    def certificate(self) -> Path:
        """The certificate."""
        return self.folder / CERTIFICATE

    @property
    def authorities(self) -> Path:
        """Whom the gateway trusts."""
        return self.folder / AUTHORITIES

    @property
    def sealing_key(self) -> Path:
        """The key by which Secrets are unsealed: `fedge_sealing.SealingKey`."""
        return self._sealing_key or self.folder / SEALING_KEY

    @property
    def has_joined(self) -> bool:
        """Whether the gateway has joined."""
        return (self.folder / JOINED).exists()

    def joined(self) -> Joined | None:
        """Return what the gateway was told; None: it has not joined.

        Raises:
            IdentityError: the file is damaged.
        """
        path = self.folder / JOINED
        try:
            return Joined(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as exc:
            raise IdentityError(
                f"{path} cannot be read ({exc}): move {self.folder} away and join again"
            ) from exc

    def keep(self, joined: Joined, *, certificate: str, authorities: str) -> None:
        """Write what was granted: each file whole, the word that all is there last."""
        write_private(self.authorities, authorities.encode())
        write_private(self.certificate, certificate.encode())
        write_private(self.folder / JOINED, json.dumps(asdict(joined), indent=1).encode())
