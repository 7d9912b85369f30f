"""Building the view that search decides from."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Double, cast, insert, literal, select, true
from sqlalchemy.orm import Session

from service.db import views
from service.db.engine import Database
from service.db.models import CheckpointRow, MeasurementRow, StudyRow, TrialRow
from tests.service.conftest import statements_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def add_trials(session: Session, study: StudyRow, count: int, points: int) -> None:
    """Paused trials with curves of ``points`` points; trial n's value at step s is n + 1/s."""
    session.execute(
        insert(TrialRow),
        [
            {
                "study_id": study.id,
                "number": number,
                "state": "paused",
                "params": {"lr": 0.1},
                "origin": "strategy",
                "first_target": points,
                "target_step": points,
                "step": points,
                "points": points,
                "runs": 1,
                "failures": {},
                "created_at": NOW,
            }
            for number in range(1, count + 1)
        ],
    )
    steps = select(literal(1).label("step")).cte(recursive=True)
    steps = steps.union_all(select(steps.c.step + 1).where(steps.c.step < points))
    values = {
        "trial_id": TrialRow.id,
        "study_id": TrialRow.study_id,
        "step": steps.c.step,
        "value": TrialRow.number + cast(1.0, Double) / steps.c.step,
        "metrics": literal({}, MeasurementRow.metrics.type),
        "at": literal(NOW, MeasurementRow.at.type),
    }
    curves = select(*values.values()).join(steps, true()).where(TrialRow.study_id == study.id)
    session.execute(insert(MeasurementRow).from_select([*values], curves))


def add_points(session: Session, trial: TrialRow, first: int, last: int) -> None:
    session.execute(
        insert(MeasurementRow),
        [
            {
                "trial_id": trial.id,
                "study_id": trial.study_id,
                "step": step,
                "value": trial.number + 1 / step,
                "metrics": {},
                "at": NOW,
            }
            for step in range(first, last + 1)
        ],
    )
    trial.step = last
    trial.points += last - first + 1
    session.flush()


def add_checkpoint(session: Session, trial: TrialRow, step: int, state: str) -> None:
    session.add(
        CheckpointRow(
            study_id=trial.study_id, trial_id=trial.id, token=1, step=step, uri="u", state=state, at=NOW
        )
    )
    session.flush()


def test_a_view_holds_the_whole_study(database: Database, make_study: Any) -> None:
    with database.write() as session:
        other = make_study(session)
        add_trials(session, other, 1, 2)
        study = make_study(
            session,
            metric={"name": "acc", "direction": "maximize"},
            strategy={"name": "random"},
            budget={"trials": 5, "fidelity": 100},
            seeds={"search": 7},
            parallelism=3,
        )
        add_trials(session, study, 3, 2)
        first, second, third = session.scalars(select(TrialRow).where(TrialRow.study_id == study.id))
        add_checkpoint(session, first, 2, "ready")
        add_checkpoint(session, first, 2, "ready")
        add_checkpoint(session, second, 1, "ready")
        add_checkpoint(session, third, 2, "garbage")
        session.add(
            MeasurementRow(
                trial_id=third.id, study_id=study.id, step=3, value=None, metrics={"acc": "NaN"}, at=NOW
            )
        )
        third.points += 1
        third.state, third.failure_kind, third.step, third.origin = "failed", "diverged", 3, "enqueued"
        third.target_step = 9
        session.flush()
        view = views.build(session, study)

    assert (view.strategy, view.maximize, view.parallelism, view.seed) == ("random", True, 3, 7)
    assert (view.fidelity.max, view.fidelity.unit) == (10, "steps")
    assert (view.budget.trials, view.budget.fidelity) == (2, 100)
    assert [trial.number for trial in view.trials] == [1, 2, 3]
    assert [trial.resumable for trial in view.trials] == [True, False, False]
    assert view.trials[0].steps == (1, 2)
    assert view.trials[0].values == (2.0, 1.5)
    diverged = view.trials[2]
    assert (diverged.status, diverged.failure, diverged.origin) == ("failed", "diverged", "enqueued")
    assert (diverged.first_target, diverged.target, diverged.step) == (2, 9, 3)
    assert diverged.steps == (1, 2, 3)
    assert math.isnan(diverged.values[2])


def test_kept_curves_give_the_same_view_as_fresh_ones(database: Database, make_study: Any) -> None:
    curves = views.Curves()
    with database.write() as session:
        study = make_study(session)
        add_trials(session, study, 3, 5)
        assert views.build(session, study, curves) == views.build(session, study)
        second = session.scalars(select(TrialRow).where(TrialRow.number == 2)).one()
        add_points(session, second, 6, 9)
        grown = views.build(session, study, curves)
        assert grown == views.build(session, study)
        assert grown.trials[1].steps == tuple(range(1, 10))
        curves.forget_all_but(set())
        assert views.build(session, study, curves) == grown


def test_two_thousand_trials_take_few_queries_and_then_only_what_is_new(
    database: Database, make_study: Any, record_property: Any
) -> None:
    curves = views.Curves()
    with database.write() as session:
        study = make_study(session)
        add_trials(session, study, 2_000, 100)
    with statements_of(database) as statements:
        for kind in ("cold", "warm"):
            with database.read() as session:
                study = session.scalars(select(StudyRow)).one()
                statements.clear()
                start = time.perf_counter()
                view = views.build(session, study, curves)
                record_property(f"{kind}_seconds", time.perf_counter() - start)
                print(kind, time.perf_counter() - start)
            assert sum(len(trial.steps) for trial in view.trials) == 200_000
            measured = [statement for statement in statements if "FROM measurements" in statement]
            assert len(measured) == (2_000 // views.TRIALS_PER_QUERY if kind == "cold" else 0)
            assert len(statements) - len(measured) <= 4
