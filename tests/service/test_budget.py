"""What a study has used of its budget, and when that ends it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from search.view import BudgetLeft
from service.db import budget, completion, ends, leases, runs, views
from service.db.engine import Database
from service.db.models import AttemptRow, RunRow, StudyRow, TrialRow
from service.db.waiting import waiting_for
from service.loops.upkeep import Heartbeat
from trimtab.wire.work import Capacity, RegisterRequest

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def add_trial(session: Session, study: StudyRow, *, target: int = 10, **columns: Any) -> TrialRow:
    origin = columns.pop("origin", "strategy")
    trial = runs.create_trial(
        session, study, {"lr": 0.1}, target=target, origin=origin, reason="test", now=NOW
    )
    for name, value in columns.items():
        setattr(trial, name, value)
    session.flush()
    return trial


def add_attempt(session: Session, trial: TrialRow, started_at: datetime) -> None:
    run = session.scalars(select(RunRow).where(RunRow.trial_id == trial.id)).one()
    run.state = trial.state = "running"
    session.add(
        AttemptRow(
            study_id=trial.study_id,
            trial_id=trial.id,
            run_id=run.id,
            state="active",
            worker="w",
            incarnation="i",
            start_step=0,
            last_step=0,
            started_at=started_at,
        )
    )
    session.flush()


def test_each_limit_is_counted_without_imported_trials(database: Database, make_study: Any) -> None:
    limits = {"trials": 10, "fidelity": 100, "gpu_hours": 2.0, "wall_clock_seconds": 60, "target": 0.5}
    with database.write() as session:
        study = make_study(session, budget=limits, resources={"gpus": 0.5})
        add_trial(session, study, trained=30, seconds=3600.0)
        add_trial(session, study, trained=10, origin="imported")
        add_attempt(session, add_trial(session, study), NOW)
        study.active_seconds = 10.0
        study.best_value = 0.75
        later = NOW + timedelta(seconds=20)
        used = {use.name: (use.used, use.fraction) for use in budget.use(session, study, later)}
    assert used == {
        "trials": (2, 0.2),
        "fidelity": (30, 0.3),
        "gpu_hours": (pytest.approx(3620 / 3600 / 2), pytest.approx(3620 / 3600 / 4)),
        "wall_clock_seconds": (30.0, 0.5),
        "target": (0.75, 0.0),
    }


def test_time_in_a_pause_is_not_counted(database: Database, make_study: Any) -> None:
    with database.write() as session:
        study = make_study(session, budget={"wall_clock_seconds": 60})
        study.active_seconds, study.active_since = 10.0, None
        assert budget.elapsed_seconds(study, NOW + timedelta(days=1)) == 10.0
        assert budget.over(session, study, NOW + timedelta(days=1)) is None


@pytest.mark.parametrize(
    ("limits", "columns", "reason"),
    [
        ({"trials": 1}, {}, None),
        ({"fidelity": 31}, {}, None),
        ({"fidelity": 30}, {}, "budget spent: 30 units of fidelity"),
        ({"gpu_hours": 0.01}, {}, "budget spent: 0.01 GPU-hours"),
        ({"wall_clock_seconds": 100}, {"active_seconds": 99.0}, None),
        (
            {"wall_clock_seconds": 100},
            {"active_seconds": 100.0},
            "budget spent: 100 seconds of wall clock",
        ),
        ({"target": 0.5}, {"best_value": 0.51}, None),
        ({"target": 0.5}, {"best_value": 0.5}, "target 0.5 reached: loss is 0.5"),
        ({"target": 0.5}, {"best_value": 0.6, "maximize": True}, "target 0.5 reached: loss is 0.6"),
    ],
)
def test_over(
    database: Database, make_study: Any, limits: dict[str, Any], columns: dict[str, Any], reason: str | None
) -> None:
    with database.write() as session:
        study = make_study(session, budget=limits, resources={"gpus": 1})
        add_trial(session, study, trained=30, seconds=72.0)
        for name, value in columns.items():
            setattr(study, name, value)
        session.flush()
        assert budget.over(session, study, NOW) == reason


def test_what_is_left_takes_promised_units_off(database: Database, make_study: Any) -> None:
    with database.write() as session:
        study = make_study(session, budget={"trials": 10, "fidelity": 100})
        add_trial(session, study, target=10, trained=4, step=4)
        add_trial(session, study, target=7)
        ended = add_trial(session, study, target=10, trained=10, step=10)
        runs.end_trial(session, study, ended, runs.TrialState.STOPPED, reason="test", now=NOW)
        left = budget.left(session, study)
    assert (left.trials, left.fidelity) == (7, 100 - 14 - 6 - 7)


def test_what_is_left_of_time(database: Database, make_study: Any) -> None:
    """A wall clock's seconds, and GPU-hours over the GPUs of a run; nothing if not asked as of when."""
    limits = {"gpu_hours": 2.0, "wall_clock_seconds": 60}
    with database.write() as session:
        study = make_study(session, budget=limits, resources={"gpus": 0.5})
        add_trial(session, study, seconds=3600.0)
        add_attempt(session, add_trial(session, study), NOW)
        study.active_seconds = 10.0
        later = NOW + timedelta(seconds=20)
        left = budget.left(session, study, later)
        assert (left.trials, left.fidelity, left.clock) == (None, None, 30.0)
        assert left.seconds == pytest.approx(4 * 3600 - 3620)
        assert budget.left(session, study) == BudgetLeft()
        assert views.build(session, study, now=later).budget == left
        over = budget.left(session, study, NOW + timedelta(days=1))
        assert (over.seconds, over.clock) == (0.0, 0.0)


