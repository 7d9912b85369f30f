"""How attempts end, and what becomes of their runs and trials.

============  ======================  ==================================================================
attempt       the run's wish          what follows
============  ======================  ==================================================================
any           diverged or invalid     the trial has failed; it is never retried
any           complete                the trial is completed
finished      any other, at full      completed: trained to its target, the full fidelity or beyond
finished      stop                    the trial is stopped
finished      none or pause, target   paused: search may continue it
finished      pause, budget spent     paused short of its target: search takes it up first if there is more
finished      pause                   what is left to train is queued as a new run
finished      none, below the target  the training ended by itself: completed
failed        stop                    the trial is stopped
failed        none or pause           retried from the newest checkpoint, as often as the policy says
lost          as failed               as failed, with the policy's ``lost``
released      stop                    the trial is stopped
released      none or pause           the run is queued again; it costs no retry
============  ======================  ==================================================================

A trial that ends well without a single finite value of the metric has failed as ``invalid``: nothing can
be learned from it. With several objectives, so has one whose last measurement lacks a metric of objectives
and limits; with limits alone, one of whose measurements none counts and the last lacks a limit's metric.
Once a study has ended, nothing is queued again.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.db import budget, checkpoints, completion, events, facts, reports, runs
from service.db.models import AttemptRow, RunRow, StudyRow, TrialRow
from service.db.transitions import move, move_study
from service.errors import InvalidError
from trimtab.wire.states import AttemptState, FailureKind, RunState, StudyState, TrialState, Verdict
from trimtab.wire.work import EndRequest, EndResponse, Failure, Report, ReportsRequest

HOPELESS_TRIALS = 5
"""So many failed trials, with nothing ever measured in the study, and the study has failed."""

NEVER_RETRIED = frozenset({FailureKind.DIVERGED, FailureKind.INVALID})

_MAY_GO_ON = frozenset({StudyState.RUNNING, StudyState.PAUSED, StudyState.FAILED})


def end(session: Session, request: EndRequest, now: datetime) -> EndResponse:
    """Close an attempt with its outcome; its last measurements and checkpoint are stored first.

    A stale token changes nothing: ``accepted`` is False. Raises :class:`InvalidError` for measurements of
    an ``external`` study that are refused (see :mod:`service.db.reports`).
    """
    attempt = _attempt(session, request.token)
    if attempt is None:
        return EndResponse(accepted=False, trial_state="")
    if attempt.state != AttemptState.ACTIVE:
        trial = session.get_one(TrialRow, attempt.trial_id)
        return EndResponse(accepted=False, trial_state=trial.state)
    if request.measurements:
        report = Report(
            token=request.token,
            seq=request.seq if request.seq is not None else attempt.last_seq + 1,
            measurements=request.measurements,
        )
        try:
            reports.record(session, ReportsRequest(reports=[report]), now)
        except InvalidError as error:  # its pointers are those of a request of reports
            raise InvalidError(
                error.detail,
                [
                    problem.model_copy(update={"pointer": problem.pointer.removeprefix("/reports/0")})
                    for problem in error.errors
                ],
            ) from None
    study, run, trial = _load(session, attempt)
    if request.checkpoint is not None:
        checkpoints.add(session, study, trial, attempt.token, request.checkpoint, now)
    if request.step < attempt.start_step == attempt.last_step:  # it had to start from nothing
        attempt.start_step = attempt.last_step = 0
    if request.step > attempt.last_step:
        trial.trained += request.step - attempt.last_step
        attempt.last_step = request.step
    match request.outcome:
        case "failed":
            failure = request.failure or Failure(
                kind=FailureKind.CRASH, message="the worker did not say why"
            )
            _close(attempt, trial, AttemptState.FAILED, now, failure)
            _failed(session, study, trial, run, failure, now)
        case "released":
            _close(attempt, trial, AttemptState.RELEASED, now)
            if not _granted(session, study, trial, run, now):
                _requeue(session, study, trial, run, "given back by its worker", now)
        case "finished":
            _close(attempt, trial, AttemptState.FINISHED, now)
            _finished(session, study, trial, run, attempt.last_step, now)
    session.flush()
    return EndResponse(accepted=True, trial_state=trial.state)


def lose(session: Session, attempt: AttemptRow, why: str, now: datetime) -> None:
    """The worker of an active attempt has vanished. The attempt must be locked."""
    study, run, trial = _load(session, attempt)
    failure = Failure(kind=FailureKind.LOST, message=why)
    _close(attempt, trial, AttemptState.LOST, now, failure)
    _failed(session, study, trial, run, failure, now)
    session.flush()


def _attempt(session: Session, token: int) -> AttemptRow | None:
    return session.scalar(
        select(AttemptRow)
        .where(AttemptRow.token == token)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )


def _load(session: Session, attempt: AttemptRow) -> tuple[StudyRow, RunRow, TrialRow]:
    """The attempt's study, run and trial as they are now, locked in this order."""
    session.refresh(attempt)
    study = session.get_one(
        StudyRow, attempt.study_id, with_for_update={"key_share": True}, populate_existing=True
    )
    run = session.get_one(
        RunRow, attempt.run_id, with_for_update={"key_share": True}, populate_existing=True
    )
    trial = session.get_one(
        TrialRow, attempt.trial_id, with_for_update={"key_share": True}, populate_existing=True
    )
    return study, run, trial


