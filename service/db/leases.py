"""Who trains what: registering dispatchers, leasing runs to them, and taking back what ran out.

A lease is fair among studies: the one with the smallest share of its parallelism in use comes first, then
the one whose queued run has waited longest. No study ever has more runs going than its parallelism.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased, defer

from service.db import ends, events, facts, processes
from service.db.attempts import expiry
from service.db.engine import is_postgresql
from service.db.models import AttemptRow, CheckpointRow, ProcessRow, RunRow, StudyRow, TrialRow
from service.db.transitions import move
from service.errors import ConflictError, NotFoundError
from trimtab.wire.space import scaled
from trimtab.wire.states import AttemptState, RunState, StudyState, TrialState
from trimtab.wire.work import (
    AskRequest,
    AskResponse,
    Assignment,
    Capacity,
    CheckpointRef,
    LeaseRequest,
    LeaseResponse,
    RegisterRequest,
)

DISPATCHER = "dispatcher"
ASKER = "ask"
"""The worker's name on attempts of the user's own loop."""
MAX_EXPIRED = 100
"""Attempts taken back in one transaction."""
_TOLERANCE = 1e-9  # ten shares of 0.1 fit into 1


@dataclass(slots=True)
class _Candidate:
    """A study that has queued runs, as leasing sees it."""

    study: StudyRow
    running: int
    queued: list[int]
    """Ids of its queued runs, oldest first."""

    def share(self) -> tuple[float, int]:
        return self.running / self.study.parallelism, self.queued[0]


class _Free:
    """What is left of a dispatcher's resources."""

    def __init__(self, capacity: Capacity) -> None:
        self._left = {"cpus": capacity.cpus, "gpus": capacity.gpus}
        self._left |= {f"custom:{name}": amount for name, amount in capacity.custom.items()}

    def take(self, study: StudyRow) -> bool:
        """Set aside what one run of ``study`` holds; False, and nothing taken, if it does not fit."""
        needs = {"cpus": study.cpus, "gpus": study.gpus}
        needs |= {f"custom:{name}": amount for name, amount in study.custom.items()}
        if any(amount > self._left.get(name, 0.0) + _TOLERANCE for name, amount in needs.items()):
            return False
        for name, amount in needs.items():
            self._left[name] = self._left.get(name, 0.0) - amount
        return True


def register(session: Session, request: RegisterRequest, now: datetime) -> None:
    """A dispatcher has started: what its earlier incarnations were training is lost, and queued again."""
    detail = {"total": request.total.model_dump(), "trainers": list(request.trainers)}
    processes.hello(session, request.worker, DISPATCHER, request.incarnation, detail, now)
    orphans = session.scalars(
        select(AttemptRow)
        .where(
            AttemptRow.worker == request.worker,
            AttemptRow.state == AttemptState.ACTIVE.value,
            AttemptRow.incarnation != request.incarnation,
        )
        .order_by(AttemptRow.token)
        .with_for_update(key_share=True)
    ).all()
    for attempt in sorted(orphans, key=_lock_order):
        ends.lose(session, attempt, "its dispatcher was started again", now)


def lease(session: Session, request: LeaseRequest, now: datetime) -> LeaseResponse:
    """Up to ``max_runs`` queued runs that fit together into what the dispatcher has free.

    Raises :class:`ConflictError` if another incarnation of the dispatcher has registered since.
    """
    process = session.get(ProcessRow, request.worker)
    if process is None:
        processes.hello(session, request.worker, DISPATCHER, request.incarnation, {}, now)
    elif process.incarnation != request.incarnation:
        raise ConflictError(
            f"another process has registered as {request.worker!r} since: stop, or register again"
        )
    elif now - process.seen_at > processes.HEARTBEAT:
        processes.beat(session, [request.worker], now)
    candidates = _candidates(session, limit=request.max_runs)
    chosen = _choose(candidates, _Free(request.free), request.max_runs)
    return LeaseResponse(
        assignments=_start(session, chosen, request.worker, request.incarnation, request.lease_seconds, now)
    )


def ask(session: Session, study_key: str, request: AskRequest, now: datetime) -> AskResponse:
    """One queued run of an ``external`` study for the user's own loop, or the reason why there is none.

    Raises :class:`NotFoundError` for an unknown study, :class:`ConflictError` for a dispatchers' study.
    """
    study = session.scalar(select(StudyRow).where(StudyRow.key == study_key))
    if study is None:
        raise NotFoundError(f"there is no study {study_key!r}")
    if not study.external:
        raise ConflictError(
            f"the study {study.name!r} is trained by dispatchers: only studies with the trainer "
            "'external' can be asked"
        )
    candidates = _candidates(session, limit=1, study_id=study.id)
    chosen = _choose(candidates, None, 1)
    if not chosen:
        return AskResponse(
            assignment=None,
            reason=_why_nothing(study, candidates),
            ended=study.state not in (StudyState.RUNNING, StudyState.PAUSED),
        )
    assignments = _start(session, chosen, ASKER, study.key, request.lease_seconds, now)
    return AskResponse(assignment=assignments[0], retry_after_seconds=0.0)


def expire(session: Session, now: datetime) -> int:
    """Take back up to ``MAX_EXPIRED`` runs whose lease has run out; how many there were."""
    attempts = session.scalars(
        select(AttemptRow)
        .where(AttemptRow.state == AttemptState.ACTIVE.value, AttemptRow.lease_expires_at < now)
        .order_by(AttemptRow.lease_expires_at)
        .limit(MAX_EXPIRED)
        .with_for_update(skip_locked=True, key_share=True)
    ).all()
    for attempt in sorted(attempts, key=_lock_order):
        ends.lose(session, attempt, f"nothing was heard from {attempt.worker!r} in its lease", now)
    return len(attempts)


