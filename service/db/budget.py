"""What a study has used of its budget, and whether it is spent.

Imported trials were paid for elsewhere: they count in no limit, and neither do trainings with test seeds,
which come when the budget is spent. Replicas with other tuning seeds are paid for like everything else, but
``trials`` counts configurations. It alone does not end a study at
once: when all are created, those under way are trained on until the strategy has nothing left to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from search.view import BudgetLeft
from service.db.models import AttemptRow, RunRow, StudyRow, TrialRow
from trimtab.wire.states import AttemptState, RunState, StudyState
from trimtab.wire.study import BudgetSpec
from trimtab.wire.views import BudgetUse

SECONDS_PER_HOUR = 3600.0
UNITS = {
    "fidelity": "units of fidelity",
    "gpu_hours": "GPU-hours",
    "wall_clock_seconds": "seconds of wall clock",
}


@dataclass(frozen=True, slots=True)
class Spent:
    """What the trials of a study have cost."""

    trials: int
    """Configurations tried."""
    trained: int
    """Units of fidelity."""
    seconds: float
    """Seconds that ended attempts have held their resources."""


def elapsed_seconds(study: StudyRow, now: datetime) -> float:
    """Wall-clock seconds so far in state running with a scheduler alive."""
    if study.active_since is None:
        return study.active_seconds
    return study.active_seconds + max(0.0, (now - study.active_since).total_seconds())


def leave_out(session: Session, since: datetime | None, now: datetime) -> int:
    """Take the time from ``since`` to ``now``, in which no scheduler lived, out of the studies' clocks.

    ``since`` None: none has ever lived. How many studies were running.
    """
    studies = session.scalars(
        select(StudyRow)
        .where(StudyRow.state == StudyState.RUNNING.value, StudyRow.active_since < now)
        .order_by(StudyRow.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).all()
    for study in studies:
        if study.active_since is not None and since is not None:
            study.active_seconds += max(0.0, (since - study.active_since).total_seconds())
        study.active_since = now
    return len(studies)


def use(session: Session, study: StudyRow, now: datetime, spent: Spent | None = None) -> list[BudgetUse]:
    """The use of each limit that the study names, in the order of the specification.

    ``spent`` spares a query to who knows it already, as the list of studies does.
    """
    limits = _limits(study)
    if spent is None:
        spent = _spent(session, study)
    uses = []
    if limits.trials is not None:
        uses.append(_use("trials", spent.trials, limits.trials))
    if limits.fidelity is not None:
        uses.append(_use("fidelity", spent.trained, limits.fidelity))
    if limits.gpu_hours is not None:
        uses.append(_use("gpu_hours", _gpu_hours(session, study, spent, now), limits.gpu_hours))
    if limits.wall_clock_seconds is not None:
        elapsed = elapsed_seconds(study, now)
        uses.append(_use("wall_clock_seconds", elapsed, limits.wall_clock_seconds))
    if limits.target is not None:
        reached = _reached(study, limits.target)
        uses.append(
            BudgetUse(name="target", used=study.best_value, limit=limits.target, fraction=float(reached))
        )
    return uses


def over(session: Session, study: StudyRow, now: datetime) -> str | None:
    """Why nothing more may be trained, or None while something may.

    At most two queries, and none for a study whose only limit is the number of trials.
    """
    if _limits(study).model_dump(exclude_none=True).keys() == {"trials"}:
        return None
    for limit in use(session, study, now):
        if limit.name == "target" and limit.fraction == 1:
            return f"target {limit.limit:g} reached: {study.metric} is {limit.used:g}"
        if limit.name != "trials" and limit.fraction == 1:
            return f"budget spent: {limit.limit:g} {UNITS[limit.name]}"
    return None


def left(session: Session, study: StudyRow, now: datetime | None = None) -> BudgetLeft:
    """What a strategy may still start.

    Units promised to an unfinished run are taken off: all between the trial's step and the run's target.
    Without ``now``, it says nothing of time.
    """
    limits = _limits(study)
    clock = None
    if now is not None and limits.wall_clock_seconds is not None:
        clock = max(0.0, limits.wall_clock_seconds - elapsed_seconds(study, now))
    gpu_hours = limits.gpu_hours if study.gpus > 0 else None
    if limits.trials is None and limits.fidelity is None and (gpu_hours is None or now is None):
        return BudgetLeft(clock=clock)
    spent = _spent(session, study)
    fidelity = None
    if limits.fidelity is not None:
        promised = session.scalars(
            select(RunRow.target_step - TrialRow.step)
            .join(TrialRow, TrialRow.id == RunRow.trial_id)
            .where(
                RunRow.study_id == study.id,
                RunRow.state.in_((RunState.QUEUED, RunState.RUNNING)),
                ~TrialRow.test,
            )
        )
        fidelity = max(0, limits.fidelity - spent.trained - sum(max(0, units) for units in promised))
    trials = None if limits.trials is None else max(0, limits.trials - spent.trials)
    seconds = None
    if now is not None and gpu_hours is not None:
        hours = max(0.0, gpu_hours - _gpu_hours(session, study, spent, now))
        seconds = hours * SECONDS_PER_HOUR / study.gpus
    return BudgetLeft(trials=trials, fidelity=fidelity, seconds=seconds, clock=clock)


def _limits(study: StudyRow) -> BudgetSpec:
    return BudgetSpec.model_validate(study.spec["budget"])


def _spent(session: Session, study: StudyRow) -> Spent:
    repeats, trials, trained, seconds = session.execute(
        select(
            func.count(TrialRow.replica_of),
            func.count(),
            func.sum(TrialRow.trained),
            func.sum(TrialRow.seconds),
        ).where(TrialRow.study_id == study.id, TrialRow.origin != "imported", ~TrialRow.test)
    ).one()
    trials -= repeats
    return Spent(trials=trials, trained=int(trained or 0), seconds=float(seconds or 0.0))


def _gpu_hours(session: Session, study: StudyRow, spent: Spent, now: datetime) -> float:
    """GPU-hours of ended attempts and, up to now or their lease's end, of those that hold GPUs still."""
    active = session.scalars(
        select(AttemptRow)
        .join(TrialRow, TrialRow.id == AttemptRow.trial_id)
        .where(AttemptRow.study_id == study.id, AttemptRow.state == AttemptState.ACTIVE, ~TrialRow.test)
    )
    running = sum(held_seconds(attempt, now) for attempt in active)
    return (spent.seconds + running) * study.gpus / SECONDS_PER_HOUR


def held_seconds(attempt: AttemptRow, now: datetime) -> float:
    """Seconds that an active attempt has held its resources: no longer than its lease, if it was lost."""
    until = min(now, attempt.lease_expires_at or now)
    return max(0.0, (until - attempt.started_at).total_seconds())


def _use(name: str, used: float, limit: float) -> BudgetUse:
    return BudgetUse.model_validate(
        {"name": name, "used": used, "limit": limit, "fraction": min(1.0, used / limit)}
    )


def _reached(study: StudyRow, target: float) -> bool:
    if study.best_value is None:
        return False
    return study.best_value >= target if study.maximize else study.best_value <= target
