"""Device, put together."""

from fedge_device.credentials import Credentials
from fedge_device.kinds.devices import Devices
from fedge_device.kinds.resources import DEVICES
from fedge_device.known import Known
from fedge_device.settings import DeviceSettings
from fedge_device.summaries import Summaries
from fedge_dispatch import Budget, Replicas, load_resources, serve
from fedge_service import Ready, ServicePlugin

REPORTS_AT_ONCE = 1024
"""As many devices may have a report wait for its turn without holding up the others."""


async def run(settings: DeviceSettings, ready: Ready) -> None:
    """Serve until cancelled."""
    plugins, replicas = load_resources("device"), Replicas("device")
    budget = Budget(settings.writes_per_second, lambda: replicas.count)
    devices = plugins.get(DEVICES.name)
    known = devices.known if isinstance(devices, Devices) else Known()
    credentials = Credentials(known.mark)
    every = settings.summary_every_seconds
    if isinstance(devices, Devices):
        devices.owns = replicas.owns
    await serve(
        "device",
        amqp_url=settings.amqp_url.get_secret_value(),
        kubeconfig=settings.kubeconfig,
        ready=ready,
        plugins=plugins,
        companions=[Summaries(devices, budget, every_seconds=every, account=credentials.finding)]
        if isinstance(devices, Devices)
        else [],
        makers=[credentials],
        replicas=replicas,
        reshared=[devices.reshared] if isinstance(devices, Devices) else [],
        budget=budget,
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
