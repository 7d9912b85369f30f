"""Studies that cannot go well: what the service answers."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from service.db.engine import Database
from service.db.models import DecisionRow, StudyRow, TrialRow
from service.loops.suggest import Suggest
from service.loops.upkeep import Complete
from tests.service.bench import Bench
from tests.service.fake_worker import START, FakeWorker, Inline, drive, trials_of


@pytest.mark.parametrize("strategy", ["asha", "curve-bo", "hyperband", "sobol"])
def test_a_budget_smaller_than_one_rung_ends_the_study_with_a_reason(
    database: Database, make_study: Any, strategy: str
) -> None:
    with database.write() as session:
        make_study(
            session,
            strategy={"name": strategy},
            fidelity={"unit": "steps", "min": 10, "max": 90},
            budget={"fidelity": 5},
        )
    suggest, complete = Suggest(database, Inline()), Complete(database)
    for _ in range(3):
        suggest.tick(START)
        complete.tick(START)
    with database.read() as session:
        study = session.scalars(select(StudyRow)).one()
        assert study.state == "completed"
        assert study.state_reason.startswith("5 steps are left of the budget, a new trial needs ")
        assert session.scalars(select(DecisionRow.kind)).all() == ["finish"]
        assert not session.scalars(select(TrialRow)).all()


@pytest.mark.parametrize("strategy", ["curve-bo", "sobol"])
def test_a_space_of_one_legal_point_is_tried_once_and_to_the_end(
    database: Database, make_study: Any, strategy: str
) -> None:
    lr = {"type": "float", "low": 0.001, "high": 1.0, "log": True}
    with database.write() as session:
        make_study(
            session,
            strategy={"name": strategy},
            space={"lr": lr, "n": {"type": "int", "low": 1, "high": 9}},
            constraints=["lr == 0.01", "n <= 1"],
        )
    drive(database, FakeWorker(database), Suggest(database, Inline()), rounds=60)
    (trial,) = trials_of(database)
    assert trial.params == {"lr": 0.01, "n": 1}
    assert (trial.state, trial.step) == ("completed", 10)


def test_a_metric_that_is_not_there_at_the_first_rung_fails_with_what_to_do(bench: Bench) -> None:
    bench.study(strategy={"name": "asha"}, target=3)
    (lease,) = bench.lease(1)
    bench.report(lease.token, 1, measurements=[{"step": 3, "metrics": {"accuracy": 0.5}}])
    assert bench.end(lease.token, "finished", 3) == (True, "failed")
    message = bench.get(TrialRow, number=1).failure_message
    assert "'loss' was not reported up to step 3, where the trial was to pause" in message
    assert "fidelity.min" in message
