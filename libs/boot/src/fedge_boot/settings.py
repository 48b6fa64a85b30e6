"""What the container is told by its environment, beside the services' own settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fedge_boot.errors import BootError

_TRUE = frozenset({"1", "true", "yes", "on"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is told.

    Attributes:
        data: the volume: folder of all that outlives the container, at its path on the host.
        socket: of the container runtime.
        amqp_port: of the broker, on the loopback address.
        dist_port: of Erlang's own connections, on the loopback address.
        mqtt_port: of the broker, for devices, on all addresses.
        anonymous: whether devices without a password are let in.
        broker_memory_bytes: above this the broker makes publishers wait.
    """

    data: Path
    socket: Path
    amqp_port: int
    dist_port: int
    mqtt_port: int
    anonymous: bool
    broker_memory_bytes: int

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """Read them.

        Raises:
            BootError: one is not what it must be.
        """
        return cls(
            data=Path(environment.get("FEDGE_EDGE_DATA_DIR") or "/var/lib/fedge"),
            socket=Path(
                environment.get("FEDGE_EDGED_CRI_SOCKET") or "/run/containerd/containerd.sock"
            ),
            amqp_port=_number(environment, "FEDGE_BOOT_AMQP_PORT", 5672, most=65535),
            dist_port=_number(environment, "FEDGE_BOOT_DIST_PORT", 25672, most=65535),
            mqtt_port=_number(environment, "FEDGE_BOOT_MQTT_PORT", 1883, most=65535),
            anonymous=environment.get("FEDGE_MQTT_ANONYMOUS", "").lower() in _TRUE,
            broker_memory_bytes=1_000_000
            * _number(environment, "FEDGE_BOOT_BROKER_MEMORY_MB", 192, most=1_000_000),
        )

    @property
    def in_memory(self) -> Path:
        """Folder in memory for pods' Secrets, which containerd must see as well."""
        return self.data / "run"


def _number(environment: Mapping[str, str], name: str, default: int, *, most: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isdecimal() or not 0 < int(text) <= most:
        raise BootError(f"{name} is {text!r}: give a number from 1 to {most}")
    return int(text)
