"""The network of a stack on this machine: a bridge for the cloud's end, one cable to each edge.

The bridge holds the cloud's address, which therefore exists before the first edge and while an edge
is down. Each edge hangs on it by a veth pair that dies with the edge. Ports of the bridge are
isolated from each other: an edge reaches the cloud and nobody else. Addresses come from
198.18.0.0/15, which is set aside for tests between machines (RFC 2544) and is routed nowhere.
"""

import hashlib
import ipaddress
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedge_local.commands import run
from fedge_local.errors import CommandFailedError

RANGE = ipaddress.IPv4Network("198.18.0.0/15")
_PREFIX = 24
_CLOUD_INDEX = 1
_FIRST_EDGE_INDEX = 2
_CHANCES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnet:
    """The addresses of one stack and the names of its devices in the kernel."""

    network: ipaddress.IPv4Network
    tag: str
    """Six hexadecimal digits that tell the stacks of one machine apart."""

    @property
    def cloud_address(self) -> str:
        """The address at which edges find the cloud."""
        return str(self.network[_CLOUD_INDEX])

    @property
    def bridge(self) -> str:
        """Name of the bridge."""
        return f"fedge{self.tag}"

    @property
    def table(self) -> str:
        """Name of the nftables table."""
        return f"fedge_{self.tag}"

    def edge_address(self, index: int) -> str:
        """Return the address of the edge number ``index``."""
        return str(self.network[_FIRST_EDGE_INDEX + index])

    def cable(self, index: int) -> str:
        """Return the name of the machine's end of the cable to the edge number ``index``."""
        return f"fe{self.tag}x{index}"


def tag_of(folder: Path) -> str:
    """Return the tag of the stack that lives in ``folder``."""
    return hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:6]


async def choose_subnet(folder: Path) -> Subnet:
    """Choose a subnet that nothing on this machine uses.

    Raises:
        CommandFailedError: all are taken.
    """
    tag = tag_of(folder)
    taken = await _taken()
    subnets = list(RANGE.subnets(new_prefix=_PREFIX))
    first = int(tag, 16) % len(subnets)
    for subnet in subnets[first:] + subnets[:first]:
        if not any(subnet.overlaps(each) for each in taken):
            return Subnet(network=subnet, tag=tag)
    raise CommandFailedError(f"every subnet of {RANGE} is in use on this machine")


async def bring_up(subnet: Subnet) -> None:
    """Make the bridge with the cloud's address, if it is not there."""
    if _exists(subnet.bridge):
        return
    await _ip_batch(
        f"link add {subnet.bridge} type bridge",
        f"address add {subnet.cloud_address}/{_PREFIX} dev {subnet.bridge}",
        f"link set {subnet.bridge} up",
    )


async def take_down(subnet: Subnet) -> None:
    """Remove the bridge and the table; nothing of the network remains."""
    if _exists(subnet.bridge):
        await run(["ip", "link", "delete", subnet.bridge])
    await run(["nft", "-f", "-"], given=_dropped(subnet))


async def plug_in(subnet: Subnet, index: int, *, pid: int, up: bool) -> None:
    """Lay the cable to an edge.

    Args:
        subnet: the stack's.
        index: the edge's number.
        pid: a process in the edge's network namespace.
        up: whether the line works from the start.
    """
    cable = subnet.cable(index)
    await _ip_batch(
        f"link add {cable} type veth peer name uplink netns {pid}",
        f"link set {cable} master {subnet.bridge}",
        f"link set {cable} type bridge_slave isolated on",
        f"link set {cable} {'up' if up else 'down'}",
    )
    await run(
        ["nsenter", f"--target={pid}", "--net", "ip", "-batch", "-"],
        given=(
            "link set lo up\n"
            f"address add {subnet.edge_address(index)}/{_PREFIX} dev uplink\n"
            "link set uplink up\n"
        ),
    )


async def unplug(subnet: Subnet, index: int) -> None:
    """Remove the cable to an edge.

    The kernel removes it with the edge's network namespace, but some time after its last process.
    """
    cable = subnet.cable(index)
    if _exists(cable):
        try:
            await run(["ip", "link", "delete", cable])
        except CommandFailedError:
            if _exists(cable):
                raise


