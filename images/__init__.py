"""Container images of fedge, built without a container engine and without a registry.

Debian packages are fetched by apt for the wished architecture and unpacked, Python packages by pip;
no maintainer script and nothing of the image runs, so one recipe serves every architecture. What
comes out depends on what goes in alone: no clock, no host name, no order of directories.
"""
