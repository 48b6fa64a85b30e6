"""The control loops of the embedded control plane."""

from fedge_apiserver.controllers._running import run_controllers

__all__ = ["run_controllers"]
