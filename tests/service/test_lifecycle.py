"""One run from lease to result, on both databases: every way an attempt can end."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from service.db import events, leases, runs, studies, trials
from service.db.engine import Database
from service.db.models import CheckpointRow, ImprovementRow, RunRow, StudyRow, TrialRow
from service.errors import ConflictError, InvalidError, NotFoundError
from tests.service.bench import START, Bench, saved
from tests.service.conftest import study_spec
from trimtab.wire.states import TrialState, Verdict
from trimtab.wire.views import ContinueRequest, EnqueueRequest
from trimtab.wire.work import AskRequest


def test_a_new_trial_waits_with_one_queued_run(database: Database, make_study: Any) -> None:
    with database.write() as session:
        study = make_study(session)
        key = study.key
        first = runs.create_trial(
            session, study, {"lr": 0.1}, target=3, origin="strategy", reason="why", now=START
        )
        second = runs.create_trial(
            session, study, {"lr": 0.2}, target=3, origin="strategy", reason="why", now=START
        )
        assert (first.number, second.number, study.next_trial, study.version) == (1, 2, 3, 3)
    with database.read() as session:
        run = session.scalars(select(RunRow).order_by(RunRow.id)).first()
        assert run is not None
        assert (run.state, run.start_step, run.target_step, run.number) == ("queued", 0, 3, 1)
        kinds = [(e.kind, e.trial) for e in events.read(session, after=0, study_key=key, limit=10)]
        assert kinds == [("trial.queued", 1), ("trial.queued", 2)]


def test_locking_a_study_keeps_what_was_changed_before(database: Database, make_study: Any) -> None:
    with database.write() as session:
        study = make_study(session)
        study.state_reason = "changed"
        runs.lock(session, study)
        assert study.state_reason == "changed"


def test_a_run_from_lease_to_completed(bench: Bench) -> None:
    study = bench.study(parallelism=1)
    (work,) = bench.lease()
    assert (work.trial, work.run, work.start_step, work.target_step, work.max_step) == (1, 1, 0, 10, 10)
    assert (work.metric, work.params, work.checkpoint) == ("loss", {"lr": 0.1}, None)
    bench.now += timedelta(seconds=3)
    assert bench.report(work.token, 1, (1, 3.0), (2, 2.0)) == ("continue", "")
    assert bench.report(work.token, 2, (10, 2.5)) == ("continue", "")
    bench.now += timedelta(seconds=3)
    assert bench.end(work.token, "finished", 10, checkpoint=saved(10)) == (True, "completed")
    trial = bench.get(TrialRow)
    assert (trial.step, trial.value, trial.best_value, trial.best_step) == (10, 2.5, 2.0, 2)
    assert (trial.since_best, trial.points, trial.first_value) == (1, 3, 3.0)
    assert (trial.trained, trial.seconds) == (10, 6.0)
    row = bench.get(StudyRow, id=study)
    assert (row.best_value, row.best_trial_id) == (2.0, trial.id)
    improvements = bench.all(ImprovementRow)
    assert [(i.step, i.value, i.fidelity, i.seconds) for i in improvements] == [(2, 2.0, 2, 3.0)]
    assert bench.get(RunRow).end_step == 10
    assert bench.kinds() == [
        "trial.queued",
        "trial.running",
        "measurements",
        "study.best",
        "measurements",
        "checkpoint.saved",
        "trial.completed",
    ]


def test_a_target_below_the_full_fidelity_pauses_and_goes_on_from_its_checkpoint(bench: Bench) -> None:
    study = bench.study(target=3)
    (work,) = bench.lease()
    bench.report(work.token, 1, (3, 1.0))
    assert bench.end(work.token, "finished", 3, checkpoint=saved(3)) == (True, "paused")
    assert bench.get(CheckpointRow).refs == 1
    with bench.database.write() as session:
        row = session.get_one(StudyRow, study)
        trial = session.scalars(select(TrialRow)).one()
        with pytest.raises(ConflictError, match="trained to step 3"):
            runs.queue_run(session, row, trial, target=3, reason="again", now=bench.now)
        runs.queue_run(session, row, trial, target=20, reason="promoted", now=bench.now)
        with pytest.raises(ConflictError, match="trial 1 is queued: wait for its run"):
            runs.queue_run(session, row, trial, target=30, reason="promoted", now=bench.now)
    assert bench.get(CheckpointRow).refs == 2
    (more,) = bench.lease()
    assert (more.run, more.start_step, more.target_step, more.max_step) == (2, 3, 20, 10)
    assert more.checkpoint is not None
    assert more.checkpoint.uri == "mem://step-3"
    bench.report(more.token, 1, (20, 0.5), checkpoint=saved(20))
    first, second = sorted(bench.all(CheckpointRow), key=lambda c: c.step)
    assert (first.state, second.state, second.refs) == ("garbage", "ready", 2)
    assert bench.end(more.token, "finished", 20) == (True, "completed")
    assert bench.curve(1) == [(3, 1.0), (20, 0.5)]
    assert bench.get(TrialRow).trained == 20


def test_a_person_stops_trials_in_every_state(bench: Bench) -> None:
    bench.study(trials=3, target=3, parallelism=2)
    running, paused = bench.lease(2)
    bench.report(paused.token, 1, (3, 1.0))
    bench.end(paused.token, "finished", 3, checkpoint=saved(3))
    for number in (1, 2, 3):
        bench.wish(number, Verdict.STOP)
    assert [t.state for t in bench.all(TrialRow)] == ["running", "stopped", "stopped"]
    assert bench.get(CheckpointRow).state == "garbage"
    assert bench.report(running.token, 1, (1, 1.0)) == ("stop", "a person")
    assert bench.end(running.token, "finished", 1) == (True, "stopped")
    with pytest.raises(ConflictError, match="trial 1 is stopped"):
        bench.wish(1, Verdict.STOP)
    assert [r.state for r in bench.all(RunRow)] == ["cancelled", "finished", "cancelled"]


def test_a_paused_run_queues_what_is_left(bench: Bench) -> None:
    bench.study(trials=2, parallelism=1)
    (work,) = bench.lease()
    bench.wish(1, Verdict.PAUSE)
    bench.wish(2, Verdict.PAUSE)  # it waits already
    assert bench.report(work.token, 1, (4, 1.0)) == ("pause", "a person")
    assert bench.end(work.token, "finished", 4, checkpoint=saved(4)) == (True, "queued")
    (rest,) = [r for r in bench.all(RunRow, trial_id=1) if r.state == "queued"]
    assert (rest.number, rest.start_step, rest.target_step) == (2, 4, 10)
    assert bench.get(CheckpointRow).refs == 2


def test_training_that_ends_by_itself_is_complete(bench: Bench) -> None:
    bench.study()
    (work,) = bench.lease()
    bench.report(work.token, 1, (4, 1.0))
    assert bench.end(work.token, "finished", 4) == (True, "completed")
    assert "by itself at step 4 of 10" in bench.get(TrialRow).state_reason


def test_the_end_may_bring_the_last_points(bench: Bench) -> None:
    bench.study()
    (work,) = bench.lease()
    last = [{"step": 10, "metrics": {"loss": 0.5}}]
    bench.end(work.token, "finished", 10, seq=1, measurements=last, checkpoint=saved(10))
    assert bench.curve(1) == [(10, 0.5)]
    assert bench.get(CheckpointRow).step == 10


def test_a_failed_trial_gets_a_new_chance_from_a_person(bench: Bench) -> None:
    study = bench.study(retries={"crash": 0})
    (work,) = bench.lease()
    assert bench.fail(work.token, "crash") == (True, "failed")
    with bench.database.write() as session:
        trial = session.scalars(select(TrialRow)).one()
        row = session.get_one(StudyRow, study)
        runs.queue_run(session, row, trial, target=10, reason="a person", now=bench.now)
        assert (trial.state, trial.failure_kind, trial.ended_at) == (TrialState.QUEUED, None, None)
    (work,) = bench.lease()
    bench.report(work.token, 1, (10, 1.0))
    assert bench.end(work.token, "finished", 10) == (True, "completed")


def test_a_completed_trial_is_trained_on_beyond_the_full_fidelity_again_and_again(bench: Bench) -> None:
    study = bench.study(parallelism=1)
    with bench.database.read() as session:
        key = session.get_one(StudyRow, study).key
    start = 0
    for target in (10, 14, 25):
        if start:
            with bench.database.write() as session:
                trials.train_on(session, key, 1, ContinueRequest(target_step=target), bench.now)
        (work,) = bench.lease()
        assert (work.start_step, work.target_step, work.max_step) == (start, target, 10)
        bench.report(work.token, 1, (target, 1.0))
        assert bench.end(work.token, "finished", target, checkpoint=saved(target)) == (True, "completed")
        start = target
    assert [step for step, _ in bench.curve(1)] == [10, 14, 25]
    assert bench.get(TrialRow).trained == 25


def test_ask_and_tell(bench: Bench) -> None:
    study = bench.study(trials=2, trainer={"name": "external"}, parallelism=1)
    key = bench.get(StudyRow, id=study).key
    assert bench.lease() == []  # not for dispatchers

    def ask() -> Any:
        with bench.database.write() as session:
            return leases.ask(session, key, AskRequest(), bench.now)

    work = ask().assignment
    assert (work.trial, work.lease_seconds) == (1, None)
    nothing = ask()
    assert (nothing.assignment, nothing.reason) == (None, "all 1 slots of the study are taken")
    bench.report(work.token, 1, (5, 1.0))
    with pytest.raises(InvalidError) as refused:
        bench.report(work.token, 2, (6, 1.0), (6, 1.0))
    assert refused.value.errors[0].pointer == "/reports/0/measurements/1/step"
    late = [{"step": 5, "metrics": {"loss": 1.0}}]
    with pytest.raises(InvalidError) as refused:
        bench.end(work.token, "finished", 10, measurements=late)
    assert refused.value.errors[0].pointer == "/measurements/0/step"
    assert bench.report(work.token, 2, (6, 1.0))[0] == "continue"
    bench.now += timedelta(days=365)
    with bench.database.write() as session:
        assert leases.expire(session, bench.now) == 0
    assert bench.end(work.token, "finished", 10) == (True, "completed")
    assert ask().assignment.trial == 2
    with bench.database.write() as session:
        session.get_one(StudyRow, study).state = "paused"
    assert ask().reason == "the study is paused"
    with pytest.raises(NotFoundError), bench.database.write() as session:
        leases.ask(session, "nothing", AskRequest(), bench.now)


def test_both_ways_to_enqueue_a_trial_to_its_end_say_so(bench: Bench) -> None:
    spec = study_spec(enqueue=[{"params": {"lr": 0.1}, "to_end": True}, {"params": {"lr": 0.2}}])
    with bench.database.write() as session:
        studies.create(session, spec, key="s", now=bench.now)
        for to_end in (True, False):
            trials.enqueue(session, "s", EnqueueRequest(params={"lr": 0.3}, to_end=to_end), bench.now)
    assert [trial.to_end for trial in bench.all(TrialRow)] == [True, False, True, False]
