"""A containerd of our own, inside an edge host: own root, own state, own CNI network.

Works with containerd 1.6 and later. Its socket is where everybody looks for it, in a ``/run`` that
is the host's own: a path in the data folder may be longer than sockets' paths can be. Sources:
https://github.com/containerd/containerd/blob/main/docs/cri/config.md,
https://www.cni.dev/plugins/current/.
"""

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path

from fedge_local import images
from fedge_local.commands import program
from fedge_local.errors import MissingError
from fedge_local.hosts import EdgeHost
from fedge_local.servers import Server

POD_SUBNET = "10.88.0.0/16"
SOCKET = Path("/run/containerd/containerd.sock")
"""Where it listens, for those inside the host."""
_NAMESPACE = "k8s.io"
_CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"), Path("/usr/libexec/cni"))
# what no edge needs: other file systems' snapshotters, tracing, sharing of layers over NRI
_DISABLED = (
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.internal.v1.restart",
    "io.containerd.internal.v1.tracing",
    "io.containerd.tracing.processor.v1.otlp",
    "io.containerd.nri.v1.nri",
)


class Containerd(Server):
    """containerd with the CRI plugin, in an edge host."""

    def __init__(
        self,
        *,
        host: EdgeHost,
        folder: Path,
        recipes: Iterable[images.ImageRecipe] = images.ALL,
        pod_subnet: str = POD_SUBNET,
        run: Path = SOCKET.parent,
    ) -> None:
        """Describe it.

        Args:
            host: where it runs.
            folder: of its configuration, its images and its log.
            recipes: images that it is given.
            pod_subnet: of its pods' addresses.
            run: folder of its socket and its state, inside the host; each on a host has its own.
        """
        super().__init__(name="containerd", folder=folder, place=host)
        self._host = host
        self._recipes = tuple(recipes)
        self._pod_subnet = pod_subnet
        self._run = run

    @property
    def socket(self) -> Path:
        """Where this machine reaches it; good until the next power cut."""
        return self._host.seen_from_outside(self._run / SOCKET.name)

    async def prepare(self) -> None:
        """Write its configuration and that of its pods' network.

        Raises:
            MissingError: the CNI plugins are not installed.
        """
        network = self.folder / "cni"
        network.mkdir(exist_ok=True)
        conflist = network / "10-fedge.conflist"
        conflist.write_text(json.dumps(_conflist(self._pod_subnet), indent=2))
        (self.folder / "config.toml").write_text(self._configuration(network))

    def command(self) -> list[str]:
        """Return the command."""
        return [program("containerd"), "--config", str(self.folder / "config.toml")]

    async def answers(self) -> bool:
        """Say whether its socket takes connections."""
        try:
            _, writer = await asyncio.open_unix_connection(self.socket)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True

    async def finish(self) -> None:
        """Give it the images that it has not yet."""
        await self.load(*self._recipes)

    async def load(self, *recipes: images.ImageRecipe) -> None:
        """Import images; one that is there with the same digest is left alone.

        Raises:
            CommandFailedError: containerd refused one.
        """
        there = {
            line.split()[0]: line.split()[2]
            for line in (await self.ctr("images", "list")).splitlines()[1:]
        }
        for recipe in recipes:
            image = images.build(recipe)
            if there.get(image.name) == image.digest:
                continue
            archive = self.folder / "import.tar"
            archive.write_bytes(image.archive)
            await self.ctr("images", "import", str(archive))
            archive.unlink()

    async def ctr(self, *arguments: str) -> str:
        """Run containerd's own tool on what the CRI plugin sees."""
        tool = [
            program("ctr"),
            "--address",
            str(self._run / SOCKET.name),
            "--namespace",
            _NAMESPACE,
        ]
        return await self._host.run(*tool, *arguments)

    def _configuration(self, network: Path) -> str:
        return f"""\
version = 2
root = {_quoted(self.folder / "root")}
state = {_quoted(self._run)}
disabled_plugins = {json.dumps(_DISABLED)}

[grpc]
  address = {_quoted(self._run / SOCKET.name)}

[plugins."io.containerd.internal.v1.opt"]
  path = {_quoted(self.folder / "opt")}

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = {_quoted(images.PAUSE.name)}
  # a kernel may deny scores below our own, and no container may start then
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = {_quoted(_cni_folder())}
  conf_dir = {_quoted(network)}

[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
  default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false
"""


def _conflist(subnet: str) -> dict[str, object]:
    """Return the pods' network; its leases lie where a power cut clears them."""
    return {
        "cniVersion": "0.4.0",
        "name": "fedge",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": True,
                "ipMasq": False,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/cni",
                    "ranges": [[{"subnet": subnet}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def _cni_folder() -> Path:
    for folder in _CNI_FOLDERS:
        if (folder / "bridge").exists():
            return folder
    raise MissingError(
        "the CNI plugins are not installed: run `apt-get install containernetworking-plugins`"
    )


def _quoted(value: object) -> str:
    return json.dumps(str(value))
