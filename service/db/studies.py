"""What people do to studies. Each function takes an open write transaction and the moment it happens."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from service import specs
from service.db import checkpoints, events, finals, runs, sources
from service.db.models import IdempotencyRow, RunRow, StudyRow, TrialRow
from service.db.reads.studies import find_study
from service.db.transitions import move_study
from service.errors import ConflictError, InvalidError
from trimtab.wire.problems import FieldProblem
from trimtab.wire.states import RunState, StudyState, TrialState, Verdict
from trimtab.wire.study import BudgetSpec, Direction, StudySpec, TrainerSpec
from trimtab.wire.views import ExtendRequest

EXTERNAL = "external"
"""The trainer of studies whose loop is the user's own."""


@dataclass(frozen=True, slots=True)
class Created:
    """The study that a call has made, or that an earlier one with the same idempotency key had."""

    key: str
    new: bool


def create(
    session: Session, spec: StudySpec, *, key: str, idempotency_key: str | None = None, now: datetime
) -> Created:
    """Make a study, running from now on, with its own configurations queued.

    ``spec`` has been checked, by ``specs.check`` too. The same ``idempotency_key`` with the same
    specification gives the same study, however often and by however many callers at once.

    Raises:
        ConflictError: the study of this idempotency key has been deleted.
        InvalidError: the idempotency key came with another specification before, or nothing can be learned
            from a study that the warm start names.
    """
    document = spec.model_dump(mode="json")
    if idempotency_key is not None:
        earlier = _claim(session, idempotency_key, _digest(document), key, now)
        if earlier is not None:
            return Created(earlier, new=False)
    sources.check(session, spec)
    study = StudyRow(
        key=key,
        name=spec.name,
        spec=document,
        state=StudyState.RUNNING.value,
        state_reason="",
        version=1,
        decided_version=0,
        metric=spec.metric.name,
        maximize=spec.metric.direction is Direction.MAXIMIZE,
        strategy=spec.strategy.name,
        trainer=_trainer(spec.trainer),
        external=spec.trainer.name == EXTERNAL,
        parallelism=spec.parallelism,
        cpus=spec.resources.cpus,
        gpus=spec.resources.gpus,
        custom=dict(spec.resources.custom),
        tags=list(spec.tags),
        next_trial=1,
        created_at=now,
        started_at=now,
        active_seconds=0.0,
        active_since=now,
    )
    session.add(study)
    session.flush()
    events.append(session, study, "study.created", data={"name": spec.name}, now=now)
    first = specs.first_target(spec) if spec.enqueue else 0
    for queued in spec.enqueue:
        runs.create_trial(
            session,
            study,
            queued.params,
            target=spec.fidelity.max if queued.to_end else first,
            origin="enqueued",
            label=queued.label,
            to_end=queued.to_end,
            reason="named in the study",
            now=now,
        )
    return Created(key, new=True)


def pause(session: Session, key: str, now: datetime) -> None:
    """Start nothing more; running trials save a checkpoint and end their runs at their next report.

    Raises:
        NotFoundError: there is no such study.
        ConflictError: it has ended. Pausing a paused study changes nothing.
    """
    study = locked_study(session, key)
    if study.state == StudyState.PAUSED:
        return
    _set_state(session, study, StudyState.PAUSED, "paused by a person", now)
    _wish_all(session, study, Verdict.PAUSE, "the study is paused", now)


def resume(session: Session, key: str, now: datetime) -> None:
    """Let a paused or failed study go on.

    A worker that was told to pause does so, and what its run has left to train is queued at once: whether
    it has heard already cannot be known.

    Raises:
        NotFoundError: there is no such study.
        ConflictError: it is over. Resuming a running study changes nothing.
    """
    study = locked_study(session, key)
    if study.state == StudyState.RUNNING:
        return
    if study.state == StudyState.COMPLETED:
        raise ConflictError(
            f"The study {study.name!r} is completed ({study.state_reason}). Extend its budget to go on: "
            f"POST /v1/studies/{study.key}/extend."
        )
    if study.state == StudyState.FAILED:
        finals.search_on(study)
    _set_state(session, study, StudyState.RUNNING, "resumed by a person", now)
    study.decide_error = None


def extend(session: Session, key: str, request: ExtendRequest, now: datetime) -> None:
    """Raise limits of the budget; a study that had completed or failed runs again.

    Raises:
        NotFoundError: there is no such study.
        ConflictError: it was cancelled.
        InvalidError: no limit is named, or one is not larger than before or was never set.
    """
    study = locked_study(session, key)
    spec = StudySpec.model_validate(study.spec)
    wanted = request.model_dump(exclude_none=True)
    problems = [problem for name, limit in wanted.items() if (problem := _unfit(spec.budget, name, limit))]
    if not wanted:
        problems = [FieldProblem(pointer="", message="name at least one limit, larger than it is now")]
    if problems:
        raise InvalidError("The budget cannot be extended like this.", problems)
    if study.state == StudyState.CANCELLED:
        raise ConflictError(f"The study {study.name!r} was cancelled; submit it anew to go on.")
    study.spec = {**study.spec, "budget": {**study.spec["budget"], **wanted}}
    study.version += 1
    events.append(session, study, "study.extended", data=wanted, now=now)
    finals.search_on(study)
    if study.state in (StudyState.COMPLETED, StudyState.FAILED):
        reopen(session, study, "the budget was extended", now)


