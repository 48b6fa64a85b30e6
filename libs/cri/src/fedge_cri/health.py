"""Asking a service how it is, by gRPC's health protocol.

https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

from fedge_cri._generated import health_pb2 as health
from fedge_cri.calling import CallError, Calls


async def check_health(host: str, port: int, service: str, *, timeout_seconds: float) -> str:
    """Return ``SERVING``, ``NOT_SERVING``, ..., or why there is no answer.

    Args:
        host: to connect to; the connection is not encrypted.
        port: to connect to.
        service: as the server names it; empty for the server as a whole.
        timeout_seconds: for all of it.
    """
    async with Calls.to_address(host, port) as calls:
        try:
            answer = await calls.ask(
                "grpc.health.v1.Health/Check",
                health.HealthCheckRequest(service=service),
                health.HealthCheckResponse,
                seconds=timeout_seconds,
            )
        except CallError as exc:
            return str(exc)
    return str(health.HealthCheckResponse.ServingStatus.Name(answer.status))
