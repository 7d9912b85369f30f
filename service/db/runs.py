"""Trials and their runs: making them, queueing more training, wishing them to end, ending them.

Every function takes an open write transaction and the moment it happens. On PostgreSQL rows are locked in
one order everywhere: attempts (by token), studies (by id), then runs, trials and checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from search.decision import Schedule
from service.db import checkpoints, events, facts, seeds
from service.db.engine import is_postgresql
from service.db.models import CheckpointRow, RunRow, StudyRow, TrialRow
from service.db.transitions import ENDED_TRIAL, move
from service.errors import ConflictError
from trimtab.wire.states import FailureKind, RunState, TrialState, Verdict
from trimtab.wire.work import Failure

UNFINISHED = (RunState.QUEUED.value, RunState.RUNNING.value)

COMPLETE = "complete"
"""A wish beside the verdicts: the metric is good enough. The worker is told to stop."""

STRENGTH = {
    Verdict.PAUSE.value: 1,
    Verdict.STOP.value: 2,
    COMPLETE: 3,
    FailureKind.DIVERGED.value: 4,
    FailureKind.INVALID.value: 4,
}
"""What a run can be wished, the stronger wish winning. The last two mean that the trial has failed so."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where a forked trial starts from."""

    parent: TrialRow
    checkpoint: CheckpointRow
    """Of the parent, as :func:`service.db.checkpoints.at` gives it."""
    seed: int | None = None
    """What the fork is trained with; None: as its parent, so that both see the same data."""


@dataclass(frozen=True, slots=True)
class Replica:
    """What a new trial repeats."""

    of: int
    """Number of the trial whose configuration it has."""
    seed: int
    test: bool
    """Whether ``seed`` is a test seed."""


def lock(session: Session, study: StudyRow) -> None:
    """Hold ``study`` until the transaction ends, and see its newest state. SQLite holds everything.

    What was changed before is written first: reading a row again would drop it.
    """
    session.flush()
    if is_postgresql(session):
        session.refresh(study, with_for_update={"key_share": True})


def create_trial(
    session: Session,
    study: StudyRow,
    params: Mapping[str, Any],
    *,
    target: int,
    origin: str,
    label: str | None = None,
    to_end: bool = False,
    reason: str,
    now: datetime,
    fork: Start | None = None,
    schedule: Schedule = (),
    replica: Replica | None = None,
) -> TrialRow:
    """A new trial with its first run queued, to be trained to step ``target``.

    ``origin`` is ``strategy``, ``enqueued`` or ``imported``; ``reason`` says why it is tried. With
    ``to_end`` neither the strategy nor a rule that compares trials or waits for progress stops it.
    ``fork``: where it starts from; None: from nothing. ``replica``: what it repeats; None: nothing.
    """
    named = facts.of(session, study.key).spec.seeds
    lock(session, study)
    trial = TrialRow(
        study_id=study.id,
        number=study.next_trial,
        state=TrialState.QUEUED.value,
        state_reason=reason,
        params=dict(params),
        label=label,
        origin=origin,
        first_target=target,
        to_end=to_end,
        target_step=target,
        created_at=now,
        runs=0,
        step=0,
        failures={},
        schedule=[list(point) for point in schedule] or None,
        seed=named.first if named.tuning else None,
        test=False,
    )
    data = {"origin": origin, "run": 1, "target_step": target, "reason": reason}
    if fork is not None:
        trial.parent, trial.forked_at, trial.step = (
            fork.parent.number,
            fork.checkpoint.step,
            fork.checkpoint.step,
        )
        trial.seed = fork.parent.seed if fork.seed is None else fork.seed
        data |= {"parent": trial.parent, "start_step": trial.forked_at}
    if replica is not None:
        trial.replica_of, trial.seed, trial.test = replica.of, replica.seed, replica.test
        data |= {"replica_of": replica.of, "seed": replica.seed, "test": replica.test}
    study.next_trial += 1
    study.version += 1
    session.add(trial)
    session.flush()
    start = None if fork is None else fork.checkpoint
    _add_run(session, trial, start=start, target=target, reason=reason, now=now)
    checkpoints.recount(session, trial)
    events.append(session, study, "trial.queued", trial=trial.number, data=data, now=now)
    return trial


def queue_run(
    session: Session, study: StudyRow, trial: TrialRow, *, target: int, reason: str, now: datetime
) -> RunRow:
    """Train a trial on, from its newest checkpoint (or from nothing) to step ``target``.

    Raises :class:`ConflictError` if it is queued or running, or if the checkpoint is at ``target`` already.
    """
    lock(session, study)
    session.refresh(trial)
    if trial.state in (TrialState.QUEUED, TrialState.RUNNING):
        raise ConflictError(f"trial {trial.number} is {trial.state}: wait for its run, or stop it first")
    start = checkpoints.start_of(session, trial)
    if start is None and trial.parent is not None:
        raise ConflictError(
            f"trial {trial.number} was forked from step {trial.forked_at} of trial {trial.parent}, and no "
            "checkpoint is left to go on from: fork it anew"
        )
    if start is not None and target <= start.step:
        raise ConflictError(
            f"trial {trial.number} has been trained to step {start.step}: name a target beyond it"
        )
    ended = trial.state in ENDED_TRIAL
    move(trial, TrialState.QUEUED, reason)
    if ended:  # a new chance: what ended it before must not end it again at once
        trial.ended_at = None
        trial.since_best = 0
        trial.failures = {}
        trial.failure_kind = trial.failure_message = trial.failure_output = None
    trial.target_step = target
    study.version += 1
    run = _add_run(session, trial, start=start, target=target, reason=reason, now=now)
    checkpoints.recount(session, trial)
    _queued_event(session, study, trial, run, reason, now)
    return run


