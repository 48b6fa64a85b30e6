"""The API server as a service."""

from typing import Final

from fedge_apiserver.settings import ApiServerSettings
from fedge_service import Ready, ServicePlugin


async def run(settings: ApiServerSettings, ready: Ready) -> None:
    """Serve until cancelled."""
    import asyncio  # noqa: PLC0415 - listing the services must not load the server

    from fedge_apiserver.server import running_server  # noqa: PLC0415

    async with running_server(settings):
        ready()
        await asyncio.get_running_loop().create_future()


plugin: Final = ServicePlugin(
    name="apiserver",
    side="cloud",
    summary="Kubernetes API kept in SQLite, for a cloud that has no cluster.",
    settings=ApiServerSettings,
    run=run,
)
