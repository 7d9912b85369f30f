"""What training costs, by configuration."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from search.decide import decide
from search.decision import Continue, Launch
from search.features import Features
from search.strategies import curve_bo
from search.surrogates.cost import Costs
from search.view import BudgetLeft, Fidelity, StudyView, TrialView
from tests.search.support import space, valley

PLANE = {
    "lr": {"type": "float", "low": 1e-5, "high": 1.0, "log": True},
    "depth": {"type": "int", "low": 1, "high": 6},
}
FIDELITY = Fidelity(1, 27, 1)


def _timed(count: int, power: float = 1.0, noise: float = 0.0) -> list[TrialView]:
    """Trials whose training takes 2^depth seconds per step^power."""
    rng = np.random.default_rng(3)
    found = []
    for number in range(1, count + 1):
        depth, step = int(rng.integers(1, 7)), int(rng.choice([2, 6, 27]))
        seconds = 2.0**depth * step**power * math.exp(noise * rng.standard_normal())
        params = {"lr": float(10 ** rng.uniform(-5, 0)), "depth": depth}
        steps = tuple(range(1, step + 1))
        values = tuple(valley(params, s) for s in steps)
        status = "completed" if step == 27 else "paused"
        found.append(
            TrialView(number, params, status, steps, values, step, 1, step, step < 27, seconds=seconds)
        )
    return found


def _costs(trials: list[TrialView]) -> Costs:
    return Costs.of(trials, Features.of(space(PLANE)).encode([trial.params for trial in trials]))


@pytest.mark.parametrize("power", [1.0, 0.7])
def test_it_learns_the_seconds_of_what_was_not_tried(power: float) -> None:
    costs = _costs(_timed(30, power, noise=0.05))
    assert not costs.same
    assert costs.power == power
    features = Features.of(space(PLANE)).encode([{"lr": 0.01, "depth": depth} for depth in range(1, 7)])
    log = costs.log_seconds(costs.log_rate(features), np.zeros(6), np.full(6, 10.0))
    assert np.abs(log - np.log(2.0 ** np.arange(1, 7) * 10**power)).max() < 0.25
    on = costs.log_seconds(costs.log_rate(features), np.full(6, 2.0), np.full(6, 10.0))
    assert np.allclose(np.exp(on), np.exp(log) * (1 - 0.2**power))


def test_noise_of_the_clock_is_no_difference() -> None:
    """Over many studies in which the configuration says nothing about the seconds."""
    believed = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        trials = [
            replace(trial, seconds=trial.step * math.exp(0.5 * rng.standard_normal()))
            for trial in _timed(int(rng.integers(5, 60)))
        ]
        believed += not _costs(trials).same
    assert believed <= 4


def test_about_the_same_is_exactly_the_same() -> None:
    trials = [replace(trial, seconds=trial.step * (1 + 0.01 * trial.number)) for trial in _timed(12)]
    costs = _costs(trials)
    assert costs.same
    assert costs.known
    assert len(set(costs.log_rate(np.zeros((5, 2))).tolist())) == 1


@pytest.mark.parametrize("seconds", [0.0, 1e-3, 5.0])
def test_with_nothing_or_little_to_learn_from_all_cost_the_same(seconds: float) -> None:
    trials = [replace(trial, seconds=seconds * 2 ** int(trial.params["depth"])) for trial in _timed(4)]
    assert _costs(trials).same
    assert _costs(trials).known == (seconds == 5.0)


def _study(trials: list[TrialView]) -> StudyView:
    return StudyView(space(PLANE), FIDELITY, False, "curve-bo", {"initial_trials": 4}, tuple(trials))


def test_curve_bo_decides_as_without_seconds_where_all_cost_the_same() -> None:
    trials = _timed(14)
    untimed = [replace(trial, seconds=0.0) for trial in trials]
    alike = [replace(trial, seconds=2.0 * trial.step) for trial in trials]
    one, other = (decide(_study(each), 3, 5).decisions for each in (untimed, alike))
    assert [d.reason for d in other] != [d.reason for d in one]
    assert [replace(d, reason="") for d in other] == [replace(d, reason="") for d in one]
    assert all(" s" in d.reason.rpartition("about")[2] for d in other)
    assert not any("about" in d.reason for d in one)


def test_curve_bo_prefers_what_trains_faster() -> None:
    """All depths are equally good; once each costs thrice the one before, once a third of it."""
    flat = [
        replace(trial, values=tuple(valley({**trial.params, "depth": 1}, step) for step in trial.steps))
        for trial in _timed(20)
    ]

    def depth(trials: list[TrialView]) -> float:
        """The mean of what the model starts, explorers left out."""
        started = [
            int(decision.params["depth"])
            for seed in range(3)
            for decision in decide(_study(trials), 4, seed).decisions
            if isinstance(decision, Launch) and "explorer" not in decision.reason
        ]
        assert len(started) >= 3
        return float(np.mean(started))

    def costing(factor: float) -> list[TrialView]:
        return [replace(t, seconds=30 * factor ** int(t.params["depth"]) * t.step) for t in flat]

    assert depth(costing(3.0)) < depth(costing(1 / 3)) - 1.0


def test_budgets_in_steps_hold_whatever_steps_cost() -> None:
    for left in (1, 3, 9):
        view = replace(_study(_timed(14)), budget=BudgetLeft(fidelity=left))
        started = [d for d in decide(view, 4, 0).decisions if isinstance(d, Launch | Continue)]
        steps = {trial.number: trial.step for trial in view.trials}
        spent = sum(d.target - (steps[d.trial] if isinstance(d, Continue) else 0) for d in started)
        assert spent <= left


def test_diagnostics_say_what_is_known_of_costs() -> None:
    view = _study(_timed(20))
    rng = np.random.default_rng(0)
    costs = curve_bo.decide(view, 1, rng).diagnostics["costs"]
    assert costs["timed_trials"] == 20
    assert costs["explained"] > 0.5
