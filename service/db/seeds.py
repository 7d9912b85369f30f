"""What a trial counts with in a study with several tuning seeds: its mean over those that it was trained
with.

The row of a trial keeps it, so that lists, sources and exports need not read curves: ``best_value`` and
``best_step`` are the best of its mean curve once it is completed, ``spread`` how far its seeds lie apart
there. The study's best is the best of the trials that were completed with all of the seeds: a mean over
fewer may be luck.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from search import stopping
from search.replicas import Score, score
from service.db import events, facts
from service.db.models import ImprovementRow, MeasurementRow, StudyRow, TrialRow
from trimtab.wire.states import TrialState


def recount(session: Session, study: StudyRow, ended: TrialRow, now: datetime) -> None:
    """``ended`` has come to its end: count its trial's seeds anew, and move the study's best.

    Does nothing where there is one tuning seed, and for test runs. The study must be locked.
    """
    spec = facts.of(session, study.key).spec
    if not spec.seeds.several or ended.test or ended.parent is not None:
        return
    trial = ended if ended.replica_of is None else _trial(session, study, ended.replica_of)
    if trial.state != TrialState.COMPLETED:
        return
    replicas = session.scalars(
        select(TrialRow)
        .where(TrialRow.study_id == study.id, TrialRow.replica_of == trial.number, ~TrialRow.test)
        .order_by(TrialRow.number)
    ).all()
    whole = [trial, *(replica for replica in replicas if replica.state == TrialState.COMPLETED)]
    failed = any(replica.state == TrialState.FAILED for replica in replicas)
    found = None if failed else score(_curves(session, whole), study.maximize)
    trial.seeds_measured = len(whole)
    trial.best_value = None if found is None else found.mean
    trial.best_step = None if found is None else found.step
    trial.spread = None if found is None else found.spread
    session.flush()
    if found is not None and len(whole) == len(spec.seeds.tuning):
        _improve(session, study, trial, found, now)


def _improve(session: Session, study: StudyRow, trial: TrialRow, found: Score, now: datetime) -> None:
    if not stopping.improves(found.mean, study.best_value, study.maximize):
        return
    study.best_value, study.best_trial_id = found.mean, trial.id
    trained = session.scalar(
        select(func.sum(TrialRow.trained)).where(TrialRow.study_id == study.id, ~TrialRow.test)
    )
    session.add(
        ImprovementRow(
            study_id=study.id,
            trial_number=trial.number,
            step=found.step,
            fidelity=int(trained or 0),
            seconds=(now - study.started_at).total_seconds() if study.started_at else 0.0,
            value=found.mean,
        )
    )
    data = {"value": found.mean, "step": found.step, "seeds": len(found.values)}
    events.append(session, study, "study.best", trial=trial.number, data=data, now=now)


def _trial(session: Session, study: StudyRow, number: int) -> TrialRow:
    return session.scalars(
        select(TrialRow)
        .where(TrialRow.study_id == study.id, TrialRow.number == number)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one()


def _curves(session: Session, trials: Sequence[TrialRow]) -> list[tuple[list[int], list[float]]]:
    """The tuned metric of each trial, NaN where it was not finite."""
    curves: dict[int, tuple[list[int], list[float]]] = {trial.id: ([], []) for trial in trials}
    for trial_id, step, value in session.execute(
        select(MeasurementRow.trial_id, MeasurementRow.step, MeasurementRow.value)
        .where(MeasurementRow.trial_id.in_(curves))
        .order_by(MeasurementRow.step)
    ):
        steps, values = curves[trial_id]
        steps.append(step)
        values.append(math.nan if value is None else value)
    return list(curves.values())
