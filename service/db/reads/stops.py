"""Early stops seen again: what they saved, and what they would have cost with all that is known now."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from search.prediction import Curves, Predictor
from search.stopping import Forecast, Predicted
from service.db import facts, predictors
from service.db.models import TrialRow
from service.db.reads.studies import find_study
from trimtab.wire.states import TrialState
from trimtab.wire.views import Stop, StopsReplay


def stops(session: Session, key: str) -> StopsReplay:
    """Every trial of the study that was stopped short of the full fidelity, by whatever rule or person.

    A model is fitted to all trials that have been trained to the end by now, whether or not the study has
    a predicted rule, and says where each stopped trial would have ended.

    Raises:
        NotFoundError: there is no such study.
    """
    study = find_study(session, key)
    about = facts.of(session, key)
    full = about.spec.fidelity.max
    rows = session.execute(
        select(
            TrialRow.id,
            TrialRow.number,
            TrialRow.params,
            TrialRow.step,
            TrialRow.best_value,
            TrialRow.state_reason,
            TrialRow.parent,
        )
        .where(
            TrialRow.study_id == study.id,
            TrialRow.state == TrialState.STOPPED.value,
            TrialRow.replica_of.is_(None),
            TrialRow.origin != "imported",
            TrialRow.step > 0,
            TrialRow.step < full,
        )
        .order_by(TrialRow.number)
    ).all()
    trained = session.scalar(
        select(func.sum(TrialRow.trained)).where(TrialRow.study_id == study.id, ~TrialRow.test)
    )
    units = int(trained or 0)
    rule = replace(about.predicted or Predicted(), grace=0)  # other rules stop trials earlier
    model = predictors.lesson(session, study, rule).learn() if rows else None
    forecasts: list[Forecast | None] = [None] * len(rows)
    if model is not None and study.best_value is not None:
        curves = predictors.read_curves(session, study, rule, rows)
        forecasts = [
            None if row.parent is not None else _forecast(model, curves, at, study.best_value)
            for at, row in enumerate(rows)
        ]
    items = [
        Stop(
            trial=row.number,
            step=row.step,
            reason=row.state_reason,
            best_value=row.best_value,
            saved=full - row.step,
            predicted=None if seen is None else seen.value,
            low=None if seen is None else min(seen.good, seen.bad),
            high=None if seen is None else max(seen.good, seen.bad),
            chance=None if seen is None else seen.chance,
        )
        for row, seen in zip(rows, forecasts, strict=True)
    ]
    saved = sum(item.saved for item in items)
    chances = [item.chance for item in items if item.chance is not None]
    return StopsReplay(
        items=items,
        learned_from=0 if model is None else model.curves,
        trained=units,
        saved=saved,
        factor=(units + saved) / units if units else None,
        expected_loss=sum(chances) if chances or not items else None,
        unpredicted=len(items) - len(chances),
    )


def _forecast(model: Predictor, curves: Curves, at: int, incumbent: float) -> Forecast | None:
    """Where the trial in row ``at`` would have ended, seen from the last check that says something."""
    curve = {
        step: (float(best), float(newest))
        for step, best, newest in zip(model.checks, curves.best[at], curves.newest[at], strict=True)
    }
    for step in reversed(model.checks):
        found = model.forecast(curves.features[at], curve, step, incumbent)
        if found is not None:
            return found
    return None
