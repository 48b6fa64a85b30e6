"""Tokens of service accounts: asked for, kept on disk, renewed in time, and not missed offline.

https://kubernetes.io/docs/concepts/storage/projected-volumes/#serviceaccounttoken

A token is kept with its pod's other things, so that a gateway that was switched on has its pods
back with the cloud away. It is renewed when four fifths of its life, or a day, are over. If it runs
out because the cloud is away, the node signs one itself with a key of its own, with what the
cloud's said of the pod: whoever trusts that key on the node can go on checking. The cloud does not
take such a token, and a pod that never had one of the cloud's gets none.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import uuid
from collections.abc import Awaitable, Callable, Collection
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog
from typing_extensions import override

from fedge_edged.errors import MountError
from fedge_edged.pods import Pod, ServiceAccountTokenSource
from fedge_edged.ports import Clock, Tokens
from fedge_objects import JsonObject
from fedge_sealing import NodeSeal, SealError, is_sealed, seal, write_private

log = structlog.stdlib.get_logger("fedge.edged")

RENEW_AFTER_SHARE = 0.8
RENEW_AFTER_SECONDS = 24 * 3600.0
RETRY_FIRST_SECONDS = 5.0
RETRY_MOST_SECONDS = 60.0
MOST_KEYS = 8
MOST_ISSUERS = 3
OFFLINE_SECONDS = 3600
"""How long a token that the node signed is valid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Which token a pod needs."""

    uid: str
    namespace: str
    pod: str
    service_account: str
    audience: str
    seconds: int

    @property
    def name(self) -> str:
        """A name for it that is the same in every run."""
        asked = json.dumps([self.service_account, self.audience, self.seconds])
        return hashlib.sha256(asked.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A token of the cloud's; times in seconds since the epoch."""

    token: str
    issued: float
    expires: float

    @property
    def renew_at(self) -> float:
        """When to ask for the next."""
        life = self.expires - self.issued
        return self.issued + min(life * RENEW_AFTER_SHARE, RENEW_AFTER_SECONDS)


@dataclass(slots=True)
class _Asking:
    next_at: float = 0.0
    wait: float = RETRY_FIRST_SECONDS


Ask = Callable[[Wish], Awaitable[None]]
"""Asks the cloud for a token; its answer comes by ``NodeTokens.take``, or never."""


