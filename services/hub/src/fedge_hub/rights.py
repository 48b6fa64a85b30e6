"""What nodes may do at the cloud's broker: made when they join, mended when it drifts.

Each node's user exists because a record says so, and has exactly the rights that follow from the
record. Whatever else somebody gave it is taken away; users of nodes that no record knows are
removed and their connections closed. Over RabbitMQ's management API
(https://www.rabbitmq.com/docs/management#http-api).
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final, Protocol
from urllib.parse import quote

import aiohttp
import structlog
from typing_extensions import override

from fedge_enrolment.names import is_user_of_a_node
from fedge_enrolment.records import RecordsAwayError
from fedge_fabric import UnavailableError
from fedge_fabric.definitions import node_definitions
from fedge_objects import JsonObject, NodeName
from fedge_service import backoff

log = structlog.stdlib.get_logger("fedge.hub")

CHECK_SECONDS: Final = 60.0
"""How often rights are compared with what they should be when nothing happens."""
APART_SECONDS: Final = 0.5
_TIMEOUT_SECONDS: Final = 30.0
_KINDS: Final = ("permissions", "topic_permissions")


class BrokerUsers(Protocol):
    """The users of a broker. Each method may raise ``UnavailableError``."""

    async def definitions(self) -> Mapping[str, list[JsonObject]]:
        """Return ``users``, ``permissions`` and ``topic_permissions``, as definitions have them."""
        ...

    async def make(self, definitions: Mapping[str, list[JsonObject]]) -> None:
        """Make or change what ``definitions`` say, and leave all else."""
        ...

    async def take(self, user: str, definitions: Mapping[str, list[JsonObject]]) -> None:
        """Take rights from a user: those that ``definitions`` name."""
        ...

    async def remove(self, users: Collection[str]) -> None:
        """Remove users and close their connections."""
        ...


class Rights:
    """Keeps the broker's users as the records say."""

    def __init__(
        self, broker: BrokerUsers, wanted: Callable[[], Awaitable[Mapping[str, NodeName]]]
    ) -> None:
        """Take note of whom to ask.

        Args:
            broker: the cloud's.
            wanted: returns which users there should be, and which node each is; may raise
                ``RecordsAwayError``.
        """
        self._broker = broker
        self._wanted = wanted
        self._asked: dict[str, tuple[NodeName, asyncio.Future[None]]] = {}
        self._news = asyncio.Event()
        self._changed = asyncio.Event()
        self._changed.set()

    async def provide(self, user: str, node: NodeName) -> None:
        """Make a user at once; returns when it may log in.

        Raises:
            UnavailableError: the broker is away.
        """
        known = self._asked.get(user)
        done = asyncio.get_running_loop().create_future() if known is None else known[1]
        self._asked[user] = (node, done)
        self._news.set()
        await asyncio.shield(done)

    def notice(self) -> None:
        """Take note that the records may have changed."""
        self._changed.set()

    async def run(self) -> None:
        """Make what is asked for, and compare at each change and now and then; until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._make_asked(), name="rights-asked")
            tasks.create_task(self._keep(), name="rights-kept")

    async def compare(self) -> int:
        """Compare once and mend; return how many users were not as they should be.

        Raises:
            UnavailableError: the broker is away.
            RecordsAwayError: it is not known what should be.
        """
        # the broker first: who is there by then and has no record lost it, or never had one
        found = await self._broker.definitions()
        wanted = await self._wanted()
        unknown = [
            each["name"]
            for each in found["users"]
            if is_user_of_a_node(each["name"]) and each["name"] not in wanted
        ]
        should = node_definitions(wanted)
        is_now, to_be = _by_user(found), _by_user(should)
        differing = [user for user in wanted if is_now.get(user) != to_be[user]]
        for user in differing:
            if user in is_now:
                await self._broker.take(user, _surplus(is_now[user], to_be[user]))
        if differing:
            await self._broker.make(node_definitions({user: wanted[user] for user in differing}))
        if unknown:
            await self._broker.remove(unknown)
        if differing or unknown:
            log.warning(
                "rights_mended",
                made=[user for user in differing if user not in is_now],
                changed=[user for user in differing if user in is_now],
                removed=unknown,
            )
        return len(differing) + len(unknown)

    async def _keep(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_SECONDS):
                    await self._changed.wait()
            self._changed.clear()
            try:
                await self.compare()
            except (UnavailableError, RecordsAwayError) as exc:
                log.warning("rights_not_compared", reason=str(exc))
                self._changed.set()
            await asyncio.sleep(APART_SECONDS)

    async def _make_asked(self) -> None:
        """Make users, all that were asked for meanwhile in one go."""
        while True:
            await self._news.wait()
            self._news.clear()
            asked, self._asked = self._asked, {}
            if not asked:
                continue
            try:
                await self._broker.make(
                    node_definitions({user: node for user, (node, _) in asked.items()})
                )
            except UnavailableError as exc:
                for _, done in asked.values():
                    done.set_exception(exc)
                    done.exception()  # whoever asked may have gone
            except BaseException:
                for _, done in asked.values():
                    done.cancel()
                raise
            else:
                for _, done in asked.values():
                    done.set_result(None)


class ManagementApi(BrokerUsers):
    """RabbitMQ's management API."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        """Take note of whom to ask.

        Args:
            session: with the account of an administrator.
            url: of the API, without ``/api``.
        """
        self._session = session
        self._url = url.rstrip("/")

    @override
    async def definitions(self) -> Mapping[str, list[JsonObject]]:
        whole = await self._call("GET", "definitions")
        return {kind: whole.get(kind) or [] for kind in ("users", *_KINDS)}

    @override
    async def make(self, definitions: Mapping[str, list[JsonObject]]) -> None:
        await self._call("POST", "definitions", definitions)

    @override
    async def take(self, user: str, definitions: Mapping[str, list[JsonObject]]) -> None:
        for kind in _KINDS:
            path = kind.replace("_", "-")
            for vhost in {each["vhost"] for each in definitions[kind]}:
                await self._call("DELETE", f"{path}/{quote(vhost, safe='')}/{quote(user, safe='')}")

    @override
    async def remove(self, users: Collection[str]) -> None:
        await self._call("POST", "users/bulk-delete", {"users": list(users)})
        # the broker closes their connections by itself, and stumbles over those that are closing
        for user in users:
            path = f"connections/username/{quote(user, safe='')}"
            async for _ in backoff(first_seconds=0.1, most_seconds=1):
                if not await self._call("GET", path):
                    break
                with contextlib.suppress(UnavailableError):
                    await self._call("DELETE", path)

    async def _call(self, method: str, path: str, body: object = None) -> Any:
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
        try:
            async with self._session.request(
                method, f"{self._url}/api/{path}", json=body, timeout=timeout
            ) as answer:
                text = await answer.text()
                if answer.status == 404 and method == "DELETE":  # noqa: PLR2004 - gone already
                    return {}
                if answer.status >= 400:  # noqa: PLR2004
                    raise UnavailableError(
                        f"the broker's management API answers {answer.status} to {method} {path}: "
                        f"{text[:300]}; the account needs the tag `administrator`"
                    )
                return await answer.json() if text and method == "GET" else {}
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as exc:
            raise UnavailableError(
                f"the broker's management API at {self._url} does not answer: {exc!r}"
            ) from exc


def _by_user(definitions: Mapping[str, list[JsonObject]]) -> dict[str, dict[str, Any]]:
    """Return what there is of each user of a node, comparable."""
    found: dict[str, dict[str, Any]] = {
        each["name"]: {
            "hash": each.get("password_hash", ""),
            "tags": list(filter(None, _tags(each.get("tags", "")))),
            "limits": each.get("limits") or {},
            **{kind: [] for kind in _KINDS},
        }
        for each in definitions["users"]
        if is_user_of_a_node(each["name"])
    }
    for kind in _KINDS:
        for each in definitions[kind]:
            if (user := each["user"]) in found:
                found[user][kind].append(dict(sorted(each.items())))
    for each in found.values():
        for kind in _KINDS:
            each[kind].sort(key=lambda right: sorted(map(str, right.values())))
    return found


def _tags(value: object) -> list[str]:
    """Return tags, which are a text of RabbitMQ 3.8 and a list since."""
    return value.split(",") if isinstance(value, str) else [str(each) for each in value or ()]  # type: ignore[attr-defined]


def _surplus(is_now: Mapping[str, Any], to_be: Mapping[str, Any]) -> dict[str, list[JsonObject]]:
    """Return which rights a user has and should not have."""
    return {kind: [each for each in is_now[kind] if each not in to_be[kind]] for kind in _KINDS}
