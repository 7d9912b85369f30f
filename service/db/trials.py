"""What people do to trials. Each function takes an open write transaction and the moment it happens."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from service import forks, specs
from service.db import budget, checkpoints, finals, runs, studies
from service.db.models import StudyRow, TrialRow
from service.db.reads.trials import find_trial
from service.errors import ConflictError, InvalidError
from trimtab.wire.problems import FieldProblem
from trimtab.wire.states import StudyState, TrialState, Verdict
from trimtab.wire.study import StudySpec
from trimtab.wire.views import ContinueRequest, EnqueueRequest, ForkRequest


def enqueue(session: Session, key: str, request: EnqueueRequest, now: datetime) -> TrialRow:
    """Queue a configuration of the user's own.

    Raises:
        NotFoundError: there is no such study.
        ConflictError: the study was cancelled, or its budget is spent.
        InvalidError: the configuration does not lie in the study's space.
    """
    study = studies.locked_study(session, key)
    spec = StudySpec.model_validate(study.spec)
    problems = [
        FieldProblem(
            pointer=f"/params{mistake.pointer}", message=mistake.message, suggestion=mistake.suggestion
        )
        for mistake in specs.space(spec).check(request.params)
    ]
    if problems:
        raise InvalidError("The configuration does not lie in the study's space.", problems)
    _require_open(session, study, now)
    trial = runs.create_trial(
        session,
        study,
        request.params,
        target=spec.fidelity.max if request.to_end else specs.first_target(spec),
        origin="enqueued",
        label=request.label,
        to_end=request.to_end,
        reason="enqueued by a person",
        now=now,
    )
    _run_again(session, study, f"trial {trial.number} was enqueued", now)
    return trial


def fork(session: Session, key: str, number: int, request: ForkRequest, now: datetime) -> TrialRow:
    """Queue a new trial that goes on from a checkpoint of trial ``number`` with a changed configuration.

    Raises:
        NotFoundError: there is no such study or trial.
        ConflictError: it has no checkpoint, or none at this step, or the study may train no more.
        InvalidError: the configuration, the target or the schedule cannot be.
    """
    study = studies.locked_study(session, key)
    parent = find_trial(session, study, number)
    spec = StudySpec.model_validate(study.spec)
    _keep_test_seeds(spec, parent, request)
    steps = checkpoints.steps_of(session, parent)
    if not steps:
        raise ConflictError(
            f"Trial {number} has no checkpoint to fork: none was saved, or its files were deleted because "
            "nothing needed them."
        )
    step = steps[-1] if request.step is None else request.step
    checkpoint = checkpoints.at(session, parent, step)
    if checkpoint is None:
        steps = checkpoints.steps_of(session, parent)  # a newer one may have come meanwhile
        raise ConflictError(
            f"Trial {number} has no checkpoint at step {step}; it has checkpoints at {_words(steps)}."
        )
    target = spec.fidelity.max if request.target_step is None else request.target_step
    params = forks.configuration(specs.space(spec), parent.params, request.params)
    problems = [
        *forks.mistakes(spec, parent.params, params, request),
        *forks.late(request, step, target),
    ]
    if problems:
        raise InvalidError(f"Trial {number} cannot be forked so.", problems)
    _require_open(session, study, now)
    trial = runs.create_trial(
        session,
        study,
        params,
        target=target,
        origin="enqueued",
        label=request.label,
        reason=f"a person forked trial {number} at step {step}",
        now=now,
        fork=runs.Start(parent, checkpoint, request.seed),
        schedule=tuple(request.schedule),
    )
    _run_again(session, study, f"trial {trial.number} was forked from trial {number}", now)
    return trial


def stop(session: Session, key: str, number: int, now: datetime) -> TrialRow:
    """End a trial early: at once if it is queued or paused, at its next report if it is trained.

    Raises:
        NotFoundError: there is no such study or trial.
        ConflictError: it has ended.
    """
    study = studies.locked_study(session, key)
    trial = find_trial(session, study, number)
    runs.wish(session, trial, Verdict.STOP, "stopped by a person", now)
    return trial


def retry(session: Session, key: str, number: int, now: datetime) -> TrialRow:
    """Queue a failed or stopped trial again, from its newest checkpoint if one is left.

    Raises:
        NotFoundError: there is no such study or trial.
        ConflictError: it has neither failed nor been stopped, or the study may train no more.
    """
    study = studies.locked_study(session, key)
    trial = find_trial(session, study, number)
    if trial.state not in (TrialState.FAILED, TrialState.STOPPED):
        raise ConflictError(
            f"Trial {number} is {trial.state}: only a trial that failed or was stopped can be retried."
        )
    if trial.origin == "imported":
        raise ConflictError(f"Trial {number} was imported; enqueue its configuration to train it here.")
    newest = checkpoints.start_of(session, trial)
    target = trial.target_step
    if newest is not None and newest.step >= target:
        target = StudySpec.model_validate(study.spec).fidelity.max
    if trial.test:
        _require_uncancelled(study)
        runs.queue_run(session, study, trial, target=target, reason="retried by a person", now=now)
        _test_again(session, study, f"trial {number} is retried", now)
        return trial
    _require_open(session, study, now)
    runs.queue_run(session, study, trial, target=target, reason="retried by a person", now=now)
    _run_again(session, study, f"trial {number} is retried", now)
    return trial


def train_on(session: Session, key: str, number: int, request: ContinueRequest, now: datetime) -> TrialRow:
    """Train a finished or paused trial for more steps, from its newest checkpoint.

    Raises:
        NotFoundError: there is no such study or trial.
        ConflictError: it is queued or running, it has no checkpoint, or the study may train no more.
        InvalidError: the target is no further than it has been trained.
    """
    study = studies.locked_study(session, key)
    trial = find_trial(session, study, number)
    if trial.state in (TrialState.QUEUED, TrialState.RUNNING):
        raise ConflictError(f"Trial {number} is {trial.state}: it can be continued when its run has ended.")
    spec = StudySpec.model_validate(study.spec)
    if trial.replica_of is not None or (spec.seeds.several and trial.state == TrialState.COMPLETED):
        raise ConflictError(
            f"Trial {number} counts together with trainings of its configuration with other seeds, which "
            "all end at the same step: fork it to train it on."
        )
    newest = checkpoints.start_of(session, trial)
    if newest is None:
        raise ConflictError(
            f"Trial {number} has no checkpoint to go on from: none was saved, or its files were deleted "
            "because nothing needed them. Enqueue its configuration to train it from the start."
        )
    if request.target_step <= newest.step:
        raise InvalidError(
            f"Trial {number} has been trained to step {newest.step} already.",
            [FieldProblem(pointer="/target_step", message=f"name a step beyond {newest.step}")],
        )
    _require_open(session, study, now)
    runs.queue_run(
        session, study, trial, target=request.target_step, reason="continued by a person", now=now
    )
    _run_again(session, study, f"trial {number} is continued", now)
    return trial


def _keep_test_seeds(spec: StudySpec, parent: TrialRow, request: ForkRequest) -> None:
    """Refuse a fork that would bring a test seed into the search."""
    if parent.test:
        raise ConflictError(
            f"Trial {parent.number} was trained with a test seed, for the final score alone: fork trial "
            f"{parent.replica_of}, whose configuration it has."
        )
    if request.seed is not None and request.seed in spec.seeds.test:
        problem = FieldProblem(
            pointer="/seed",
            message=f"{request.seed} is a test seed: a trial of the search must not be trained with it",
            suggestion="name another one",
        )
        raise InvalidError(f"Trial {parent.number} cannot be forked so.", [problem])


def _require_uncancelled(study: StudyRow) -> None:
    if study.state == StudyState.CANCELLED:
        raise ConflictError(f"The study {study.name!r} was cancelled; submit it anew to go on.")


def _require_open(session: Session, study: StudyRow, now: datetime) -> None:
    _require_uncancelled(study)
    spent = budget.over(session, study, now)
    if spent is not None:
        raise ConflictError(
            f"Nothing more may be trained in the study {study.name!r} ({spent}). Extend its budget first: "
            f"POST /v1/studies/{study.key}/extend."
        )


def _run_again(session: Session, study: StudyRow, reason: str, now: datetime) -> None:
    """A person's wish for one trial opens a study that had ended; a paused one stays paused. In one that
    was being tested, search goes on."""
    finals.search_on(study)
    _test_again(session, study, reason, now)


def _test_again(session: Session, study: StudyRow, reason: str, now: datetime) -> None:
    """As :func:`_run_again`, without opening the search."""
    if study.state in (StudyState.COMPLETED, StudyState.FAILED):
        studies.reopen(session, study, reason, now)


def _words(steps: Sequence[int], most: int = 10) -> str:
    """Steps in words, the newest ones if they are many."""
    shown = ", ".join(str(step) for step in steps[-most:])
    return shown if len(steps) <= most else f"{shown} and {len(steps) - most} earlier steps"
