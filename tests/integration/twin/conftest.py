"""A real RabbitMQ with its MQTT plugin, as on an edge."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"
BOOT_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker listens."""

    amqp_port: int
    mqtt_port: int

    @property
    def amqp_url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.amqp_port}/"

    @property
    def mqtt_url(self) -> str:
        return f"mqtt://guest:guest@127.0.0.1:{self.mqtt_port}"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


async def _wait_for_port(port: int) -> None:
    async with asyncio.timeout(BOOT_SECONDS):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return


@pytest.fixture(scope="session")
def mqtt_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    if shutil.which("rabbitmqctl") is None or not Path(SERVER).exists():
        pytest.skip("needs the package rabbitmq-server")
    home = tmp_path_factory.mktemp("rabbitmq")
    amqp, mqtt, distribution, mapper = _free_ports(4)
    (home / "enabled_plugins").write_text("[rabbitmq_mqtt].\n")
    (home / "rabbitmq.conf").write_text(
        f"listeners.tcp.1 = 127.0.0.1:{amqp}\n"
        f"mqtt.listeners.tcp.1 = 127.0.0.1:{mqtt}\n"
        "mqtt.prefetch = 256\n"
    )
    server = subprocess.Popen(
        [SERVER],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "RABBITMQ_NODENAME": f"twin-{os.getpid()}@localhost",
            "RABBITMQ_DIST_PORT": str(distribution),
            "ERL_EPMD_PORT": str(mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(home / "data"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 -start_epmd false",
            "ERL_FLAGS": f"-erl_epmd_port {distribution}",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        asyncio.run(_wait_for_port(mqtt))
        yield Broker(amqp, mqtt)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
