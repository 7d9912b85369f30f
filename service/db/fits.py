"""Fits of scaling laws: made by people, taken by schedulers, done or failed.

```
 queued ──take──► running ──► done | failed
    ▲                │
    └── give back, lease runs out
```

A fit is taken under a lease, and each time ``attempt`` moves: what a process says of an attempt that is not
the newest changes nothing. Each function takes an open transaction and the moment it happens.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from service.db.engine import is_postgresql
from service.db.models import FitRow
from service.errors import ConflictError, InvalidError, NotFoundError
from trimtab.wire.laws import Caution, FitCounts, FitRequest, FitSource, FitState
from trimtab.wire.problems import FieldProblem

LEASE = timedelta(seconds=15)
"""A running fit of which nothing is heard for so long is run again."""
MAX_ATTEMPTS = 5
"""A fit whose process has died so often has failed."""


@dataclass(frozen=True, slots=True)
class NewFit:
    """A checked request, with the runs that were read from what it names."""

    request: FitRequest
    source: FitSource
    counts: FitCounts
    runs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Taken:
    """A fit that is this process's to compute."""

    id: int
    key: str
    attempt: int
    family: str
    options: Mapping[str, Any]
    seed: int
    runs: Mapping[str, Any]


def digest(request: FitRequest) -> str:
    """What two requests have in common if they ask for the same."""
    document = request.model_dump(mode="json")
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def earlier(session: Session, idempotency_key: str, request: FitRequest) -> str | None:
    """The fit that was made with this key before, if any.

    Raises :class:`InvalidError` if it was made of another request.
    """
    row = session.execute(
        select(FitRow.key, FitRow.digest).where(FitRow.idempotency_key == idempotency_key)
    ).first()
    if row is None:
        return None
    if row.digest != digest(request):
        raise InvalidError(
            f"The Idempotency-Key {idempotency_key!r} was used for another fit ({row.key}); use a new one.",
            [FieldProblem(pointer="/header/Idempotency-Key", message="used before with another body")],
        )
    return str(row.key)


def create(
    session: Session, new: NewFit, *, key: str, idempotency_key: str | None = None, now: datetime
) -> str | None:
    """Queue a fit. None if another call has just taken the idempotency key: see :func:`earlier`.

    On PostgreSQL the insert waits for a transaction that has just taken the same key.
    """
    insert = postgresql.insert if is_postgresql(session) else sqlite.insert
    statement = (
        insert(FitRow)
        .values(
            key=key,
            idempotency_key=idempotency_key,
            digest=digest(new.request),
            name=new.request.name,
            family=new.request.family,
            options=dict(new.request.options),
            seed=new.request.seed,
            source=new.source.model_dump(mode="json"),
            runs=dict(new.runs),
            counts=new.counts.model_dump(mode="json"),
            state=FitState.QUEUED.value,
            progress=0.0,
            attempt=0,
            created_at=now,
        )
        .on_conflict_do_nothing(index_elements=["idempotency_key"])
        .returning(FitRow.key)
    )
    return session.scalar(statement)


def remove(session: Session, key: str) -> None:
    """Delete a fit, in any state; studies that were told what it says keep the numbers.

    Raises :class:`NotFoundError`.
    """
    if session.scalar(delete(FitRow).where(FitRow.key == key).returning(FitRow.id)) is None:
        raise NotFoundError(f"There is no fit {key!r}. GET /v1/fits lists them all.")


def waiting(session: Session, now: datetime) -> bool:
    """Whether a fit could be taken."""
    return session.scalar(select(FitRow.id).where(_free(now)).limit(1)) is not None


def take(session: Session, now: datetime) -> Taken | None:
    """Take the oldest fit that waits or whose process has gone silent; it must be renewed in time.

    One whose processes have died too often has failed instead.
    """
    row = session.scalar(
        select(FitRow).where(_free(now)).order_by(FitRow.id).limit(1).with_for_update(skip_locked=True)
    )
    if row is None:
        return None
    if row.attempt >= MAX_ATTEMPTS:
        row.state = FitState.FAILED.value
        row.error = f"The process that computed it has died {row.attempt} times."
        row.ended_at = now
        return None
    row.state = FitState.RUNNING.value
    row.attempt += 1
    row.progress = 0.0
    row.started_at = now
    row.lease_expires_at = now + LEASE
    return Taken(row.id, row.key, row.attempt, row.family, row.options, row.seed, row.runs)


def renew(session: Session, fit: Taken, progress: float, now: datetime) -> bool:
    """Say how far it is. False if it was deleted, or is another process's by now."""
    return _change(session, fit, progress=progress, lease_expires_at=now + LEASE)


def give_back(session: Session, fit: Taken, *, died: bool = False) -> bool:
    """Let another process compute it: at no cost, unless the present one ``died``. As :func:`renew`."""
    return _change(
        session,
        fit,
        state=FitState.QUEUED.value,
        progress=0.0,
        attempt=fit.attempt if died else fit.attempt - 1,
        lease_expires_at=None,
    )


def finish(
    session: Session,
    fit: Taken,
    *,
    law: Mapping[str, Any],
    summary: Mapping[str, Any],
    cautions: Sequence[Caution],
    now: datetime,
) -> bool:
    """Store the law; as :func:`renew`."""
    return _change(
        session,
        fit,
        state=FitState.DONE.value,
        progress=1.0,
        law=dict(law),
        summary=dict(summary),
        cautions=[caution.model_dump(mode="json") for caution in cautions],
        lease_expires_at=None,
        ended_at=now,
    )


def fail(session: Session, fit: Taken, error: str, now: datetime) -> bool:
    """Nothing is stored but why; as :func:`renew`."""
    return _change(
        session, fit, state=FitState.FAILED.value, error=error, lease_expires_at=None, ended_at=now
    )


def unfit(state: str, key: str) -> ConflictError:
    """Why a fit that is not done cannot be asked."""
    if state == FitState.FAILED:
        return ConflictError(
            f"The fit {key!r} has failed: it says nothing of any target. GET /v1/fits/{key} says why."
        )
    return ConflictError(f"The fit {key!r} is {state}: ask again when it is done.")


def _free(now: datetime) -> ColumnElement[bool]:
    return or_(
        FitRow.state == FitState.QUEUED,
        and_(FitRow.state == FitState.RUNNING, FitRow.lease_expires_at < now),
    )


def _change(session: Session, fit: Taken, **values: Any) -> bool:
    changed = session.scalar(
        update(FitRow)
        .where(FitRow.id == fit.id, FitRow.attempt == fit.attempt, FitRow.state == FitState.RUNNING)
        .values(**values)
        .returning(FitRow.id)
    )
    return changed is not None
