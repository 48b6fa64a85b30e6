"""What runs on the edge while it is broken: an application that makes events, and devices.

It runs inside the edge host and goes with its power. What the broker has confirmed to it, and
nothing else, it writes down; that is what must arrive. Started again it goes on after the last
number that it tried.
"""

import argparse
import asyncio
import json
import os
from pathlib import Path

import aiomqtt

from fedge_fabric import Address, Envelope, MessageClass, UnavailableError
from fedge_fabric import topology as t
from fedge_fabric.fabric import Fabric
from fedge_fabric.streams import Numbering
from fedge_objects import NodeName

KIND = "fedge.chaos.measured"
WORD = "chaos"
ACCOUNT = "CHAOS_ACCOUNT"
"""Environment variable: ``user:password`` at the edge's broker."""
MQTT_WAIT_SECONDS = 5.0
AGAIN_SECONDS = 0.3


class Book:
    """What was tried and what was accepted, a line each; it outlives the power, as a disk does."""

    def __init__(self, path: Path) -> None:
        self.tried: dict[str, int] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                what, _, rest = line.partition(" ")
                key, _, number = rest.rpartition(" ")
                if what == "tried" and number.isdecimal():
                    self.tried[key] = int(number)
        self._file = path.open("a", buffering=1)

    def next(self, key: str) -> int:
        """Return the number to try next, noting that it is tried."""
        number = self.tried[key] = self.tried.get(key, -1) + 1
        self._file.write(f"tried {key} {number}\n")
        return number

    def accepted(self, key: str, number: int) -> None:
        """Note that the broker has it."""
        self._file.write(f"accepted {key} {number}\n")


def read_accepted(path: Path) -> dict[str, list[int]]:
    """Return what the broker has accepted so far, by key."""
    found: dict[str, list[int]] = {}
    if not path.exists():
        return found
    for line in path.read_text().splitlines():
        what, _, rest = line.partition(" ")
        key, _, number = rest.rpartition(" ")
        if what == "accepted" and number.isdecimal():
            found.setdefault(key, []).append(int(number))
    return found


async def make_events(
    fabric: Fabric, numbering: Numbering, node: NodeName, key: str, book: Book, seconds: float
) -> None:
    """Publish one event after the other of one key, each until it is confirmed."""
    address = Address(node, MessageClass.EVENT, (WORD, key))
    while True:
        number = book.next(f"event {key}")
        envelope = numbering.number(
            Envelope(
                type=KIND,
                source=f"/node/{node}/chaos",
                subject=key,
                data={"key": key, "number": number},
            )
        )
        while True:
            try:
                await fabric.publish(envelope, exchange=t.UP, routing_key=str(address))
            except UnavailableError:
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                break
        book.accepted(f"event {key}", number)
        await asyncio.sleep(seconds)


async def be_device(mqtt: tuple[int, str, str], device: str, book: Book, seconds: float) -> None:
    """Report one reading after the other, each until the broker has acknowledged it."""
    port, user, password = mqtt
    number: int | None = None
    while True:
        try:
            async with aiomqtt.Client(
                "127.0.0.1", port, username=user, password=password, identifier=f"chaos-{device}"
            ) as client:
                while True:
                    if number is None:
                        number = book.next(f"device {device}")
                    payload = {"twin": {"reading": {"actual": {"value": str(number)}}}}
                    await client.publish(
                        f"$hw/events/device/default/{device}/twin/update",
                        json.dumps({"event_id": "", **payload}),
                        qos=1,
                        timeout=MQTT_WAIT_SECONDS,
                    )
                    book.accepted(f"device {device}", number)
                    number = None
                    await asyncio.sleep(seconds)
        except aiomqtt.MqttError:
            await asyncio.sleep(AGAIN_SECONDS)


async def main(arguments: argparse.Namespace) -> None:
    """Go on until killed."""
    node = NodeName(arguments.node)
    user, _, password = os.environ[ACCOUNT].partition(":")
    fabric = Fabric(
        f"amqp://{user}:{password}@127.0.0.1:{arguments.amqp}/",
        service="chaos",
        exchanges=t.EDGE_EXCHANGES,
    )
    book, numbering = Book(arguments.book), Numbering("chaos")
    async with fabric.running(), asyncio.TaskGroup() as tasks:
        for key in arguments.keys:
            tasks.create_task(
                make_events(fabric, numbering, node, key, book, arguments.seconds), name=key
            )
        for device in arguments.devices:
            mqtt = arguments.mqtt, user, password
            tasks.create_task(be_device(mqtt, device, book, arguments.seconds), name=device)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make events and readings on an edge.")
    parser.add_argument("--node", required=True)
    parser.add_argument("--book", type=Path, required=True)
    parser.add_argument("--amqp", type=int, required=True)
    parser.add_argument("--mqtt", type=int, required=True)
    parser.add_argument("--keys", nargs="*", default=[])
    parser.add_argument("--devices", nargs="*", default=[])
    parser.add_argument("--seconds", type=float, default=0.1)
    asyncio.run(main(parser.parse_args()))
