"""Attempts that fail, vanish or are given back, and what is tried again."""

from __future__ import annotations

from datetime import timedelta

import pytest

from service.db import leases
from service.db.models import CheckpointRow, RunRow, StudyRow, TrialRow
from service.errors import ConflictError
from tests.service.bench import Bench, saved
from trimtab.wire.work import RegisterRequest


def test_a_lease_that_runs_out_is_retried_from_the_newest_checkpoint(bench: Bench) -> None:
    bench.study(retries={"lost": 1})
    (work,) = bench.lease()
    bench.report(work.token, 1, (1, 5.0), (2, 4.0), checkpoint=saved(2))
    bench.report(work.token, 2, (3, 3.0))
    bench.now += timedelta(seconds=29)
    with bench.database.write() as session:
        assert leases.expire(session, bench.now) == 0
    bench.now += timedelta(seconds=2)
    with bench.database.write() as session:
        assert leases.expire(session, bench.now) == 1
    assert bench.report(work.token, 3, (4, 0.0))[0] == "lost"  # a zombie
    (again,) = bench.lease()
    assert (again.run, again.start_step, again.token > work.token) == (1, 2, True)
    bench.report(again.token, 1, (3, 99.0), (4, 2.0))
    assert bench.curve(1) == [(1, 5.0), (2, 4.0), (3, 3.0), (4, 2.0)]
    trial = bench.get(TrialRow)
    assert (trial.trained, trial.retries, trial.failures) == (5, 1, {"lost": 1})
    bench.now += timedelta(seconds=60)
    with bench.database.write() as session:
        assert leases.expire(session, bench.now) == 1
    trial = bench.get(TrialRow)
    assert (trial.state, trial.failure_kind) == ("failed", "lost")
    assert bench.get(CheckpointRow).state == "garbage"


def test_a_dispatcher_that_starts_again_loses_its_attempts_at_once(bench: Bench) -> None:
    bench.study(trials=2)
    (mine,) = bench.lease()
    (other,) = bench.lease(worker="other")
    request = RegisterRequest(worker="w", incarnation="2")
    with bench.database.write() as session:
        leases.register(session, request, bench.now)
    assert bench.report(mine.token, 1)[0] == "lost"
    assert bench.report(other.token, 1)[0] == "continue"
    with pytest.raises(ConflictError, match="another process has registered"):
        bench.lease()
    (again,) = bench.lease(incarnation="2")
    assert again.trial == mine.trial
    with bench.database.write() as session:
        leases.register(session, request, bench.now)  # saying hello twice loses nothing
    assert bench.report(again.token, 1)[0] == "continue"


@pytest.mark.parametrize(
    ("kind", "allowed"), [("crash", 1), ("out_of_memory", 2), ("hang", 0), ("diverged", 0), ("invalid", 0)]
)
def test_failures_are_retried_by_kind(bench: Bench, kind: str, allowed: int) -> None:
    bench.study(retries={"crash": 1, "out_of_memory": 2, "hang": 0})
    for _ in range(allowed):
        (work,) = bench.lease()
        assert bench.fail(work.token, kind) == (True, "queued")
    (work,) = bench.lease()
    assert bench.fail(work.token, kind) == (True, "failed")
    trial = bench.get(TrialRow)
    assert (trial.failure_kind, trial.failure_message) == (kind, f"it was {kind}")
    assert (trial.failure_output, trial.retries) == ("last words", allowed)
    assert trial.failures == {kind: allowed + 1}
    assert bench.get(RunRow).state == "failed"
    assert bench.lease() == []


def test_a_released_run_is_queued_again_at_no_cost(bench: Bench) -> None:
    bench.study(retries={"lost": 0, "crash": 0})
    for _ in range(3):
        (work,) = bench.lease()
        assert bench.end(work.token, "released", 0) == (True, "queued")
    trial = bench.get(TrialRow)
    assert (trial.retries, trial.failures) == (0, {})


def test_a_worker_that_must_start_from_nothing_repeats_the_steps_behind_it(bench: Bench) -> None:
    """Its checkpoint is damaged: the steps it repeats keep their first measurement, and are paid for."""
    bench.study()
    (work,) = bench.lease()
    bench.report(work.token, 1, (1, 5.0), (2, 4.0), (3, 3.0), checkpoint=saved(3))
    bench.end(work.token, "released", 3)
    (again,) = bench.lease()
    assert again.start_step == 3
    assert bench.report(again.token, 1, (1, 9.0), (2, 9.0)) == ("continue", "")
    assert bench.get(TrialRow).trained == 3 + 2
    assert bench.report(again.token, 2, (3, 9.0), (4, 2.0)) == ("continue", "")
    assert bench.curve(1) == [(1, 5.0), (2, 4.0), (3, 3.0), (4, 2.0)]
    assert bench.get(TrialRow).trained == 3 + 4
    # From then on steps must grow again.
    assert bench.report(again.token, 3, (2, 9.0))[0] == "stop"


def test_an_attempt_that_started_from_nothing_and_measured_nothing_is_paid_for(bench: Bench) -> None:
    bench.study()
    (work,) = bench.lease()
    bench.report(work.token, 1, (4, 3.0), checkpoint=saved(4))
    bench.end(work.token, "released", 4)
    (again,) = bench.lease()
    assert bench.end(again.token, "released", 3) == (True, "queued")
    assert bench.get(TrialRow).trained == 4 + 3


def test_a_study_whose_every_trial_fails_stops_itself(bench: Bench) -> None:
    study = bench.study(trials=8, parallelism=2, retries={"crash": 0})
    for _ in range(4):
        (work,) = bench.lease()
        bench.fail(work.token, "crash")
    fifth, sixth = bench.lease(2)
    bench.fail(fifth.token, "invalid")
    row = bench.get(StudyRow, id=study)
    assert row.state == "failed"
    assert "5 trials failed and none has measured anything" in row.state_reason
    assert bench.report(sixth.token, 1)[0] == "pause"
    assert bench.end(sixth.token, "finished", 0) == (True, "queued")
    assert bench.lease() == []


def test_one_measurement_gives_a_study_hope(bench: Bench) -> None:
    study = bench.study(trials=8, parallelism=1, retries={"crash": 0})
    for number in range(8):
        (work,) = bench.lease()
        if number == 0:
            bench.report(work.token, 1, (1, 1.0))
        bench.fail(work.token, "crash")
    assert bench.get(StudyRow, id=study).state == "running"