def _close(
    attempt: AttemptRow,
    trial: TrialRow,
    state: AttemptState,
    now: datetime,
    failure: Failure | None = None,
) -> None:
    move(attempt, state)
    trial.seconds += budget.held_seconds(attempt, now)
    attempt.ended_at = now
    attempt.lease_expires_at = None
    if failure is not None:
        attempt.failure_kind = failure.kind.value
        attempt.failure_message = failure.message
        attempt.failure_output = failure.output_tail


def _finished(
    session: Session, study: StudyRow, trial: TrialRow, run: RunRow, step: int, now: datetime
) -> None:
    """The worker reached its target, obeyed a verdict, or the training ended by itself."""
    full = facts.of(session, study.key).spec.fidelity.max
    run.end_step = step
    reached = step >= run.target_step
    if reached and step >= full and run.wish in (None, Verdict.PAUSE, Verdict.STOP):
        _well(session, study, trial, run, TrialState.COMPLETED, f"trained to step {step}", now)
    elif _granted(session, study, trial, run, now):
        return
    elif reached:
        # It may have reached the target without a measurement there.
        trial.step = max(trial.step, step)
        _well(session, study, trial, run, TrialState.PAUSED, f"reached its target, step {step}", now)
    elif run.wish == Verdict.PAUSE:
        paid = study.state == StudyState.RUNNING and not trial.test
        spent = budget.over(session, study, now) if paid else None
        if spent is not None:
            runs.interrupt(session, study, trial, run, reason=spent, now=now)
        elif study.state in _MAY_GO_ON:
            _end_run(run, RunState.FINISHED, now)
            runs.split_run(session, study, trial, run, reason=run.wish_reason, now=now)
            study.version += 1
        else:
            _stop(session, study, trial, run, f"the study is {study.state}", now)
    else:
        reason = f"the training ended by itself at step {step} of {run.target_step}"
        _well(session, study, trial, run, TrialState.COMPLETED, reason, now)


def _failed(
    session: Session, study: StudyRow, trial: TrialRow, run: RunRow, failure: Failure, now: datetime
) -> None:
    """A failed or lost attempt: retry, or fail the trial."""
    kind = failure.kind
    lost = kind is FailureKind.LOST
    data = {"kind": kind.value, "message": failure.message, "run": run.number}
    name = "attempt.lost" if lost else "attempt.failed"
    events.append(session, study, name, trial=trial.number, data=data, now=now)
    trial.failures = trial.failures | {kind.value: trial.failures.get(kind.value, 0) + 1}
    if _granted(session, study, trial, run, now):
        return
    if kind not in NEVER_RETRIED:
        allowed = int(getattr(facts.of(session, study.key).spec.retries, kind.value))
        if trial.failures[kind.value] <= allowed:
            trial.retries += 1
            reason = f"{failure.message}: retry {trial.failures[kind.value]} of {allowed} ({kind.value})"
            _requeue(session, study, trial, run, reason, now)
            return
    _fail(session, study, trial, run, failure, now)


def _granted(session: Session, study: StudyRow, trial: TrialRow, run: RunRow, now: datetime) -> bool:
    """End the trial as its run's wish says, unless there is none or it is only to pause."""
    match run.wish:
        case runs.COMPLETE:
            _well(session, study, trial, run, TrialState.COMPLETED, run.wish_reason, now)
        case Verdict.STOP.value:
            _stop(session, study, trial, run, run.wish_reason, now)
        case FailureKind.DIVERGED.value | FailureKind.INVALID.value:
            failure = Failure(kind=FailureKind(run.wish), message=run.wish_reason)
            _fail(session, study, trial, run, failure, now)
        case _:
            return False
    return True


