"""The edge's own Kubernetes API: what the node was given, with the cloud away or not.

Only what waits for the first connection is loaded at the start (``waiting``, ``endpoint``,
``observing``); the rest is when somebody asks.
"""
