"""What predicted rules know: where the trials of a study will end, learned from those that got there.

The scheduler fits a model whenever a tenth more trials have been trained to the end (:func:`lessons`,
:func:`store`). Reports read the few numbers that it comes to, and only at the steps at which the rule
judges (:func:`read_outlooks`): nothing is fitted inside a report.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Row, func, select
from sqlalchemy.orm import Session

from search.features import Features
from search.prediction import Array, Curves, Point, Predictor, checks, due
from search.stopping import Forecast, Predicted
from search.view import Fidelity
from service import specs
from service.db import facts, runs
from service.db.attempts import Attempt
from service.db.models import MeasurementRow, PredictorRow, StudyRow, TrialRow
from trimtab.wire.states import StudyState, TrialState

MOST_TRIALS = 400
"""Finished trials that a model is fitted to: the newest."""
TRIALS_PER_QUERY = 1_000
"""Trials whose points one query asks for: a statement has a limited number of parameters."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What the model of a study is to be fitted to."""

    study_id: int
    finished: int
    """Trials that were trained to the end."""
    curves: Curves
    """Of the newest of these."""
    fidelity: Fidelity
    maximize: bool
    rule: Predicted

    def learn(self) -> Predictor | None:
        """The fitted model; None if too few of the curves can be used."""
        return Predictor.fit(self.curves, self.fidelity, self.maximize, self.rule)


@dataclass(slots=True)
class Outlook:
    """A trial that is being trained, as its study's model sees it."""

    predictor: Predictor
    features: Array
    curve: dict[int, Point] = field(default_factory=dict)
    """By step, at the checks that it has passed."""

    def add(self, attempt: Attempt) -> None:
        """Note the attempt's newest point."""
        self.curve[attempt.step] = (attempt.best_value, attempt.value)

    def forecast(self, attempt: Attempt) -> Forecast | None:
        """Where the attempt's trial will end; None if there is nothing to beat, or nothing can be said."""
        if attempt.study_best is None:
            return None
        return self.predictor.forecast(self.features, self.curve, attempt.step, attempt.study_best)


def lessons(session: Session) -> list[Lesson]:
    """What is to be learned in the running studies that have a predicted rule."""
    found: list[Lesson] = []
    for study in session.scalars(
        select(StudyRow).where(StudyRow.state == StudyState.RUNNING.value).order_by(StudyRow.id)
    ):
        rule = facts.of(session, study.key).predicted
        if rule is None:
            continue
        finished = _count_finished(session, study)
        known = session.scalar(select(PredictorRow.finished).where(PredictorRow.study_id == study.id)) or 0
        if due(rule, finished, known):
            found.append(lesson(session, study, rule))
    return found


def lesson(session: Session, study: StudyRow, rule: Predicted) -> Lesson:
    """What is to be learned now from the study's finished trials."""
    spec = facts.of(session, study.key).spec
    finished = session.execute(
        select(TrialRow.id, TrialRow.params)
        .where(*_is_finished(session, study))
        .order_by(TrialRow.id.desc())
        .limit(MOST_TRIALS)
    ).all()
    return Lesson(
        study_id=study.id,
        finished=_count_finished(session, study),
        curves=read_curves(session, study, rule, finished),
        fidelity=specs.fidelity(spec),
        maximize=study.maximize,
        rule=rule,
    )


def store(session: Session, learned_from: Lesson, predictor: Predictor | None, now: datetime) -> None:
    """Keep what was learned for the reports to come, unless the study has been deleted meanwhile."""
    study = session.get(StudyRow, learned_from.study_id)
    if study is None:
        return
    runs.lock(session, study)
    document = None if predictor is None else predictor.to_json()
    session.merge(
        PredictorRow(study_id=study.id, finished=learned_from.finished, document=document, at=now)
    )


def read_curves(session: Session, study: StudyRow, rule: Predicted, trials: Sequence[Row[Any]]) -> Curves:
    """The curves of trials (rows with ``id`` and ``params``) at the rule's checks."""
    spec = facts.of(session, study.key).spec
    features = Features.of(specs.space(spec)).encode([trial.params for trial in trials])
    places = {step: place for place, step in enumerate(checks(specs.fidelity(spec), rule))}
    best = np.full((len(trials), len(places)), np.nan)
    newest = best.copy()
    own = {trial.id: place for place, trial in enumerate(trials)}
    for trial_id, step, point in _read_points(session, list(own), list(places)):
        at = own[trial_id], places[step]
        best[at], newest[at] = (np.nan if value is None else value for value in point)
    return Curves(features, best, newest)


def read_outlooks(session: Session, attempts: Collection[Attempt]) -> dict[int, Outlook]:
    """How their studies' models see the trials of these attempts, by trial; three queries for all."""
    if not attempts:
        return {}
    documents = session.execute(
        select(PredictorRow.study_id, PredictorRow.document).where(
            PredictorRow.study_id.in_({attempt.study_id for attempt in attempts})
        )
    )
    predictors = {study_id: Predictor.from_json(document) for study_id, document in documents if document}
    judged = [attempt for attempt in attempts if attempt.study_id in predictors]
    if not judged:
        return {}
    ids = [attempt.trial_id for attempt in judged]
    rows = session.execute(select(TrialRow.id, TrialRow.params).where(TrialRow.id.in_(ids)))
    params = {row.id: row.params for row in rows}
    outlooks: dict[int, Outlook] = {}
    steps: set[int] = set()
    for attempt in judged:
        about = facts.of(session, attempt.study_key)
        assert about.features is not None, "the study has a predicted rule"
        (features,) = about.features.encode([params[attempt.trial_id]])
        outlooks[attempt.trial_id] = Outlook(predictors[attempt.study_id], features)
        steps |= set(predictors[attempt.study_id].checks)
    for trial_id, step, point in _read_points(session, ids, sorted(steps)):
        outlooks[trial_id].curve[step] = point
    return outlooks


def _read_points(
    session: Session, trials: Sequence[int], steps: Sequence[int]
) -> Iterator[tuple[int, int, Point]]:
    """Trial, step and point, wherever one of the trials was measured at one of the steps."""
    points = select(
        MeasurementRow.trial_id, MeasurementRow.step, MeasurementRow.best, MeasurementRow.value
    ).where(MeasurementRow.step.in_(steps))
    for start in range(0, len(trials), TRIALS_PER_QUERY):
        some = MeasurementRow.trial_id.in_(trials[start : start + TRIALS_PER_QUERY])
        for trial_id, step, best, value in session.execute(points.where(some)):
            yield trial_id, step, (best, value)


def _count_finished(session: Session, study: StudyRow) -> int:
    counted = select(func.count()).select_from(TrialRow).where(*_is_finished(session, study))
    return session.scalar(counted) or 0


def _is_finished(session: Session, study: StudyRow) -> tuple[Any, ...]:
    full = facts.of(session, study.key).spec.fidelity.max
    return (
        TrialRow.study_id == study.id,
        TrialRow.parent.is_(None),  # a fork's curve is not what its configuration comes to from the start
        TrialRow.replica_of.is_(None),
        TrialRow.state == TrialState.COMPLETED.value,
        TrialRow.step >= full,
    )
