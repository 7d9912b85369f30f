"""Earlier studies that a study learns from: what search is told of them, and whether they can be named.

They are read as they stand, so a source that still runs teaches more with time, and one that was deleted
nothing any more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from search.overlap import shared
from search.strategies.knowledge import BLAMED
from search.view import PastTrial, Source
from service import specs
from service.db.models import StudyRow, TrialRow
from service.errors import InvalidError
from trimtab.wire.problems import FieldProblem
from trimtab.wire.study import StudySpec
from trimtab.wire.views import SourceItem

MOST_TRIALS = 500
"""Of a source, so many of its first trials and so many of its best are read."""


def read(session: Session, spec: StudySpec) -> tuple[Source, ...]:
    """The sources that are still there, in the order in which the study names them."""
    found = _studies(session, spec)
    return tuple(_source(session, found[key]) for key in spec.warm_start.studies if key in found)


def items(session: Session, spec: StudySpec) -> list[SourceItem]:
    """The sources as people see them."""
    found = _studies(session, spec)
    return [
        SourceItem(id=key, name=found[key].name if key in found else None)
        for key in spec.warm_start.studies
    ]


def check(session: Session, spec: StudySpec) -> None:
    """Raise :class:`InvalidError` naming every source from which nothing can be learned, and why."""
    problems = list(_problems(session, spec))
    if problems:
        raise InvalidError("The study cannot learn from what its warm start names.", problems)


def _problems(session: Session, spec: StudySpec) -> Iterator[FieldProblem]:
    found = _studies(session, spec)
    for at, key in enumerate(spec.warm_start.studies):
        reason, suggestion = _unfit(spec, key, found.get(key))
        if reason:
            yield FieldProblem(pointer=f"/warm_start/studies/{at}", message=reason, suggestion=suggestion)


def _unfit(spec: StudySpec, key: str, source: StudyRow | None) -> tuple[str, str]:
    """Why nothing can be learned from a source, and what to do; both empty if something can."""
    if source is None:
        return f"there is no study with the id {key}", "GET /v1/studies lists them all"
    direction = "maximizes" if source.maximize else "minimizes"
    wanted = spec.metric.direction.value
    if source.metric == spec.metric.name and not direction.startswith(wanted):
        return (
            f"the study {source.name!r} {direction} {source.metric}, this one is to {wanted} it",
            "give both the same direction; studies of another metric may differ in it",
        )
    if source.best_value is None:
        kept = " that keeps its limits" if source.spec.get("limits") else ""
        return (
            f"the study {source.name!r} has no finite measurement{kept} yet",
            "wait for its first results",
        )
    own, other = specs.space(spec), specs.space(StudySpec.model_validate(source.spec))
    if not shared(own, other):
        return (
            f"the study {source.name!r} shares no parameter with this one: none has the same name and "
            "values in common",
            f"it searches {', '.join(other.by_name)}",
        )
    return "", ""


def _studies(session: Session, spec: StudySpec) -> dict[str, StudyRow]:
    if not spec.warm_start.studies:
        return {}
    named = select(StudyRow).where(StudyRow.key.in_(spec.warm_start.studies))
    return {study.key: study for study in session.scalars(named)}


def _source(session: Session, study: StudyRow) -> Source:
    columns = (TrialRow.number, TrialRow.params, TrialRow.step, TrialRow.best_value, TrialRow.failure_kind)
    # What a forked trial came to is owed to its parent as much as to its own configuration.
    mine = (
        select(*columns)
        .where(TrialRow.study_id == study.id, TrialRow.parent.is_(None), TrialRow.replica_of.is_(None))
        .limit(MOST_TRIALS)
    )
    best = TrialRow.best_value.desc() if study.maximize else TrialRow.best_value
    rows: dict[int, Row[Any]] = {row.number: row for row in session.execute(mine.order_by(TrialRow.number))}
    if len(rows) == MOST_TRIALS:
        ranked = mine.where(TrialRow.best_value.is_not(None)).order_by(best, TrialRow.number)
        rows |= {row.number: row for row in session.execute(ranked)}
    return Source(
        study.name,
        specs.fidelity(StudySpec.model_validate(study.spec)),
        study.maximize,
        tuple(
            PastTrial(row.params, row.step, math.nan if row.failure_kind in BLAMED else row.best_value)
            for _, row in sorted(rows.items())
            if row.best_value is not None or row.failure_kind in BLAMED
        ),
    )
