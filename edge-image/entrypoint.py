# ruff: noqa: INP001 - a program of the image, no package
"""What runs in the edge's image: a broker, containerd, and the services, in one container.

The services start at once, beside the broker and containerd: pods come back from SQLite as soon as
containerd answers, whether or not the broker does. When any of the three ends, all end and the
container with them; whoever started it starts it again, and everything is in ``/var/lib/fedge``.

At its first boot the gateway joins with the token in ``FEDGE_JOIN_TOKEN`` (or the file that
``FEDGE_JOIN_TOKEN_FILE`` names), as the node ``FEDGE_EDGE_NODE_NAME`` or the one that the token
names, and goes on trying while the cloud cannot be reached. Afterwards it needs neither. Devices
log in with the passwords of their Secrets; with ``FEDGE_MQTT_ANONYMOUS=true`` without one, too.
With ``HTTPS_PROXY`` the cloud is reached by that proxy alone. Whatever the services read besides
(``FEDGE_TWIN_...``) is passed on.
"""

import json
import os
import platform
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedge_enrolment.dialling import Address, proxy_for
from fedge_enrolment.identity import FOLDER as IDENTITY_FOLDER
from fedge_enrolment.identity import Identity, IdentityError, Joined
from fedge_enrolment.names import BROKER, BROKER_PORT
from fedge_fabric.definitions import (
    ANONYMOUS,
    Certificate,
    User,
    edge_definitions,
    with_anonymous_devices,
)
from fedge_local import images
from fedge_objects import NodeName

