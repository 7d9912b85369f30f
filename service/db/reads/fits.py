"""Fits of scaling laws as people see them, and the law itself for what is asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, undefer

from service.db import pages
from service.db.fits import unfit
from service.db.models import FitRow
from service.errors import NotFoundError
from trimtab.wire.laws import Caution, FitCounts, FitDetail, FitItem, FitPage, FitSource, FitState


@dataclass(frozen=True, slots=True)
class StoredLaw:
    """A fitted law with the runs that it was fitted to."""

    key: str
    name: str
    family: str
    law: Mapping[str, Any]
    runs: Mapping[str, Any]
    summary: Mapping[str, Any]


def list_fits(session: Session, *, cursor: str | None = None, limit: int = 50) -> FitPage:
    """Fits, newest first. Raises :class:`InvalidError` for a bad cursor."""
    query = select(FitRow).order_by(FitRow.id.desc()).limit(limit + 1)
    if cursor is not None:
        (before,) = pages.decode(cursor, "fits", int)
        query = query.where(FitRow.id < before)
    rows = session.scalars(query).all()
    more, rows = len(rows) > limit, rows[:limit]
    return FitPage(
        items=[FitItem(**_item(row)) for row in rows],
        next_cursor=pages.encode("fits", rows[-1].id) if more else None,
    )


def fit_detail(session: Session, key: str) -> FitDetail:
    """One fit, with what its family says of it. Raises :class:`NotFoundError`."""
    row = _find(session, key)
    return FitDetail(
        **_item(row),
        options=row.options,
        seed=row.seed,
        source=FitSource.model_validate(row.source),
        started_at=row.started_at,
        found=[Caution.model_validate(caution) for caution in row.cautions or ()],
        summary=row.summary or {},
    )


def fit_state(session: Session, key: str) -> FitState:
    """Where it is. Raises :class:`NotFoundError`."""
    state = session.scalar(select(FitRow.state).where(FitRow.key == key))
    if state is None:
        raise _missing(key)
    return FitState(state)


def stored_law(session: Session, key: str) -> StoredLaw:
    """The law of a fit that is done.

    Raises:
        NotFoundError: there is no such fit.
        ConflictError: it is not done.
    """
    row = session.scalar(
        select(FitRow).options(undefer(FitRow.law), undefer(FitRow.runs)).where(FitRow.key == key)
    )
    if row is None:
        raise _missing(key)
    if row.law is None:
        raise unfit(row.state, key)
    return StoredLaw(row.key, row.name, row.family, row.law, row.runs, row.summary or {})


def _find(session: Session, key: str) -> FitRow:
    row = session.scalar(select(FitRow).where(FitRow.key == key))
    if row is None:
        raise _missing(key)
    return row


def _missing(key: str) -> NotFoundError:
    return NotFoundError(f"There is no fit {key!r}. GET /v1/fits lists them all.")


def _item(row: FitRow) -> dict[str, Any]:
    return {
        "id": row.key,
        "name": row.name,
        "family": row.family,
        "state": FitState(row.state),
        "progress": row.progress,
        "error": row.error,
        "counts": FitCounts.model_validate(row.counts),
        "cautions": None if row.cautions is None else len(row.cautions),
        "grave": any(caution["grave"] for caution in row.cautions or ()),
        "created_at": row.created_at,
        "ended_at": row.ended_at,
    }
