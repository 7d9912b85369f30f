"""The append-only history, and the cursor that live views follow.

On PostgreSQL an event's id is handed out before its transaction commits, so a reader that moves its
cursor to the newest id it sees could pass one that is still to appear. Each writing transaction therefore
announces, as a shared advisory lock, the last id handed out before its own first event (its floor), and
:func:`read` stops at the lowest floor of the transactions in flight. SQLite has one writer at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, select, text
from sqlalchemy.orm import Session

from service.db.engine import is_postgresql
from service.db.models import EventRow, StudyRow
from trimtab.wire.views import Event

# Lock keys are the floors made negative: below zero nobody else's advisory locks stand.
_LAST_ID = "last_value - 1 + is_called::int"
_ANNOUNCE = text(f"SELECT pg_advisory_xact_lock_shared(-1 - ({_LAST_ID})) FROM events_id_seq")
_NEWEST = text(f"SELECT {_LAST_ID} FROM events_id_seq")
_FLOOR = text(
    "SELECT min(-1 - key) FROM ("
    " SELECT (classid::bigint << 32) | objid::bigint AS key FROM pg_locks"
    " WHERE locktype = 'advisory' AND objsubid = 1 AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    ") AS locks WHERE key < 0"
)


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to be appended."""

    study_id: int
    study_key: str
    kind: str
    trial: int | None
    """The trial's number within its study."""
    data: Mapping[str, Any]


def append(
    session: Session,
    study: StudyRow,
    kind: str,
    *,
    trial: int | None = None,
    data: Mapping[str, Any] | None = None,
    now: datetime,
) -> None:
    """Append one event to ``study``'s history. ``data`` must be JSON without NaN."""
    append_all(session, [NewEvent(study.id, study.key, kind, trial, data or {})], now=now)


def append_all(session: Session, new: list[NewEvent], *, now: datetime) -> None:
    """Append events in this order, in one statement."""
    if not new:
        return
    if is_postgresql(session):
        session.execute(_ANNOUNCE)
    session.connection().execute(
        insert(EventRow.__table__),  # type: ignore[arg-type]  # declared as FromClause, is a Table
        [
            {
                "study_id": event.study_id,
                "study_key": event.study_key,
                "trial_number": event.trial,
                "kind": event.kind,
                "data": dict(event.data),
                "at": now,
            }
            for event in new
        ],
    )


def read(session: Session, *, after: int, study_key: str | None, limit: int) -> list[Event]:
    """Up to ``limit`` events with an id above ``after``, in order of id.

    Whoever passes the last id it was given as the next ``after`` misses nothing and sees nothing twice.
    """
    query = select(
        EventRow.id,
        EventRow.study_key,
        EventRow.kind,
        EventRow.trial_number,
        EventRow.data,
        EventRow.at,
    ).where(EventRow.id > after)
    if study_key is not None:
        study_id = session.scalar(select(StudyRow.id).where(StudyRow.key == study_key))
        if study_id is None:
            return []
        query = query.where(EventRow.study_id == study_id)
    if is_postgresql(session):
        query = query.where(EventRow.id <= settled(session))
    rows = session.execute(query.order_by(EventRow.id).limit(limit))
    return [
        Event(
            id=row.id, study=row.study_key, kind=row.kind, trial=row.trial_number, data=row.data, at=row.at
        )
        for row in rows
    ]


def settled(session: Session) -> int:
    """The id up to which every event is either visible or will never be: where a new reader may begin.

    The order matters: whoever was given an id up to ``newest`` had announced its floor before, so it
    either still holds the lock or has ended; and the rows are read after both.
    """
    if not is_postgresql(session):
        return session.scalar(select(func.max(EventRow.id))) or 0
    newest = int(session.scalar(_NEWEST) or 0)
    floor = session.scalar(_FLOOR)
    return newest if floor is None else min(newest, int(floor))
