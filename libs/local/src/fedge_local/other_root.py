"""Commands of another system's root folder, run on this machine: same pid, network and files.

A program of a newer Debian needs the C library of that Debian. It gets a root of its own in a mount
namespace of its own: the other system's programs read-only, this machine's devices, processes and
names of hosts, and chosen folders of this machine at the paths that they have outside. The mounts
are in the namespace only and go with the last process in it; nothing is written to the other root.
"""

from collections.abc import Sequence
from pathlib import Path

from fedge_local.commands import program

# /mnt of the other root is where the new root is put together, in memory. Every step is an exec or
# has ended before it: the process that is asked for is the one that was started.
_ENTER = """
set -e
root=$1 folders=$2; shift 2
new=$root/mnt
mount -t tmpfs -o mode=755,size=1m tmpfs "$new"
for each in bin etc lib lib32 lib64 libx32 sbin usr; do
    if [ -L "$root/$each" ]; then
        ln -s "$(readlink "$root/$each")" "$new/$each"
    elif [ -d "$root/$each" ]; then
        mkdir "$new/$each"
        mount --bind -o ro "$root/$each" "$new/$each"
    fi
done
for each in hosts resolv.conf; do
    if [ -f "$new/etc/$each" ] && [ ! -L "$new/etc/$each" ] && [ -f "/etc/$each" ]; then
        mount --bind "/etc/$each" "$new/etc/$each"
    fi
done
for each in dev proc sys; do
    mkdir "$new/$each"; mount --rbind "/$each" "$new/$each"
done
mkdir "$new/run" "$new/tmp"; chmod 1777 "$new/tmp"
while [ "$folders" != 0 ]; do
    [ -d "$1" ] || (umask 077 && mkdir -p "$1")
    mkdir -p "$new$1"; mount --rbind "$1" "$new$1"
    shift; folders=$((folders - 1))
done
exec chroot "$new" "$@"
"""


def within(root: Path, folders: Sequence[Path], command: Sequence[str]) -> list[str]:
    """Return the command that runs ``command`` in the other root; needs the rights of root.

    Args:
        root: folder of the other system, with a folder ``mnt``.
        folders: of this machine, the only ones that the command sees, at the same paths; one that
            is not there is made.
        command: its program as a path in the other root.

    Raises:
        MissingError: a program of this machine is not installed.
    """
    return [
        program("unshare"), "--mount", "--",
        "/bin/sh", "-c", _ENTER, "other-root", str(root), str(len(folders)),
        *map(str, folders), *command,
    ]  # fmt: skip
