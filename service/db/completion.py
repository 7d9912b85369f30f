"""The end of a study: its strategy has nothing left to do, or its budget is spent; if it names test seeds,
its best few are tested then (:mod:`service.db.finals`)."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.db import budget, checkpoints, events, facts, finals, runs, study_laws
from service.db.models import RunRow, StudyRow, TrialRow
from service.db.transitions import move_study
from trimtab.wire.states import RunState, StudyState, TrialState, Verdict


def over_budget(session: Session, now: datetime) -> list[int]:
    """The running studies, by row id, whose budget is spent, or which are being tested."""
    studies = session.scalars(select(StudyRow).where(StudyRow.state == StudyState.RUNNING.value))
    return [
        study.id
        for study in studies
        if study.finals is not None or budget.over(session, study, now) is not None
    ]


def wind_up(session: Session, study_id: int, now: datetime) -> bool:
    """Interrupt what a study with a spent budget still trains; end it once nothing is active.

    Running trials are told to save and pause at their next report, queued ones are paused at once: if the
    budget is extended, search lets them go on first. What the checkpoints' policy does not keep is freed
    with the study's end. Test runs are let be: no budget pays for them. True if the study is complete now.
    Does nothing if the budget is not spent (any more) and the study is not being tested.
    """
    study = session.get(StudyRow, study_id)
    if study is None:
        return False
    runs.lock(session, study)
    if study.state != StudyState.RUNNING:
        return False
    if study.finals is not None:
        return end(session, study, "", now)
    reason = budget.over(session, study, now)
    if reason is None:
        return False
    for run, trial in session.execute(
        select(RunRow, TrialRow)
        .join(TrialRow, RunRow.trial_id == TrialRow.id)
        .where(
            RunRow.study_id == study.id,
            RunRow.state.in_(runs.UNFINISHED),
            RunRow.wish.is_(None),
            ~TrialRow.test,
        )
        .order_by(TrialRow.number)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).all():
        if run.state == RunState.QUEUED:
            runs.interrupt(session, study, trial, run, reason=reason, now=now)
        else:
            runs.strengthen(run, Verdict.PAUSE.value, reason)
    session.flush()
    return end(session, study, reason, now)


def end(session: Session, study: StudyRow, reason: str, now: datetime) -> bool:
    """Search is over in a running study, for ``reason``: once nothing is active, test its best few or, if
    that is done or not asked for, complete it. True if it is complete now. The study must be locked.
    """
    if count_active(session, study) > 0:
        return False
    if facts.of(session, study.key).spec.seeds.test:
        if study.finals is None:
            finals.begin(session, study, reason, now)
            if count_active(session, study) > 0:
                return False
        reason = finals.conclude(session, study)
    complete(session, study, reason + _cut_short(session, study), now)
    return True


def _cut_short(session: Session, study: StudyRow) -> str:
    """That the best trial ended before the schedule that it was given did, in words to be added to a
    reason; "" if it did not. Its rate is not down where the schedule ends, so it could be better."""
    best = session.get(TrialRow, study.best_trial_id) if study.best_trial_id is not None else None
    if best is None or not best.schedule or best.step >= best.schedule[-1][0]:
        return ""
    end = int(best.schedule[-1][0])
    return f"; the best trial, {best.number}, ended at step {best.step} of a schedule that goes on to {end}"


def count_active(session: Session, study: StudyRow) -> int:
    """Trials of ``study`` that are trained or wait for a worker."""
    active = (TrialState.QUEUED.value, TrialState.RUNNING.value)
    count = select(func.count()).where(TrialRow.study_id == study.id, TrialRow.state.in_(active))
    return session.scalar(count) or 0


def measured(session: Session, study: StudyRow) -> bool:
    """Whether any trial has a finite value of the metric, be it one that cannot be the study's best."""
    if study.best_value is not None:
        return True
    values = select(TrialRow.id).where(TrialRow.study_id == study.id, TrialRow.first_value.is_not(None))
    return session.scalar(values.limit(1)) is not None


def complete(session: Session, study: StudyRow, reason: str, now: datetime) -> None:
    """End a running study in which nothing is active, free what its policy does not keep, and queue the
    fits of a scaling study.

    It is completed; if it has failed trials and nothing was ever measured, it has failed.
    """
    failure = None if measured(session, study) else _last_failure(session, study)
    if failure is not None:
        reason = (
            f"{reason}, and nothing was measured; the last trial to fail: {failure}. Mend the cause, then "
            "retry trials or extend the budget"
        )
    state = StudyState.COMPLETED if failure is None else StudyState.FAILED
    move_study(study, state, reason, now)
    checkpoints.release(session, study, now)
    events.append(session, study, f"study.{state}", data={"reason": reason}, now=now)
    if state is StudyState.COMPLETED:
        study_laws.queue(session, study, now)


def _last_failure(session: Session, study: StudyRow) -> str | None:
    """How the trial that failed last did so; None if none has."""
    row = session.execute(
        select(TrialRow.failure_kind, TrialRow.failure_message)
        .where(TrialRow.study_id == study.id, TrialRow.state == TrialState.FAILED.value)
        .order_by(TrialRow.ended_at.desc(), TrialRow.number.desc())
        .limit(1)
    ).first()
    return None if row is None else f"{row.failure_kind}, {row.failure_message}"
