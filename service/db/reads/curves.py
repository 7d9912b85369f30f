"""Learning curves, thinned by the database so that a thousand can be drawn."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, null, or_, select
from sqlalchemy.orm import Session

from service.db.models import MeasurementRow, StudyRow, TrialRow
from service.db.reads.studies import find_study
from trimtab.wire.states import TrialState
from trimtab.wire.views import CurveLine


def curves(
    session: Session, key: str, *, max_points: int = 100, max_lines: int | None = None
) -> list[CurveLine]:
    """The tuned metric of the trials that were measured, in order of their numbers; of each configuration
    the training with its first seed.

    Args:
        max_points: at most so many points per line (at least 2), evenly picked, first and last among them.
        max_lines: at most so many lines: half for the best trials, the rest for the newest. None: all.

    Raises:
        NotFoundError: there is no such study.
    """
    study = find_study(session, key)
    chosen = _chosen(session, study, max_lines)
    if not chosen:
        return []
    lines: dict[int, tuple[list[int], list[float]]] = {id_: ([], []) for id_ in chosen}
    for trial_id, step, value, metrics in session.execute(
        _points(study, list(chosen), max_points, max_lines)
    ):
        if value is None:
            value = (metrics or {}).get(study.metric)
        if value is not None and trial_id in lines:  # replicas are read with all others
            steps, values = lines[trial_id]
            steps.append(step)
            values.append(float(value))
    return [
        CurveLine.model_construct(
            number=trial.number, state=TrialState(trial.state), steps=lines[id_][0], values=lines[id_][1]
        )
        for id_, trial in chosen.items()
        if lines[id_][0]
    ]


def _chosen(session: Session, study: StudyRow, max_lines: int | None) -> dict[int, Any]:
    """Trials to draw: their number and state by id, in order of number."""
    query = select(TrialRow.id, TrialRow.number, TrialRow.state).where(
        TrialRow.study_id == study.id, TrialRow.step > 0, TrialRow.replica_of.is_(None)
    )
    if max_lines is None:
        rows = session.execute(query.order_by(TrialRow.number)).all()
        return {row.id: row for row in rows}
    order = TrialRow.best_value.desc() if study.maximize else TrialRow.best_value.asc()
    best = query.where(TrialRow.best_value.is_not(None)).order_by(order).limit((max_lines + 1) // 2)
    found = {row.id: row for row in session.execute(best)}
    newest = query.order_by(TrialRow.number.desc()).limit(max_lines)
    for row in session.execute(newest):
        if len(found) < max_lines:
            found[row.id] = row
    return dict(sorted(found.items(), key=lambda item: item[1].number))


def _points(study: StudyRow, ids: list[int], max_points: int, max_lines: int | None) -> Any:
    """Point ``i`` of ``n`` is kept when ``floor(i * (max_points - 1) / (n - 1))`` grows at it.

    That keeps exactly ``max_points`` points of a longer curve, the first and the last among them.
    """
    # A non-finite value is NULL in its column; its name stands in the JSON of all metrics.
    metrics = case((MeasurementRow.value.is_(None), MeasurementRow.metrics), else_=null())
    wanted: ColumnElement[bool] = (
        MeasurementRow.study_id == study.id if max_lines is None else MeasurementRow.trial_id.in_(ids)
    )
    numbered = (
        select(
            MeasurementRow.trial_id,
            MeasurementRow.step,
            MeasurementRow.value,
            metrics.label("metrics"),
            (
                func.row_number().over(partition_by=MeasurementRow.trial_id, order_by=MeasurementRow.step)
                - 1
            ).label("i"),
            func.count().over(partition_by=MeasurementRow.trial_id).label("n"),
        )
        .where(wanted)
        .subquery()
    )
    points = numbered.c
    thin = and_(points.n > max_points, (points.i * (max_points - 1)) % (points.n - 1) < max_points - 1)
    return (
        select(points.trial_id, points.step, points.value, points.metrics)
        .where(or_(points.n <= max_points, thin))
        .order_by(points.trial_id, points.step)
    )
