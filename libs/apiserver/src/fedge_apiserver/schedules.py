"""Times of repeated work, as crontab lines and Kubernetes' CronJobs write them.

Five fields, or ``@yearly`` and the like, or ``@every 1h30m``. The fields are read by ``cronsim``;
what it reads beyond those that Kubernetes knows is refused.

https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#schedule-syntax
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_MACROS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELD: Final = re.compile(r"[0-9A-Za-z*?,/-]+")
_FIELDS: Final = 5
_DAY_OF_WEEK: Final = 4
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")
_SECONDS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_NOWHERE: Final = ("", "Local", "local")


class ScheduleError(ValueError):
    """A schedule or a time zone that cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When something is to happen.

    Attributes:
        following: the first time after a moment; None if there is none in fifty years.
        preceding: the last time up to a moment, and after another; None if there is none.
    """

    following: Callable[[datetime], datetime | None]
    preceding: Callable[[datetime, datetime], datetime | None]


@lru_cache(maxsize=256)
def parse_schedule(text: str, zone: str | None = None) -> Schedule:
    """Return a schedule; all its times are in UTC.

    Args:
        text: the schedule.
        zone: the name of the time zone that it is meant in; None is UTC.

    Raises:
        ScheduleError: either cannot be read.
    """
    from cronsim import CronSim, CronSimError  # noqa: PLC0415 - an edge has no schedules

    where = UTC if zone is None else _zone(zone)
    if text.startswith("@every "):
        return _repeated(_interval(text.removeprefix("@every ")))
    if text.startswith("@"):
        if text not in _MACROS:
            raise ScheduleError(f"unrecognized descriptor: {text}")
        text = _MACROS[text]
    fields = text.upper().split()
    if len(fields) != _FIELDS:
        raise ScheduleError(f"expected exactly {_FIELDS} fields, found {len(fields)}: {fields}")
    for position, field in enumerate(fields):
        # cronsim takes more: the last day of a month, the second Monday, Sunday as 7.
        is_day = position == _DAY_OF_WEEK
        if not _FIELD.fullmatch(field) or (is_day and re.search(r"(?<!/)7|\dL", field)):
            raise ScheduleError(f"cannot read field {field!r}")
    line = " ".join(fields).replace("?", "*")
    try:
        CronSim(line, datetime.now(where))
    except CronSimError as exc:
        raise ScheduleError(str(exc)) from exc
    if "L" in fields[2] or "W" in fields[2]:
        raise ScheduleError(f"cannot read field {fields[2]!r}")

    def following(moment: datetime) -> datetime | None:
        found = next(CronSim(line, moment.astimezone(where)), None)
        return found.astimezone(UTC) if found else None

    def preceding(moment: datetime, after: datetime) -> datetime | None:
        # Those of this very second count, which going back would leave out.
        found = next(
            CronSim(line, (moment + timedelta(seconds=1)).astimezone(where), reverse=True), None
        )
        return found.astimezone(UTC) if found and found > after else None

    return Schedule(following, preceding)


def _repeated(every: timedelta) -> Schedule:
    def following(moment: datetime) -> datetime:
        return moment.replace(microsecond=0) + every

    def preceding(moment: datetime, after: datetime) -> datetime | None:
        # Counted from what was last, after which the caller looks.
        count = int((moment - after) / every)
        return after + count * every if count > 0 else None

    return Schedule(following, preceding)


def _zone(name: str) -> "ZoneInfo":
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - see above

    if name in _NOWHERE:
        raise ScheduleError(f"unknown time zone {name!r}")
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as exc:
        raise ScheduleError(f"unknown time zone {name}") from exc


def _interval(text: str) -> timedelta:
    parts = _PART.findall(text)
    if "".join(number + unit for number, unit in parts) != text or not parts:
        raise ScheduleError(f'failed to parse duration {text!r}: want e.g. "1h30m"')
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    return timedelta(seconds=max(1, int(seconds)))
