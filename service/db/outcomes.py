"""What the trials of a study with several objectives or limits came to: the Pareto front, and what is over.

Completed trials are compared, by their last measurement. Others have not come to their end: one that was
stopped after a tenth of its training would look cheap beside them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from search.pareto import front
from service.db.models import TrialRow
from trimtab.wire.states import TrialState
from trimtab.wire.study import Direction, StudySpec


@dataclass(frozen=True, slots=True)
class Compared:
    """The completed trials of a study by row id."""

    front: tuple[int, ...]
    """The best by the first objective first."""
    dominated: tuple[int, ...]
    """In order of number."""
    over_limits: tuple[int, ...]
    """In order of number."""


def read(session: Session, study_id: int, spec: StudySpec) -> Compared:
    """Compare the study's completed trials.

    Left out are those without a finite value of each objective, or without a metric that a limit names.
    """
    rows = session.execute(
        select(TrialRow.id, TrialRow.value, TrialRow.outcomes)
        .where(TrialRow.study_id == study_id, TrialRow.state == TrialState.COMPLETED.value)
        .order_by(TrialRow.number)
    )
    ids: list[int] = []
    points: list[list[float]] = []
    over: list[int] = []
    for row in rows:
        found = of_trial(spec, row.value, row.outcomes)
        losses = _losses(spec, found)
        if broken(spec, found):
            over.append(row.id)
        elif losses is not None:
            ids.append(row.id)
            points.append(losses)
    places = front(points)
    best = tuple(ids[place] for place in places)
    rest = set(best)
    return Compared(best, tuple(id_ for id_ in ids if id_ not in rest), tuple(over))


def of_trial(spec: StudySpec, value: float | None, stored: Mapping[str, Any] | None) -> dict[str, float]:
    """All outcomes of a trial by metric, as they are at its last measurement: the study's metric first.

    ``value`` and ``stored`` are its columns. What is not finite stays so; of the study's own metric it is
    missing, unless a limit names it.
    """
    own = {} if value is None else {spec.metric.name: value}
    return own | {name: float(number) for name, number in (stored or {}).items()}


def broken(spec: StudySpec, found: Mapping[str, float]) -> list[str]:
    """The limits that these outcomes break, in words. A metric that was not measured breaks none."""
    words = (each.broken_by(found[each.metric]) for each in spec.limits if each.metric in found)
    return [word for word in words if word]


def _losses(spec: StudySpec, found: Mapping[str, float]) -> list[float] | None:
    """The outcomes of all objectives as losses; None if one is missing or not finite, or a limit's is
    missing."""
    if any(limit.metric not in found for limit in spec.limits):
        return None
    losses = []
    for goal in spec.goals:
        value = found.get(goal.name, math.nan)
        if not math.isfinite(value):
            return None
        losses.append(-value if goal.direction is Direction.MAXIMIZE else value)
    return losses
