"""The performance profile of a cross-workload study."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session, aliased

from search import profiles
from service.db import facts
from service.db.models import MeasurementRow, TrialRow
from service.db.reads.studies import find_study
from service.errors import ConflictError
from trimtab.wire.profiles import ProfileBy, ProfiledTrial, ProfiledWorkload, ProfileResponse
from trimtab.wire.states import TrialState


def profile(session: Session, key: str, *, by: ProfileBy = "steps") -> ProfileResponse:
    """Compare the study's trials by their times to the targets of its workloads.

    Raises:
        NotFoundError: there is no such study.
        ConflictError: it is no cross-workload study, or no target has been reached yet.
    """
    study = find_study(session, key)
    trainer = facts.of(session, key).spec.trainer
    if not trainer.workloads:
        raise ConflictError(
            f"A profile compares times to targets on several workloads; this study trains {study.trainer}, "
            "which is no suite."
        )
    newer = aliased(MeasurementRow)
    last = select(func.max(newer.step)).where(newer.trial_id == TrialRow.id).scalar_subquery()
    rows = session.execute(
        select(TrialRow.number, TrialRow.label, TrialRow.state, MeasurementRow.metrics)
        .join(MeasurementRow, and_(MeasurementRow.trial_id == TrialRow.id, MeasurementRow.step == last))
        .where(TrialRow.study_id == study.id)
        .order_by(TrialRow.number)
    ).all()
    names = [workload.name for workload in trainer.workloads]
    times = [[_time(row.metrics, f"{name}/{by}_to_target") for name in names] for row in rows]
    try:
        found = profiles.profiles(times) if rows else []
    except ValueError:
        found = []
    if not found:
        raise ConflictError(
            f"No trial has reached a target yet ({len(rows)} were measured): there is nothing to compare. "
            "The study's score says which come closest."
        )
    trials = [
        ProfiledTrial(
            number=row.number,
            label=row.label,
            state=TrialState(row.state),
            score=each.score,
            reached=sum(math.isfinite(time) for time in own),
            times={name: time for name, time in zip(names, own, strict=True) if math.isfinite(time)},
            points=list(each.points),
        )
        for row, own, each in zip(rows, times, found, strict=True)
    ]
    fastest = [min(range(len(rows)), key=lambda at: times[at][w]) for w in range(len(names))]
    return ProfileResponse(
        study=key,
        by=by,
        tau_max=profiles.TAU_MAX,
        workloads=[
            ProfiledWorkload(
                name=workload.name,
                trainer=workload.trainer,
                target=workload.target,
                steps=workload.steps,
                reached=sum(workload.name in trial.times for trial in trials),
                fastest=trials[best].times.get(workload.name),
                fastest_trial=trials[best].number if workload.name in trials[best].times else None,
            )
            for workload, best in zip(trainer.workloads, fastest, strict=True)
        ],
        trials=sorted(trials, key=lambda trial: (-trial.score, -trial.reached, trial.number)),
    )


def _time(metrics: Mapping[str, Any], name: str) -> float:
    return float(metrics.get(name, math.inf))
