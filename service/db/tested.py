"""The final scores of a study that was tested: what its finalists came to on the test seeds.

The score of a finalist is the metric's mean over test seeds at the step at which its mean on the tuning
seeds was best. That step was chosen without them, so the score is no better for having been looked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from search.replicas import Interval, interval
from service.db import facts
from service.db.models import MeasurementRow, StudyRow, TrialRow
from trimtab.wire.states import TrialState


@dataclass(frozen=True, slots=True)
class Test:
    """The training of a finalist with one test seed."""

    trial: TrialRow
    value: float | None
    """The metric at the finalist's step; None: not measured there (yet), or not finite."""


@dataclass(frozen=True, slots=True)
class Tested:
    """A finalist with its test runs, in the order of the study's test seeds."""

    trial: TrialRow
    step: int
    """Where its mean on the tuning seeds is best, and where it is judged."""
    tuning: float
    """The metric's mean there over the tuning seeds."""
    tests: tuple[Test, ...]

    @property
    def score(self) -> Interval | None:
        """Over the seeds that have a value; None: none has."""
        values = [test.value for test in self.tests if test.value is not None]
        return interval(values) if values else None

    @property
    def missing(self) -> int:
        """Test seeds without a value."""
        return sum(test.value is None for test in self.tests)


def read(session: Session, study: StudyRow) -> list[Tested]:
    """The finalists, the best on test seeds first; those that lack a seed, or all, come last."""
    if study.finals is None:
        return []
    chosen: list[dict[str, Any]] = study.finals["finalists"]
    numbers = [one["trial"] for one in chosen]
    spec = facts.of(session, study.key).spec
    found = {(row.replica_of, row.seed): row for row in replicas(session, study, numbers)}
    trials = {
        row.number: row
        for row in session.scalars(
            select(TrialRow).where(TrialRow.study_id == study.id, TrialRow.number.in_(numbers))
        )
    }
    values = _values(session, found.values(), [one["step"] for one in chosen])
    finalists = []
    for one in chosen:
        own = [found[one["trial"], seed] for seed in spec.seeds.test if (one["trial"], seed) in found]
        tests = tuple(
            Test(row, values.get((row.id, one["step"])) if row.state == TrialState.COMPLETED else None)
            for row in own
        )
        finalists.append(Tested(trials[one["trial"]], one["step"], one["tuning"], tests))

    def rank(each: Tested) -> tuple[int, float, int]:
        score = each.score
        loss = 0.0 if score is None else -score.mean if study.maximize else score.mean
        return each.missing, loss, each.trial.number

    return sorted(finalists, key=rank)


def replicas(session: Session, study: StudyRow, numbers: list[int]) -> list[TrialRow]:
    """The test runs of the trials with these numbers, in order of number."""
    return list(
        session.scalars(
            select(TrialRow)
            .where(TrialRow.study_id == study.id, TrialRow.replica_of.in_(numbers), TrialRow.test)
            .order_by(TrialRow.number)
        )
    )


def _values(
    session: Session, trials: Iterable[TrialRow], steps: list[int]
) -> dict[tuple[int, int], float | None]:
    """The tuned metric by trial id and step."""
    rows = session.execute(
        select(MeasurementRow.trial_id, MeasurementRow.step, MeasurementRow.value).where(
            MeasurementRow.trial_id.in_([trial.id for trial in trials]), MeasurementRow.step.in_(steps)
        )
    )
    return {(row.trial_id, row.step): row.value for row in rows}
