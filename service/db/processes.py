"""Heartbeats of the processes round the database."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.db.models import ProcessRow
from trimtab.wire.views import Component

ALIVE = timedelta(seconds=30)
"""Whoever was seen within this time counts as alive."""


def seen(
    session: Session, name: str, *, kind: str, incarnation: str, detail: Mapping[str, Any], now: datetime
) -> None:
    """Note that the process ``name`` is alive. ``kind`` is ``scheduler`` or ``dispatcher``."""
    session.merge(
        ProcessRow(name=name, kind=kind, incarnation=incarnation, detail=dict(detail), seen_at=now)
    )


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
