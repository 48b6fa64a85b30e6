"""Makes Jobs of a template at the times that a schedule says.

The server's clock decides. What was missed while it did not run is made up for once, with the last
time that was missed, unless ``startingDeadlineSeconds`` says that it is too late.

https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/
"""

import copy
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from fedge_apiserver.controllers.workloads._job_status import is_finished
from fedge_apiserver.controllers.workloads._loop import Loop, condition, owner_reference
from fedge_apiserver.errors import ApiError
from fedge_apiserver.objects import timestamp
from fedge_apiserver.registry import DeleteOptions, Registry
from fedge_apiserver.resources import CRON_JOBS, JOBS
from fedge_apiserver.schedules import ScheduleError, parse_schedule
from fedge_objects import JsonObject

SCHEDULED: Final = "batch.kubernetes.io/cronjob-scheduled-timestamp"
_LONGEST_SLEEP_SECONDS: Final = 600.0
"""The clock may be set meanwhile; timers would not notice."""


class CronJobs(Loop):
    """Follows CronJobs and their Jobs."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(registry, CRON_JOBS, JOBS, "cronjob-controller")

    async def settle(self, value: JsonObject) -> float | None:
        """Note what became of the Jobs, forget old ones, and start one if it is time."""
        jobs = self.owned.of(value["metadata"]["uid"])
        written = value.get("status") or {}
        value = {**value, "status": copy.deepcopy(written)}
        await self._note(value, jobs)
        await self._forget(value, jobs)
        later = None
        if not value["spec"].get("suspend"):
            later = await self._start(value, jobs)
        await self.write_status({**value, "status": written}, value["status"])
        return later

    async def _note(self, value: JsonObject, jobs: list[JsonObject]) -> None:
        """Bring the status up to what the Jobs say."""
        status = value["status"]
        known = {each["uid"] for each in status.get("active") or ()}
        for job in jobs:
            if job["metadata"]["uid"] not in known or not is_finished(job):
                continue
            name = job["metadata"]["name"]
            how = "Complete" if condition(job, "Complete") else "Failed"
            await self.recorder.record(
                value, "Normal", "SawCompletedJob", f"Saw completed job: {name}, condition: {how}"
            )
        active = _running(jobs)
        status["active"] = [_reference(job) for job in active]
        ends = [
            job["status"]["completionTime"]
            for job in jobs
            if "completionTime" in (job.get("status") or {})
        ]
        if ends:
            status["lastSuccessfulTime"] = max([*ends, status.get("lastSuccessfulTime", "")])
        if not active:
            del status["active"]

    async def _forget(self, value: JsonObject, jobs: list[JsonObject]) -> None:
        for kind, field in (
            ("Complete", "successfulJobsHistoryLimit"),
            ("Failed", "failedJobsHistoryLimit"),
        ):
            limit = value["spec"][field]
            ended = [job for job in jobs if condition(job, kind).get("status") == "True"]
            ended.sort(key=lambda job: str(job["metadata"]["creationTimestamp"]))
            for job in ended[: max(0, len(ended) - limit)]:
                await self._delete(value, job)

    async def _delete(self, value: JsonObject, job: JsonObject) -> None:
        meta = job["metadata"]
        options = DeleteOptions(uid=meta["uid"], propagation="Background")
        try:
            await self.registry.delete(JOBS, meta["namespace"], meta["name"], options)
        except ApiError as exc:
            if exc.reason not in ("NotFound", "Conflict"):
                raise
        await self.recorder.record(
            value, "Normal", "SuccessfulDelete", f"Deleted job {meta['name']}"
        )

    async def _start(self, value: JsonObject, jobs: list[JsonObject]) -> float | None:
        """Start the Job that is due; return in how many seconds to look again."""
        spec, status, now = value["spec"], value["status"], self.registry.now()
        try:
            schedule = parse_schedule(spec["schedule"], spec.get("timeZone"))
        except ScheduleError as exc:
            await self.recorder.record(
                value, "Warning", "UnparseableSchedule", f"unparseable schedule: {exc}"
            )
            return None
        last = status.get("lastScheduleTime") or value["metadata"]["creationTimestamp"]
        since = datetime.fromisoformat(last)
        deadline = spec.get("startingDeadlineSeconds")
        due = schedule.preceding(now, since)
        if due is not None:
            if deadline is not None and (now - due).total_seconds() > deadline:
                await self.recorder.record(
                    value,
                    "Warning",
                    "MissSchedule",
                    f"Missed scheduled time to start a job: {timestamp(due)}",
                )
            else:
                await self._run_due(value, due, jobs)
        following = schedule.following(due or since)
        if following is None:
            return None
        wait = (following - now).total_seconds()
        return min(max(wait, 0.0) + 0.01, _LONGEST_SLEEP_SECONDS)

    async def _run_due(self, value: JsonObject, due: datetime, jobs: list[JsonObject]) -> None:
        meta, spec, status = value["metadata"], value["spec"], value["status"]
        active = _running(jobs)
        name = f"{meta['name']}-{int(due.timestamp()) // 60}"
        if active and spec["concurrencyPolicy"] == "Forbid":
            await self.recorder.record(
                value,
                "Normal",
                "JobAlreadyActive",
                "Not starting job because prior execution is running and concurrency policy is "
                "Forbid",
            )
            return
        if spec["concurrencyPolicy"] == "Replace":
            for job in active:
                await self._delete(value, job)
            status.pop("active", None)
        held = self.registry.read(JOBS, meta["namespace"], name)
        if held is None:
            outcome = await self.registry.create(JOBS, meta["namespace"], _job(value, name, due))
            held = outcome.value
            await self.recorder.record(value, "Normal", "SuccessfulCreate", f"Created job {name}")
        elif held["metadata"]["uid"] in {job["metadata"]["uid"] for job in jobs}:
            # Made just before the server ended, which then could not note it.
            held = None
        if held is not None:
            status["active"] = [*(status.get("active") or ()), _reference(held)]
        status["lastScheduleTime"] = timestamp(due)


def _running(jobs: list[JsonObject]) -> list[JsonObject]:
    """Return the Jobs that this loop made and that go on; those that users made stand apart."""
    return [
        job
        for job in jobs
        if not is_finished(job) and SCHEDULED in (job["metadata"].get("annotations") or {})
    ]


def _job(value: JsonObject, name: str, due: datetime) -> JsonObject:
    template = copy.deepcopy(value["spec"]["jobTemplate"])
    meta = template.get("metadata") or {}
    zone = value["spec"].get("timeZone")
    shown = due.astimezone(ZoneInfo(zone) if zone else UTC).isoformat().replace("+00:00", "Z")
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": value["metadata"]["namespace"],
            "labels": meta.get("labels") or {},
            "annotations": {**(meta.get("annotations") or {}), SCHEDULED: shown},
            "ownerReferences": [owner_reference(value)],
        },
        "spec": template["spec"],
    }


def _reference(job: JsonObject) -> JsonObject:
    meta = job["metadata"]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": meta["name"],
        "namespace": meta["namespace"],
        "uid": meta["uid"],
        "resourceVersion": meta["resourceVersion"],
    }