def split_run(
    session: Session, study: StudyRow, trial: TrialRow, run: RunRow, *, reason: str, now: datetime
) -> None:
    """Queue what a paused run has left to train. The trial must be running and the run finished."""
    move(trial, TrialState.QUEUED, reason)
    start = checkpoints.start_of(session, trial, at_most=run.target_step)
    rest = _add_run(session, trial, start=start, target=run.target_step, reason=run.reason, now=now)
    checkpoints.recount(session, trial)
    _queued_event(session, study, trial, rest, reason, now)


def requeue(
    session: Session, study: StudyRow, trial: TrialRow, run: RunRow, *, reason: str, now: datetime
) -> None:
    """Put a running run back into the queue, to start again from its trial's newest checkpoint, or from the
    one that it was forked from."""
    move(run, RunState.QUEUED)
    move(trial, TrialState.QUEUED, reason)
    start = checkpoints.start_of(session, trial, at_most=run.target_step)
    run.checkpoint_id = start.id if start is not None else None
    run.start_step = start.step if start is not None else 0
    run.wish, run.wish_reason = None, ""
    run.queued_at = now
    session.flush()
    checkpoints.recount(session, trial)
    _queued_event(session, study, trial, run, reason, now)


def wish(session: Session, trial: TrialRow, verdict: Verdict, reason: str, now: datetime) -> None:
    """Ask for a trial to pause or to stop.

    A running one is told at its next report. A queued one stops at once; to pause, it need only wait, and
    it does. A paused one stops at once. Raises :class:`ConflictError` for a trial that has ended.
    """
    if verdict not in (Verdict.PAUSE, Verdict.STOP):
        raise ValueError(f"a wish is to pause or to stop, not to {verdict.value}")
    study = session.get_one(StudyRow, trial.study_id)
    lock(session, study)
    session.refresh(trial)
    if trial.state in ENDED_TRIAL:
        raise ConflictError(f"trial {trial.number} is {trial.state}: there is nothing to {verdict.value}")
    if trial.state == TrialState.RUNNING:
        run = unfinished(session, trial)
        if run is not None:
            strengthen(run, verdict.value, reason)
    elif verdict is Verdict.STOP:
        queued = unfinished(session, trial)
        if queued is not None:
            move(queued, RunState.CANCELLED)
            queued.ended_at = now
        end_trial(session, study, trial, TrialState.STOPPED, reason=reason, now=now)


def interrupt(
    session: Session, study: StudyRow, trial: TrialRow, run: RunRow, *, reason: str, now: datetime
) -> None:
    """Pause a trial short of its target, since the study's budget is spent. The study must be locked.

    Its unfinished run ends here. Search takes it up before anything else once there is budget again.
    """
    move(run, RunState.CANCELLED if run.state == RunState.QUEUED else RunState.FINISHED)
    run.ended_at = now
    pause(session, study, trial, run, reason=reason, now=now)


def pause(
    session: Session, study: StudyRow, trial: TrialRow, run: RunRow, *, reason: str, now: datetime
) -> None:
    """Pause a trial whose ``run`` has ended; it can go on from its newest checkpoint."""
    move(trial, TrialState.PAUSED, reason)
    study.version += 1
    data = {"run": run.number, "step": trial.step, "best_value": trial.best_value, "reason": reason}
    events.append(session, study, "trial.paused", trial=trial.number, data=data, now=now)
    session.flush()
    checkpoints.recount(session, trial)


def strengthen(run: RunRow, wished: str, reason: str) -> None:
    """Keep the stronger of a run's wish and a new one."""
    if run.wish is None or STRENGTH[wished] > STRENGTH[run.wish]:
        run.wish, run.wish_reason = wished, reason


def end_trial(
    session: Session,
    study: StudyRow,
    trial: TrialRow,
    state: TrialState,
    *,
    reason: str,
    now: datetime,
    failure: Failure | None = None,
) -> None:
    """Bring a trial whose runs have all ended to one of its ends. The study must be locked."""
    move(trial, state, reason)
    trial.ended_at = now
    data: dict[str, Any] = {"reason": reason, "step": trial.step, "best_value": trial.best_value}
    if failure is not None:
        trial.failure_kind = failure.kind.value
        trial.failure_message = failure.message
        trial.failure_output = failure.output_tail
        data["failure"] = failure.kind.value
    study.version += 1
    session.flush()
    checkpoints.recount(session, trial)
    events.append(session, study, f"trial.{state.value}", trial=trial.number, data=data, now=now)
    seeds.recount(session, study, trial, now)


def unfinished(session: Session, trial: TrialRow) -> RunRow | None:
    """The run of ``trial`` that waits or is trained: there is at most one."""
    return session.scalar(
        select(RunRow)
        .where(RunRow.trial_id == trial.id, RunRow.state.in_(UNFINISHED))
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )


def _add_run(
    session: Session,
    trial: TrialRow,
    *,
    start: CheckpointRow | None,
    target: int,
    reason: str,
    now: datetime,
) -> RunRow:
    trial.runs += 1
    run = RunRow(
        study_id=trial.study_id,
        trial_id=trial.id,
        number=trial.runs,
        state=RunState.QUEUED.value,
        start_step=start.step if start is not None else 0,
        target_step=target,
        checkpoint_id=start.id if start is not None else None,
        reason=reason,
        queued_at=now,
    )
    session.add(run)
    session.flush()
    return run


def _queued_event(
    session: Session, study: StudyRow, trial: TrialRow, run: RunRow, reason: str, now: datetime
) -> None:
    data = {
        "run": run.number,
        "start_step": run.start_step,
        "target_step": run.target_step,
        "reason": reason,
    }
    events.append(session, study, "trial.queued", trial=trial.number, data=data, now=now)
