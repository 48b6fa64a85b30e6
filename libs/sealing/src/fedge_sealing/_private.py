"""Files that only their owner can read."""

import contextlib
import os
import secrets
from pathlib import Path


def write_private(path: Path, content: bytes, *, may_replace: bool = True) -> None:
    """Write a file that only its owner can read: whole or not at all, and on the disk.

    Args:
        path: of the file; its folder is made if it is not there.
        content: of the file.
        may_replace: whether a file that is there is replaced.

    Raises:
        FileExistsError: there is one, and it may not be replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if may_replace:
            temporary.replace(path)
        else:
            path.hardlink_to(temporary)
            temporary.unlink()
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def make_private(path: Path) -> None:
    """See that a file is there and that nobody but its owner can read it.

    For databases: SQLite gives the files that it makes beside one the rights of that one
    (https://www.sqlite.org/tempfiles.html). Those that are there already are looked after too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT, 0o600))
    for each in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
        # whoever closes the database last takes those beside it away
        with contextlib.suppress(FileNotFoundError):
            if each.stat().st_mode & 0o077:
                each.chmod(0o600)