def test_no_limit_leaves_none(database: Database, make_study: Any) -> None:
    with database.write() as session:
        left = budget.left(session, make_study(session, budget={"target": 0.0}))
    assert (left.trials, left.fidelity) == (None, None)


def test_a_spent_budget_pauses_what_is_active_and_completes(database: Database, make_study: Any) -> None:
    with database.write() as session:
        study = make_study(session, budget={"fidelity": 30})
        paused = add_trial(session, study, trained=10, step=10)
        run = session.scalars(select(RunRow)).one()
        run.state, paused.state = "finished", "paused"
        running = add_trial(session, study, trained=20)
        add_attempt(session, running, NOW)
        queued = add_trial(session, study)
        assert completion.over_budget(session, NOW) == [study.id]
        assert not completion.wind_up(session, study.id, NOW)
        session.refresh(queued)
        assert (paused.state, running.state, queued.state) == ("paused", "running", "paused")
        wished = session.scalars(select(RunRow).where(RunRow.trial_id == running.id)).one()
        assert (wished.wish, wished.wish_reason) == ("pause", "budget spent: 30 units of fidelity")
        assert not completion.wind_up(session, study.id, NOW)

        wished.state = "finished"
        runs.end_trial(session, study, running, runs.TrialState.STOPPED, reason="told to", now=NOW)
        ended = NOW + timedelta(seconds=5)
        assert completion.wind_up(session, study.id, ended)
        assert (study.state, study.state_reason) == ("completed", "budget spent: 30 units of fidelity")
        assert (study.active_seconds, study.active_since, study.ended_at) == (5.0, None, ended)
        assert completion.over_budget(session, NOW) == []
        assert not completion.wind_up(session, study.id, NOW)


def test_time_without_a_scheduler_does_not_count(database: Database, make_study: Any) -> None:
    def beat(seconds: float, incarnation: str = "1") -> None:
        heartbeat = Heartbeat(database, name="scheduler@here", incarnation=incarnation)
        heartbeat.tick(NOW + timedelta(seconds=seconds))

    def elapsed(seconds: float) -> float:
        with database.read() as session:
            study = session.scalars(select(StudyRow).order_by(StudyRow.id)).first()
            assert study is not None
            return budget.elapsed_seconds(study, NOW + timedelta(seconds=seconds))

    with database.write() as session:
        make_study(session, budget={"wall_clock_seconds": 60})
    beat(5)  # the first scheduler there is
    assert elapsed(7) == 2
    beat(14)
    assert elapsed(14) == 9
    beat(3600, incarnation="2")
    assert elapsed(3600) == 9
    with database.write() as session:
        make_study(session, budget={"wall_clock_seconds": 60}).active_since = NOW + timedelta(seconds=4000)
    beat(7200, incarnation="3")
    assert elapsed(7201) == 10
    with database.read() as session:
        second = session.scalars(select(StudyRow).order_by(StudyRow.id.desc())).first()
        assert second is not None
        assert budget.elapsed_seconds(second, NOW + timedelta(seconds=7203)) == 3


def test_a_lost_attempt_has_held_its_gpus_no_longer_than_its_lease(
    database: Database, make_study: Any
) -> None:
    with database.write() as session:
        study = make_study(session, budget={"gpu_hours": 2}, resources={"gpus": 1})
        trial = add_trial(session, study)
        add_attempt(session, trial, NOW)
        attempt = session.scalars(select(AttemptRow)).one()
        attempt.lease_expires_at = NOW + timedelta(seconds=36)
        later = NOW + timedelta(hours=10)
        (use,) = budget.use(session, study, later)
        assert use.used == pytest.approx(0.01)
        ends.lose(session, attempt, "gone", later)
        assert trial.seconds == 36


def test_a_study_says_what_it_waits_for(database: Database, make_study: Any) -> None:
    def register(worker: str, **total: float) -> None:
        request = RegisterRequest(worker=worker, incarnation="1", total=Capacity(**total))
        leases.register(session, request, NOW)

    with database.write() as session:
        study = make_study(session, resources={"cpus": 2, "gpus": 1, "custom": {"tpu": 0.5}})
        external = make_study(session, trainer={"name": "external"})
        assert waiting_for(session, study, NOW) == "no dispatcher is running"
        assert waiting_for(session, external, NOW) is None
        register("small", cpus=1)
        register("large", cpus=4)
        assert waiting_for(session, study, NOW) == (
            "no worker can hold a trial: it needs cpus 2, gpus 1, tpu 0.5; "
            "the largest worker offers cpus 4, gpus 0"
        )
        assert waiting_for(session, study, NOW + timedelta(minutes=1)) == "no dispatcher is running"
        leases.register(
            session,
            RegisterRequest(
                worker="large", incarnation="1", total=Capacity(cpus=4, gpus=2, custom={"tpu": 1})
            ),
            NOW,
        )
        assert waiting_for(session, study, NOW) is None
        study.state = "paused"
        assert waiting_for(session, study, NOW + timedelta(minutes=1)) is None
