"""What the edge's image runs: see `fedge_boot`."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from fedge_boot import copying, supervision, versions
from fedge_boot.enrolling import join
from fedge_boot.errors import BootError
from fedge_boot.programs import INNER, LOOPBACK, identity_of, prepare
from fedge_boot.settings import Settings
from fedge_boot.surroundings import (
    check_ports,
    check_socket,
    check_volume,
    keep_in_memory,
    mounts,
)
from fedge_slots import Slots


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
    slots = Slots(settings.data)
    if not environment.get(versions.SLOT_VARIABLE):
        own = versions.base()
        if slot := versions.choose(slots, settings, own, say=say):
            os.environ["FEDGE_BOOT_BASE"] = own
            versions.guard(slots, slot)
    if warning := check_socket(settings.socket):
        say(warning)
    keep_in_memory(settings.in_memory, there)
    joined = join(environment, identity_of(settings, environment), say=say)
    check_ports(
        [
            (LOOPBACK, settings.amqp_port, "FEDGE_BOOT_AMQP_PORT"),
            (LOOPBACK, settings.dist_port, "FEDGE_BOOT_DIST_PORT"),
            ("0.0.0.0", settings.mqtt_port, "FEDGE_BOOT_MQTT_PORT"),  # noqa: S104 - as the broker
        ]
    )
    trial = slots.state().trial
    is_closed = trial is not None and trial.broker_kept
    programs = asyncio.run(prepare(settings, environment, joined, is_closed=is_closed))
    said = {
        **versions.about(slots, environment),
        "address": INNER if is_closed else LOOPBACK,
    }
    say(f"starting {joined.node}: broker and services of version {said['version']}")
    supervision.run(programs, settings, said, environment)


def enter(slot: str) -> NoReturn:
    """Begin the edge of a version in the volume; where that cannot be, the guard looks again."""
    settings = Settings.of(dict(os.environ))
    versions.enter(Slots(settings.data), slot, settings)


def judge(child: int) -> int:
    """End a version whose time to prove itself is up; the guard begins the one before."""
    settings = Settings.of(dict(os.environ))
    if versions.judge(Slots(settings.data), settings, say=say):
        versions.AGAIN.touch()
        os.kill(child, signal.SIGTERM)
    return 0


def copy(target: str) -> int:
    """Copy this version into a slot, and see whether it could start."""
    copying.copy(Path(target))
    return check()


def check() -> int:
    """See whether this version could start."""
    if wrong := copying.check():
        say(wrong)
        return 1
    return 0


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
        match sys.argv[1:]:
            case ["enter", slot]:
                enter(slot)
            case ["judge", child]:
                return judge(int(child))
            case ["copy", target]:
                return copy(target)
            case ["check"]:
                return check()
            case _:
                start()
    except BootError as exc:
        say(str(exc))
        return exc.code


if __name__ == "__main__":
    sys.exit(main())
