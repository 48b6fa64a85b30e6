"""What jobs ask of this node: images to fetch, settings to change, another version to run.

A task comes as an object, so that no outage loses it, and what came of it is on the disk before it
is told, so that no restart does it again.
"""
