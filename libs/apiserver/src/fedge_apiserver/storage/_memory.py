"""A log that ends with the process, for tests and for what need not last."""

from collections.abc import Sequence

from fedge_apiserver.storage._port import Entry, Log, StorageError


class MemoryStorage:
    """Keeps entries in a dictionary; opened again, it has them still."""

    def __init__(self) -> None:
        self._entries: dict[int, Entry] = {}
        self._revision = 0
        self._compacted = 0
        self._is_open = False

    async def open(self) -> Log:
        """Return what was appended."""
        self._is_open = True
        entries = [self._entries[revision] for revision in sorted(self._entries)]
        return Log(entries, self._revision, self._compacted)

    async def append(self, entries: Sequence[Entry], forget: Sequence[int], compacted: int) -> None:
        """Add entries, drop those in ``forget``."""
        if not self._is_open:
            raise StorageError("the storage is not open")
        if any(entry.revision in self._entries for entry in entries):
            raise StorageError("a revision is there already")
        for entry in entries:
            self._entries[entry.revision] = entry
            self._revision = max(self._revision, entry.revision)
        for revision in forget:
            self._entries.pop(revision, None)
        self._compacted = compacted

    async def close(self) -> None:
        """Refuse appends until opened again."""
        self._is_open = False
