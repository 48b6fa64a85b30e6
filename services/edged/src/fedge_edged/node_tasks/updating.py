"""Changing settings of the services of this node.

The change is checked by the services' own settings, then tried out: the process begins anew, and if
the services do not come to be ready the settings before take its place (``fedge_service``). Pods
and devices' sessions outlast that as they outlast any restart.
"""

from typing import Final

import structlog

from fedge_edged.node_tasks.diary import Diary
from fedge_edged.node_tasks.fields import read_fields
from fedge_operations import Action, Task, Update
from fedge_service import KeptSettings, Process, this_process

log = structlog.stdlib.get_logger("fedge.edged")

ALL_SERVICES: Final = frozenset({"meta", "edged", "twin"})


class Updating:
    """Changes what a task names."""

    def __init__(self, process: Process | None = None) -> None:
        """Take the process whose settings they are; without one, that which runs this."""
        self._given = process

    async def do(self, task: Task, update: Update, diary: Diary) -> None:
        """Change the settings, or go on where a process before this one was."""
        process = self._given or this_process()
        kept = process.kept if process else None
        if process is None or kept is None:
            reason = "this edged was not started as a service of an edge: change its settings there"
            diary.step(Action.CHECK, reason, ok=False)
            diary.end(reason)
            return
        if not diary.has(Action.BACK_UP):
            self._begin(process, kept, task, update, diary)
            return
        if kept.trial is not None and kept.trial.id == task.uid:
            await kept.decided.wait()
        outcome = kept.outcome
        if outcome is not None and outcome.id == task.uid:
            self._end(diary, outcome.reason)
        elif kept.trial is None or kept.trial.id != task.uid:
            # it was to be tried out and was not: another began in between, or the file was lost
            self._begin(process, kept, task, update, diary)

    def _begin(
        self, process: Process, kept: KeptSettings, task: Task, update: Update, diary: Diary
    ) -> None:
        try:
            changed = read_fields(update.fields)
            values = {**kept.values, **changed}
            _check_all_are_here(process)
            process.check(values)
        except ValueError as exc:
            diary.step(Action.CHECK, str(exc), ok=False)
            diary.end(str(exc))
            return
        if not diary.has(Action.CHECK):
            diary.step(Action.CHECK)
        if values == kept.values:
            diary.step(Action.UPDATE, "the settings are so already")
            diary.end()
            return
        # first that, so that whoever goes on after a kill looks for what became of it
        if not diary.has(Action.BACK_UP):
            diary.step(Action.BACK_UP)
        kept.try_out(values, id=task.uid)
        log.info("settings_tried", task=task.name, settings=sorted(changed))
        process.begin_anew()

    def _end(self, diary: Diary, reason: str) -> None:
        if reason:
            diary.step(Action.UPDATE, reason, ok=False)
            diary.step(Action.ROLL_BACK)
            diary.end(f"the settings before hold again: {reason}")
        else:
            diary.step(Action.UPDATE)
            diary.end()


def _check_all_are_here(process: Process) -> None:
    if missing := ALL_SERVICES - process.services:
        raise ValueError(
            f"{', '.join(sorted(missing))} run in another process than edged: change the settings"
            " there and start them anew"
        )
