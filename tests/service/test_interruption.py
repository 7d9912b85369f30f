"""Trials that a spent budget interrupts, and what an extended one makes of them."""

from __future__ import annotations

from datetime import timedelta

from search.decide import decide
from service.db import completion, decisions, leases, studies, views
from service.db.models import CheckpointRow, StudyRow, TrialRow
from tests.service.bench import Bench, saved
from trimtab.wire.views import ExtendRequest

SPENT = {"wall_clock_seconds": 60}


def interrupt_all(bench: Bench, study: int) -> None:
    """The budget is spent, and whoever trains is told so."""
    bench.now += timedelta(seconds=60)
    with bench.database.write() as session:
        completion.wind_up(session, study, bench.now)


def test_a_trial_keeps_its_state_when_the_budget_is_spent_and_goes_on_if_it_is_extended(
    bench: Bench,
) -> None:
    study = bench.study(trials=2, parallelism=1, budget=SPENT)
    key = bench.get(StudyRow).key
    (work,) = bench.lease()
    bench.report(work.token, 1, (4, 1.0))
    interrupt_all(bench, study)
    assert bench.report(work.token, 2) == ("pause", "budget spent: 60 seconds of wall clock")
    assert bench.end(work.token, "finished", 5, checkpoint=saved(5)) == (True, "paused")
    with bench.database.write() as session:
        assert completion.wind_up(session, study, bench.now)
    assert bench.get(StudyRow).state == "completed"
    assert [(t.state, t.step, t.target_step) for t in bench.all(TrialRow)] == [
        ("paused", 4, 10),
        ("paused", 0, 10),
    ]
    assert bench.get(CheckpointRow).state == "ready"

    with bench.database.write() as session:
        studies.extend(session, key, ExtendRequest(wall_clock_seconds=120), bench.now)
        view = views.build(session, session.get_one(StudyRow, study))
        assert [(t.interrupted, t.resumable) for t in view.trials] == [(True, True), (True, True)]
        answer = decide(view, 1, 0)
        assert [(d.trial, d.target) for d in answer.decisions] == [(1, 10)]
        question = decisions.Question(study, session.get_one(StudyRow, study).version, 0, view, 1, 0, 0)
        assert decisions.apply(session, question, answer, seconds=0.0, now=bench.now)
    (more,) = bench.lease()
    assert (more.trial, more.start_step, more.target_step) == (1, 5, 10)


def test_a_budget_extended_before_a_trial_has_obeyed_lets_it_go_on(bench: Bench) -> None:
    study = bench.study(budget=SPENT)
    (work,) = bench.lease()
    bench.report(work.token, 1, (4, 1.0))
    interrupt_all(bench, study)
    with bench.database.write() as session:
        studies.extend(
            session, session.get_one(StudyRow, study).key, ExtendRequest(wall_clock_seconds=120), bench.now
        )
    assert bench.end(work.token, "finished", 4, checkpoint=saved(4)) == (True, "queued")


def test_a_trial_that_is_lost_when_the_budget_is_spent_is_paused_too(bench: Bench) -> None:
    study = bench.study(budget=SPENT)
    (work,) = bench.lease()
    bench.report(work.token, 1, (4, 1.0), checkpoint=saved(3))
    interrupt_all(bench, study)
    with bench.database.write() as session:
        leases.expire(session, bench.now)
        assert completion.wind_up(session, study, bench.now)
        view = views.build(session, session.get_one(StudyRow, study))
    assert (bench.get(TrialRow).state, view.trials[0].resumable) == ("paused", True)


def test_a_trial_is_interrupted_without_a_single_measurement(bench: Bench) -> None:
    study = bench.study(budget=SPENT)
    (work,) = bench.lease()
    interrupt_all(bench, study)
    assert bench.end(work.token, "finished", 2, checkpoint=saved(2)) == (True, "paused")
