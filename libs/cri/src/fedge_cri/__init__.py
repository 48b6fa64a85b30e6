"""Client of the Container Runtime Interface, v1.

The only importer of ``grpc``. ``fedge_cri.client`` is heavy and loaded by whoever connects;
what is exported here is light.
"""

from fedge_cri.errors import (
    AlreadyThereError,
    ExecTimeoutError,
    NotFoundError,
    RefusedError,
    RuntimeFaultError,
    UnavailableError,
)
from fedge_cri.model import (
    Container,
    ContainerSpec,
    ContainerState,
    ContainerStats,
    ContainerStatus,
    Credentials,
    Dns,
    ExecResult,
    FilesystemUsage,
    Image,
    Mount,
    MountPropagation,
    PortMapping,
    Profile,
    ProfileKind,
    Resources,
    RuntimeEvent,
    RuntimeInfo,
    Sandbox,
    SandboxSpec,
    Security,
)
from fedge_cri.port import Runtime

__all__ = [
    "AlreadyThereError",
    "Container",
    "ContainerSpec",
    "ContainerState",
    "ContainerStats",
    "ContainerStatus",
    "Credentials",
    "Dns",
    "ExecResult",
    "ExecTimeoutError",
    "FilesystemUsage",
    "Image",
    "Mount",
    "MountPropagation",
    "NotFoundError",
    "PortMapping",
    "Profile",
    "ProfileKind",
    "RefusedError",
    "Resources",
    "Runtime",
    "RuntimeEvent",
    "RuntimeFaultError",
    "RuntimeInfo",
    "Sandbox",
    "SandboxSpec",
    "Security",
    "UnavailableError",
]
