"""Trials with several seeds as people see them: each seed of one trial, and the final scores of a study."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.db import facts, tested
from service.db.models import MeasurementRow, StudyRow, TrialRow
from trimtab.wire.states import TrialState
from trimtab.wire.views import Finals, FinalScore, SeedValue

POINTS = 60
"""Points that are shown of each seed's curve."""

Curve = Sequence[tuple[int, float]]


def finals(session: Session, study: StudyRow) -> Finals | None:
    """What the finalists come to on the test seeds; None while search goes on, or without test seeds."""
    if study.finals is None:
        return None
    spec = facts.of(session, study.key).spec
    found = tested.read(session, study)
    return Finals(
        scores=[_score(finalist) for finalist in found],
        winner=study.finals["winner"],
        planned=len(found) * len(spec.seeds.test) * spec.fidelity.max,
        trained=sum(test.trial.trained for finalist in found for test in finalist.tests),
    )


def of_trial(session: Session, study: StudyRow, trial: TrialRow) -> dict[str, list[SeedValue]]:
    """The seeds that a trial's configuration was trained with: ``tuning_seeds`` and ``test_seeds`` of its
    view.

    Each with its value where the trial's best value was seen. Both are empty of a replica.
    """
    if trial.replica_of is not None:
        return {}
    rows = session.scalars(
        select(TrialRow)
        .where(TrialRow.study_id == study.id, TrialRow.replica_of == trial.number)
        .order_by(TrialRow.number)
    ).all()
    several = facts.of(session, study.key).spec.seeds.several and trial.parent is None
    tuning = [trial, *(row for row in rows if not row.test)] if several else []
    tests = [row for row in rows if row.test]
    curves = _curves(session, [*tuning, *tests])
    return {
        "tuning_seeds": [_seed(row, curves[row.id], trial.best_step) for row in tuning],
        "test_seeds": [_seed(row, curves[row.id], trial.best_step) for row in tests],
    }


def _score(finalist: tested.Tested) -> FinalScore:
    score = finalist.score
    return FinalScore(
        trial=finalist.trial.number,
        label=finalist.trial.label,
        params=finalist.trial.params,
        step=finalist.step,
        tuning=finalist.tuning,
        mean=None if score is None else score.mean,
        low=None if score is None else score.low,
        high=None if score is None else score.high,
        seeds=[
            SeedValue(
                seed=test.trial.seed or 0,
                trial=test.trial.number,
                state=TrialState(test.trial.state),
                value=test.value,
            )
            for test in finalist.tests
        ],
    )


def _seed(trial: TrialRow, curve: Curve, step: int | None) -> SeedValue:
    value = dict(curve).get(step) if step is not None and trial.state == TrialState.COMPLETED else None
    thin = _thinned(curve)
    return SeedValue(
        seed=trial.seed or 0,
        trial=trial.number,
        state=TrialState(trial.state),
        value=value,
        steps=[at for at, _ in thin],
        values=[found for _, found in thin],
    )


def _thinned(curve: Curve) -> Curve:
    """At most :data:`POINTS` of it, evenly picked, first and last among them."""
    if len(curve) <= POINTS:
        return curve
    return [curve[round(place * (len(curve) - 1) / (POINTS - 1))] for place in range(POINTS)]


def _curves(session: Session, trials: Iterable[TrialRow]) -> Mapping[int, Curve]:
    curves: dict[int, list[tuple[int, float]]] = defaultdict(list)
    ids: list[Any] = [trial.id for trial in trials]
    for trial_id, step, value in session.execute(
        select(MeasurementRow.trial_id, MeasurementRow.step, MeasurementRow.value)
        .where(MeasurementRow.trial_id.in_(ids))
        .order_by(MeasurementRow.trial_id, MeasurementRow.step)
    ):
        curves[trial_id].append((step, math.nan if value is None else value))
    return curves
