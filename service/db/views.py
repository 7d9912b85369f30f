"""The study as search sees it, without what was measured with test seeds, read in four queries (three more
for each earlier study that it learns from) however many trials there are.

Curves are most of the data and only ever grow, so a process that builds one view after another hands the
same :class:`Curves` in: it keeps what it has read and asks for new points alone.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, or_, select
from sqlalchemy.orm import Session

from search.pruning import Pruning
from search.replicas import told
from search.view import ACTIVE, StudyView, TrialView
from service import specs
from service.db import budget, sources
from service.db.models import CheckpointRow, MeasurementRow, StudyRow, TrialRow
from service.db.reads.studies import find_study
from trimtab.wire.states import CheckpointState
from trimtab.wire.study import StudySpec

TRIALS_PER_QUERY = 250
"""Trials whose new points one query asks for; SQLite allows expressions 1,000 deep."""


@dataclass(frozen=True, slots=True)
class Curve:
    """The measurements of a trial, as far as they have been read."""

    mark: tuple[Any, ...] = ()
    """Columns of the trial that every new measurement moves: while they stand, the curve is whole."""
    steps: tuple[int, ...] = ()
    values: tuple[float, ...] = ()
    """NaN for every non-finite measurement."""
    bests: tuple[float, ...] = ()
    """The best value so far that keeps the study's limits, NaN before there is one."""
    seconds: float = 0.0
    """Of training up to the newest measurement, as it says; 0 if it does not."""


class Curves:
    """Learning curves read so far, by study and trial. Not shared between threads."""

    def __init__(self) -> None:
        self._studies: dict[int, dict[int, Curve]] = {}

    def read(self, session: Session, study_id: int, trials: Sequence[Row[Any]]) -> dict[int, Curve]:
        """The curves of ``trials`` by trial id; only points that were not seen before are queried."""
        kept = self._studies.setdefault(study_id, {})
        marks = {trial.id: (trial.points, trial.step) for trial in trials}
        grown = [key for key, mark in marks.items() if kept.get(key, Curve()).mark != mark]
        for start in range(0, len(grown), TRIALS_PER_QUERY):
            _read_on(session, grown[start : start + TRIALS_PER_QUERY], kept)
        for key in grown:
            kept[key] = replace(kept.get(key, Curve()), mark=marks[key])
        return kept

    def forget_all_but(self, studies: Collection[int]) -> None:
        """Free the curves of every other study."""
        for study_id in self._studies.keys() - set(studies):
            del self._studies[study_id]


def build(
    session: Session, study: StudyRow, curves: Curves | None = None, *, now: datetime | None = None
) -> StudyView:
    """The view of ``study`` as it stands in this transaction.

    ``curves`` is what earlier calls have read; without it every curve is read. What is left of budgets of
    time is told as of ``now``; without it, not at all.
    """
    spec = StudySpec.model_validate(study.spec)
    parts = specs.view_parts(spec)
    rows = session.execute(
        select(
            TrialRow.id,
            TrialRow.number,
            TrialRow.params,
            TrialRow.state,
            TrialRow.step,
            TrialRow.first_target,
            TrialRow.target_step,
            TrialRow.failure_kind,
            TrialRow.origin,
            TrialRow.points,
            TrialRow.outcomes,
            TrialRow.seconds,
            TrialRow.parent,
            TrialRow.forked_at,
            TrialRow.schedule,
            TrialRow.seed,
            TrialRow.replica_of,
            TrialRow.spared,
        )
        .where(TrialRow.study_id == study.id, ~TrialRow.test)
        .order_by(TrialRow.number)
    ).all()
    saved: dict[int, set[int]] = {row.number: set() for row in rows}
    for number, step in session.execute(
        select(TrialRow.number, CheckpointRow.step)
        .join(TrialRow, TrialRow.id == CheckpointRow.trial_id)
        .where(TrialRow.study_id == study.id, ~TrialRow.test, CheckpointRow.state == CheckpointState.READY)
    ):
        saved[number].add(step)
    read = (curves or Curves()).read(session, study.id, rows)
    return replace(
        parts,
        trials=families(
            TrialView(
                number=row.number,
                params=row.params,
                status=row.state,
                steps=read[row.id].steps,
                values=read[row.id].values,
                bests=read[row.id].bests if parts.limits else (),
                outcomes=_finite(row.outcomes),
                # Scripts do not time themselves; what held resources counts once nothing is under way.
                seconds=read[row.id].seconds or (0.0 if row.state in ACTIVE else row.seconds),
                step=row.step,
                first_target=row.first_target,
                target=row.target_step,
                # The user's own loop may keep states that the service knows nothing of, or start anew.
                resumable=study.external or _resumable(row, saved),
                failure=row.failure_kind,
                origin=row.origin,
                parent=row.parent,
                forked_at=row.forked_at,
                checkpoints=tuple(sorted(saved[row.number])),
                schedule=tuple((int(step), rate) for step, rate in row.schedule or ()),
                seed=row.seed,
                replica_of=row.replica_of,
                spared=row.spared is not None,
            )
            for row in rows
        ),
        budget=budget.left(session, study, now),
        sources=sources.read(session, spec),
        pruning=None if study.pruning is None else Pruning.from_json(study.pruning),
    )


