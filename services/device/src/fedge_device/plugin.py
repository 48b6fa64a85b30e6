"""Device, put together."""

from fedge_device.settings import DeviceSettings
from fedge_dispatch import serve
from fedge_service import Ready, ServicePlugin

REPORTS_AT_ONCE = 1024
"""As many devices may have a report wait for its turn without holding up the others."""


async def run(settings: DeviceSettings, ready: Ready) -> None:
    """Serve until cancelled."""
    await serve(
        "device",
        amqp_url=settings.amqp_url.get_secret_value(),
        kubeconfig=settings.kubeconfig,
        ready=ready,
        write_every_seconds=settings.write_every_seconds,
        reports_at_once=REPORTS_AT_ONCE,
    )


plugin = ServicePlugin(
    name="device",
    side="cloud",
    summary="devices and their models down to the nodes, their status up",
    settings=DeviceSettings,
    run=run,
)
