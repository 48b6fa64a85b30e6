"""The tables, and how a file of another version is met.

``objects`` holds the newest version of each object or its tombstone, ``outbox`` the messages that
were decided in the same transaction and that the broker has not confirmed yet. ``writes`` holds
what programs at the edge wrote to its API and the cloud has not answered yet, ``marks`` numbers
that only rise.
"""

from typing import Final

SCHEMA_VERSION: Final = 1001

MINORS: Final = 1000
"""A file's ``user_version`` is its major version, or that times this plus a minor one: 1, 1001.

A newer minor version only adds: tables, and columns with a default. So a fedge of one minor version
before reads and writes it, which is what going back after an upgrade needs. Statements name the
columns that they mean."""

SCHEMA: Final = """
CREATE TABLE objects (
    resource    TEXT    NOT NULL,
    namespace   TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    decided     INTEGER NOT NULL,
    revision    INTEGER NOT NULL,
    body        BLOB,
    traceparent TEXT    NOT NULL DEFAULT '',
    PRIMARY KEY (resource, namespace, name)
) WITHOUT ROWID;

CREATE TABLE outbox (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    exchange    TEXT    NOT NULL,
    routing_key TEXT    NOT NULL,
    envelope    BLOB    NOT NULL
);
"""
"""A NULL body is a tombstone. Beside the trace context stands since when it is here."""

SINCE_1_1: Final = """
CREATE TABLE IF NOT EXISTS writes (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    id        TEXT    NOT NULL UNIQUE,
    resource  TEXT    NOT NULL,
    namespace TEXT    NOT NULL,
    name      TEXT    NOT NULL,
    body      BLOB    NOT NULL
);

CREATE TABLE IF NOT EXISTS marks (
    name  TEXT    PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
"""
"""What version 1.1 added."""


class StoreError(Exception):
    """The file cannot be used; the message names it and the remedy."""


def fits(found: int, known: int) -> bool:
    """Whether a file of version ``found`` can be used by who knows ``known``; 0 is a new file."""
    return found == 0 or major_of(found) <= major_of(known)


def major_of(version: int) -> int:
    """Return the major version of a file."""
    return version // MINORS if version >= MINORS else version


def minor_of(version: int) -> int:
    """Return the minor version of a file."""
    return version % MINORS if version >= MINORS else 0
