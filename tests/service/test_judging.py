"""Stopping rules at work: what reports are told, and what becomes of the trial."""

from __future__ import annotations

from typing import Any

import pytest

from service.db import runs
from service.db.models import MeasurementRow, StudyRow, TrialRow
from tests.service.bench import Bench


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_metric_that_is_not_finite_is_a_divergence(bench: Bench, value: float) -> None:
    study = bench.study()
    (work,) = bench.lease()
    bench.report(work.token, 1, (1, 1.0))
    verdict, reason = bench.report(work.token, 2, (2, value))
    assert verdict == "stop"
    assert "diverged" in reason
    assert bench.end(work.token, "finished", 2) == (True, "failed")
    trial = bench.get(TrialRow)
    assert (trial.failure_kind, trial.best_value, trial.value) == ("diverged", 1.0, None)
    point = bench.get(MeasurementRow, step=2)
    assert (point.value, point.best) == (None, 1.0)
    assert float(point.metrics["loss"]) == value or value != value
    assert isinstance(point.metrics["loss"], str)
    assert bench.get(StudyRow, id=study).best_value == 1.0


@pytest.mark.parametrize(
    ("rule", "values", "state"),
    [
        ({"rule": "patience", "reports": 2}, [1.0, 2.0, 3.0], "stopped"),
        ({"rule": "divergence", "factor": 2}, [1.0, 2.5], "failed"),
        ({"rule": "divergence", "bound": 9}, [1.0, 9.5], "failed"),
        ({"rule": "target", "value": 0.5}, [1.0, 0.5], "completed"),
    ],
)
def test_local_rules_end_a_trial(
    bench: Bench, rule: dict[str, Any], values: list[float], state: str
) -> None:
    bench.study(stopping=[rule])
    (work,) = bench.lease()
    verdicts = [bench.report(work.token, i, (i, v))[0] for i, v in enumerate(values, start=1)]
    assert verdicts == ["continue"] * (len(values) - 1) + ["stop"]
    assert bench.end(work.token, "finished", len(values)) == (True, state)


def test_the_budgets_target_completes_a_trial(bench: Bench) -> None:
    bench.study(budget={"target": 0.5}, metric={"name": "loss", "direction": "maximize"})
    (work,) = bench.lease()
    assert bench.report(work.token, 1, (1, 0.4))[0] == "continue"
    assert bench.report(work.token, 2, (2, 0.6))[0] == "stop"
    assert bench.fail(work.token, "crash", 2) == (True, "completed")  # whatever happened after


def test_the_median_rule_compares_the_same_step(bench: Bench) -> None:
    bench.study(trials=4, parallelism=4, stopping=[{"rule": "median", "min_trials": 2, "grace": 2}])
    works = bench.lease(4)
    for work, value in zip(works, (1.0, 2.0, 3.0), strict=False):
        for step in (1, 2):
            assert bench.report(work.token, step, (step, value))[0] == "continue" or value == 3.0
    worst = works[3]
    assert bench.report(worst.token, 1, (1, 50.0))[0] == "continue"  # within the grace
    assert bench.report(worst.token, 2, (2, 50.0))[0] == "stop"
    assert bench.report(works[0].token, 3, (3, 60.0))[0] == "continue"  # its best is still the best


@pytest.mark.parametrize("to_end", [True, False])
def test_a_trial_to_be_trained_to_the_end_is_stopped_by_no_rule_but_the_safe_ones(
    bench: Bench, to_end: bool
) -> None:
    rules = [
        {"rule": "patience", "reports": 1},
        {"rule": "median", "min_trials": 2},
        {"rule": "divergence", "bound": 50.0},
    ]
    with bench.database.write() as session:
        study = bench.make_study(session, stopping=rules, parallelism=3)
        for place in range(3):
            runs.create_trial(
                session, study, {"lr": 0.1}, target=10, origin="enqueued", to_end=to_end and place == 2,
                reason="a test", now=bench.now,
            )  # fmt: skip
    first, second, third = bench.lease(3)
    bench.report(first.token, 1, (1, 1.0))
    bench.report(second.token, 1, (1, 1.0))
    if to_end:
        assert bench.report(third.token, 1, (1, 9.0))[0] == "continue"
        assert bench.report(third.token, 2, (2, 9.0), (3, 9.0))[0] == "continue"
        assert bench.report(third.token, 3, (4, 51.0))[0] == "stop"
        assert bench.end(third.token, "finished", 4) == (True, "failed")
    else:
        assert bench.report(third.token, 1, (1, 9.0))[0] == "stop"
