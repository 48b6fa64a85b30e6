"""Handing over to s6, which is the first process from then on.

s6-svscan collects orphans and minds one s6-supervise per program, which starts it again when it
ends (https://skarnet.org/software/s6/). What it reads is written into memory at each boot. Programs
start at once, side by side: pods are to be back before the broker is. They end in order: the
services, while the broker still takes what they have to say, then the broker.
"""

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

from fedge_boot import versions
from fedge_boot.programs import ABOUT, READY_FD, Program
from fedge_boot.settings import Settings

FOLDER: Final = versions.S6_FOLDER
_SCAN: Final = FOLDER / "scan"
LONGEST_WAIT_SECONDS: Final = 30
"""At most so long a program that ends again and again is waited with."""
_CALM_SECONDS: Final = 60
"""A program that ran for so long is started again at once."""
_STOP_SECONDS: Final = 25

_BACK_OFF: Final = f"""\
# Waits before a program is started that ended soon after its last starts: 1, 2, 4 ... seconds.
read -r up _ </proc/uptime; now=${{up%%.*}}
tries=0; began=-{_CALM_SECONDS}
[ ! -s starts ] || read -r tries began <starts
if [ $((now - began)) -ge {_CALM_SECONDS} ]; then tries=0; else tries=$((tries + 1)); fi
wait=0
if [ "$tries" -gt 0 ]; then
    wait=$((1 << (tries > 6 ? 5 : tries - 1)))
    [ "$wait" -le {LONGEST_WAIT_SECONDS} ] || wait={LONGEST_WAIT_SECONDS}
    echo "fedge: ${{PWD##*/}} ended; it is started again in $wait s" >&2
fi
echo "$tries $((now + wait))" >starts
[ "$wait" = 0 ] || sleep "$wait"
"""
_STOP: Final = f"""\
#!/bin/sh
echo "fedge: stopping" >&2
s6-svc -wD -T {_STOP_SECONDS}000 -d {_SCAN}/services
s6-svc -wD -T {_STOP_SECONDS}000 -d {_SCAN}/broker
exec s6-svscanctl -t {_SCAN}
"""
_BEGIN_ANEW: Final = f"""\
#!/bin/sh
: >{versions.AGAIN}
exec {_SCAN}/.s6-svscan/SIGTERM
"""
_POWER: Final = f"""\
#!/bin/sh
# the machine is about to go down: edged ends pods orderly, if it is set up to
pid=$(s6-svstat -o pid {_SCAN}/services) && [ "$pid" -gt 0 ] && kill -s PWR "$pid"
"""


def write(
    programs: Sequence[Program],
    settings: Settings,
    said: Mapping[str, object],
    environment: Mapping[str, str],
    *,
    folder: Path = FOLDER,
) -> Path:
    """Write what s6 reads.

    Args:
        programs: that are kept running.
        settings: of the container.
        said: what the services are told of the image.
        environment: of the container, for whoever begins anew.
        folder: where to.

    Returns:
        The folder that it is to scan.
    """
    scan = folder / _SCAN.name
    own = scan / ".s6-svscan"
    own.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("SIGTERM", _STOP), ("SIGINT", _STOP), ("SIGQUIT", _STOP), ("SIGPWR", _POWER),
        ("finish", _finish(said, environment)), ("crash", "#!/bin/sh\nexit 1\n"),
    ):  # fmt: skip
        _script(own / name, text)
    (folder / "back-off").write_text(_BACK_OFF)
    _script(folder / "begin-anew", _BEGIN_ANEW)
    for program in programs:
        place = scan / program.name
        place.mkdir(exist_ok=True)
        exports = _exports(program.environment)
        _script(
            place / "run",
            f"#!/bin/sh\n. {folder}/back-off\nexec 2>&1\ncd /\n{exports}"
            f"exec {shlex.join(program.command)}\n",
        )
        (place / "timeout-kill").write_text(f"{program.grace_seconds}000\n")
        if program.tells_ready:
            (place / "notification-fd").write_text(f"{READY_FD}\n")
    about = {
        "amqp_port": settings.amqp_port,
        "mqtt_port": settings.mqtt_port,
        "socket": str(settings.socket),
        "scan": str(scan),
        **said,
    }
    (folder / ABOUT.name).write_text(json.dumps(about))
    return scan


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o700)


def _exports(environment: Mapping[str, str]) -> str:
    return "".join(
        f"export {name}={shlex.quote(value)}\n"
        for name, value in sorted(environment.items())
        if name.isidentifier()
    )


def _finish(said: Mapping[str, object], environment: Mapping[str, str]) -> str:
    """Return what s6 becomes once all have ended: in a slot its guard looks what is next."""
    if said["slot"]:
        return "#!/bin/sh\nexit 0\n"
    return (
        f"#!/bin/sh\n[ -e {versions.AGAIN} ] || exit 0\n{_exports(environment)}"
        "exec /usr/bin/python3 -m fedge_boot\n"
    )


def run(
    programs: Sequence[Program],
    settings: Settings,
    said: Mapping[str, object],
    environment: Mapping[str, str],
) -> NoReturn:
    """Become s6, which runs the programs until the container is stopped.

    Raises:
        BootError: there is no place in memory for what it reads.
    """
    versions.mount_s6_folder()
    scan = write(programs, settings, said, environment)
    own = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    os.execvpe("s6-svscan", ["s6-svscan", "-t0", str(scan)], own)  # noqa: S606 - no shell