async def set_cable(subnet: Subnet, index: int, *, up: bool) -> None:
    """Cut or mend the line to an edge; without an edge there is nothing to do."""
    cable = subnet.cable(index)
    if _exists(cable):
        await run(["ip", "link", "set", cable, "up" if up else "down"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Detour:
    """Connections that are led elsewhere than where they are dialled to."""

    port: int
    """The cloud's port that the edge dials."""
    to: int
    """The machine's port at which they arrive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Impairment:
    """What is wrong with the line of one edge, besides a cut."""

    drops_up: bool = False
    """All that comes from the edge vanishes."""
    drops_down: bool = False
    """All that goes to the edge vanishes."""
    loss_percent: float = 0.0
    """How many of the packets vanish, at random, in each direction."""
    detour: Detour | None = None


async def impair(subnet: Subnet, lines: Mapping[int, Impairment]) -> None:
    """Make the lines of these edges as bad as told, and those of all others good again.

    Unlike a cut, a dropped packet tells nobody: no carrier is lost and no connection refused. The
    table is replaced as a whole, in one transaction.
    """
    table = _table(subnet, lines) if lines else ""
    await run(["nft", "-f", "-"], given=_dropped(subnet) + table)


async def reset_connections(subnet: Subnet, index: int, *, port: int) -> None:
    """Reset the connections of an edge to the cloud's ``port``: both ends are told.

    A kernel without this (CONFIG_INET_DIAG_DESTROY) leaves them; a detour of theirs resets them
    with the next packet that they carry.
    """
    await run(
        [
            "ss", "--kill", "--tcp", "--numeric", "state", "connected",
            "src", f"{subnet.cloud_address}:{port}", "dst", subnet.edge_address(index),
        ]
    )  # fmt: skip


def _table(subnet: Subnet, lines: Mapping[int, Impairment]) -> str:
    """Return the table of the packet filter.

    A packet from an edge passes ``detour``, then ``input``; one that it is sent passes ``output``.
    """
    detours, inward, outward = [], [], []
    for index, line in lines.items():
        source = f"ip saddr {subnet.edge_address(index)}"
        target = f"ip daddr {subnet.edge_address(index)}"
        losses = round(line.loss_percent * _CHANCES / 100)
        if line.drops_up or losses == _CHANCES:
            inward.append(f"{source} drop")
        if line.drops_down or losses == _CHANCES:
            outward.append(f"{target} drop")
        if 0 < losses < _CHANCES:
            chance = f"numgen random mod {_CHANCES} < {losses}"
            inward.append(f"{source} {chance} drop")
            outward.append(f"{target} {chance} drop")
        if line.detour is not None:
            detours.append(f"{source} tcp dport {line.detour.port} redirect to :{line.detour.to}")
            # a connection that was there before the detour does not take it
            inward.append(f"{source} tcp dport {line.detour.port} reject with tcp reset")
    chains = [
        ("detour", "type nat hook prerouting priority -100", detours),
        ("input", "type filter hook input priority 0", inward),
        ("output", "type filter hook output priority 0", outward),
    ]
    text = "".join(
        f"  chain {name} {{ {kind}; {'; '.join(rules)}; }}\n"
        for name, kind, rules in chains
        if rules
    )
    return f"table ip {subnet.table} {{\n{text}}}\n"


def _exists(device: str) -> bool:
    return Path("/sys/class/net", device).exists()


def _dropped(subnet: Subnet) -> str:
    """Return the commands that remove the table, whether it is there or not."""
    return f"add table ip {subnet.table}\ndelete table ip {subnet.table}\n"


async def _ip_batch(*lines: str) -> None:
    await run(["ip", "-batch", "-"], given="".join(f"{line}\n" for line in lines))


async def _taken() -> list[ipaddress.IPv4Network]:
    addresses = json.loads(await run(["ip", "-json", "-4", "address"]) or "[]")
    routes = json.loads(await run(["ip", "-json", "-4", "route", "show", "table", "all"]) or "[]")
    return [*_of_addresses(addresses), *_of_routes(routes)]


def _of_addresses(links: list[dict[str, Any]]) -> Iterator[ipaddress.IPv4Network]:
    for link in links:
        for each in link.get("addr_info", ()):
            if "local" in each:
                yield ipaddress.IPv4Interface(f"{each['local']}/{each['prefixlen']}").network


def _of_routes(routes: list[dict[str, Any]]) -> Iterator[ipaddress.IPv4Network]:
    for route in routes:
        try:
            network = ipaddress.IPv4Network(route.get("dst", ""), strict=False)
        except ValueError:
            continue  # "default" and its like name no network
        if network.prefixlen >= RANGE.prefixlen:
            yield network
