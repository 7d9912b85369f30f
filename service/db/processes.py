"""Who is alive: one row per scheduler and dispatcher, with its present incarnation and its heartbeat."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from service.db.engine import is_postgresql
from service.db.models import ProcessRow
from trimtab.wire.views import Component

ALIVE = timedelta(seconds=30)
"""Whoever was seen within this time counts as alive."""

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


def last_seen(session: Session, kind: str) -> datetime | None:
    """When a process of this kind was last heard of; None if there never was one."""
    return session.scalar(select(func.max(ProcessRow.seen_at)).where(ProcessRow.kind == kind))


def components(session: Session, now: datetime) -> list[Component]:
    """Whether a scheduler and a dispatcher are alive: without either of them nothing is trained."""
    newest = select(ProcessRow.kind, func.max(ProcessRow.seen_at).label("at")).group_by(ProcessRow.kind)
    seen_at = {row.kind: row.at for row in session.execute(newest)}
    return [_component(kind, seen_at.get(kind), now) for kind in ("scheduler", "dispatcher")]


def _component(kind: str, seen_at: datetime | None, now: datetime) -> Component:
    if seen_at is None:
        return Component(name=kind, alive=False, detail="never seen")
    ago = max(0.0, (now - seen_at).total_seconds())
    return Component(name=kind, alive=now - seen_at <= ALIVE, detail=f"seen {ago:.0f} s ago")
