"""Forked trials: where they start, what they hold on to, what they cost, and what judges them."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from search.decision import Answer, Continue, Fork, Launch, Stop
from service import specs
from service.db import (
    budget,
    checkpoints,
    completion,
    decisions,
    leases,
    reads,
    reports,
    runs,
    studies,
    trials,
    views,
)
from service.db.models import CheckpointRow, DecisionRow, RunRow, StudyRow, TrialRow
from service.errors import ConflictError, InvalidError, NotFoundError
from tests.service.bench import Bench, saved
from tests.service.conftest import study_spec
from trimtab.wire.states import Verdict
from trimtab.wire.views import ForkRequest, ScheduleView
from trimtab.wire.work import Assignment, ReportsRequest

PBT = {"strategy": {"name": "pbt", "options": {"population": 2, "interval": 2}}}


def run(bench: Bench, *steps: int, end: bool = True, **more: Any) -> Assignment:
    """Lease the next run, measure it at these steps, and save at the last of them."""
    (work,) = bench.lease()
    for seq, step in enumerate(steps, start=1):
        bench.report(work.token, seq, (step, 10.0 / step))
    if end:
        uri = f"mem://{work.trial}/{steps[-1]}"
        bench.end(work.token, "finished", steps[-1], checkpoint=saved(steps[-1], uri), **more)
    return work


def fork(bench: Bench, parent: int, **request: Any) -> int:
    with bench.database.write() as session:
        key = session.scalars(select(StudyRow.key)).one()
        return trials.fork(session, key, parent, ForkRequest.model_validate(request), bench.now).number


def states(bench: Bench) -> dict[str, str]:
    return {row.uri: row.state for row in bench.all(CheckpointRow)}


def view(bench: Bench) -> Any:
    with bench.database.read() as session:
        return views.build(session, session.scalars(select(StudyRow)).one())


def test_a_fork_starts_from_its_parents_checkpoint(bench: Bench) -> None:
    bench.study(target=4)
    run(bench, 2, 4)
    number = fork(bench, 1, params={"lr": 0.5}, target_step=8, schedule=[[0, 0.1], [9, 0.2]], label="half")
    (work,) = bench.lease()
    assert (work.trial, work.start_step, work.target_step) == (number, 4, 8)
    assert (work.params, work.parent, work.forked_at) == ({"lr": 0.5}, 1, 4)
    assert work.checkpoint is not None
    assert work.checkpoint.uri == "mem://1/4"
    assert (work.schedule, work.training_seed) == ([(0, 0.1), (9, 0.2)], 0)
    bench.report(work.token, 1, (6, 3.0), (8, 2.0))
    bench.end(work.token, "finished", 8, checkpoint=saved(8, "mem://2/8"))
    assert bench.curve(2) == [(6, 3.0), (8, 2.0)]
    parent, child = view(bench).trials
    assert (child.parent, child.forked_at, child.step, child.steps) == (1, 4, 8, (6, 8))
    assert (child.schedule, child.checkpoints) == (((0, 0.1), (9, 0.2)), (8,))
    assert (parent.parent, parent.checkpoints) == (None, (4,))
    assert bench.get(TrialRow, number=2).trained == 4


def test_a_schedule_is_read_over_the_whole_line_of_forks(bench: Bench) -> None:
    bench.study(target=4)
    run(bench, 2, 4)
    number = fork(bench, 1, target_step=8, schedule=[[4, 0.2], [8, 0.0]])
    run(bench, 6, 8)

    def read(**asked: Any) -> ScheduleView:
        with bench.database.read() as session:
            return reads.schedule(session, session.scalars(select(StudyRow.key)).one(), **asked)

    with pytest.raises(
        ConflictError, match="Trial 1 was trained by the schedule that its own settings say"
    ):
        read()
    with bench.database.write() as session:
        session.execute(update(TrialRow).where(TrialRow.number == 1).values(schedule=[[0, 0.05], [1, 0.1]]))
    found = read()
    assert (found.trial, found.line, found.steps, found.useful, found.search) == (
        number,
        [1, number],
        8,
        8,
        0,
    )
    assert found.points == [(0, 0.05), (1, 0.1), (3, 0.1), (4, 0.2), (8, 0.0)]
    assert (read(number=1).steps, read(number=1).points) == (4, [(0, 0.05), (1, 0.1)])
    assert read(horizon=14).points[-1] == (14, 0.0)
    with pytest.raises(InvalidError) as refused:
        read(horizon=1)
    assert [error.pointer for error in refused.value.errors] == ["/horizon"]
    with pytest.raises(NotFoundError, match="no trial 9"):
        read(number=9)


def test_a_checkpoint_that_a_fork_waits_for_is_kept_until_the_fork_has_its_own(bench: Bench) -> None:
    bench.study(target=4)
    run(bench, 4)
    fork(bench, 1, target_step=8)
    with bench.database.write() as session:
        study = session.scalars(select(StudyRow)).one()
        parent = session.get_one(TrialRow, 1)
        runs.queue_run(session, study, parent, target=6, reason="on", now=bench.now)
    (forked,) = [w for w in bench.lease(2) if w.parent is not None]
    (going_on,) = [row for row in bench.all(RunRow) if row.trial_id == 1 and row.state == "running"]
    token = next(a.token for a in _attempts(bench) if a.run_id == going_on.id)
    bench.report(token, 1, (6, 1.0))
    bench.end(token, "finished", 6, checkpoint=saved(6, "mem://1/6"))
    assert states(bench) == {"mem://1/4": "ready", "mem://1/6": "ready"}
    bench.report(forked.token, 1, (5, 1.0), checkpoint=saved(5, "mem://2/5"))
    assert states(bench) == {"mem://1/4": "garbage", "mem://1/6": "ready", "mem://2/5": "ready"}
    # After a crash it goes on from its own.
    bench.fail(forked.token, "crash", 5)
    (again,) = bench.lease()
    assert again.checkpoint is not None
    assert (again.trial, again.checkpoint.uri, again.start_step) == (2, "mem://2/5", 5)


def _attempts(bench: Bench) -> list[Any]:
    from service.db.models import AttemptRow

    return bench.all(AttemptRow)


@pytest.mark.parametrize("how", ["expires", "crashes", "is released"])
def test_a_fork_that_is_lost_before_it_has_saved_starts_from_its_parent_again(
    bench: Bench, how: str
) -> None:
    bench.study(target=4)
    run(bench, 4)
    fork(bench, 1, target_step=8)
    with bench.database.write() as session:  # its parent needs the checkpoint no more
        runs.wish(session, session.get_one(TrialRow, 1), Verdict.STOP, "enough", bench.now)
    (work,) = bench.lease()
    bench.report(work.token, 1, (6, 1.0))
    if how == "expires":
        bench.now += timedelta(seconds=31)
        with bench.database.write() as session:
            leases.expire(session, bench.now)
    elif how == "crashes":
        bench.fail(work.token, "crash", 6)
    else:
        bench.end(work.token, "released", 6)
    assert states(bench) == {"mem://1/4": "ready"}
    (again,) = bench.lease()
    assert again.checkpoint is not None
    assert (again.checkpoint.uri, again.start_step) == ("mem://1/4", 4)
    bench.report(again.token, 1, (6, 7.0), (8, 2.0))
    bench.end(again.token, "finished", 8, checkpoint=saved(8, "mem://2/8"))
    assert bench.curve(2) == [(6, 1.0), (8, 2.0)]  # the first measurement stands
    assert states(bench) == {"mem://1/4": "garbage", "mem://2/8": "ready"}
    assert bench.get(TrialRow, number=2).trained == 2 + 4


def test_an_interrupted_fork_keeps_its_start_and_goes_on_from_it(bench: Bench) -> None:
    study = bench.study(target=4, budget={"fidelity": 5})
    run(bench, 4)
    fork(bench, 1, target_step=8)
    with bench.database.read() as session:
        assert budget.left(session, session.get_one(StudyRow, study)).fidelity == 0
    bench.wish(1, Verdict.STOP)  # nobody else needs the checkpoint
    (work,) = bench.lease()
    bench.report(work.token, 1, (5, 1.0))
    with bench.database.write() as session:
        completion.wind_up(session, study, bench.now)
    assert bench.report(work.token, 2)[0] == "pause"
    bench.end(work.token, "finished", 5)  # it had nothing to save
    child = view(bench).trials[1]
    assert (child.status, child.resumable, child.interrupted) == ("paused", True, True)
    assert states(bench)["mem://1/4"] == "ready"


def test_with_a_strategy_that_forks_the_end_of_every_run_is_kept_until_stop_or_end(bench: Bench) -> None:
    study = bench.study(trials=2, target=2, **PBT)
    for number, work in enumerate(bench.lease(2), start=1):
        bench.report(work.token, 1, (1, 1.0), checkpoint=saved(1, f"mem://{number}/1"))
        bench.report(work.token, 2, (2, float(number)))
        bench.end(work.token, "finished", 2, checkpoint=saved(2, f"mem://{number}/2"))
    with bench.database.write() as session:
        row = session.get_one(StudyRow, study)
        for trial in session.scalars(select(TrialRow)).all():
            runs.queue_run(session, row, trial, target=4, reason="on", now=bench.now)
    for number, work in enumerate(bench.lease(2), start=1):
        bench.report(work.token, 1, (4, 0.5))
        bench.end(work.token, "finished", 4, checkpoint=saved(4, f"mem://{number}/4"))
    assert [trial.checkpoints for trial in view(bench).trials] == [(2, 4), (2, 4)]
    assert states(bench)["mem://1/1"] == "garbage"  # no end of a run
    bench.wish(1, Verdict.STOP)
    assert [trial.checkpoints for trial in view(bench).trials] == [(), (2, 4)]
    with bench.database.write() as session:
        completion.complete(session, session.get_one(StudyRow, study), "done", bench.now)
    assert view(bench).trials[1].checkpoints == (4,)


def ask(bench: Bench) -> decisions.Question:
    with bench.database.read() as session:
        study = session.scalars(select(StudyRow)).one()
        found = decisions.question(session, study.id, curves=views.Curves(), attempt=0, now=bench.now)
    assert found is not None
    return found


def decide(bench: Bench, question: decisions.Question, *answer: Any) -> bool:
    with bench.database.write() as session:
        return decisions.apply(session, question, Answer(answer), seconds=0.1, now=bench.now)


FORK = Fork(1, 2, {"lr": 0.2}, 4, "better", ((0, 0.5), (4, 0.1)))


def test_a_decision_to_fork_makes_a_trial(bench: Bench) -> None:
    bench.study(trials=2, target=2, parallelism=4, **PBT)
    run(bench, 2), run(bench, 2)
    assert decide(bench, ask(bench), Stop(2, "worse"), FORK)
    child = bench.get(TrialRow, number=3)
    assert (child.parent, child.forked_at, child.step, child.target_step) == (1, 2, 2, 4)
    assert (child.schedule, child.origin, child.first_target) == ([[0, 0.5], [4, 0.1]], "strategy", 4)
    assert [(d.kind, d.target_step) for d in bench.all(DecisionRow)] == [("stop", None), ("fork", 4)]
    assert states(bench) == {"mem://1/2": "ready", "mem://2/2": "garbage"}


def test_a_fork_comes_in_time_while_others_train_but_not_when_its_checkpoint_is_gone(bench: Bench) -> None:
    bench.study(trials=2, target=2, parallelism=5, **PBT)
    run(bench, 2)
    question = ask(bench)
    run(bench, 2)  # moves the study on
    assert decide(bench, question, FORK, Launch({"lr": 0.3}, 2, "new"))
    question = ask(bench)
    bench.wish(1, Verdict.STOP)
    assert states(bench)["mem://1/2"] == "ready"  # the fork that waits for it
    (work,) = [each for each in bench.lease(2) if each.parent]
    bench.report(work.token, 1, (4, 1.0))
    bench.end(work.token, "finished", 4, checkpoint=saved(4, "mem://3/4"))
    assert states(bench)["mem://1/2"] == "garbage"
    assert not decide(bench, question, FORK)
    assert decide(bench, ask(bench), Continue(2, 4, "on"))


def test_only_new_steps_are_promised_to_a_fork(bench: Bench) -> None:
    study = bench.study(target=4, budget={"fidelity": 10, "trials": 5})
    run(bench, 4)
    fork(bench, 1, target_step=8)
    with bench.database.read() as session:
        left = budget.left(session, session.get_one(StudyRow, study))
    assert (left.fidelity, left.trials) == (10 - 4 - 4, 3)


def test_seeds_are_inherited_unless_told_otherwise(bench: Bench) -> None:
    bench.study(target=4, seeds={"training": 3}, parallelism=9)
    run(bench, 4)
    fork(bench, 1)
    fork(bench, 1, seed=77)
    own = bench.lease(2)
    assert [work.training_seed for work in own] == [3, 77]
    bench.report(own[1].token, 1, (6, 1.0))
    bench.end(own[1].token, "finished", 6, checkpoint=saved(6, "mem://3/6"))
    assert fork(bench, 3, target_step=9) == 4
    assert [work.training_seed for work in bench.lease()] == [77]


SPACE = {
    "lr": {"type": "float", "low": 0.001, "high": 1.0, "log": True},
    "width": {"type": "int", "low": 1, "high": 64},
    "optimizer": {"type": "fixed", "value": "sgd"},
}


def problems(bench: Bench, **request: Any) -> dict[str, str]:
    with pytest.raises(InvalidError) as caught:
        fork(bench, 1, **request)
    return {problem.pointer: problem.message for problem in caught.value.errors}


def test_wrong_calls_are_answered_in_words(bench: Bench) -> None:
    with bench.database.write() as session:
        study = bench.make_study(session, space=SPACE)
        params = {"lr": 0.1, "width": 8, "optimizer": "sgd"}
        runs.create_trial(
            session, study, params, target=4, origin="strategy", reason="a test", now=bench.now
        )
    with pytest.raises(ConflictError, match="has no checkpoint to fork"):
        fork(bench, 1)
    run(bench, 4)
    with pytest.raises(ConflictError, match="no checkpoint at step 3; it has checkpoints at 4"):
        fork(bench, 1, step=3)
    assert "not beyond it" in problems(bench, target_step=4)["/target_step"]
    assert problems(bench, params={"width": 9})["/params/width"].startswith("a fork cannot change width")
    assert list(problems(bench, params={"lr": 5.0})) == ["/params/lr"]
    assert list(problems(bench, params={"lrr": 0.5})) == ["/params/lrr"]
    assert list(problems(bench, schedule=[[5, 0.1], [5, 0.2]])) == ["/schedule/1/0"]
    assert len(problems(bench, params={"lr": 5.0, "width": 9}, target_step=1)) == 3
    assert len(bench.all(TrialRow)) == 1


def test_a_strategy_that_forks_needs_a_parameter_that_a_fork_can_change() -> None:
    width = {"width": SPACE["width"]}
    with pytest.raises(InvalidError) as caught:
        specs.check(study_spec(space=width, **PBT))
    assert [problem.pointer for problem in caught.value.errors] == ["/strategy/name"]
    assert "a checkpoint fits one value of width" in caught.value.errors[0].message
    specs.check(study_spec(space=width | {"lr": SPACE["lr"]}, **PBT))
    specs.check(study_spec(space=width, trainer={"script": "/somewhere/train.py"}, **PBT))
    assert specs.inherited(study_spec(space=SPACE)) == {"width", "optimizer"}


def test_what_a_change_makes_inactive_is_left_out(bench: Bench) -> None:
    space = {
        "decay": {"type": "categorical", "choices": ["none", "linear"]},
        "final": {"type": "float", "low": 0.0, "high": 1.0, "when": {"decay": "linear"}},
    }
    trainer = {"script": "/somewhere/train.py"}
    with bench.database.write() as session:
        study = bench.make_study(session, space=space, trainer=trainer)
        params = {"decay": "linear", "final": 0.5}
        runs.create_trial(
            session, study, params, target=4, origin="strategy", reason="a test", now=bench.now
        )
    run(bench, 4)
    fork(bench, 1, params={"decay": "none"})
    assert bench.get(TrialRow, number=2).params == {"decay": "none"}


def test_a_fork_whose_checkpoints_are_gone_cannot_be_retried(bench: Bench) -> None:
    bench.study(target=4)
    run(bench, 4)
    fork(bench, 1, target_step=8)
    bench.wish(1, Verdict.STOP)
    bench.wish(2, Verdict.STOP)
    assert states(bench) == {"mem://1/4": "garbage"}
    with bench.database.write() as session:
        key = session.scalars(select(StudyRow.key)).one()
    with (
        pytest.raises(ConflictError, match="was forked from step 4 of trial 1"),
        bench.database.write() as s,
    ):
        trials.retry(s, key, 2, bench.now)
    with pytest.raises(ConflictError, match="has no checkpoint to fork"):
        fork(bench, 1)


def test_a_person_forks_in_a_study_that_has_ended(bench: Bench) -> None:
    study = bench.study(target=10)
    run(bench, 10)
    with bench.database.write() as session:
        completion.complete(session, session.get_one(StudyRow, study), "done", bench.now)
    fork(bench, 1, target_step=12)
    assert bench.get(StudyRow).state == "running"
    with bench.database.write() as session:
        studies.cancel(session, bench.get(StudyRow).key, bench.now)
    with pytest.raises(ConflictError):
        fork(bench, 1, target_step=12)


def test_the_median_rule_holds_a_fork_against_others_at_its_own_steps(bench: Bench) -> None:
    bench.study(trials=3, target=10, stopping=[{"rule": "median", "min_trials": 2}], parallelism=9)
    for number, work in enumerate(bench.lease(3), start=1):
        bench.report(work.token, 1, (4, float(number)), checkpoint=saved(4, f"mem://{number}/4"))
        bench.report(work.token, 2, (6, float(number)))
    fork(bench, 1, params={"lr": 0.9})
    (child,) = bench.lease()
    verdict, reason = bench.report(child.token, 1, (6, 9.0))
    assert verdict == "stop"
    assert "median" in reason


def test_patience_and_divergence_see_the_forks_own_curve_alone(bench: Bench) -> None:
    rules = [{"rule": "patience", "reports": 3}, {"rule": "divergence", "factor": 4.0}]
    bench.study(target=10, stopping=rules, parallelism=9)
    (parent,) = bench.lease()
    bench.report(parent.token, 1, (3, 1.0), (4, 2.0), checkpoint=saved(4, "mem://1/4"))
    fork(bench, 1)
    (child,) = bench.lease()
    # The parent's best of 1.0 and its two idle reports are not the child's.
    assert bench.report(child.token, 1, (5, 5.0), (6, 4.0), (7, 3.0))[0] == "continue"
    assert bench.report(child.token, 2, (8, 19.0))[0] == "continue"
    assert bench.report(child.token, 3, (9, 21.0))[0] == "stop"
    assert bench.get(RunRow, trial_id=2).wish == "diverged"


def test_forks_are_neither_learned_from_nor_judged_by_prediction(bench: Bench) -> None:
    from service.db import facts, predictors

    study = bench.study(target=10, stopping=[{"rule": "predicted", "min_trials": 5}], parallelism=9)
    run(bench, 4, 10)
    fork(bench, 1, target_step=12)
    run(bench, 12)
    assert bench.get(TrialRow, number=2).state == "completed"
    with bench.database.read() as session:
        row = session.get_one(StudyRow, study)
        rule = facts.of(session, row.key).predicted
        assert rule is not None
        assert predictors.lesson(session, row, rule).finished == 1


def test_an_external_fork_is_asked_for_with_its_parents_checkpoint(bench: Bench) -> None:
    from trimtab.wire.work import AskRequest

    study = bench.study(target=4, trainer={"name": "external"})
    with bench.database.write() as session:
        key = session.get_one(StudyRow, study).key
        first = leases.ask(session, key, AskRequest(), bench.now).assignment
    assert first is not None
    bench.report(first.token, 1, (4, 1.0))
    bench.end(first.token, "finished", 4, checkpoint=saved(4, "s3://mine/1"))
    fork(bench, 1, params={"lr": 0.3})
    with bench.database.write() as session:
        asked = leases.ask(session, key, AskRequest(), bench.now).assignment
    assert asked is not None
    assert asked.checkpoint is not None
    assert (asked.checkpoint.uri, asked.start_step, asked.params) == ("s3://mine/1", 4, {"lr": 0.3})


def at_once(first: Callable[[Any], Any], then: Callable[[], Any], bench: Bench) -> Future[Any]:
    """Begin ``then`` in another thread while the transaction of ``first`` is still open."""
    with ThreadPoolExecutor(1) as pool:
        with bench.database.write() as session:
            first(session)
            other = pool.submit(then)
            time.sleep(0.3)
        other.exception()
    return other


def test_a_checkpoint_is_forked_while_its_trial_saves_a_newer_one(bench: Bench) -> None:
    study = bench.study(target=10)
    (work,) = bench.lease()
    bench.report(work.token, 1, (2, 1.0), checkpoint=saved(2, "mem://1/2"))
    with bench.database.read() as session:
        key = session.get_one(StudyRow, study).key

    def fork_at(session: Any, step: int) -> None:
        trials.fork(session, key, 1, ForkRequest(step=step), bench.now)

    def save(session: Any, seq: int, step: int) -> None:
        point = {"step": step, "metrics": {"loss": 5.0}}
        uri = {"checkpoint": saved(step, f"mem://1/{step}")}
        document = {"token": work.token, "seq": seq, "measurements": [point]} | uri
        reports.record(session, ReportsRequest.model_validate({"reports": [document]}), bench.now)

    def own(act: Callable[..., None], *arguments: int) -> None:
        with bench.database.write() as session:
            act(session, *arguments)

    at_once(lambda session: fork_at(session, 2), lambda: own(save, 2, 4), bench).result()
    assert states(bench) == {"mem://1/2": "ready", "mem://1/4": "ready"}
    refused = at_once(lambda session: save(session, 3, 6), lambda: own(fork_at, 4), bench).exception()
    assert isinstance(refused, ConflictError)
    assert str(refused) == "Trial 1 has no checkpoint at step 4; it has checkpoints at 2, 6."
    assert states(bench) == {"mem://1/2": "ready", "mem://1/4": "garbage", "mem://1/6": "ready"}


def test_deleting_a_study_with_forks_leaves_nothing(bench: Bench) -> None:
    bench.study(target=4)
    run(bench, 4)
    fork(bench, 1)
    with bench.database.write() as session:
        studies.delete(session, bench.get(StudyRow).key)
    assert bench.all(TrialRow) == []
    with bench.database.write() as session:
        assert [item.uri for item in checkpoints.garbage(session)] == ["mem://1/4"]