def prune(session: Session, key: str, now: datetime) -> None:
    """Let parts of the study's space be left out from now on.

    Raises:
        NotFoundError: there is no such study.
        ConflictError: it has several objectives.
    """
    _allow_pruning(session, key, True, "study.prune_allowed", now)


def unprune(session: Session, key: str, now: datetime) -> None:
    """Search the whole space again, and leave nothing out from now on.

    Raises:
        NotFoundError: there is no such study.
    """
    _allow_pruning(session, key, False, "study.unpruned", now)


def _allow_pruning(session: Session, key: str, allowed: bool, kind: str, now: datetime) -> None:
    study = locked_study(session, key)
    if allowed and study.spec.get("objectives"):
        raise ConflictError(
            f"The study {study.name!r} has several objectives: what matters little for one of them may "
            "matter for another, so nothing of its space is left out."
        )
    if study.spec.get("prune", False) == allowed:
        return
    study.spec = {**study.spec, "prune": allowed}
    study.pruning = None
    study.version += 1
    events.append(session, study, kind, data={"reason": "by a person"}, now=now)


def cancel(session: Session, key: str, now: datetime) -> None:
    """End a study for good: queued trials stop at once, running ones at their next report.

    Raises:
        NotFoundError: there is no such study.
        ConflictError: it is completed. Cancelling a cancelled study changes nothing.
    """
    study = locked_study(session, key)
    if study.state == StudyState.CANCELLED:
        return
    _set_state(session, study, StudyState.CANCELLED, "cancelled by a person", now)
    _wish_all(session, study, Verdict.STOP, "the study is cancelled", now)
    checkpoints.release(session, study, now)


def delete(session: Session, key: str) -> None:
    """Delete a study with all that belongs to it; its checkpoints' files are deleted by a dispatcher.

    Raises:
        NotFoundError: there is no such study.
        ConflictError: a worker trains a trial of it at this moment.
    """
    study = locked_study(session, key)
    training = session.scalar(
        select(RunRow.id).where(RunRow.study_id == study.id, RunRow.state == RunState.RUNNING).limit(1)
    )
    if training is not None:
        raise ConflictError(
            f"Trials of the study {study.name!r} are being trained. Cancel it first "
            f"(POST /v1/studies/{study.key}/cancel) and delete it when they have stopped."
        )
    checkpoints.abandon(session, study)
    session.flush()
    session.delete(study)


def locked_study(session: Session, key: str) -> StudyRow:
    """The study with this id, which nobody else changes until the transaction ends.

    Raises:
        NotFoundError: there is none.
    """
    study = find_study(session, key)
    runs.lock(session, study)
    return study


def reopen(session: Session, study: StudyRow, reason: str, now: datetime) -> None:
    """Let an ended study run again. The study must be locked."""
    _set_state(session, study, StudyState.RUNNING, reason, now)
    study.decide_error = None


def _set_state(session: Session, study: StudyRow, state: StudyState, reason: str, now: datetime) -> None:
    move_study(study, state, reason, now)
    study.version += 1
    events.append(session, study, f"study.{state.value}", data={"reason": reason}, now=now)


def _wish_all(session: Session, study: StudyRow, verdict: Verdict, reason: str, now: datetime) -> None:
    """Queued trials need not pause: nothing of a paused study is leased."""
    states = [TrialState.RUNNING]
    if verdict is Verdict.STOP:
        states += [TrialState.QUEUED, TrialState.PAUSED]
    trials = session.scalars(
        select(TrialRow)
        .where(TrialRow.study_id == study.id, TrialRow.state.in_(states))
        .order_by(TrialRow.number)
    ).all()
    for trial in trials:
        runs.wish(session, trial, verdict, reason, now)


def _unfit(budget_now: BudgetSpec, name: str, limit: float) -> FieldProblem | None:
    present = getattr(budget_now, name)
    if present is None:
        return FieldProblem(
            pointer=f"/{name}",
            message=f"the study has no limit on {name}",
            suggestion="leave it out: it only has the limits it was made with",
        )
    if limit <= present:
        return FieldProblem(
            pointer=f"/{name}",
            message=f"{limit:g} is not larger than the present limit of {present:g}",
            suggestion=f"name more than {present:g}, or leave it out to keep it",
        )
    return None


def _trainer(trainer: TrainerSpec) -> str:
    """What trains, as one short text for lists."""
    return (trainer.name or trainer.script or trainer.module or "")[-200:]


def _digest(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _claim(session: Session, key: str, digest: str, study_key: str, now: datetime) -> str | None:
    """Take the idempotency key for the study ``study_key``; the study it was taken for before, if any.

    On PostgreSQL the insert waits for a transaction that has just taken the same key.
    """
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    statement = insert(IdempotencyRow).values(key=key, digest=digest, study_key=study_key, at=now)
    taken = session.scalar(statement.on_conflict_do_nothing().returning(IdempotencyRow.key))
    if taken is not None:
        return None
    row = session.get_one(IdempotencyRow, key)
    if row.digest != digest:
        raise InvalidError(
            f"The Idempotency-Key {key!r} was used for another study ({row.study_key}); use a new one.",
            [FieldProblem(pointer="/header/Idempotency-Key", message="used before with another body")],
        )
    if session.scalar(select(StudyRow.id).where(StudyRow.key == row.study_key)) is None:
        raise ConflictError(
            f"The study of the Idempotency-Key {key!r} has been deleted; use a new key to make another."
        )
    return row.study_key