SERVICES = ("meta", "edged", "twin")
NODE = "rabbit@localhost"
RABBITMQ = "/usr/lib/rabbitmq/bin/rabbitmq-server"
RABBITMQCTL = "/usr/lib/rabbitmq/bin/rabbitmqctl"
"""Not the one on the path: that one becomes another user, with another cookie."""
RABBITMQ_CONF = """listeners.tcp.1 = 127.0.0.1:5672
mqtt.listeners.tcp.1 = 0.0.0.0:1883
mqtt.allow_anonymous = {anonymous}
mqtt.prefetch = 1024
# a device may be away for a month and still find what it has subscribed to
mqtt.subscription_ttl = 2592000000
load_definitions = {folder}/definitions.json
"""
ANONYMOUS_CONF = """mqtt.default_user = {name}
mqtt.default_pass = {password}
"""
RABBITMQ_PLUGINS = "[rabbitmq_event_exchange,rabbitmq_federation,rabbitmq_mqtt,rabbitmq_shovel].\n"
CONTAINERD_CONF = """version = 2
root = "{folder}/root"
state = "/run/containerd"

[grpc]
  address = "{socket}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{folder}/cni"
"""
NETWORK = {
    "cniVersion": "1.0.0",
    "name": "fedge",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "fedge0",
            "isGateway": True,
            "ipMasq": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.88.0.0/16"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}
STOP_SECONDS = 20.0
IN_MEMORY = Path("/run/fedge")
"""Where pods' Secrets lie while they run."""
FORWARD = "127.0.0.1:5670"
"""What the links dial where only a proxy leads to the cloud."""
_FOR_NOBODY_ELSE = frozenset({"FEDGE_JOIN_TOKEN", "FEDGE_JOIN_TOKEN_FILE"})


@dataclass(frozen=True, slots=True)
class Edge:
    """What is to run, and with which environment."""

    data: Path
    commands: Mapping[str, tuple[list[str], Mapping[str, str]]]


def join(environment: Mapping[str, str], identity: Identity) -> Joined:
    """Return what the gateway was told when it joined, now or at an earlier boot.

    Raises:
        SystemExit: it cannot join; with what to do.
    """
    try:
        if (joined := identity.joined()) is not None:
            return joined
        text = environment.get("FEDGE_JOIN_TOKEN", "")
        if file := environment.get("FEDGE_JOIN_TOKEN_FILE"):
            text = Path(file).read_text()
        if not text:
            raise SystemExit(
                "set FEDGE_JOIN_TOKEN (`fedge token create`): see edge-image/README.md"
            )
        # what joining loads is not needed at later boots
        from fedge_enrolment import joining  # noqa: PLC0415
        from fedge_enrolment.dialling import DialError  # noqa: PLC0415
        from fedge_enrolment.refusals import RefusedError  # noqa: PLC0415
        from fedge_enrolment.tokens import JoinToken  # noqa: PLC0415

        token = JoinToken.decode(text)
        name = environment.get("FEDGE_EDGE_NODE_NAME") or token.node or platform.node().lower()
        left = max(0.0, token.expires - time.time())
        try:
            return joining.join(identity, token, node=NodeName(name), patience_seconds=left)
        except (DialError, RefusedError, joining.FakeCloudError, joining.ClockError) as exc:
            raise SystemExit(f"this gateway did not join: {exc}") from exc
    except (OSError, ValueError, IdentityError) as exc:
        raise SystemExit(f"this gateway did not join: {exc}") from exc


def prepare(environment: Mapping[str, str], data: Path, socket: Path, joined: Joined) -> Edge:
    """Write what the broker and containerd read, and return what to start.

    Args:
        environment: of the container.
        data: folder of all that outlives it.
        socket: of containerd.
        joined: as whom the gateway joined, and where its links lead.
    """
    identity = Identity(data / IDENTITY_FOLDER)
    admin = User(name="fedge", password=_kept_password(data / "broker-password"))
    link = Certificate(
        certificate=identity.certificate,
        key=identity.key,
        authorities=identity.authorities,
        server_name=BROKER,
    )
    is_forwarded = proxy_for(Address.parse(joined.broker, BROKER_PORT)) is not None
    dialled = FORWARD if is_forwarded else joined.broker
    definitions = edge_definitions(node=joined.node, admin=admin, link=link, cloud=dialled)
    broker = data / "rabbitmq"
    anonymous = environment.get("FEDGE_MQTT_ANONYMOUS", "").lower() in {"1", "true", "yes", "on"}
    conf = RABBITMQ_CONF.format(folder=broker, anonymous=str(anonymous).lower())
    if anonymous:
        user = User(name=ANONYMOUS, password=_kept_password(data / "anonymous-password"))
        definitions = with_anonymous_devices(definitions, user)
        conf += ANONYMOUS_CONF.format(name=user.name, password=user.password)
    _write(broker / "definitions.json", json.dumps(definitions))
    _write(broker / "rabbitmq.conf", conf)
    _write(broker / "enabled_plugins", RABBITMQ_PLUGINS)
    containerd = data / "containerd"
    _write(containerd / "cni" / "10-fedge.conflist", json.dumps(NETWORK))
    _write(
        containerd / "config.toml",
        CONTAINERD_CONF.format(folder=containerd, socket=socket, pause=images.PAUSE.name),
    )
    common = {name: value for name, value in environment.items() if name not in _FOR_NOBODY_ELSE}
    ask = ["env", f"HOME={broker}", f"RABBITMQ_NODENAME={NODE}", RABBITMQCTL, "eval"]
    return Edge(
        data=data,
        commands={
            "rabbitmq": ([RABBITMQ], {**common, **_rabbitmq_variables(broker)}),
            "containerd": (["containerd", "--config", f"{containerd}/config.toml"], common),
            "services": (
                [sys.executable, "-m", "fedge_service", *SERVICES],
                {
                    **common,
                    "FEDGE_EDGE_NODE_NAME": joined.node,
                    "FEDGE_EDGE_DATA_DIR": str(data),
                    "FEDGE_META_CLOUD_ADDRESS": dialled,
                    "FEDGE_META_FORWARD_TO": joined.broker if is_forwarded else "",
                    "FEDGE_META_BROKER_COMMAND": json.dumps(ask),
                    "FEDGE_TWIN_BROKER_COMMAND": json.dumps(ask),
                    "FEDGE_EDGE_AMQP_URL": f"amqp://{admin.name}:{admin.password}@127.0.0.1:5672/",
                    "FEDGE_EDGED_CRI_SOCKET": str(socket),
                    "FEDGE_TWIN_MQTT_URL": f"mqtt://{admin.name}:{admin.password}@127.0.0.1:1883",
                },
            ),
        },
    )


def _keep_in_memory(folder: Path) -> None:
    """See that a folder is in memory: Secrets that pods read are not to reach the flash.

    Raises:
        SystemExit: it cannot be; with what to do.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    if any(each[1] == str(folder) and each[2] == "tmpfs" for each in mounts):
        return
    options = "mode=0700,nosuid,nodev"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(command, check=False).returncode:
        raise SystemExit(f"{folder} is not in memory: start the container with --tmpfs {folder}")


def _rabbitmq_variables(folder: Path) -> dict[str, str]:
    return {
        "HOME": str(folder),
        "RABBITMQ_NODENAME": NODE,
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOGS": "-",
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        # one scheduler: a third of the memory, and enough for a gateway
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
            "+S 1:1 -kernel inet_dist_use_interface {127,0,0,1}"
        ),
    }


def _kept_password(path: Path) -> str:
    """Return the password of the services at their own broker, made once."""
    if not path.exists():
        _write(path, secrets.token_urlsafe(24))
    return path.read_text()


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)


def _import_pause_image(edge: Edge, socket: Path) -> None:
    """Give containerd the image of the pods' sandboxes, which no registry is asked for."""
    archive = edge.data / "containerd" / "pause.tar"
    archive.write_bytes(images.build(images.PAUSE).archive)
    deadline = time.monotonic() + 60
    while not socket.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"containerd did not make its socket {socket} within 60 s")
        time.sleep(0.05)
    subprocess.run(
        ["ctr", "--address", str(socket), "--namespace", "k8s.io", "images", "import", archive],
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=60,
    )


def main() -> int:
    """Run until one of the programs ends or the container is stopped."""
    socket = Path("/run/containerd/containerd.sock")
    os.umask(0o077)
    data = Path("/var/lib/fedge")
    joined = join(os.environ, Identity.of(data / IDENTITY_FOLDER, os.environ))
    edge = prepare(os.environ, data, socket, joined)
    _keep_in_memory(IN_MEMORY)
    socket.unlink(missing_ok=True)
    running = {
        name: subprocess.Popen(command, env=dict(variables))
        for name, (command, variables) in edge.commands.items()
    }

    asked_to_stop = False

    def stop(*_: object) -> None:
        nonlocal asked_to_stop
        asked_to_stop = True
        _terminate(running)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    _import_pause_image(edge, socket)
    names = {process.pid: name for name, process in running.items()}
    ended = os.wait()[0]
    while ended not in names:  # an orphan that came to us
        ended = os.wait()[0]
    sys.stderr.write(f"{names[ended]} has ended, so does the edge\n")
    _terminate(running)
    for process in running.values():
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
    return 0 if asked_to_stop else 1


def _terminate(running: Mapping[str, "subprocess.Popen[bytes]"]) -> None:
    for process in running.values():
        process.terminate()


if __name__ == "__main__":
    sys.exit(main())
