"""What the edge's image runs: see `fedge_boot`."""

import asyncio
import os
import signal
import sys
from typing import NoReturn

from fedge_boot import supervision
from fedge_boot.enrolling import join
from fedge_boot.errors import BootError
from fedge_boot.programs import identity_of, prepare
from fedge_boot.settings import Settings
from fedge_boot.surroundings import (
    check_ports,
    check_socket,
    check_volume,
    keep_in_memory,
    mounts,
)


def start() -> NoReturn:
    """Look around, join if that is still to be done, and become the supervisor.

    Raises:
        BootError: the edge cannot start.
    """
    os.umask(0o077)
    environment = dict(os.environ)
    settings = Settings.of(environment)
    there = mounts()
    check_volume(settings.data, there)
    if warning := check_socket(settings.socket):
        say(warning)
    keep_in_memory(settings.in_memory, there)
    joined = join(environment, identity_of(settings, environment), say=say)
    check_ports(
        [
            ("127.0.0.1", settings.amqp_port, "FEDGE_BOOT_AMQP_PORT"),
            ("127.0.0.1", settings.dist_port, "FEDGE_BOOT_DIST_PORT"),
            ("0.0.0.0", settings.mqtt_port, "FEDGE_BOOT_MQTT_PORT"),  # noqa: S104 - as the broker
        ]
    )
    programs = asyncio.run(prepare(settings, environment, joined))
    say(f"starting {joined.node}: broker and services")
    supervision.run(programs, settings)


def say(text: str) -> None:
    """Write a line to the container's log."""
    sys.stderr.write(f"fedge: {text}\n")
    sys.stderr.flush()


def main() -> int:
    """Start; what keeps the edge from starting is said in one line."""
    # the first process of a container gets no signal that it does not ask for
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    try:
        start()
    except BootError as exc:
        say(str(exc))
        return exc.code


if __name__ == "__main__":
    sys.exit(main())
