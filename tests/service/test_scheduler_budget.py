"""Whole studies until their budget is spent, and after it is extended."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from service.db import studies
from service.db.engine import Database
from service.db.models import StudyRow
from service.loops.suggest import Suggest
from tests.service.fake_worker import ENDED, START, FakeWorker, Inline, check_curves, drive, trials_of
from trimtab.wire.views import ExtendRequest


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"fidelity": 35}, None),
        ({"wall_clock_seconds": 15}, "budget spent: 15 seconds of wall clock"),
        ({"gpu_hours": 20 / 3600}, "budget spent"),
        ({"target": 0.3}, "target 0.3 reached"),
    ],
)
def test_a_budget_ends_the_study(
    database: Database, make_study: Any, limits: dict[str, float], reason: str | None
) -> None:
    with database.write() as session:
        make_study(session, strategy={"name": "sobol"}, budget=limits, resources={"cpus": 1, "gpus": 1})
    worker = FakeWorker(database)
    drive(database, worker, Suggest(database, Inline()))
    trials = trials_of(database)
    assert {trial.state for trial in trials} <= ENDED
    check_curves(database)
    with database.read() as session:
        study = session.scalars(select(StudyRow)).one()
        assert study.active_since is None
        if reason is None:
            assert sum(trial.trained for trial in trials) == 30, "a fourth trial needs more than is left"
        else:
            assert study.state_reason.startswith(reason)


def test_an_extended_study_goes_on(database: Database, make_study: Any) -> None:
    with database.write() as session:
        make_study(session, strategy={"name": "asha"}, budget={"trials": 4})
    worker, suggest = FakeWorker(database), Suggest(database, Inline())
    drive(database, worker, suggest)
    with database.write() as session:
        study = session.scalars(select(StudyRow)).one()
        study.spec = study.spec | {"budget": {"trials": 7}}
        study.state, study.version, study.active_since = "running", study.version + 1, START
    drive(database, worker, suggest)
    assert len(trials_of(database)) == 7
    check_curves(database)


@pytest.mark.parametrize("strategy", ["asha", "hyperband", "sobol"])
def test_what_a_spent_budget_interrupts_is_finished_first_when_it_is_extended(
    database: Database, make_study: Any, strategy: str
) -> None:
    with database.write() as session:
        make_study(
            session,
            strategy={"name": strategy},
            budget={"wall_clock_seconds": 17, "trials": 9},
            fidelity={"min": 3, "max": 27},
            parallelism=3,
        )
    worker, suggest = FakeWorker(database), Suggest(database, Inline())
    drive(database, worker, suggest)
    cut = {trial.number: trial for trial in trials_of(database) if trial.step < trial.target_step}
    assert cut
    assert {trial.state for trial in cut.values()} == {"paused"}
    begun = len(worker.started)
    with database.write() as session:
        study = session.scalars(select(StudyRow)).one()
        now = START + timedelta(seconds=1)
        studies.extend(session, study.key, ExtendRequest(wall_clock_seconds=10_000), now)
    drive(database, worker, suggest)
    resumed = worker.started[begun : begun + len(cut)]
    assert {run.trial: run.target_step for run in resumed} == {n: t.target_step for n, t in cut.items()}
    assert all(run.start_step == cut[run.trial].step for run in resumed)
    assert not [trial for trial in trials_of(database) if trial.step < trial.target_step]
    check_curves(database)


def test_a_schedule_that_the_budget_cuts_short_is_named(database: Database, make_study: Any) -> None:
    with database.write() as session:
        make_study(
            session,
            strategy={"name": "lr-schedule"},
            space={"lr": {"type": "float", "low": 1e-4, "high": 1.0, "log": True}},
            fidelity={"min": 1, "max": 60},
            budget={"wall_clock_seconds": 88},
        )
    drive(database, FakeWorker(database), Suggest(database, Inline()))
    last = trials_of(database)[-1]
    assert last.schedule is not None
    assert 45 < last.step < last.schedule[-1][0] == 60
    with database.read() as session:
        assert session.scalars(select(StudyRow)).one().state_reason == (
            f"budget spent: 88 seconds of wall clock; the best trial, {last.number}, "
            f"ended at step {last.step} of a schedule that goes on to 60"
        )
