"""How an edge starts in its container: looks around, joins, and hands over to the supervisor.

``python -m fedge_boot`` is what the edge's image runs. It is gone once s6 has taken its place as
the first process: nothing of it costs memory while the edge works.
"""

from fedge_boot.errors import BootError

__all__ = ["BootError"]
