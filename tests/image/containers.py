"""Commands in the edge's container, and the image run on its host as one may get it wrong."""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedge_cli.demo import EDGE, Story
from fedge_local.commands import program
from fedge_local.contained import CONTAINER, NAMESPACE
from fedge_local.containerd import SOCKET
from fedge_local.errors import CommandFailedError
from fedge_local.hosts import EdgeHost
from images.cached import Built

CTR = [program("ctr"), f"--address={SOCKET}", f"--namespace={NAMESPACE}"]


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has ended."""

    code: int
    text: str

    @property
    def lines(self) -> list[str]:
        """What it said."""
        return self.text.strip().splitlines()


def host_of(story: Story) -> EdgeHost:
    """Return the edge's host."""
    return story.stack.edge(EDGE).parts.host


async def inside(story: Story, *command: str) -> Ended:
    """Run a command in the edge's container."""
    name = f"test-{secrets.token_hex(4)}"
    return await on_host(story, *CTR, "tasks", "exec", f"--exec-id={name}", CONTAINER, *command)


async def on_host(story: Story, *command: str) -> Ended:
    """Run a command on the edge's host, whatever becomes of it."""
    script = '"$@" 2>&1; echo "code $?"'
    said = await host_of(story).run("/bin/sh", "-c", script, "sh", *command, timeout_seconds=90)
    text, _, code = said.rstrip().rpartition("code ")
    return Ended(int(code), text)


async def run_image(
    story: Story,
    built: Built,
    *,
    mounts: Sequence[str] = (),
    env: Sequence[str] = (),
    options: Sequence[str] = ("--rootfs-propagation=rshared", "--cap-add=CAP_SYS_ADMIN"),
) -> Ended:
    """Run the image on the edge's host until it ends."""
    name = f"wrong-{secrets.token_hex(4)}"
    return await on_host(
        story, *CTR, "run", "--rm", "--net-host", *options,
        *(f"--mount={each}" for each in mounts), *(f"--env={each}" for each in env),
        built.reference, name,
    )  # fmt: skip


def volume(path: Path, *, to: Path | None = None, options: str = "rbind:rshared") -> str:
    """Return the option that mounts a folder."""
    return f"type=bind,src={path},dst={to or path},options={options}"


async def until_healthy(story: Story) -> None:
    """Wait until the container says that it is well.

    Raises:
        AssertionError: it does not in time; with its last words.
    """
    await until_health_is(story, code=0)


async def until_health_is(story: Story, *, code: int, seconds: float = 90) -> Ended:
    """Wait until the container's health is as wished, and return what it says.

    Raises:
        AssertionError: it is not in time; with its last words.
    """
    last = Ended(1, "")
    async with asyncio.timeout(seconds):
        try:
            while True:
                try:
                    last = await inside(story, "/usr/bin/fedge-health")
                except CommandFailedError as exc:
                    last = Ended(1, str(exc))
                if last.code == code:
                    return last
                await asyncio.sleep(0.2)
        except asyncio.CancelledError:
            raise AssertionError(f"health is {last}") from None
