"""Joining at the first boot, with the token that the container was handed."""

import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from fedge_boot.errors import NOT_NOW, BootError
from fedge_enrolment.identity import Identity, IdentityError, Joined
from fedge_objects import NodeName


def join(
    environment: Mapping[str, str], identity: Identity, *, say: Callable[[str], None]
) -> Joined:
    """Return what the gateway was told when it joined, now or at an earlier boot.

    A cloud that cannot be reached is tried again until the token ends.

    Args:
        environment: of the container.
        identity: where what proves who the gateway is lies, or will.
        say: told what is waited for.

    Raises:
        BootError: it cannot join; with what to do.
    """
    try:
        if (joined := identity.joined()) is not None:
            return joined
        text = environment.get("FEDGE_JOIN_TOKEN", "")
        if file := environment.get("FEDGE_JOIN_TOKEN_FILE"):
            text = Path(file).read_text()
        if not text.strip():
            raise BootError(
                "this gateway has not joined: set FEDGE_JOIN_TOKEN to what `fedge token create` "
                "prints"
            )
        return _join_with(text.strip(), environment, identity, say)
    except (OSError, ValueError, IdentityError) as exc:
        raise BootError(f"this gateway did not join: {exc}") from exc


def _join_with(
    text: str, environment: Mapping[str, str], identity: Identity, say: Callable[[str], None]
) -> Joined:
    # what joining loads is not needed at later boots
    from fedge_enrolment import joining  # noqa: PLC0415
    from fedge_enrolment.dialling import DialError  # noqa: PLC0415
    from fedge_enrolment.join_trace import traced  # noqa: PLC0415
    from fedge_enrolment.refusals import RefusedError  # noqa: PLC0415
    from fedge_enrolment.tokens import JoinToken  # noqa: PLC0415
    from fedge_service import TraceSettings  # noqa: PLC0415

    token = JoinToken.decode(text)
    name = environment.get("FEDGE_EDGE_NODE_NAME") or token.node or platform.node().lower()
    left = max(0.0, token.expires - time.time())
    say(f"joining the cloud at {token.cloud} as {name}; trying for up to {left / 60:.0f} min")
    try:
        with traced(name, identity.join_spans, ratio=TraceSettings().ratio, warn=say):
            return joining.join(identity, token, node=NodeName(name), patience_seconds=left)
    except DialError as exc:
        raise BootError(f"this gateway did not join: {exc}", code=NOT_NOW) from exc
    except (RefusedError, joining.FakeCloudError, joining.ClockError) as exc:
        raise BootError(f"this gateway did not join: {exc}") from exc
