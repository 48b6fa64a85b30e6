"""CronJobs, in virtual time that begins at noon."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fedge_apiserver.controllers.workloads import CronJobs
from fedge_apiserver.registry import Registry
from fedge_apiserver.resources import CRON_JOBS, EVENTS, JOBS, Catalog
from fedge_apiserver.schedules import ScheduleError, parse_schedule
from fedge_apiserver.storage import MemoryStorage
from fedge_apiserver.store import Store
from fedge_objects import JsonObject

pytestmark = pytest.mark.looptime
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
NAMESPACE = "default"


def template() -> JsonObject:
    containers = [{"name": "main", "image": "x"}]
    return {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": containers}}}}


@asynccontextmanager
async def served(**spec: Any) -> AsyncIterator[Registry]:
    """A CronJob, and the loop that looks after it."""
    store = Store(MemoryStorage())
    await store.open()
    loop = asyncio.get_running_loop()
    registry = Registry(store, Catalog(), lambda: NOON + timedelta(seconds=loop.time()))
    await registry.open()
    value: JsonObject = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "c"},
        "spec": {"schedule": "*/10 * * * *", "jobTemplate": template(), **spec},
    }
    await registry.create(CRON_JOBS, NAMESPACE, value)
    task = asyncio.create_task(CronJobs(registry).run())
    try:
        yield registry
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await store.close()


async def minutes(count: float) -> None:
    """Let time pass, and what is due then happen."""
    await asyncio.sleep(count * 60 + 1)


def jobs(registry: Registry) -> list[str]:
    """Return the Jobs that are there by the minute of the hour that they were meant for."""
    found = [job["metadata"]["name"] for job in registry.objects(JOBS, NAMESPACE)]
    first = int(NOON.timestamp()) // 60
    return sorted(f"{int(name.removeprefix('c-')) - first:02}" for name in found)


def status(registry: Registry) -> dict[str, Any]:
    value = registry.read(CRON_JOBS, NAMESPACE, "c")
    assert value is not None
    held: dict[str, Any] = value["status"]
    return held


def reasons(registry: Registry) -> set[str]:
    return {event["reason"] for event in registry.objects(EVENTS, NAMESPACE)}


async def end(registry: Registry, minute: str, kind: str = "Complete") -> None:
    """Have a Job ended."""
    now = registry.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    ended: JsonObject = {
        "conditions": [{"type": kind, "status": "True", "lastTransitionTime": now}]
    }
    if kind == "Complete":
        ended["completionTime"] = now
    name = f"c-{int(NOON.timestamp()) // 60 + int(minute)}"
    await registry.update(
        JOBS, NAMESPACE, name, lambda job: {**job, "status": ended}, subresource="status"
    )


async def test_job_is_made_at_each_time() -> None:
    async with served() as registry:
        await minutes(9)
        assert jobs(registry) == []
        await minutes(1)
        assert jobs(registry) == ["10"]
        held = status(registry)
        assert held["lastScheduleTime"] == "2026-05-04T12:10:00Z"
        assert [each["name"] for each in held["active"]] == [
            job["metadata"]["name"] for job in registry.objects(JOBS, NAMESPACE)
        ]
        (job,) = registry.objects(JOBS, NAMESPACE)
        assert job["metadata"]["annotations"] == {
            "batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-05-04T12:10:00Z"
        }
        assert job["metadata"]["ownerReferences"][0]["name"] == "c"
        await minutes(10)
        assert jobs(registry) == ["10", "20"]


async def test_end_of_a_job_is_noted() -> None:
    async with served() as registry:
        await minutes(10)
        await end(registry, "10")
        await minutes(0)
        held = status(registry)
        assert "active" not in held
        assert held["lastSuccessfulTime"] == "2026-05-04T12:10:01Z"
        assert "SawCompletedJob" in reasons(registry)


async def test_forbidden_overlap_waits_for_the_end() -> None:
    async with served(concurrencyPolicy="Forbid") as registry:
        await minutes(25)
        assert jobs(registry) == ["10"]
        assert "JobAlreadyActive" in reasons(registry)
        await end(registry, "10")
        await minutes(0)
        assert jobs(registry) == ["10", "20"], "what was due meanwhile is made up for once"


async def test_new_job_replaces_the_one_that_goes_on() -> None:
    async with served(concurrencyPolicy="Replace") as registry:
        await minutes(20)
        assert jobs(registry) == ["20"]


async def test_suspended_makes_none_and_makes_up_for_one() -> None:
    async with served(suspend=True) as registry:
        await minutes(55)
        assert jobs(registry) == []
        await registry.update(
            CRON_JOBS, NAMESPACE, "c", lambda c: {**c, "spec": {**c["spec"], "suspend": False}}
        )
        await minutes(0)
        assert jobs(registry) == ["50"]


async def test_what_is_too_late_is_left_out_and_told() -> None:
    async with served(suspend=True, startingDeadlineSeconds=60) as registry:
        await minutes(55)
        await registry.update(
            CRON_JOBS, NAMESPACE, "c", lambda c: {**c, "spec": {**c["spec"], "suspend": False}}
        )
        await minutes(0)
        assert jobs(registry) == []
        assert "MissSchedule" in reasons(registry)
        await minutes(5)
        assert jobs(registry) == ["60"]


async def test_old_jobs_are_forgotten_by_how_they_ended() -> None:
    async with served(successfulJobsHistoryLimit=1, failedJobsHistoryLimit=1) as registry:
        for minute, kind in (("10", "Failed"), ("20", "Complete"), ("30", "Complete")):
            await minutes(10)
            await end(registry, minute, kind)
        await minutes(0)
        assert jobs(registry) == ["10", "30"]


async def test_restart_after_the_job_was_made_makes_no_second_one() -> None:
    async with served() as registry:
        await minutes(10)
        # As if the server had ended between making the Job and noting it.
        await registry.update(
            CRON_JOBS, NAMESPACE, "c", lambda c: {**c, "status": {}}, subresource="status"
        )
        await minutes(0)
        assert jobs(registry) == ["10"]
        held = status(registry)
        assert held["lastScheduleTime"] == "2026-05-04T12:10:00Z"
        assert len(held["active"]) == 1


async def test_job_that_a_user_made_hinders_none() -> None:
    async with served(concurrencyPolicy="Forbid") as registry:
        owner = registry.read(CRON_JOBS, NAMESPACE, "c")
        assert owner is not None
        reference = {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "name": "c",
            "uid": owner["metadata"]["uid"],
            "controller": True,
        }
        value: JsonObject = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "c-0", "ownerReferences": [reference]},
            **template(),
        }
        await registry.create(JOBS, NAMESPACE, value)
        await minutes(10)
        assert "10" in jobs(registry)
        assert len(status(registry)["active"]) == 1


@pytest.mark.parametrize(
    ("line", "zone", "following"),
    [
        ("@hourly", None, "2026-05-04T13:00"),
        ("30 8 * * MON-FRI", "Europe/Berlin", "2026-05-05T06:30"),
        ("0 0 1 jan ?", None, "2027-01-01T00:00"),
        ("*/7 3 * * 0", None, "2026-05-10T03:00"),
        ("@every 1h30m", None, "2026-05-04T13:30"),
        ("0 0 29 2 *", None, "2028-02-29T00:00"),
    ],
)
def test_schedules_are_read(line: str, zone: str | None, following: str) -> None:
    found = parse_schedule(line, zone).following(NOON)
    assert found == datetime.fromisoformat(following).replace(tzinfo=UTC)


def test_hour_that_summer_time_leaves_out_is_made_up_for() -> None:
    schedule = parse_schedule("30 2 * * *", "Europe/Berlin")
    before = datetime(2026, 3, 28, 12, tzinfo=UTC)
    assert schedule.following(before) == datetime(2026, 3, 29, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "* * * *",
        "* * * * * *",
        "61 * * * *",
        "@nightly",
        "@every",
        "@every soon",
        "* * L * *",
        "* * * * 5L",
        "* * * * 5#2",
        "* * * * 7",
        "* * 1W * *",
        "a b c d e",
    ],
)
def test_what_a_cluster_cannot_read_is_refused(line: str) -> None:
    with pytest.raises(ScheduleError):
        parse_schedule(line)


@pytest.mark.parametrize("zone", ["", "Local", "Mars/Olympus", "../etc/passwd", "UTC\0"])
def test_zone_that_nobody_knows_is_refused(zone: str) -> None:
    with pytest.raises(ScheduleError, match="unknown time zone"):
        parse_schedule("@daily", zone)