def families(everything: Iterable[TrialView]) -> tuple[TrialView, ...]:
    """Trials and replicas, in order of number, as trials with their replicas."""
    replicas: dict[int, list[TrialView]] = defaultdict(list)
    trials = []
    for trial in everything:
        if trial.replica_of is None:
            trials.append(trial)
        else:
            replicas[trial.replica_of].append(trial)
    return tuple(
        replace(trial, replicas=tuple(replicas[trial.number])) if trial.number in replicas else trial
        for trial in trials
    )


def _resumable(trial: Row[Any], saved: Mapping[int, Collection[int]]) -> bool:
    """Whether a run of the trial can start where the trial stands; ``saved``: checkpoints' steps by trial.

    An interrupted one goes on from wherever its newest checkpoint stands.
    """
    own = saved[trial.number]
    if own:
        return trial.step in own or trial.step < trial.target_step
    if trial.parent is None:
        return bool(trial.step == 0)
    start_left = trial.forked_at in saved[trial.parent]
    return start_left and (trial.step == trial.forked_at or trial.step < trial.target_step)


def _finite(outcomes: dict[str, Any] | None) -> dict[str, float]:
    """Stored outcomes as search has them: NaN for what is not finite."""
    return {
        name: math.nan if isinstance(value, str) else float(value)
        for name, value in (outcomes or {}).items()
    }


def of_study(session: Session, key: str) -> tuple[int, StudyView]:
    """The version of the study with this id, and its view as strategies see it: means over seeds.

    Raises :class:`~service.errors.NotFoundError` if there is none.
    """
    study = find_study(session, key)
    return study.version, told(build(session, study))


def _read_on(session: Session, trials: Sequence[int], kept: dict[int, Curve]) -> None:
    """Put the points of ``trials`` behind their last known steps into ``kept``."""
    unseen = or_(
        *(
            and_(MeasurementRow.trial_id == key, MeasurementRow.step > kept[key].steps[-1])
            if key in kept and kept[key].steps
            else MeasurementRow.trial_id == key
            for key in trials
        )
    )
    points: dict[int, tuple[list[int], list[float], list[float]]] = {}
    newest: dict[int, float] = {}
    for key, step, value, best, seconds in session.execute(
        select(
            MeasurementRow.trial_id,
            MeasurementRow.step,
            MeasurementRow.value,
            MeasurementRow.best,
            MeasurementRow.seconds,
        )
        .where(unseen)
        .order_by(MeasurementRow.trial_id, MeasurementRow.step)
    ):
        steps, values, bests = points.setdefault(key, ([], [], []))
        steps.append(step)
        values.append(math.nan if value is None else value)
        bests.append(math.nan if best is None else best)
        newest[key] = seconds or 0.0
    for key, (steps, values, bests) in points.items():
        known = kept.get(key, Curve())
        kept[key] = replace(
            known,
            steps=known.steps + tuple(steps),
            values=known.values + tuple(values),
            bests=known.bests + tuple(bests),
            seconds=newest[key],
        )
