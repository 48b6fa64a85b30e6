"""Asking a service how it is, by gRPC's health protocol.

https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

from typing import Any

from grpc import aio

from fedge_cri._generated import health_pb2 as health
from fedge_cri._generated import health_pb2_grpc as health_grpc


async def check_health(address: str, service: str, *, timeout_seconds: float) -> str:
    """Return ``SERVING``, ``NOT_SERVING``, ..., or why there is no answer.

    Args:
        address: host and port; the connection is not encrypted.
        service: as the server names it; empty for the server as a whole.
        timeout_seconds: for all of it.
    """
    options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
    async with aio.insecure_channel(address, options=options) as channel:
        stub: Any = health_grpc.HealthStub(channel)
        try:
            answer = await stub.Check(
                health.HealthCheckRequest(service=service), timeout=timeout_seconds
            )
        except aio.AioRpcError as exc:
            return f"{exc.code().name}: {exc.details()}"
    return str(health.HealthCheckResponse.ServingStatus.Name(answer.status))
