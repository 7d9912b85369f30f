"""Several objectives and limits on metrics: what counts, what a trial came to, and the Pareto front."""

from __future__ import annotations

import math
from typing import Any

import pytest
from sqlalchemy import select

from service.db import completion, reads, studies, views
from service.db.models import CheckpointRow, ImprovementRow, StudyRow, TrialRow
from service.errors import ConflictError
from tests.service.bench import Bench, saved
from tests.service.conftest import statements_of

LIMITED: dict[str, Any] = {
    "strategy": {"name": "random"},
    "limits": [{"metric": "ms", "at_most": 20}, {"metric": "loss", "at_least": 0.1}],
}
GOALS: dict[str, Any] = {
    "strategy": {"name": "random"},
    "metric": {"name": "loss"},
    "objectives": [{"name": "speed", "direction": "maximize"}],
    "limits": [{"metric": "ms", "at_most": 20}],
}


def measure(bench: Bench, token: int, seq: int, step: int, **metrics: Any) -> str:
    return bench.report(token, seq, measurements=[{"step": step, "metrics": metrics}])[0]


def item(bench: Bench, number: int) -> Any:
    with bench.database.read() as session:
        key = session.scalars(select(StudyRow.key)).one()
        return next(trial for trial in reads.list_trials(session, key).items if trial.number == number)


def view(bench: Bench) -> Any:
    with bench.database.read() as session:
        return views.build(session, session.scalars(select(StudyRow)).one())


def test_only_a_measurement_that_keeps_the_limits_counts(bench: Bench) -> None:
    bench.study(**LIMITED, stopping=[{"rule": "target", "value": 0.3}, {"rule": "patience", "reports": 2}])
    (work,) = bench.lease()
    assert measure(bench, work.token, 1, 1, loss=0.2, ms=31) == "continue"  # good enough, but too slow
    assert measure(bench, work.token, 2, 2, loss=0.2, ms="NaN") == "continue"
    assert measure(bench, work.token, 3, 3, loss=0.2) == "continue"  # nobody knows how slow
    assert measure(bench, work.token, 4, 4, loss=0.01, ms=5) == "continue"  # the metric itself has a limit
    trial = bench.get(TrialRow)
    assert (trial.best_value, trial.first_value, trial.since_best) == (None, 0.2, 0)
    assert trial.outcomes == {"ms": 5, "loss": 0.01}
    assert (bench.get(StudyRow).best_value, bench.all(ImprovementRow)) == (None, [])
    assert item(bench, 1).over_limits == ["loss 0.01 < 0.1"]

    assert measure(bench, work.token, 5, 5, loss=0.9, ms=20) == "continue"
    assert measure(bench, work.token, 6, 6, loss=0.5, ms=31) == "continue"  # from here on patience counts
    trial = bench.get(TrialRow)
    assert (trial.best_value, trial.best_step, trial.since_best) == (0.9, 5, 1)
    assert (bench.get(StudyRow).best_value, len(bench.all(ImprovementRow))) == (0.9, 1)
    assert item(bench, 1).over_limits == []
    assert item(bench, 1).outcomes == {"ms": 31}
    seen = view(bench)
    assert [(limit.metric, limit.bound, limit.upper) for limit in seen.limits] == [
        ("ms", 20, True),
        ("loss", 0.1, False),
    ]
    assert seen.trials[0].outcomes == {"ms": 31, "loss": 0.5}
    assert seen.trials[0].values[-1] == 0.5
    assert seen.trials[0].bests[3:] == (pytest.approx(math.nan, nan_ok=True), 0.9, 0.9)
    assert seen.counted().trials[0].values == (0.9,)
    assert bench.report(work.token, 7, measurements=[{"step": 7, "metrics": {"loss": 0.3, "ms": 1}}]) == (
        "stop",
        "0.3 reaches the target 0.3",
    )
    assert bench.end(work.token, "finished", 7) == (True, "completed")


def test_a_trial_that_never_keeps_a_limit_ends_well_and_says_so(bench: Bench) -> None:
    study = bench.study(**LIMITED, trials=7, parallelism=7, retries={"crash": 0})
    first, *others = bench.lease(7)
    measure(bench, first.token, 1, 10, loss=0.2, ms="Infinity")
    assert bench.end(first.token, "finished", 10) == (True, "completed")
    assert item(bench, 1).over_limits == ["ms inf > 20"]
    assert math.isnan(view(bench).trials[0].outcomes["ms"])
    for each in others:  # others fail, but something was measured: the study has not failed
        bench.fail(each.token, "crash")
    assert bench.get(StudyRow).state == "running"
    with bench.database.write() as session:
        completion.complete(session, session.get_one(StudyRow, study), "the end", bench.now)
    assert bench.get(StudyRow).state == "completed"


