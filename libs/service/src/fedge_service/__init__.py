"""What makes a plugin a process: discovery, settings, logging, supervision."""

from fedge_service._discovery import UnknownServiceError, find_services, load_plugins
from fedge_service._kept import KeptSettings
from fedge_service._plugin import Ready, ServicePlugin
from fedge_service._running import Process, run_services, this_process
from fedge_service._settings import (
    EdgeSettings,
    HealthSettings,
    ServiceSettings,
    TraceSettings,
    describe,
)
from fedge_service._supervision import backoff, supervise, to_its_end

__all__ = [
    "EdgeSettings",
    "HealthSettings",
    "KeptSettings",
    "Process",
    "Ready",
    "ServicePlugin",
    "ServiceSettings",
    "TraceSettings",
    "UnknownServiceError",
    "backoff",
    "describe",
    "find_services",
    "load_plugins",
    "run_services",
    "supervise",
    "this_process",
    "to_its_end",
]