def _well(
    session: Session,
    study: StudyRow,
    trial: TrialRow,
    run: RunRow,
    state: TrialState,
    reason: str,
    now: datetime,
) -> None:
    """The trial is completed or paused; failed, if nothing was learned from it."""
    missing = _unmeasured(session, study, trial, run, state)
    if missing:
        _fail(session, study, trial, run, Failure(kind=FailureKind.INVALID, message=missing), now)
        return
    _end_run(run, RunState.FINISHED, now)
    if state is TrialState.PAUSED:
        runs.pause(session, study, trial, run, reason=reason, now=now)
    else:
        runs.end_trial(session, study, trial, state, reason=reason, now=now)


def _unmeasured(session: Session, study: StudyRow, trial: TrialRow, run: RunRow, state: TrialState) -> str:
    """What a trial that ended well did not report though it should have; empty if nothing is missing."""
    if trial.first_value is None and state is TrialState.PAUSED:
        return (
            f"the metric {study.metric!r} was not reported up to step {run.target_step}, where the "
            "trial was to pause and be compared: report it by then, or raise fidelity.min to the step "
            "at which it first comes"
        )
    if trial.first_value is None:
        return f"the metric {study.metric!r} was never reported, though the training ended well"
    spec = facts.of(session, study.key).spec
    needed = {limit.metric: "a limit" for limit in spec.limits}
    if spec.objectives:
        needed |= {goal.name: "an objective" for goal in spec.goals}
    elif trial.best_value is not None:
        return ""
    found = {*(trial.outcomes or {}), *([study.metric] if trial.value is not None else [])}
    for name, what in needed.items():
        if name not in found:
            return (
                f"the metric {name!r}, which {what} names, is not in the last measurement, though the "
                "training ended well: report it together with the others"
            )
    return ""


def _stop(
    session: Session, study: StudyRow, trial: TrialRow, run: RunRow, reason: str, now: datetime
) -> None:
    _end_run(run, RunState.CANCELLED, now)
    runs.end_trial(session, study, trial, TrialState.STOPPED, reason=reason, now=now)


def _fail(
    session: Session, study: StudyRow, trial: TrialRow, run: RunRow, failure: Failure, now: datetime
) -> None:
    _end_run(run, RunState.FAILED, now)
    runs.end_trial(
        session, study, trial, TrialState.FAILED, reason=failure.message, now=now, failure=failure
    )
    _give_up(session, study, failure, now)


def _requeue(
    session: Session, study: StudyRow, trial: TrialRow, run: RunRow, reason: str, now: datetime
) -> None:
    if study.state in _MAY_GO_ON:
        runs.requeue(session, study, trial, run, reason=reason, now=now)
    else:
        _stop(session, study, trial, run, f"the study is {study.state}", now)


def _end_run(run: RunRow, state: RunState, now: datetime) -> None:
    move(run, state)
    run.ended_at = now


def _give_up(session: Session, study: StudyRow, failure: Failure, now: datetime) -> None:
    """Fail a study in which every trial fails and nothing is ever measured, before its budget is burnt.

    Trials that failed before it was last resumed do not count: the operator has mended something.
    """
    if study.state != StudyState.RUNNING or completion.measured(session, study):
        return
    ended = select(TrialRow.state).where(TrialRow.study_id == study.id)
    if study.active_since is not None:
        ended = ended.where(TrialRow.ended_at >= study.active_since)
    failed = session.scalars(
        select(func.count()).select_from(ended.where(TrialRow.state == TrialState.FAILED.value).subquery())
    ).one()
    if failed < HOPELESS_TRIALS:
        return
    reason = (
        f"{failed} trials failed and none has measured anything; the last one: {failure.kind.value}, "
        f"{failure.message}. Mend the cause and resume the study"
    )
    move_study(study, StudyState.FAILED, reason, now)
    study.version += 1
    for run in session.scalars(
        select(RunRow).where(RunRow.study_id == study.id, RunRow.state == RunState.RUNNING.value)
    ):
        runs.strengthen(run, Verdict.PAUSE.value, "the study has failed")
    events.append(session, study, "study.failed", data={"reason": reason}, now=now)
