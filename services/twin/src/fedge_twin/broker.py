"""The edge's broker told of accounts, as Erlang expressions.

RabbitMQ's functions that are used are those of its own command line, the same in 3.10 and 4.x. Who
has no topic permissions may use every topic, so they are given before the others. Accounts of
devices are known by their tag, which gives no rights; no other user is touched.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from fedge_devices import Credential
from fedge_fabric import UnavailableError
from fedge_fabric.evaluating import carried, evaluate, read_sent, sent
from fedge_twin.listeners import MQTT_EXCHANGE
from fedge_twin.rights import Rights, rights_of

TAG: Final = "fedge-device"
BATCH: Final = 250
"""Accounts in one expression: with the longest names it is still short enough for a command."""
_INTERNAL: Final = "rabbit_auth_backend_internal"
_VHOST: Final = '<<"/">>'
_ACTOR: Final = '<<"fedge">>'
_EXCHANGE: Final = f'<<"{MQTT_EXCHANGE}">>'

_CLOSE: Final = (
    "Close = fun(U) -> rabbit_connection_tracking:close_connections("
    "rabbit_connection_tracking:list_of_user(U),"
    ' "account revoked or its password changed", 0) end'
)
_KNOWN: Final = (
    "begin Rows = fun(Keys, Lists) -> [[proplists:get_value(K, L) || K <- Keys] || L <- Lists] end,"
    " [begin N = proplists:get_value(user, U),"
    f" {{ok, Internal}} = {_INTERNAL}:lookup_user(N),"
    " [N, base64:encode(internal_user:get_password_hash(Internal)),"
    f" Rows([vhost, configure, write, read], {_INTERNAL}:list_user_permissions(N)),"
    f" Rows([vhost, exchange, write, read], {_INTERNAL}:list_user_topic_permissions(N))] end"
    f" || U <- {_INTERNAL}:list_users(), lists:member('{TAG}', proplists:get_value(tags, U))] end"
)


class Broker:
    """Tells the edge's broker, with a command that evaluates an expression in it."""

    def __init__(self, command: Sequence[str]) -> None:
        """Take note of whom to tell.

        Args:
            command: to which the expression is added as last argument; prints the value.
        """
        self._command = tuple(command)

    async def known(self) -> Mapping[str, str]:
        """Return the digest of each account's rights and password hash, by user name."""
        answer = read_sent(await evaluate(self._command, sent(_KNOWN)))
        return {user: _digest(*account) for user, *account in answer}

    async def put(self, credentials: Collection[Credential]) -> None:
        """Make accounts, or give them these rights and passwords."""
        for batch in _batches([_row(each) for each in credentials]):
            await self._tell(
                f"begin {_CLOSE}, [begin"
                f" Before = case {_INTERNAL}:lookup_user(U) of"
                " {ok, I} -> base64:encode(internal_user:get_password_hash(I)); _ -> H end,"
                f" ok = {_INTERNAL}:put_user(#{{name => U, password_hash => H,"
                " hashing_algorithm => rabbit_password_hashing_sha256,"
                f' tags => <<"{TAG}">>}}, {_ACTOR}),'
                f" ok = {_INTERNAL}:set_topic_permissions("
                f"U, {_VHOST}, {_EXCHANGE}, Says, Hears, {_ACTOR}),"
                f" ok = {_INTERNAL}:set_permissions(U, {_VHOST}, C, W, R, {_ACTOR}),"
                " Before =:= H orelse Close(U)"
                f" end || [U, H, C, W, R, Says, Hears] <- {carried(batch)}], told end"
            )

    async def delete(self, users: Collection[str]) -> None:
        """Delete accounts and close their connections."""
        for batch in _batches(list(users)):
            await self._tell(
                f"begin {_CLOSE}, [begin case {_INTERNAL}:lookup_user(U) of"
                f" {{ok, _}} -> ok = {_INTERNAL}:delete_user(U, {_ACTOR}); _ -> ok end,"
                f" Close(U) end || U <- {carried(batch)}], told end"
            )

    async def _tell(self, expression: str) -> None:
        answer = await evaluate(self._command, expression)
        if answer != "told":
            raise UnavailableError(f"the edge's broker answered {answer[-400:]!r}")


def _digest(
    password_hash: str, permissions: Sequence[Sequence[str]], topics: Sequence[Sequence[str]]
) -> str:
    match [*permissions], [*topics]:
        case [["/", configure, write, read]], [["/", exchange, says, hears]]:
            if exchange == MQTT_EXCHANGE:
                rights = Rights(configure, write, read, says, hears)
                return rights.digest(password_hash)
    return ""


def _row(credential: Credential) -> list[str]:
    rights = rights_of(credential.namespace, credential.name)
    return [
        credential.user,
        credential.password_hash,
        rights.configure,
        rights.write,
        rights.read,
        rights.says,
        rights.hears,
    ]


def _batches(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(rows), BATCH):
        yield rows[start : start + BATCH]