class NodeTokens(Tokens):
    """The tokens of the node's pods."""

    def __init__(
        self,
        *,
        folder: Path,
        key_file: Path,
        issuers_file: Path,
        node: str,
        clock: Clock,
        offline: bool,
        seal: NodeSeal,
        renewed: Callable[[str], None],
    ) -> None:
        """Prepare.

        Args:
            folder: in which each pod has one that is called by its uid.
            key_file: of the key with which the node signs.
            issuers_file: of the keys of those who issue tokens, by issuer.
            node: its name.
            clock: tells when tokens run out.
            offline: whether the node signs tokens while the cloud is away.
            seal: by which what is kept is sealed.
            renewed: called with the uid of a pod that has a new token.
        """
        self._folder = folder
        self._key_file = key_file
        self._issuers_file = issuers_file
        self._node = node
        self._clock = clock
        self._offline = offline
        self._seal = seal
        self._renewed = renewed
        self._held: dict[Wish, Held] = {}
        self._own: dict[Wish, Held] = {}
        self._asking: dict[Wish, _Asking] = {}
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    @override
    def token(self, pod: Pod, source: ServiceAccountTokenSource) -> str:
        """See ``fedge_edged.ports.Tokens``."""
        wish = Wish(
            uid=pod.metadata.uid,
            namespace=pod.metadata.namespace,
            pod=pod.metadata.name,
            service_account=pod.spec.service_account_name,
            audience=source.audience,
            seconds=source.expiration_seconds,
        )
        if wish not in self._asking:
            self._asking[wish] = _Asking()
            self._loop.call_soon_threadsafe(self._news.set)  # volumes are made in threads
        held = self._held.get(wish) or self._read(wish)
        if held is None:
            raise MountError(
                f"failed to fetch token: waiting for the cloud to issue one for service account "
                f'"{wish.service_account}"'
            )
        self._held[wish] = held
        if held.expires > self._clock.now() or not self._offline:
            return held.token
        return self._signed_here(wish, held).token

    def take(self, data: JsonObject) -> None:
        """Take a token that the cloud has issued; it is on the disk before it is used.

        Raises:
            ValueError, KeyError, TypeError: the message is none of this kind.
        """
        wish = next((each for each in self._asking if _is_about(each, data)), None)
        if wish is None:
            return  # its pod is gone, or another edged asked
        token = str(data["token"])
        expires = datetime.fromisoformat(str(data["expires"])).timestamp()
        held = Held(token=token, issued=self._clock.now(), expires=expires)
        self._write(wish, held)
        self._keep_keys(data.get("issuer"), data.get("keys"))
        self._held[wish] = held
        self._own.pop(wish, None)
        self._asking[wish] = _Asking()
        log.info("token_issued", pod=f"{wish.namespace}/{wish.pod}", audience=wish.audience)
        self._renewed(wish.uid)
        self._news.set()

    async def run(self, ask: Ask, alive: Callable[[], Collection[str]]) -> None:
        """Ask for what is missing or has to be renewed, until cancelled.

        Args:
            ask: sends a question.
            alive: tells the uids of the pods that the node has.
        """
        while True:
            self._news.clear()
            there = alive()
            for wish in list(self._asking):
                if wish.uid not in there:
                    del self._asking[wish]
                    self._held.pop(wish, None)
                    self._own.pop(wish, None)
            waits = [await self._look_after(wish, ask) for wish in list(self._asking)]
            try:
                async with asyncio.timeout(min(waits, default=None)):
                    await self._news.wait()
            except TimeoutError:
                continue  # something is due

    async def _look_after(self, wish: Wish, ask: Ask) -> float:
        """Do what is due for one token; return after how many seconds to look again."""
        now = self._clock.now()
        held, asking = self._held.get(wish), self._asking[wish]
        due = max(held.renew_at if held is not None else 0.0, asking.next_at)
        if now >= due:
            asking.next_at = due = now + asking.wait
            asking.wait = min(asking.wait * 2, RETRY_MOST_SECONDS)
            await ask(wish)
        if held is None or not self._offline:
            return due - now
        own = self._own.get(wish)
        if held.expires <= now and (own is None or own.renew_at <= now):
            self._signed_here(wish, held)
            self._renewed(wish.uid)
            own = self._own[wish]
        changes = held.expires if held.expires > now else own.renew_at if own else now
        return max(0.0, min(due, changes) - now)

    def _signed_here(self, wish: Wish, held: Held) -> Held:
        now = self._clock.now()
        own = self._own.get(wish)
        if own is None or own.renew_at <= now:
            pod = f"{wish.namespace}/{wish.pod}"
            try:
                token = sign_here(held.token, self._key(), node=self._node, now=int(now))
            except (ValueError, TypeError, IndexError) as exc:
                token = held.token  # nothing can be read of it that could be said again
                log.warning("token_not_signed_here", pod=pod, reason=type(exc).__name__)
            else:
                log.warning("token_signed_here", pod=pod)
            own = self._own[wish] = Held(token=token, issued=now, expires=now + OFFLINE_SECONDS)
        return own

    def _key(self) -> bytes:
        """Return the node's key, which is made if there is none."""
        if not self._key_file.exists():
            write_private(self._key_file, secrets.token_bytes(32))
        return self._key_file.read_bytes()

    def _keep_keys(self, issuer: object, keys: object) -> None:
        """Keep an issuer's keys where the node's own API finds them; those of before stay, a few.

        Tokens of before are good until they run out, whatever key the issuer has now.
        """
        if not isinstance(issuer, str) or not isinstance(keys, list) or not keys:
            return
        try:
            held = json.loads(self._issuers_file.read_bytes())
        except (OSError, ValueError):
            held = {}
        before = (held.get(issuer) or {}).get("keys") or []
        kept = [*keys, *(each for each in before if each not in keys)][:MOST_KEYS]
        if kept != before:
            others = list(held.items())[-MOST_ISSUERS:]
            known = dict(others) | {issuer: {"keys": kept}}
            self._issuers_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_private(self._issuers_file, json.dumps(known).encode())

    def _path(self, wish: Wish) -> Path:
        return self._folder / wish.uid / "tokens" / f"{wish.name}.json"

    def _read(self, wish: Wish) -> Held | None:
        path = self._path(wish)
        try:
            content = json.loads(path.read_text())
            if is_sealed(content):
                return Held(**json.loads(self._seal.key.unseal(content, _subject(wish))))
            held = Held(**content)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as exc:
            log.warning("token_unreadable", path=str(path), reason=type(exc).__name__)
            return None
        self._write(wish, held)  # it lay open
        return held

    def _write(self, wish: Wish, held: Held) -> None:
        content = json.dumps(asdict(held)).encode()
        try:
            sealed = seal(content, self._seal.key.public, _subject(wish))
        except SealError as exc:
            # it is good while edged runs, and asked for anew after
            log.warning("token_not_kept", pod=f"{wish.namespace}/{wish.pod}", reason=str(exc))
            return
        write_private(self._path(wish), json.dumps(sealed).encode())


def sign_here(token: str, key: bytes, *, node: str, now: int) -> str:
    """Return a token that says what ``token`` says, but for who signed it, and when (HS256)."""
    claims: dict[str, Any] = json.loads(_decoded(token.split(".")[1]))
    claims |= {
        "iss": f"fedge://{node}",
        "iat": now,
        "nbf": now,
        "exp": now + OFFLINE_SECONDS,
        "jti": str(uuid.uuid4()),
    }
    head = {"alg": "HS256", "kid": hashlib.sha256(key).hexdigest()[:16]}
    signed = f"{_encoded(_json(head))}.{_encoded(_json(claims))}"
    signature = hmac.new(key, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{_encoded(signature)}"


def _is_about(wish: Wish, data: JsonObject) -> bool:
    asked = (wish.uid, wish.service_account, wish.audience, wish.seconds)
    return asked == tuple(data[each] for each in ("uid", "service_account", "audience", "seconds"))


def _subject(wish: Wish) -> str:
    return f"token {wish.uid}/{wish.name}"


def _json(value: JsonObject) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
