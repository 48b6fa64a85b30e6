"""Kubernetes objects to the nodes that they concern, and reports back.

What controller and device have in common. Each brings its kinds of objects as plugins.
"""

from fedge_dispatch.budget import Budget
from fedge_dispatch.placement import Complete, Decision, Made, Placement
from fedge_dispatch.reports import Reports, answered
from fedge_dispatch.resources import (
    Companion,
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
    "Made",
    "Maker",
    "Placement",
    "Report",
    "Reports",
    "ResourcePlugin",
    "answered",
    "given_to_nodes",
    "load_resources",
    "serve",
]
