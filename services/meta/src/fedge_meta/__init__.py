"""The edge's truth: every object the node was given."""
