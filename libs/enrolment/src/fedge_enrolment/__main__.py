"""``python -m fedge_enrolment FOLDER``: renew the certificate of the identity in a folder."""

import os
import sys
from pathlib import Path

from fedge_enrolment.dialling import DialError
from fedge_enrolment.identity import Identity, IdentityError
from fedge_enrolment.joining import renew
from fedge_enrolment.refusals import RefusedError

_USAGE = 2


def main(arguments: list[str]) -> int:
    """Renew; return the exit code, with the reason on standard error if it failed."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m fedge_enrolment FOLDER\n")
        return _USAGE
    os.umask(0o077)
    try:
        renew(Identity(Path(arguments[0])))
    except (DialError, RefusedError, IdentityError, OSError, ValueError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
