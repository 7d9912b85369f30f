"""The end of a study with test seeds: its best few are trained with those, and only that score is final.

When search is over, one transaction writes into ``StudyRow.finals`` why, and which trials are tested, and
queues a replica of each for each test seed; from then on search is asked nothing. When none of them is
active any more, another transaction names the winner and completes the study. A study that is extended, or
in which a person queues something, is searched again: ``finals`` is emptied, what was tested stays, and is
not trained again if its trial is among the best few once more.

The score of a finalist is the metric's mean over test seeds at the step at which its mean on the tuning
seeds was best. That step was chosen without them, so the score is no better for having been looked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from search.replicas import Interval, finalists, interval
from service.db import events, facts, runs, views
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


def begin(session: Session, study: StudyRow, reason: str, now: datetime) -> None:
    """Search is over, for ``reason``: queue the test runs of the best few. The study must be locked."""
    spec = facts.of(session, study.key).spec
    chosen = finalists(views.build(session, study))
    known = {(row.replica_of, row.seed) for row in _replicas(session, study, [one.trial for one in chosen])}
    study.finals = {
        "reason": reason,
        "finalists": [
            {"trial": one.trial, "step": one.score.step, "tuning": one.score.mean} for one in chosen
        ],
        "winner": None,
    }
    data = {
        "reason": reason,
        "finalists": [one.trial for one in chosen],
        "seeds": spec.seeds.test,
        "units": len(chosen) * len(spec.seeds.test) * spec.fidelity.max,
    }
    events.append(session, study, "study.testing", data=data, now=now)
    session.flush()
    # Seed by seed: if the study is cancelled half-way, all finalists have been tested alike.
    for seed in spec.seeds.test:
        for one in chosen:
            if (one.trial, seed) in known:
                continue
            trial = session.scalars(
                select(TrialRow).where(TrialRow.study_id == study.id, TrialRow.number == one.trial)
            ).one()
            runs.create_trial(
                session,
                study,
                trial.params,
                target=spec.fidelity.max,
                origin="strategy",
                to_end=True,
                reason=f"trial {one.trial} with test seed {seed}: {one.reason}",
                now=now,
                replica=runs.Replica(one.trial, seed, test=True),
            )


def conclude(session: Session, study: StudyRow) -> str:
    """All test runs have ended: name the winner; why the study is complete, in words. It must be locked."""
    assert study.finals is not None, "the study is being tested"
    reason = str(study.finals["reason"])
    ranked = read(session, study)
    best = ranked[0] if ranked and ranked[0].score is not None else None
    if best is None:
        nothing = "no trial was there to be tested" if not ranked else "no test run was measured"
        return f"{reason}; {nothing}"
    assert best.score is not None
    study.finals = {**study.finals, "winner": best.trial.number, "mean": best.score.mean}
    session.flush()
    count = len(ranked)
    return f"{reason}; trial {best.trial.number} is the best on test seeds" + (
        f" of {count} finalists" if count > 1 else ""
    )


def search_on(study: StudyRow) -> None:
    """Search is not over after all. The study must be locked."""
    study.finals = None


def read(session: Session, study: StudyRow) -> list[Tested]:
    """The finalists, the best on test seeds first; those that lack a seed, or all, come last."""
    if study.finals is None:
        return []
    chosen: list[dict[str, Any]] = study.finals["finalists"]
    numbers = [one["trial"] for one in chosen]
    spec = facts.of(session, study.key).spec
    replicas = {(row.replica_of, row.seed): row for row in _replicas(session, study, numbers)}
    trials = {
        row.number: row
        for row in session.scalars(
            select(TrialRow).where(TrialRow.study_id == study.id, TrialRow.number.in_(numbers))
        )
    }
    values = _values(session, replicas.values(), [one["step"] for one in chosen])
    tested = []
    for one in chosen:
        own = [replicas[one["trial"], seed] for seed in spec.seeds.test if (one["trial"], seed) in replicas]
        tests = tuple(
            Test(row, values.get((row.id, one["step"])) if row.state == TrialState.COMPLETED else None)
            for row in own
        )
        tested.append(Tested(trials[one["trial"]], one["step"], one["tuning"], tests))

    def rank(each: Tested) -> tuple[int, float, int]:
        found = each.score
        loss = 0.0 if found is None else -found.mean if study.maximize else found.mean
        return each.missing, loss, each.trial.number

    return sorted(tested, key=rank)


def _replicas(session: Session, study: StudyRow, numbers: list[int]) -> list[TrialRow]:
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
