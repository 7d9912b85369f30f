"""Heartbeats of the processes round the database."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from service.db.models import ProcessRow


def seen(
    session: Session, name: str, *, kind: str, incarnation: str, detail: Mapping[str, Any], now: datetime
) -> None:
    """Note that the process ``name`` is alive. ``kind`` is ``scheduler`` or ``dispatcher``."""
    session.merge(
        ProcessRow(name=name, kind=kind, incarnation=incarnation, detail=dict(detail), seen_at=now)
    )
