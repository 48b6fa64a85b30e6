"""Whether the edge in this container works: exit code 0 or 1, and one line.

Being cut off from the cloud is not ill: an edge works alone. With ``--alive`` joining is not ill
either: whoever would start the container anew for it is told that this does not help. It is asked
every half minute, so it imports next to nothing (`python3 -I -S health.py`: 30 ms of processor
time).
"""

import json
import socket
import subprocess
import sys

ABOUT = "/run/fedge-s6/about.json"
JOINING = "not started yet: the gateway is joining, or was refused (see the container's log)"
SECONDS = 3.0
GREETING = b"AMQP\x00\x00\x09\x01"


def main(arguments: list[str], path: str = ABOUT) -> int:
    """Look at everything; say the first thing that is wrong."""
    if arguments not in ([], ["--alive"]):
        sys.stdout.write(f"{' '.join(arguments)!r} is nothing to ask for: say --alive or nothing\n")
        return 2
    wrong = fault(path)
    if wrong == JOINING and arguments:
        sys.stdout.write(f"alive: {wrong}\n")
        return 0
    sys.stdout.write(f"{wrong or 'ok: broker, services and runtime answer'}\n")
    return 1 if wrong else 0


def fault(path: str) -> str:
    """Return what is wrong, or nothing."""
    try:
        with open(path) as file:  # noqa: PTH123 - pathlib takes as long as all the rest
            about = json.load(file)
    except FileNotFoundError:
        return JOINING
    for name in ("broker", "services"):
        state = _state(f"{about['scan']}/{name}")
        if state.get("up") != "true":
            return f"{name} does not run: it is being started again (see the container's log)"
    if not _is_taken(about["socket"], None):
        return f"the container runtime does not answer at {about['socket']}: see that it runs"
    address = about.get("address", "127.0.0.1")
    for what, port in (("AMQP", about["amqp_port"]), ("MQTT", about["mqtt_port"])):
        if not _is_taken(address, port):
            return f"the broker does not take {what} at port {port}: it is starting, or ill"
    if _state(f"{about['scan']}/services").get("ready") != "true":
        return "the services are not ready: they wait for the broker (see the container's log)"
    return ""


def _state(folder: str) -> dict[str, str]:
    fields = ["up", "ready"]
    done = subprocess.run(
        ["/usr/bin/s6-svstat", "-o", ",".join(fields), folder],
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    return dict(zip(fields, done.stdout.split(), strict=False))


def _is_taken(address: str, port: int | None) -> bool:
    kind = socket.AF_UNIX if port is None else socket.AF_INET
    with socket.socket(kind, socket.SOCK_STREAM) as connection:
        connection.settimeout(SECONDS)
        try:
            connection.connect(address if port is None else (address, port))
        except OSError:
            return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
