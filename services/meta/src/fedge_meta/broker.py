"""What the edge's broker is told of its links, as Erlang expressions.

RabbitMQ's functions that are used are those of its own command line, the same in 3.10 and 4.x
(https://www.rabbitmq.com/docs/shovel-dynamic, https://www.rabbitmq.com/docs/definitions).
"""

from collections.abc import Sequence

from fedge_fabric import MessageClass
from fedge_fabric import topology as t
from fedge_fabric.definitions import upstream_name
from fedge_fabric.evaluating import evaluate
from fedge_objects import NodeName

_RUNNING = (
    '[{<<"shovel">>, element(2, element(1, S))} || S <- rabbit_shovel_status:status(),'
    " is_tuple(element(1, S)), is_tuple(element(3, S)), element(1, element(3, S)) =:= running]"
    ' ++ [{<<"federation-upstream">>, proplists:get_value(upstream, S)}'
    " || S <- rabbit_federation_status:status(), proplists:get_value(status, S) =:= running]"
)

_END_STUCK = (
    "[exit(P, kill) || P <- erlang:processes(),"
    " {current_stacktrace, T} <- [erlang:process_info(P, current_stacktrace)],"
    " lists:any(fun({rabbit_amqp091_shovel, make_conn_and_chan, _, _}) -> true;"
    " ({M, _, _, _}) -> M =:= rabbit_federation_exchange_link andalso"
    ' lists:keymember(<<"federation-upstream">>, 1, Lost) end, T)]'
)
"""A link whose connection broke while it was being made waits for an answer for over a minute, and
ends for nobody. A shovel at this step does not consume yet: one that is ended later would leave its
consumer behind. What a federation link leaves behind are connections, which are dropped before."""


class Broker:
    """Asks the edge's broker, with a command that evaluates an expression in it."""

    def __init__(self, *, node: NodeName, command: Sequence[str], port: int, own_port: int) -> None:
        """Take note of whom to ask.

        Args:
            node: whose broker it is.
            command: to which the expression is added as last argument; prints the value.
            port: of the cloud's broker.
            own_port: of the edge's own.
        """
        self._node = node
        self._command = tuple(command)
        self._port = port
        self._own_port = own_port

    async def drop_connections(self) -> str:
        """Close all connections to the cloud at once, so that the links dial anew.

        The other side hears of it by a reset, so it does not wait for this one either. What was
        under way and not confirmed is sent again by the links.

        Raises:
            UnavailableError: the broker does not answer.
        """
        return await self._evaluate(f"length({self._drop})")

    async def restore_links(self) -> str:
        """Make every link that should run and does not anew, from the definitions.

        Is the federation link among them, then all connections are dropped too.

        Raises:
            UnavailableError: the broker does not answer.
        """
        wanted = ", ".join(
            [f'{{<<"shovel">>, <<"{t.up_queue(each)}">>}}' for each in MessageClass]
            + [f'{{<<"federation-upstream">>, <<"{upstream_name(self._node)}">>}}']
        )
        return await self._evaluate(
            f"begin Lost = [{wanted}] -- ({_RUNNING}),"
            ' lists:keymember(<<"federation-upstream">>, 1, Lost) andalso'
            f" length({self._drop}), {_END_STUCK},"
            ' [catch rabbit_runtime_parameters:clear_any(<<"/">>, C, N, <<"fedge">>)'
            " || {C, N} <- Lost],"
            " ok = rabbit_definitions:maybe_load_definitions(), [N || {_, N} <- Lost] end"
        )

    async def read_certificates_again(self) -> str:
        """Have links read their certificates anew when they dial next.

        Raises:
            UnavailableError: the broker does not answer.
        """
        return await self._evaluate("ssl:clear_pem_cache()")

    @property
    def _drop(self) -> str:
        # of this machine's own port on loopback the services' connections are
        others = ", A =/= {127,0,0,1}" if self._port == self._own_port else ""
        return (
            "[P || P <- erlang:ports(), {ok, {A, N}} <- [catch inet:peername(P)],"
            f" N =:= {self._port}{others},"
            " begin catch inet:setopts(P, [{linger, {true, 0}}]),"
            # their owners read the end and close; closed from here, they would not notice
            " (catch gen_tcp:shutdown(P, read)) =:= ok end]"
        )

    async def _evaluate(self, expression: str) -> str:
        return await evaluate(self._command, expression)
