"""``fedge node upgrade``: another version on a node, from the cloud or at the gateway itself."""

import json
import socket
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from fedge_cli.api import Api
from fedge_cli.errors import AwayError, CommandError, MissingError, UsageError

JOBS: Final = "/apis/operations.kubeedge.io/v1alpha2/nodeupgradejobs"
CONFIRMED: Final = "operations.fedge.io/confirmed"
LOOK_SECONDS: Final = 0.5
PIECE_BYTES: Final = 256 * 1024
MARGIN_SECONDS: Final = 120.0
"""Beside the time that a node has: for the way there, and for going back."""
_LENGTH: Final = struct.Struct("!I")
_STATUS: Final = 3

Say = Callable[[str], None]


def job_for(node: str, image: str, *, seconds: int, confirm: bool) -> dict[str, Any]:
    """Return the job that brings a node to an image.

    Args:
        node: which node.
        image: reference with a tag, a digest or both.
        seconds: how long it may take.
        confirm: whether somebody has to agree when it is checked.

    Raises:
        UsageError: the reference names no version.
    """
    name, _, digest = image.partition("@")
    head, slash, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    if not tag and not digest:
        raise UsageError(f"{image!r} names no version: add its tag, as in {image}:1.2.0")
    version = tag or digest.rpartition(":")[2][:12]
    spec: dict[str, Any] = {
        "version": version,
        "image": f"{head}{slash}{last}",
        "nodeNames": [node],
        "timeoutSeconds": seconds,
        "checkItems": ["cpu", "mem", "disk"],
        "requireConfirmation": confirm,
    }
    if digest:
        spec["imageDigestGatter"] = {"amd64": digest, "arm64": digest}
    return {
        "apiVersion": "operations.kubeedge.io/v1alpha2",
        "kind": "NodeUpgradeJob",
        "metadata": {"generateName": f"{node[:200]}-", "labels": {"operations.fedge.io/by": "cli"}},
        "spec": spec,
    }


def upgrade(api: Api, job: Mapping[str, Any], *, say: Say) -> None:
    """Make a job and follow it to its end.

    Raises:
        CommandError: it failed; with the reason.
    """
    made = api.request("POST", JOBS, body=job)
    name, [node] = made["metadata"]["name"], job["spec"]["nodeNames"]
    say(f"nodeupgradejob/{name}")
    told: list[str] = []
    until = time.monotonic() + job["spec"]["timeoutSeconds"] + MARGIN_SECONDS
    while True:
        status = api.request("GET", f"{JOBS}/{name}").get("status") or {}
        entry: dict[str, Any] = next(iter(status.get("nodeStatus") or ()), {})
        for line in _lines(entry):
            if line not in told:
                told.append(line)
                say(line)
        if status.get("conditions"):
            break
        if _waits(entry):
            return
        away = entry.get("phase") == "Pending" and entry.get("reason")
        if away or time.monotonic() > until:
            say(f"{away or 'not over yet'}; see `fedge get nodeupgradejob {name} -o yaml`")
            return
        time.sleep(LOOK_SECONDS)
    if entry.get("phase") != "Successful":
        raise CommandError(f"node {node}: {entry.get('reason') or status.get('reason')}")
    say(f"node {node} runs {entry.get('currentVersion') or job['spec']['version']}")


def confirm(api: Api, node: str, *, say: Say) -> None:
    """Agree to the upgrade that a node waits with.

    Raises:
        MissingError: it waits with none.
    """
    found = 0
    for job in api.request("GET", JOBS).get("items") or ():
        entries = (job.get("status") or {}).get("nodeStatus") or ()
        if not any(each.get("nodeName") == node and _waits(each) for each in entries):
            continue
        metadata = job["metadata"]
        agreed = (metadata.get("annotations") or {}).get(CONFIRMED, "")
        nodes = sorted({node, *filter(None, agreed.split(","))})
        patch = {"metadata": {"annotations": {CONFIRMED: ",".join(nodes)}}}
        api.request(
            "PATCH",
            f"{JOBS}/{metadata['name']}",
            body=patch,
            content_type="application/merge-patch+json",
        )
        say(f"agreed: node {node}, version {job['spec'].get('version')}")
        found += 1
    if not found:
        raise MissingError(f"node {node!r} waits with no upgrade: `fedge get nodeupgradejobs`")


def upgrade_here(
    path: Path, archive: Path, *, node: str, digest: str, seconds: int, say: Say
) -> None:
    """Bring the edge of this machine to the version in a file.

    Args:
        path: edged's socket.
        archive: of the image.
        node: that this machine has to be; empty: whichever it is.
        digest: that the image has to have; empty: whichever.
        seconds: how long the new version has to prove itself.
        say: told what happens.

    Raises:
        CommandError: it was refused or taken back; with the reason.
        AwayError: edged cannot be reached.
    """
    before = _tell(path)
    request = {"do": "upgrade", "node": node, "digest": digest, "seconds": seconds}
    try:
        with _asked(path, request) as connection, archive.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                connection.sendall(_LENGTH.pack(len(piece)) + piece)
            connection.sendall(_LENGTH.pack(0))
            said = _answer(connection, say)
    except (BrokenPipeError, ConnectionResetError) as exc:
        raise AwayError(f"edged ended while the file was sent: {exc}; see its log") from exc
    except OSError as exc:
        raise UsageError(f"{archive} cannot be read: {exc}") from exc
    if "it runs already" in said:
        return
    until = time.monotonic() + seconds + MARGIN_SECONDS
    while time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
        try:
            now = _tell(path)
        except AwayError:
            continue  # the versions change places
        if not now["trying"] and now["outcome"] != before["outcome"]:
            if reason := (now["outcome"] or {}).get("reason"):
                raise CommandError(f"version {now['version']} runs again: {reason}")
            say(f"node {now['node']} runs {now['version']}")
            return
    raise AwayError("edged did not say how it ended: see the container's log")


def _lines(entry: Mapping[str, Any]) -> list[str]:
    marks = {"True": "done", "False": "failed"}
    return [
        f"{each['action']}: {marks.get(each['status'], 'waits')}"
        + (f": {each['reason']}" if each.get("reason") else "")
        for each in entry.get("actionFlow") or ()
    ]


def _waits(entry: Mapping[str, Any]) -> bool:
    steps = entry.get("actionFlow") or [{}]
    return bool(
        steps[-1].get("action") == "WaitingConfirmation" and steps[-1].get("status") == "Unknown"
    )


def _tell(path: Path) -> dict[str, Any]:
    with _asked(path, {"do": "version"}) as connection:
        told: dict[str, Any] = json.loads(_answer(connection, lambda _: None))
    return told


def _asked(path: Path, request: Mapping[str, Any]) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(str(path))
        connection.sendall(json.dumps(request).encode() + b"\n")
    except OSError as exc:
        connection.close()
        raise AwayError(
            f"edged's socket {path} cannot be reached: {exc.strerror}; run this as root on the "
            "node, and check that edged runs"
        ) from exc
    return connection


def _answer(connection: socket.socket, say: Say) -> str:
    """Return what is answered; what is said meanwhile is told."""
    text = ""
    with connection.makefile("rb") as file:
        while len(head := file.read(_LENGTH.size)) == _LENGTH.size:
            frame = file.read(_LENGTH.unpack(head)[0])
            if frame[0] == _STATUS:
                status = json.loads(frame[1:])
                if status.get("status") != "Success":
                    raise CommandError(str(status.get("message")))
                return text
            text += frame[1:].decode()
            say(frame[1:].decode().rstrip("\n"))
    if not text:
        raise AwayError("edged ended before it had answered: see its log")
    return text