def test_what_objectives_and_limits_name_must_be_measured(bench: Bench) -> None:
    whole: dict[str, Any] = {"loss": 1.0, "speed": 1, "ms": 1}
    last = [{name: value for name, value in whole.items() if name != missing} for missing in whole]
    last += [{**whole, "speed": "NaN"}, whole]
    bench.study(**GOALS, trials=5, parallelism=5)
    for work, metrics in zip(bench.lease(5), last, strict=True):
        measure(bench, work.token, 1, 9, **whole)
        measure(bench, work.token, 2, 10, **metrics)
        bench.end(work.token, "finished", 10)
    *failed, nan, good = bench.all(TrialRow)
    named = ("'loss', which an objective names", "'speed', which an objective", "'ms', which a limit")
    for trial, words in zip(failed, named, strict=True):
        assert (trial.state, trial.failure_kind) == ("failed", "invalid")
        assert words in trial.failure_message
        assert "is not in the last measurement" in trial.failure_message
    assert (nan.state, good.state) == ("completed", "completed")
    with bench.database.read() as session:
        front = reads.front(session, session.scalars(select(StudyRow.key)).one())
    assert [trial.number for trial in front.trials] == [5]


def test_with_limits_alone_one_measurement_that_counts_is_enough(bench: Bench) -> None:
    bench.study(**LIMITED, trials=2, parallelism=2)
    for work, first in zip(bench.lease(2), (20, 21), strict=True):
        measure(bench, work.token, 1, 9, loss=1.0, ms=first)
        measure(bench, work.token, 2, 10, loss=0.9)
        bench.end(work.token, "finished", 10)
    kept, over = bench.all(TrialRow)
    assert (kept.state, kept.best_value) == ("completed", 1.0)
    assert (over.state, "'ms', which a limit names" in over.failure_message) == ("failed", True)


def test_the_front_is_what_no_completed_trial_is_better_than(bench: Bench) -> None:
    study = bench.study(**GOALS, trials=6, parallelism=6, checkpoints={"keep": "best"})
    ends = [(1.0, 1.0, 5), (2.0, 3.0, 5), (2.0, 2.0, 5), (0.5, 9.0, 21), (3.0, 4.0, 20), (0.1, 9.0, 5)]
    works = bench.lease(6)
    for work, (loss, speed, ms) in zip(works, ends, strict=True):
        measure(bench, work.token, 1, 5, loss=0.01, speed=99, ms=1)  # on the way: no outcome
        measure(bench, work.token, 2, 9, loss=loss, speed=speed, ms=ms)
        if work is not works[-1]:
            bench.end(work.token, "finished", 10, checkpoint=saved(10, f"mem://{work.trial}"))
    with bench.database.write() as session:
        key = session.scalars(select(StudyRow.key)).one()
        found = reads.front(session, key, others=5)
        assert [trial.number for trial in found.trials] == [1, 2, 5]
        assert found.trials[1].outcomes == {"loss": 2.0, "speed": 3.0, "ms": 5}
        assert [(trial.number, trial.over_limits) for trial in found.others] == [
            (3, []),
            (4, ["ms 21 > 20"]),
        ]
        assert (found.dominated, found.over_limits) == (1, 1)
        assert [goal.name for goal in found.objectives] == ["loss", "speed"]
        assert [trial.number for trial in reads.front(session, key, others=1).others] == [4]
        best = reads.best(session, key)
        assert best is not None
        assert (best.value, best.front) == (0.01, f"/v1/studies/{key}/front")
        with pytest.raises(ConflictError, match="several objectives"):
            studies.prune(session, key, bench.now)
        completion.complete(session, session.get_one(StudyRow, study), "the end", bench.now)
    kept = {row.uri for row in bench.all(CheckpointRow) if row.state == "ready"}
    assert kept == {"mem://1", "mem://2", "mem://5"}


def test_studies_without_further_metrics_make_no_further_statement(bench: Bench) -> None:
    counts = []
    with statements_of(bench.database) as made:
        for changes in ({"strategy": {"name": "random"}}, GOALS):
            bench.study(**changes)
            (work,) = bench.lease()
            measure(bench, work.token, 1, 1, loss=1.0, speed=2, ms=3)
            made.clear()
            measure(bench, work.token, 2, 2, loss=1.0, speed=2, ms=3)
            counts.append((len(made), sum("outcomes" in statement for statement in made)))
    assert counts[0][1] == 0
    assert counts[1] == (counts[0][0] + 1, 1)
