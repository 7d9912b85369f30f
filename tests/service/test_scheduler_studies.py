"""Whole studies: real search, real databases, a fake worker."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from service.db import ends, events, leases
from service.db.engine import Database
from service.db.models import AttemptRow, DecisionRow, StudyRow, TrialRow
from service.loops.suggest import Suggest
from service.loops.upkeep import Complete, Reap
from tests.service.fake_worker import ENDED, START, FakeWorker, Inline, check_curves, drive, trials_of
from trimtab.wire.states import FailureKind
from trimtab.wire.work import Capacity, EndRequest, Failure, LeaseRequest


def test_sobol_trains_every_trial_to_the_end(database: Database, make_study: Any) -> None:
    with database.write() as session:
        make_study(session, strategy={"name": "sobol"}, budget={"trials": 9})
    drive(database, FakeWorker(database), Suggest(database, Inline()))
    trials = trials_of(database)
    assert [trial.state for trial in trials] == ["completed"] * 9
    assert len({trial.params["lr"] for trial in trials}) == 9
    check_curves(database)
    with database.read() as session:
        study = session.scalars(select(StudyRow)).one()
        assert study.state_reason == "the budget of trials is spent"
        best = session.get_one(TrialRow, study.best_trial_id)
        assert best.best_value == min(trial.best_value for trial in trials if trial.best_value is not None)
        kinds = session.scalars(select(DecisionRow.kind).order_by(DecisionRow.id)).all()
        assert kinds == ["launch"] * 9 + ["finish"]


@pytest.mark.parametrize("strategy", ["asha", "hyperband"])
def test_early_stopping_pauses_promotes_and_ends(
    database: Database, make_study: Any, strategy: str
) -> None:
    with database.write() as session:
        make_study(
            session,
            strategy={"name": strategy},
            fidelity={"min": 1, "max": 9},
            budget={"trials": 18},
            parallelism=4,
        )
    worker = FakeWorker(database)
    drive(database, worker, Suggest(database, Inline()))
    trials = trials_of(database)
    assert len(trials) == 18
    assert {trial.state for trial in trials} <= ENDED
    assert any(trial.state == "completed" for trial in trials)
    assert sum(trial.trained for trial in trials) < 18 * 9, "something was stopped early"
    check_curves(database)
    resumed = [a for a in worker.started if a.run > 1]
    assert resumed
    assert all(a.checkpoint is not None and a.checkpoint.step == a.start_step > 0 for a in resumed)
    with database.read() as session:
        decided = session.scalars(select(DecisionRow)).all()
        assert {row.kind for row in decided} >= {"launch", "continue", "finish"}
        assert all(row.reason for row in decided)


def test_a_wide_space_is_searched_legally_and_ties_are_scaled_for_the_worker(
    database: Database, make_study: Any
) -> None:
    space = {
        "lr": {
            "type": "float",
            "low": 0.001,
            "high": 1.0,
            "log": True,
            "belief": {"near": 0.01, "factor": 3},
            "tie": {"to": "batch", "at": 256, "rule": "linear"},
        },
        "batch": {"type": "ordered", "values": [128, 256, 512]},
        "mix": {"type": "simplex", "parts": ["web", "code", "books"]},
        "beta": {"type": "fixed", "value": 0.9, "tie": {"to": "batch", "at": 256, "rule": "one-minus"}},
    }
    rules = {
        "constraints": ["mix/web == 2 * mix/code", "0.001 * batch + lr <= 1"],
        "forbid": [{"batch": 512, "lr": {"below": 0.01}}],
    }
    with database.write() as session:
        make_study(session, strategy={"name": "asha"}, space=space, budget={"trials": 12}, **rules)
    worker = FakeWorker(database)
    drive(database, worker, Suggest(database, Inline()))
    trials = {trial.number: trial for trial in trials_of(database)}
    assert len(trials) == 12
    for trial in trials.values():
        assert trial.params["mix/web"] == pytest.approx(2 * trial.params["mix/code"], abs=4e-6)
        assert not (trial.params["batch"] == 512 and trial.params["lr"] < 0.01)
    for started in worker.started:
        searched = trials[started.trial].params
        assert started.params["lr"] == pytest.approx(searched["lr"] * searched["batch"] / 256)
        assert searched["beta"] == 0.9
        assert started.params["beta"] == pytest.approx(1 - 0.1 * searched["batch"] / 256)
        assert started.params["mix/web"] == searched["mix/web"]


def test_the_same_history_gives_the_same_decisions(databases: Any, make_study: Any) -> None:
    seen = []
    for _ in range(2):
        database = Database(databases.url("sqlite"))
        with database.write() as session:
            make_study(session, strategy={"name": "asha"}, budget={"trials": 8}, seeds={"search": 5})
        drive(database, FakeWorker(database), Suggest(database, Inline()))
        with database.read() as session:
            columns = (DecisionRow.kind, DecisionRow.seed, DecisionRow.reason, DecisionRow.version)
            decided = [tuple(row) for row in session.execute(select(*columns).order_by(DecisionRow.id))]
        seen.append((decided, [trial.params for trial in trials_of(database)]))
        database.dispose()
    assert seen[0] == seen[1]


@pytest.mark.parametrize("strategy", ["sobol", "asha"])
def test_two_schedulers_start_no_trial_twice(database: Database, make_study: Any, strategy: str) -> None:
    with database.write() as session:
        make_study(session, strategy={"name": strategy}, budget={"trials": 12}, parallelism=3)
    worker = FakeWorker(database)
    drive(database, worker, Suggest(database, Inline()), Suggest(database, Inline()))
    trials = trials_of(database)
    assert [trial.number for trial in trials] == list(range(1, 13))
    check_curves(database)
    with database.read() as session:
        launched = session.scalars(select(DecisionRow.trial_id).where(DecisionRow.kind == "launch")).all()
    assert sorted(launched) == [trial.id for trial in trials]


def test_a_study_that_measured_nothing_has_failed(database: Database, make_study: Any) -> None:
    with database.write() as session:
        make_study(session, strategy={"name": "sobol"}, budget={"trials": 2})
    suggest, complete = Suggest(database, Inline()), Complete(database)
    failure = Failure(kind=FailureKind.INVALID, message="there is no such script")
    lease = LeaseRequest(worker="worker", incarnation="1", free=Capacity(cpus=8, gpus=8), max_runs=8)
    for _ in range(4):
        suggest.tick(START)
        suggest.tick(START)
        with database.write() as session:
            for run in leases.lease(session, lease, START).assignments:
                request = EndRequest(token=run.token, outcome="failed", step=0, failure=failure)
                ends.end(session, request, START)
        complete.tick(START)
    with database.read() as session:
        study = session.scalars(select(StudyRow)).one()
        assert study.state == "failed"
        assert "nothing was measured; the last trial to fail: invalid, there is no such script" in (
            study.state_reason
        )
        assert events.read(session, after=0, study_key=study.key, limit=100)[-1].kind == "study.failed"


def test_a_silent_workers_runs_are_trained_again(database: Database, make_study: Any) -> None:
    with database.write() as session:
        make_study(session, strategy={"name": "sobol"}, budget={"trials": 4})
    suggest = Suggest(database, Inline())
    silent = FakeWorker(database, "silent")
    for _ in range(3):
        suggest.tick(START)
        silent.round(START)
    Reap(database).tick(START + timedelta(seconds=31))
    with database.read() as session:
        assert set(session.scalars(select(AttemptRow.state))) == {"lost"}
    drive(database, FakeWorker(database), suggest)
    assert [trial.state for trial in trials_of(database)] == ["completed"] * 4
    check_curves(database)
