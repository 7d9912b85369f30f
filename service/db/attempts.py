"""Active attempts as reports find, change and leave them: one statement to read them all with their runs,
trials and studies, and one statement for each kind of row to write back what has changed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from service.db import processes
from service.db.curves import Curve
from service.db.engine import is_postgresql
from service.db.models import AttemptRow, ProcessRow, RunRow, StudyRow, TrialRow
from trimtab.wire.states import AttemptState
from trimtab.wire.work import Report


@dataclass(slots=True, kw_only=True)
class Attempt(Curve):
    """An active attempt as it is read, changed and written back, with its trial's curve."""

    token: int
    last_seq: int
    start_step: int
    last_step: int
    lease_seconds: float | None
    worker: str
    run_id: int
    wish: str | None
    wish_reason: str
    trial_id: int
    number: int
    trained: int
    to_end: bool
    parent: int | None
    replica_of: int | None
    study_key: str
    study_best: float | None
    external: bool
    seen_at: datetime | None
    wished: bool = False
    measured: bool = False
    heard: bool = False
    saved: list[Report] = field(default_factory=list)


_READ = (
    select(
        AttemptRow.token,
        AttemptRow.last_seq,
        AttemptRow.start_step,
        AttemptRow.last_step,
        AttemptRow.lease_seconds,
        AttemptRow.worker,
        RunRow.id.label("run_id"),
        RunRow.wish,
        RunRow.wish_reason,
        TrialRow.id.label("trial_id"),
        TrialRow.number,
        TrialRow.step,
        TrialRow.value,
        TrialRow.best_value,
        TrialRow.best_step,
        TrialRow.first_value,
        TrialRow.since_best,
        TrialRow.points,
        TrialRow.trained,
        TrialRow.to_end,
        TrialRow.parent,
        TrialRow.replica_of,
        StudyRow.id.label("study_id"),
        StudyRow.key.label("study_key"),
        StudyRow.best_value.label("study_best"),
        StudyRow.external,
        ProcessRow.seen_at,
    )
    .join(RunRow, RunRow.id == AttemptRow.run_id)
    .join(TrialRow, TrialRow.id == AttemptRow.trial_id)
    .join(StudyRow, StudyRow.id == AttemptRow.study_id)
    .outerjoin(ProcessRow, ProcessRow.name == AttemptRow.worker)
    .where(
        AttemptRow.token.in_(bindparam("tokens", expanding=True)),
        AttemptRow.state == AttemptState.ACTIVE.value,
    )
    .order_by(AttemptRow.token)
)
_READ_LOCKED = _READ.with_for_update(of=[AttemptRow, TrialRow], key_share=True)

_WRITE_ATTEMPT = (
    update(AttemptRow)
    .where(AttemptRow.token == bindparam("of_token"))
    .values(
        last_seq=bindparam("to_seq"),
        start_step=bindparam("to_start"),
        last_step=bindparam("to_step"),
        lease_expires_at=bindparam("to_expiry"),
    )
)
_WRITE_TRIAL = (
    update(TrialRow)
    .where(TrialRow.id == bindparam("of_trial"))
    .values(
        step=bindparam("to_step"),
        value=bindparam("to_value"),
        best_value=bindparam("to_best"),
        best_step=bindparam("to_best_step"),
        first_value=bindparam("to_first"),
        since_best=bindparam("to_since_best"),
        points=bindparam("to_points"),
        trained=bindparam("to_trained"),
    )
)
_WRITE_OUTCOMES = (
    update(TrialRow).where(TrialRow.id == bindparam("of_trial")).values(outcomes=bindparam("to_outcomes"))
)
_WRITE_WISH = (
    update(RunRow)
    .where(RunRow.id == bindparam("of_run"))
    .values(wish=bindparam("to_wish"), wish_reason=bindparam("to_reason"))
)


def read(session: Session, tokens: Collection[int]) -> dict[int, Attempt]:
    """The active ones among the attempts with these tokens, by token; they and their trials are locked."""
    rows = session.connection().execute(
        _READ_LOCKED if is_postgresql(session) else _READ, {"tokens": list(tokens)}
    )
    return {row.token: Attempt(**row._mapping) for row in rows}


def write_progress(session: Session, attempts: Sequence[Attempt], now: datetime) -> None:
    """Renew the leases of these attempts, and write how far they and their trials have come."""
    if not attempts:
        return
    _write_attempts(session, attempts, now)
    _write_trials(session, attempts)


def expiry(now: datetime, lease_seconds: float | None) -> datetime | None:
    """When a lease that is renewed now runs out."""
    return None if lease_seconds is None else now + timedelta(seconds=lease_seconds)


def _write_attempts(session: Session, attempts: Sequence[Attempt], now: datetime) -> None:
    """Renew the leases and, where it is time, the heartbeats of the dispatchers."""
    session.connection().execute(
        _WRITE_ATTEMPT,
        [
            {
                "of_token": a.token,
                "to_seq": a.last_seq,
                "to_start": a.start_step,
                "to_step": a.last_step,
                "to_expiry": expiry(now, a.lease_seconds),
            }
            for a in attempts
        ],
    )
    quiet = {a.worker for a in attempts if a.seen_at is not None and now - a.seen_at > processes.HEARTBEAT}
    if quiet:
        processes.beat(session, quiet, now)


def _write_trials(session: Session, attempts: Sequence[Attempt]) -> None:
    measured = [
        {
            "of_trial": a.trial_id,
            "to_step": a.step,
            "to_value": a.value,
            "to_best": a.best_value,
            "to_best_step": a.best_step,
            "to_first": a.first_value,
            "to_since_best": a.since_best,
            "to_points": a.points,
            "to_trained": a.trained,
        }
        for a in attempts
        if a.measured
    ]
    if measured:
        session.connection().execute(_WRITE_TRIAL, measured)
    # Most studies have no outcomes but the metric, and make no further statement.
    outcomes = [
        {"of_trial": a.trial_id, "to_outcomes": a.outcomes} for a in attempts if a.outcomes is not None
    ]
    if outcomes:
        session.connection().execute(_WRITE_OUTCOMES, outcomes)


def write_wishes(session: Session, attempts: Sequence[Attempt]) -> None:
    """Write what has been wished of the runs of these attempts meanwhile."""
    wishes = [
        {"of_run": a.run_id, "to_wish": a.wish, "to_reason": a.wish_reason} for a in attempts if a.wished
    ]
    if wishes:
        session.connection().execute(_WRITE_WISH, wishes)
