"""Starts the control loops."""

import asyncio

from fedge_apiserver.registry import Registry
from fedge_apiserver.settings import ApiServerSettings


async def run_controllers(registry: Registry, settings: ApiServerSettings) -> None:
    """Run until cancelled."""
    await asyncio.get_running_loop().create_future()
