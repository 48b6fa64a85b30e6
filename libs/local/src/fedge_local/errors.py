"""Errors of running the system on one machine.

::

    LocalError
    ├── MissingError        a program or a feature of the machine is missing: with the remedy
    ├── PortTakenError      a remembered port belongs to somebody else now
    ├── CommandFailedError  a command of the machine (``ip``, ``nft``) failed: with its words
    ├── FaultError          a fault cannot be made as asked: with the remedy
    └── NotReadyError       a process ended or did not answer in time: with its log's last lines
"""


class LocalError(Exception):
    """Base of all errors of this library. The message is meant for the user."""


class MissingError(LocalError):
    """A program, or a feature of the kernel, that is needed is not there."""


class PortTakenError(LocalError):
    """A port that was chosen before is in use by somebody else."""


class CommandFailedError(LocalError):
    """A command that sets up the machine failed."""


class FaultError(LocalError):
    """A fault cannot be made on purpose, as asked for, where it was asked for."""


class NotReadyError(LocalError):
    """A process ended, or did not answer within its time."""
