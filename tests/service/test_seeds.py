"""Studies with tuning seeds and test seeds: what is trained with which seed, what counts, and the end."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from search.decide import decide
from search.replicas import due, told
from service.db import budget, decisions, reads, studies, tested, trials, views
from service.db.engine import Database
from service.db.models import DecisionRow, MeasurementRow, StudyRow, TrialRow
from service.db.reads.replay import answers
from service.errors import ConflictError, InvalidError
from service.loops.suggest import Suggest
from service.loops.upkeep import Complete
from service.replay import differences
from tests.service.fake_worker import (
    ENDED,
    ROUND,
    START,
    FakeWorker,
    Inline,
    SeededWorker,
    drive,
    loss,
    trials_of,
)
from trimtab.wire.views import ContinueRequest, EnqueueRequest, ExtendRequest, ForkRequest
from trimtab.wire.work import Assignment

TUNING, TEST = [3, 4, 5], [100, 101]
SEEDS = {"tuning": TUNING, "test": TEST, "finalists": 2}


@pytest.fixture
def seeded(database: Database, make_study: Any) -> str:
    with database.write() as session:
        made = make_study(session, strategy={"name": "random"}, budget={"trials": 6}, seeds=SEEDS)
        return str(made.key)


def rounds(database: Database, worker: FakeWorker, now: Any, count: int) -> Any:
    """So many rounds of everything, each time with a new scheduler: it remembers nothing."""
    for _ in range(count):
        now += ROUND
        Suggest(database, Inline()).tick(now)
        suggest = Suggest(database, Inline())
        suggest.tick(now)
        suggest.tick(now)
        worker.round(now)
        Complete(database).tick(now)
    return now


def test_a_study_with_seeds_from_beginning_to_end(database: Database, seeded: str) -> None:
    worker = SeededWorker(database)
    drive(database, worker, Suggest(database, Inline()))
    every = trials_of(database)
    configurations = [trial for trial in every if trial.replica_of is None]
    assert len(configurations) == 6, "the budget of trials counts configurations"
    assert {trial.seed for trial in configurations} == {TUNING[0]}
    seeds: dict[int, list[int]] = defaultdict(list)
    for trial in every:
        assert trial.state == "completed"
        seeds[trial.replica_of or trial.number].append(trial.seed)
        if trial.replica_of is not None:
            assert trial.params == every[trial.replica_of - 1].params
    whole = {number for number, own in seeds.items() if set(TUNING) <= set(own)}
    assert len(whole) >= 2
    for number, own in seeds.items():
        tuned = [seed for seed in own if seed not in TEST]
        assert tuned == TUNING[: len(tuned)], "one after another, none twice"
        trial = every[number - 1]
        assert trial.seeds_measured == len(tuned)
        assert (trial.spared is None) == (len(tuned) == len(TUNING)), trial.spared
        expected = [
            loss(trial.params["lr"], 10) + 0.01 * math.sin(s + 7 * trial.params["lr"]) for s in tuned
        ]
        assert trial.best_value == pytest.approx(sum(expected) / len(expected))
    runs = [trial for trial in every if trial.test]
    assert len(runs) == 4
    best = sorted(whole, key=lambda number: every[number - 1].best_value)[:2]
    assert {trial.replica_of for trial in runs} == set(best)
    assert {number: sorted(s for s in seeds[number] if s in TEST) for number in best} == dict.fromkeys(
        best, TEST
    )
    with database.read() as session:
        study = session.scalars(select(StudyRow)).one()
        assert study.best_trial_id == every[best[0] - 1].id
        found = reads.study_detail(session, seeded, START).finals
        assert found is not None
        assert found.winner == found.scores[0].trial
        assert (found.planned, found.trained) == (40, 40)
        for score in found.scores:
            values = [
                loss(score.params["lr"], 10) + 10 + 0.01 * math.sin(s + 7 * score.params["lr"])
                for s in TEST
            ]
            mean = sum(values) / 2
            assert score.mean == pytest.approx(mean)
            assert score.low is not None
            assert score.high is not None
            # Two values: 12.706 standard errors to both sides.
            assert score.high - mean == pytest.approx(12.7062 * abs(values[0] - values[1]) / 2, rel=1e-4)
        best_trial = reads.best(session, seeded)
        assert best_trial is not None
        assert best_trial.number == found.winner
        assert best_trial.final is not None
        assert best_trial.value < 10 < best_trial.final.mean
        (use,) = budget.use(session, study, START)
        assert use.used == 6
        started = session.scalar(select(func.sum(TrialRow.trained)).where(~TrialRow.test))
        assert reads.study_detail(session, seeded, START).savings.trained == started


def test_search_never_sees_a_test_seed(database: Database, seeded: str) -> None:
    drive(database, SeededWorker(database), Suggest(database, Inline()))
    with database.read() as session:
        view = views.build(session, session.scalars(select(StudyRow)).one())
        measured = session.scalars(select(MeasurementRow.value)).all()
        asked = [answered.view for answered in answers(session, seeded)]
        spent = session.scalar(select(func.count()).where(DecisionRow.kind == "repeat"))
    assert any(value is not None and value > 9 for value in measured), "tests were measured"
    assert spent
    for each in (view, *asked, told(view)):
        for trial in each.everything:
            assert trial.seed in TUNING
            assert all(value < 9 for value in trial.values)


def test_every_decision_can_be_made_again(database: Database, seeded: str) -> None:
    drive(database, SeededWorker(database), Suggest(database, Inline()))
    with database.read() as session:
        every = list(answers(session, seeded))
    kinds = {kind for answered in every for kind, *_ in answered.decisions}
    assert {"launch", "repeat", "finish"} <= kinds
    for answered in every:
        assert differences(answered, decide(answered.view, answered.slots, answered.seed)) == []


def until_tested(database: Database, worker: FakeWorker) -> Any:
    """Run until test runs are being trained; the moment."""
    now = START
    suggest = Suggest(database, Inline())
    for _ in range(500):
        now += ROUND
        suggest.tick(now)
        worker.round(now)
        Complete(database).tick(now)
        with database.read() as session:
            testing = select(TrialRow.id).where(
                TrialRow.test, TrialRow.state == "running", TrialRow.step > 2
            )
            if session.scalar(testing.limit(1)) is not None:
                return now
    raise AssertionError("nothing is tested")


def test_a_scheduler_and_a_worker_that_die_among_the_tests(database: Database, seeded: str) -> None:
    now = until_tested(database, SeededWorker(database))
    other = SeededWorker(database, name="other")  # the first one is not heard of any more
    from service.loops.upkeep import Reap

    for _ in range(200):
        now += ROUND
        Reap(database).tick(now)
        now = rounds(database, other, now, 1)
        with database.read() as session:
            if session.scalars(select(StudyRow.state)).one() == "completed":
                break
    runs = [trial for trial in trials_of(database) if trial.test]
    assert [(trial.state, trial.step) for trial in runs] == [("completed", 10)] * 4
    assert any(trial.failures for trial in runs), "the first worker's runs were lost"
    with database.read() as session:
        found = reads.study_detail(session, seeded, now).finals
    assert found is not None
    assert found.winner


def test_pause_and_resume_among_the_tests(database: Database, seeded: str) -> None:
    worker = SeededWorker(database)
    now = until_tested(database, worker)
    with database.write() as session:
        studies.pause(session, seeded, now)
    now = rounds(database, worker, now, 5)
    assert all(trial.state in ("queued", "completed") for trial in trials_of(database) if trial.test)
    before = sum(trial.trained for trial in trials_of(database))
    now = rounds(database, worker, now, 5)
    assert sum(trial.trained for trial in trials_of(database)) == before
    with database.write() as session:
        studies.resume(session, seeded, now)
    now = rounds(database, worker, now, 40)
    runs = [trial for trial in trials_of(database) if trial.test]
    assert [(trial.state, trial.step, trial.trained) for trial in runs] == [("completed", 10, 10)] * 4
    with database.read() as session:
        assert session.scalars(select(StudyRow.state)).one() == "completed"


def test_cancel_among_the_tests(database: Database, seeded: str) -> None:
    worker = SeededWorker(database)
    now = until_tested(database, worker)
    with database.write() as session:
        studies.cancel(session, seeded, now)
    rounds(database, worker, now, 5)
    assert {trial.state for trial in trials_of(database)} <= ENDED
    with database.read() as session:
        detail = reads.study_detail(session, seeded, now)
    assert detail.finals is not None
    assert detail.finals.winner is None
    assert detail.best is not None
    assert detail.best.final is None, "a score that is not whole is not final"


@pytest.mark.parametrize("moment", ["among the tests", "after them"])
def test_an_extended_study_is_searched_on_and_tests_nothing_twice(
    database: Database, seeded: str, moment: str
) -> None:
    worker = SeededWorker(database)
    if moment == "among the tests":
        now = until_tested(database, worker)
    else:
        now = drive(database, worker, Suggest(database, Inline()))
    with database.write() as session:
        studies.extend(session, seeded, ExtendRequest(trials=9), now)
    now = rounds(database, worker, now, 150)
    every = trials_of(database)
    assert sum(trial.replica_of is None for trial in every) == 9
    assert len({(t.replica_of, t.seed) for t in every if t.test}) == sum(t.test for t in every)
    with database.read() as session:
        detail = reads.study_detail(session, seeded, now)
    assert detail.state == "completed"
    assert detail.finals is not None
    assert [len(score.seeds) for score in detail.finals.scores] == [2, 2]
    assert detail.finals.winner is not None


@pytest.mark.parametrize("limits", [{"fidelity": 120}, {"wall_clock_seconds": 40}])
def test_the_tests_come_when_any_budget_is_spent_and_are_not_paid_from_it(
    database: Database, make_study: Any, limits: dict[str, float]
) -> None:
    with database.write() as session:
        key = make_study(session, strategy={"name": "sobol"}, budget=limits, seeds=SEEDS).key
    drive(database, SeededWorker(database), Suggest(database, Inline()))
    every = trials_of(database)
    assert sum(trial.trained for trial in every if not trial.test) <= limits.get("fidelity", 1000)
    assert [trial.step for trial in every if trial.test] == [10] * 4
    with database.read() as session:
        detail = reads.study_detail(session, key, START)
        assert detail.budget[0].used <= 120 + 1 or "wall_clock_seconds" in limits
    assert detail.finals is not None
    assert detail.finals.winner is not None


def test_one_tuning_seed_and_test_seeds(database: Database, make_study: Any) -> None:
    seeds = {"training": 7, "test": [100, 101, 102], "finalists": 1}
    with database.write() as session:
        key = make_study(session, strategy={"name": "random"}, budget={"trials": 4}, seeds=seeds).key
    worker = SeededWorker(database)
    drive(database, worker, Suggest(database, Inline()))
    every = trials_of(database)
    assert [trial.replica_of is None for trial in every] == [True] * 4 + [False] * 3
    assert [assignment.training_seed for assignment in worker.started] == [7] * 4 + [100, 101, 102]
    best = min(every[:4], key=lambda trial: trial.best_value)
    with database.read() as session:
        found = reads.best(session, key)
    assert found is not None
    assert found.number == best.number
    assert found.final is not None
    assert len(found.final.seeds) == 3


class Diverging(SeededWorker):
    """With tuning seed 4 the best configuration diverges; with test seed 101 nothing is measured well."""

    def value(self, assignment: Assignment, step: int) -> float:
        lr = assignment.params["lr"]
        assert isinstance(lr, float)
        if (assignment.training_seed == 4 and lr < 0.011) or assignment.training_seed == 101:
            return math.nan
        return super().value(assignment, step)


def test_a_configuration_that_diverges_with_a_seed_is_not_recommended(
    database: Database, make_study: Any
) -> None:
    rates = (0.01, 0.02, 0.03)
    with database.write() as session:
        study = make_study(
            session,
            strategy={"name": "random"},
            budget={"trials": 3},
            seeds=SEEDS,
            enqueue=[{"params": {"lr": lr}} for lr in rates],
        )
        key = study.key
        for lr in rates:
            trials.enqueue(session, key, EnqueueRequest(params={"lr": lr}), START)
    drive(database, Diverging(database), Suggest(database, Inline()))
    first, *_ = every = trials_of(database)
    assert first.best_value is None
    assert [t.state for t in every if t.replica_of == 1] == ["failed"]
    with database.read() as session:
        view = views.build(session, session.scalars(select(StudyRow)).one())
        detail = reads.study_detail(session, key, START)
    seen = told(view).trials[0]
    assert (seen.status, seen.failure) == ("failed", "diverged")
    assert detail.finals is not None
    assert [score.trial for score in detail.finals.scores] == [2, 3]
    assert [[seed.value is None for seed in s.seeds] for s in detail.finals.scores] == [[False, True]] * 2
    assert detail.finals.scores[0].low is None, "one seed has no interval"
    # A person mends the trainer and retries the test runs alone: search stays over.
    failed = [trial.number for trial in every if trial.test and trial.state == "failed"]
    now = START + timedelta(hours=1)
    with database.write() as session:
        for number in failed:
            trials.retry(session, key, number, now)
    now = rounds(database, SeededWorker(database, name="mended"), now, 30)
    assert len(trials_of(database)) == len(every)
    with database.read() as session:
        detail = reads.study_detail(session, key, now)
    assert detail.state == "completed"
    assert detail.finals is not None
    assert all(seed.value is not None for score in detail.finals.scores for seed in score.seeds)


def test_test_seeds_stay_out_of_the_search(database: Database, seeded: str) -> None:
    drive(database, SeededWorker(database), Suggest(database, Inline()))
    every = trials_of(database)
    test = next(trial for trial in every if trial.test)
    replica = next(trial for trial in every if trial.replica_of and not trial.test)
    with database.write() as session:
        with pytest.raises(ConflictError, match=f"fork trial {test.replica_of}"):
            trials.fork(session, seeded, test.number, ForkRequest(target_step=20), START)
        with pytest.raises(InvalidError) as refused:
            trials.fork(session, seeded, 1, ForkRequest(seed=101, target_step=20), START)
        assert refused.value.errors[0].pointer == "/seed"
        for number in (test.number, replica.number, 1):
            with pytest.raises(ConflictError, match="other seeds"):
                trials.train_on(session, seeded, number, ContinueRequest(target_step=20), START)


def test_a_seed_of_a_trial_is_never_trained_twice(database: Database, seeded: str) -> None:
    """Two schedulers answer the same question: the second answer is refused."""
    worker = SeededWorker(database)
    now = START
    suggest = Suggest(database, Inline())
    for _ in range(100):
        now += ROUND
        with database.read() as session:
            study = session.scalars(select(StudyRow)).one()
            view = views.build(session, study)
            question = decisions.question(session, study.id, curves=views.Curves(), attempt=0, now=now)
        if question is not None and due(view, 1):
            break
        suggest.tick(now)
        worker.round(now)
    assert question is not None
    answer = decide(question.view, question.slots, question.seed)
    for expected in (True, False):
        with database.write() as session:
            assert decisions.apply(session, question, answer, seconds=0, now=now) is expected


def test_lists_leave_replicas_out_when_asked(database: Database, seeded: str) -> None:
    drive(database, SeededWorker(database), Suggest(database, Inline()))
    with database.read() as session:
        every = reads.list_trials(session, seeded, limit=100).items
        own = reads.list_trials(session, seeded, limit=100, replicas=False, sort="best").items
        lines = reads.curves(session, seeded)
        detail = reads.trial_detail(session, seeded, own[0].number)
        finalists = tested.read(session, session.scalars(select(StudyRow)).one())
    assert [item.number for item in own if item.replica_of is not None] == []
    assert len(every) > len(own) == 6
    assert {line.number for line in lines} == {item.number for item in own}
    assert [seed.seed for seed in detail.tuning_seeds] == TUNING
    assert [seed.seed for seed in detail.test_seeds] == TEST
    assert all(len(seed.steps) == 10 for seed in detail.tuning_seeds)
    mean = sum(seed.value or 0 for seed in detail.tuning_seeds) / 3
    assert detail.best_value == pytest.approx(mean)
    assert finalists[0].missing == 0
