"""The tables, and how a file of another version is met.

``objects`` holds the newest version of each object or its tombstone, ``outbox`` the messages that
were decided in the same transaction and that the broker has not confirmed yet.
"""

from typing import Final

SCHEMA_VERSION: Final = 1

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


class StoreError(Exception):
    """The file cannot be used; the message names it and the remedy."""
