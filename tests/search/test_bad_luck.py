"""Bad input and bad luck that test_contract.py does not hold every strategy to: what each does then."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from search.decide import decide
from search.decision import Continue, Launch
from search.simulator import Budget, Params, simulate
from search.space import SearchSpace
from search.view import Fidelity, TrialView
from tests.search.support import GENERAL, space, valley
from tests.search.test_contract import FIDELITY, MANY, OPTIONS, PLANE, _simulate, _view
from tests.search.test_space_rules import linear

every_strategy = pytest.mark.parametrize("strategy", GENERAL)


@every_strategy
def test_a_study_of_one_trial_trains_it_to_the_end(strategy: str) -> None:
    history = _simulate(strategy, budget=Budget(trials=1))
    (trial,) = history.trials
    assert (trial.status, trial.step) == ("completed", 9)
    assert "trial" in history.reason


@every_strategy
def test_one_result_is_enough_to_go_on(strategy: str) -> None:
    only = TrialView(
        1, {"lr": 0.1, "depth": 2}, "completed", (9,), (0.3,), step=9, first_target=9, target=9
    )
    (decision,) = decide(_view(strategy, PLANE, only), 1, 0).decisions
    assert isinstance(decision, Launch)
    assert decision.params != only.params


@every_strategy
def test_the_same_configuration_may_have_different_results(strategy: str) -> None:
    """Enqueued three times, with results far apart; the strategy itself repeats none."""
    again: Params = {"lr": 0.01, "depth": 3}
    calls = itertools.count()

    def curve(params: Params, step: int) -> float:
        return float(next(calls) * 37 % 11) if params == again else valley(params, step)

    many = 5
    history = simulate(
        space(PLANE),
        FIDELITY,
        curve,
        Budget(trials=many),
        strategy=strategy,
        options=OPTIONS.get(strategy, {}),
        enqueue=[again] * 3,
    )
    assert len(history.trials) == many
    assert [trial.params for trial in history.trials].count(again) == 3
    assert any(trial.step == 9 for trial in history.trials)


@every_strategy
@pytest.mark.parametrize("b", ["whole", "real"])
def test_constraints_may_leave_a_single_point(strategy: str, b: str) -> None:
    whole = {"type": "int", "low": 1, "high": 4}
    if b == "whole":
        document, constraints = {"a": whole, "b": whole}, [linear({"a": 1, "b": 1}, "<=", 2)]
    else:
        real = {"type": "float", "low": 0.0, "high": 2.0}
        document, constraints = (
            {"a": whole, "b": real},
            [linear({"b": 1}, "==", 1), linear({"a": 1}, "<=", 1)],
        )
    options = OPTIONS.get(strategy, {})
    if strategy == "mf-bo":  # it needs two values of a parameter that others do not depend on
        document["width"] = {"type": "int", "low": 1, "high": 2}
        options = {"along": "width"}
    found = SearchSpace.from_json(document, constraints)
    history = simulate(
        found,
        FIDELITY,
        lambda params, step: 1 / step,
        Budget(trials=20),
        strategy=strategy,
        options=options,
    )
    (trial,) = [trial for trial in history.trials if trial.params.get("width", 2) == 2]
    assert (trial.params["a"], trial.params["b"]) == (1, 1)
    assert trial.step == 9
    assert "tried" in history.reason


@every_strategy
def test_a_metric_that_comes_at_the_end_only_needs_full_trainings(strategy: str) -> None:
    """With ``fidelity.min`` at the maximum nothing is paused before it comes."""
    many = MANY.get(strategy, 6)
    history = _simulate(strategy, fidelity=Fidelity(9, 9, 9), budget=Budget(trials=many))
    assert [trial.steps for trial in history.trials] == [(9,)] * many


@every_strategy
def test_trials_without_a_measurement_are_no_obstacle(strategy: str) -> None:
    """Running, interrupted, and paused ones: their metric is still to come."""
    document: dict[str, Any] = PLANE
    known = [
        TrialView(n, {"lr": 0.1**n, "depth": n}, "completed", (9,), (1.0 / n,), step=9, target=9)
        for n in (1, 2)
    ]
    silent = TrialView(3, {"lr": 0.5, "depth": 3}, "running", step=4, first_target=9, target=9)
    paused = TrialView(
        4, {"lr": 0.6, "depth": 3}, "paused", step=1, first_target=1, target=1, resumable=True
    )
    view = _view(strategy, document, *known, silent, paused)
    assert len(decide(view, 1, 0).decisions) == 1
    interrupted = replace(paused, number=5, step=4, first_target=9, target=9)
    (decision,) = decide(replace(view, trials=(*view.trials, interrupted)), 1, 0).decisions
    assert isinstance(decision, Continue)
    assert (decision.trial, decision.target) == (5, 9)
