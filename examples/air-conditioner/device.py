"""Plays an air conditioner: does what it is told, and says what it does and how warm the room is.

It speaks MQTT to the broker of its gateway, FEDGE_TWIN_MQTT_URL; nothing here knows of the cloud.
"""

import asyncio
import itertools
import json
import os
import sys
import time
from typing import Any
from urllib.parse import unquote, urlsplit

import aiomqtt

NAME = sys.argv[1] if len(sys.argv) > 1 else "ac-1"
TOPIC = f"$hw/events/device/default/{NAME}"
URL = urlsplit(os.environ.get("FEDGE_TWIN_MQTT_URL", "mqtt://guest:guest@127.0.0.1:1883"))
OUTSIDE = 31.0
AT_LEAST_ONCE = 1
RETRY_SECONDS = 2
STATE_SECONDS = 5

is_now = {"temperature": "26", "power": "false", "mode": "cool"}
room = 27.0


async def say(client: aiomqtt.Client, what: str, body: dict[str, Any]) -> None:
    """Publish; the broker has it when this returns."""
    payload = {"event_id": str(time.time_ns()), "timestamp": int(time.time() * 1000), **body}
    await client.publish(f"{TOPIC}/{what}", json.dumps(payload), qos=AT_LEAST_ONCE)


async def report(client: aiomqtt.Client, values: dict[str, str]) -> None:
    """Say what the values of some properties are."""
    metadata = {"timestamp": int(time.time() * 1000)}
    twin = {name: {"actual": {"value": v, "metadata": metadata}} for name, v in values.items()}
    await say(client, "twin/update", {"twin": twin})


async def obey(client: aiomqtt.Client) -> None:
    """Do what is wished, and say so."""
    async for message in client.messages:
        body = json.loads(bytes(message.payload))
        if str(message.topic).endswith("/result"):
            if "code" in body:
                print(f"refused: {body['reason']}", flush=True)
            continue
        wished = {name: value for name, value in body["delta"].items() if name in is_now}
        is_now.update(wished)
        print(f"told to be {wished}", flush=True)
        await report(client, wished)


async def measure(client: aiomqtt.Client) -> None:
    """Say that it is there, let the room drift to where it is driven, say how warm that is."""
    global room  # noqa: PLW0603 - there is one room
    for second in itertools.count():
        if second % STATE_SECONDS == 0:  # again, for it is refused until the Device is applied
            await say(client, "state/update", {"state": "online"})
        target = float(is_now["temperature"]) if is_now["power"] == "true" else OUTSIDE
        room += (target - room) * 0.1
        await report(client, {"room-temperature": f"{room:.1f}"})
        await asyncio.sleep(1)


async def main() -> None:
    """Connect, and again whenever the broker was away."""
    while True:
        try:
            async with aiomqtt.Client(
                URL.hostname or "127.0.0.1",
                URL.port or 1883,
                username=unquote(URL.username or ""),
                password=unquote(URL.password or ""),
            ) as client:
                await client.subscribe(f"{TOPIC}/twin/update/delta", qos=AT_LEAST_ONCE)
                await client.subscribe(f"{TOPIC}/twin/update/result", qos=AT_LEAST_ONCE)
                print(f"{NAME} is on", flush=True)
                await report(client, is_now)
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(obey(client))
                    tasks.create_task(measure(client))
        except* aiomqtt.MqttError as group:
            print(f"broker away: {group.exceptions[0]}", flush=True)
        await asyncio.sleep(RETRY_SECONDS)


if __name__ == "__main__":
    asyncio.run(main())
