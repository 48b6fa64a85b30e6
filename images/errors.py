"""What can go wrong in a build."""


class BuildError(Exception):
    """An image cannot be built; the message says why and what to do."""
