"""Who is alive: one row per scheduler and dispatcher, with its present incarnation and its heartbeat."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from service.db.engine import is_postgresql
from service.db.models import ProcessRow

HEARTBEAT = timedelta(seconds=5)
"""A heartbeat that comes along with other calls is written at most this often."""


def hello(
    session: Session, name: str, kind: str, incarnation: str, detail: Mapping[str, Any], now: datetime
) -> None:
    """A process has started, or says who it is: its row is written anew. First in its transaction."""
    row = {"name": name, "kind": kind, "incarnation": incarnation, "detail": dict(detail), "seen_at": now}
    insert = postgresql.insert(ProcessRow) if is_postgresql(session) else sqlite.insert(ProcessRow)
    session.execute(insert.values(row).on_conflict_do_update(index_elements=["name"], set_=row))


def beat(session: Session, names: Collection[str], now: datetime) -> None:
    """These processes are alive. A row that is being written at this moment is left alone."""
    free = select(ProcessRow.name).where(ProcessRow.name.in_(names)).with_for_update(skip_locked=True)
    session.execute(
        update(ProcessRow)
        .where(ProcessRow.name.in_(free))
        .values(seen_at=now)
        .execution_options(synchronize_session=False)
    )
