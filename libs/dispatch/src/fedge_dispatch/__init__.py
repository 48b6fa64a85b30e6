"""Kubernetes objects to the nodes that they concern, and reports back.

What controller and device have in common. Each brings its kinds of objects as plugins.
"""

from fedge_dispatch.budget import Budget
from fedge_dispatch.placement import Complete, Decision, Made, Placement, group_key
from fedge_dispatch.replicas import Replicas
from fedge_dispatch.reports import Reports, answered
from fedge_dispatch.resources import (
    Companion,
    Joining,
    Maker,
    Report,
    ResourcePlugin,
    given_to_nodes,
    load_resources,
)
from fedge_dispatch.serving import serve

__all__ = [
    "Budget",
    "Companion",
    "Complete",
    "Decision",
    "Joining",
    "Made",
    "Maker",
    "Placement",
    "Replicas",
    "Report",
    "Reports",
    "ResourcePlugin",
    "answered",
    "given_to_nodes",
    "group_key",
    "load_resources",
    "serve",
]
