"""Controller, put together."""

from fedge_controller.heartbeats import Heartbeats
from fedge_controller.jobs.kinds import load_kinds
from fedge_controller.jobs.running import Jobs
from fedge_controller.settings import ControllerSettings
from fedge_controller.tokens import Tokens
from fedge_controller.writes import Writes
from fedge_dispatch import Replicas, serve
from fedge_fabric.fabric import Fabric
from fedge_kube import KubeClient
from fedge_service import Ready, ServicePlugin


async def run(settings: ControllerSettings, ready: Ready) -> None:
    """Serve until cancelled."""
    replicas = Replicas("controller")
    jobs = Jobs(load_kinds(), owns=replicas.owns)
    await serve(
        "controller",
        amqp_url=settings.amqp_url.get_secret_value(),
        kubeconfig=settings.kubeconfig,
        ready=ready,
        companions=[jobs],
        replicas=replicas,
        reshared=[jobs.reshared],
        more=[_heartbeats, _tokens, _writes],
    )


def _heartbeats(kube: KubeClient, fabric: Fabric) -> None:
    Heartbeats(kube).subscribe(fabric)


def _tokens(kube: KubeClient, fabric: Fabric) -> None:
    Tokens(kube, fabric).subscribe()


def _writes(kube: KubeClient, fabric: Fabric) -> None:
    Writes(kube, fabric).subscribe()


plugin = ServicePlugin(
    name="controller",
    side="cloud",
    summary="Kubernetes objects down to the nodes, their status up",
    settings=ControllerSettings,
    run=run,
)
