"""Trials that were finished elsewhere: all of a request are taken in, or none."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from search import stopping
from service import specs
from service.db import events, facts, studies
from service.db.curves import Curve
from service.db.models import ImprovementRow, MeasurementRow, StudyRow, TrialRow
from service.errors import ConflictError, InvalidError
from trimtab.wire import limits
from trimtab.wire.problems import FieldProblem
from trimtab.wire.states import FailureKind, StudyState, TrialState
from trimtab.wire.study import StudySpec
from trimtab.wire.work import ImportedTrial, ImportRequest

ORIGIN = "imported"


def import_trials(session: Session, key: str, request: ImportRequest, now: datetime) -> list[int]:
    """Take in finished trials with their curves; the numbers they were given, in the request's order.

    They cost nothing of the budget. The same trial imported twice is two trials.

    Raises:
        NotFoundError: there is no such study.
        ConflictError: it was cancelled.
        InvalidError: a configuration does not lie in the space, or a curve is no curve of its metric.
    """
    study = studies.locked_study(session, key)
    spec = StudySpec.model_validate(study.spec)
    problems = list(_problems(spec, request))
    if problems:
        raise InvalidError("Nothing was imported: some of the trials cannot be.", problems)
    if study.state == StudyState.CANCELLED:
        raise ConflictError(f"The study {study.name!r} was cancelled; submit it anew to go on.")
    if study.next_trial - 1 + len(request.trials) > limits.MAX_TRIALS_PER_STUDY:
        raise ConflictError(f"A study holds {limits.MAX_TRIALS_PER_STUDY} trials at most.")
    about = facts.of(session, key)
    trials = []
    for imported in request.trials:
        curve = Curve(study_id=study.id)
        rows = [curve.add(point, about, None, now) for point in imported.curve]
        trial = _trial(study, spec, imported, curve, now)
        study.next_trial += 1
        session.add(trial)
        trials.append((trial, rows))
    session.flush()
    points = [{"trial_id": trial.id} | row for trial, rows in trials for row in rows]
    if points:
        session.connection().execute(insert(MeasurementRow), points)
    study.version += 1
    new = [
        events.NewEvent(
            study.id,
            study.key,
            f"trial.{trial.state}",
            trial.number,
            {"origin": ORIGIN, "step": trial.step, "best_value": trial.best_value},
        )
        for trial, _ in trials
    ]
    new += _improvements(session, study, [trial for trial, _ in trials], now)
    events.append_all(session, new, now=now)
    return [trial.number for trial, _ in trials]


def _problems(spec: StudySpec, request: ImportRequest) -> Iterator[FieldProblem]:
    space = specs.space(spec)
    metric = spec.metric.name
    for index, trial in enumerate(request.trials):
        place = f"/trials/{index}"
        for mistake in space.check(trial.params):
            yield FieldProblem(
                pointer=f"{place}/params{mistake.pointer}",
                message=mistake.message,
                suggestion=mistake.suggestion,
            )
        if not trial.curve and trial.state == "completed":
            yield FieldProblem(pointer=f"{place}/curve", message="a completed trial has at least one point")
        for point, (before, after) in enumerate(pairwise(trial.curve), start=1):
            if after.step <= before.step:
                yield FieldProblem(
                    pointer=f"{place}/curve/{point}/step",
                    message=f"step {after.step} does not lie behind step {before.step}",
                )
        for point, measurement in enumerate(trial.curve):
            if metric not in measurement.metrics:
                yield FieldProblem(
                    pointer=f"{place}/curve/{point}/metrics",
                    message=f"the study's metric {metric} is missing",
                )
        for name in spec.watched if trial.curve and trial.state == "completed" else ():
            if name != metric and name not in trial.curve[-1].metrics:
                yield FieldProblem(
                    pointer=f"{place}/curve/{len(trial.curve) - 1}/metrics",
                    message=f"the last point must have {name}, which an objective or a limit names",
                )


def _trial(
    study: StudyRow, spec: StudySpec, imported: ImportedTrial, curve: Curve, now: datetime
) -> TrialRow:
    last = imported.curve[-1] if imported.curve else None
    trial = TrialRow(
        study_id=study.id,
        number=study.next_trial,
        state=TrialState(imported.state).value,
        state_reason=ORIGIN,
        params=dict(imported.params),
        label=imported.label,
        origin=ORIGIN,
        first_target=curve.step or spec.fidelity.max,
        target_step=curve.step or spec.fidelity.max,
        step=curve.step,
        value=curve.value,
        outcomes=curve.outcomes,
        best_value=curve.best_value,
        best_step=curve.best_step,
        first_value=curve.first_value,
        points=curve.points,
        since_best=curve.since_best,
        trained=0,
        seconds=0.0,
        runs=0,
        retries=0,
        failures={},
        created_at=now,
        ended_at=now,
    )
    if imported.state == "failed":
        diverged = last is not None and curve.value is None
        trial.failure_kind = (FailureKind.DIVERGED if diverged else FailureKind.CRASH).value
        trial.failure_message = "imported as failed"
    return trial


def _improvements(
    session: Session, study: StudyRow, trials: list[TrialRow], now: datetime
) -> Iterator[events.NewEvent]:
    """Move the study's best value; each step forward is a point of its best-so-far curve."""
    about = facts.of(session, study.key)
    if about.spec.seeds.several:
        return  # what counts is a mean over seeds, and nobody knows theirs
    trained = session.scalar(
        select(func.sum(TrialRow.trained)).where(TrialRow.study_id == study.id, ~TrialRow.test)
    )
    seconds = (now - study.started_at).total_seconds() if study.started_at is not None else 0.0
    along = about.along
    for trial in trials:
        if trial.best_value is None or not stopping.improves(
            trial.best_value, study.best_value, study.maximize
        ):
            continue
        if along is not None and not along.counts(trial.params):
            continue
        study.best_value, study.best_trial_id = trial.best_value, trial.id
        session.add(
            ImprovementRow(
                study_id=study.id,
                trial_number=trial.number,
                step=trial.best_step,
                fidelity=int(trained or 0),
                seconds=seconds,
                value=trial.best_value,
            )
        )
        data = {"value": trial.best_value, "step": trial.best_step}
        yield events.NewEvent(study.id, study.key, "study.best", trial.number, data)
