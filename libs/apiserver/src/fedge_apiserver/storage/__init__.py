"""Where the objects are kept: a port and two adapters.

The port is a log: every write appends one entry under the next revision, so a write costs one
insertion at the end of one table, a watch can go on across a restart, and no index is needed.
"""

from fedge_apiserver.storage._memory import MemoryStorage
from fedge_apiserver.storage._port import Entry, Log, Storage, StorageError
from fedge_apiserver.storage._sqlite import SqliteStorage

__all__ = ["Entry", "Log", "MemoryStorage", "SqliteStorage", "Storage", "StorageError"]