def _lock_order(attempt: AttemptRow) -> tuple[int, int]:
    return attempt.study_id, attempt.token


def _candidates(session: Session, *, limit: int, study_id: int | None = None) -> list[_Candidate]:
    """Running studies with queued runs, held until the transaction ends, with what they have running.

    Without ``study_id``: all that dispatchers train.
    """
    run = aliased(RunRow)
    has_queued = (
        select(run.id).where(run.study_id == StudyRow.id, run.state == RunState.QUEUED.value).exists()
    )
    query = (
        select(StudyRow)
        .where(StudyRow.state == StudyState.RUNNING.value, has_queued)
        .order_by(StudyRow.id)
        .options(defer(StudyRow.spec))  # long, and known already: see facts
        .execution_options(populate_existing=True)
    )
    query = query.where(~StudyRow.external) if study_id is None else query.where(StudyRow.id == study_id)
    if is_postgresql(session):
        query = query.with_for_update(key_share=True)
    found = []
    for study in session.scalars(query).all():
        queued = session.scalars(
            select(RunRow.id)
            .where(RunRow.study_id == study.id, RunRow.state == RunState.QUEUED.value)
            .order_by(RunRow.id)
            .limit(limit)
            .with_for_update(skip_locked=True, key_share=True)
        ).all()
        running = session.scalars(
            select(func.count())
            .select_from(RunRow)
            .where(RunRow.study_id == study.id, RunRow.state == RunState.RUNNING.value)
        ).one()
        if queued:
            found.append(_Candidate(study, running, list(queued)))
    return found


def _choose(candidates: Iterable[_Candidate], free: _Free | None, most: int) -> list[int]:
    """Ids of the runs to lease, in the order of fairness. ``free`` None: resources do not matter."""
    open_studies = list(candidates)
    chosen: list[int] = []
    while open_studies and len(chosen) < most:
        first = min(open_studies, key=_Candidate.share)
        fits = first.running < first.study.parallelism and (free is None or free.take(first.study))
        if fits:
            chosen.append(first.queued.pop(0))
            first.running += 1
        if not fits or not first.queued:
            open_studies.remove(first)
    return chosen


def _start(
    session: Session,
    run_ids: list[int],
    worker: str,
    incarnation: str,
    lease_seconds: float | None,
    now: datetime,
) -> list[Assignment]:
    """Make an active attempt of each run, in this order."""
    if not run_ids:
        return []
    rows = session.execute(
        select(RunRow, TrialRow, CheckpointRow)
        .join(TrialRow, TrialRow.id == RunRow.trial_id)
        .outerjoin(CheckpointRow, CheckpointRow.id == RunRow.checkpoint_id)
        .where(RunRow.id.in_(run_ids))
        .execution_options(populate_existing=True)
    )
    by_id = {row[0].id: row for row in rows}
    attempts = []
    for run_id in run_ids:
        run, trial, _ = by_id[run_id]
        move(run, RunState.RUNNING)
        move(trial, TrialState.RUNNING, run.reason)
        attempts.append(
            AttemptRow(
                study_id=run.study_id,
                trial_id=trial.id,
                run_id=run.id,
                state=AttemptState.ACTIVE.value,
                worker=worker,
                incarnation=incarnation,
                start_step=run.start_step,
                last_step=run.start_step,
                last_seq=0,
                lease_seconds=lease_seconds,
                lease_expires_at=expiry(now, lease_seconds),
                started_at=now,
            )
        )
    session.add_all(attempts)
    session.flush()
    news = []
    assignments = []
    for attempt, run_id in zip(attempts, run_ids, strict=True):
        run, trial, checkpoint = by_id[run_id]
        study = session.get_one(StudyRow, run.study_id)  # read with the candidates
        data = {"run": run.number, "token": attempt.token, "worker": worker, "target_step": run.target_step}
        news.append(events.NewEvent(study.id, study.key, "trial.running", trial.number, data))
        assignments.append(_assignment(session, attempt, run, trial, study, checkpoint))
    events.append_all(session, news, now=now)
    return assignments


def _assignment(
    session: Session,
    attempt: AttemptRow,
    run: RunRow,
    trial: TrialRow,
    study: StudyRow,
    checkpoint: CheckpointRow | None,
) -> Assignment:
    spec = facts.of(session, study.key).spec
    return Assignment(
        token=attempt.token,
        study=study.key,
        study_name=study.name,
        trial=trial.number,
        run=run.number,
        params={**trial.params, **scaled(spec.space, trial.params)},
        trainer=spec.trainer,
        training_seed=spec.seeds.first if trial.seed is None else trial.seed,
        schedule=[(int(step), rate) for step, rate in trial.schedule or ()],
        parent=trial.parent,
        forked_at=trial.forked_at,
        start_step=run.start_step,
        target_step=run.target_step,
        max_step=spec.fidelity.max,
        report_every=spec.fidelity.report_every,
        checkpoint=_reference(checkpoint),
        checkpoint_every=spec.checkpoints.every,
        metric=study.metric,
        resources=spec.resources,
        hang_after_seconds=spec.hang_after_seconds,
        lease_seconds=attempt.lease_seconds,
    )


def _reference(checkpoint: CheckpointRow | None) -> CheckpointRef | None:
    if checkpoint is None:
        return None
    return CheckpointRef(id=checkpoint.id, step=checkpoint.step, uri=checkpoint.uri, bytes=checkpoint.bytes)


def _why_nothing(study: StudyRow, candidates: list[_Candidate]) -> str:
    if study.state != StudyState.RUNNING:
        return f"the study is {study.state}" + (f": {study.state_reason}" if study.state_reason else "")
    if candidates:
        return f"all {study.parallelism} slots of the study are taken"
    return "the study has nothing to try right now"
