"""``curve-bo``: what it starts, what it takes up, what it says of it."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from search.decide import decide
from search.decision import Continue, Finish, Launch
from search.simulator import Budget, History, Params, simulate
from search.strategies.explorers import Explorers
from search.strategies.rungs import rung_levels
from search.view import BudgetLeft, Fidelity, StudyView, TrialView
from tests.search.support import space

FIDELITY = Fidelity(1, 27, 1)
PLANE: dict[str, Any] = {
    "lr": {"type": "float", "low": 1e-5, "high": 1.0, "log": True},
    "momentum": {"type": "float", "low": 0.0, "high": 1.0},
}


def crossing(params: Params, step: int) -> float:
    """A small rate starts slowly and ends well; the best end is at lr = 1e-3, momentum = 0.7."""
    rate, momentum = math.log10(float(params["lr"])), float(params["momentum"])
    end = 0.1 * (rate + 3) ** 2 + (momentum - 0.7) ** 2
    return end + 0.5 * step ** (-0.3 - 0.1 * (rate + 5))


def _simulate(budget: Budget, **wanted: Any) -> History:
    wanted.setdefault("strategy", "curve-bo")
    return simulate(space(PLANE), FIDELITY, wanted.pop("curve", crossing), budget, **wanted)


@pytest.fixture(scope="module")
def history() -> History:
    return _simulate(Budget(fidelity=270), workers=3, seed=1)


def _view(*trials: TrialView, **known: Any) -> StudyView:
    return StudyView(space(PLANE), FIDELITY, False, "curve-bo", {}, trials, **known)


def _trial(number: int, lr: float, momentum: float, steps: int, **known: Any) -> TrialView:
    params = {"lr": lr, "momentum": momentum}
    known.setdefault("status", "completed" if steps == FIDELITY.max else "paused")
    values = known.pop("values", tuple(crossing(params, step) for step in range(1, steps + 1)))
    return TrialView(
        number,
        params,
        known["status"],
        tuple(range(1, len(values) + 1)),
        values,
        steps,
        known.get("first_target", 2),
        known.get("target", steps),
        known["status"] == "paused",
        known.get("failure"),
    )


def _once(number: int, loss: float, first_target: int) -> TrialView:
    """Trained to its first target, always with this loss."""
    status, failure = ("paused", None) if math.isfinite(loss) else ("failed", "diverged")
    values, lr = (loss,) * first_target, 10 ** -(1 + number / 20)
    return _trial(
        number,
        lr,
        0.5,
        first_target,
        values=values,
        status=status,
        failure=failure,
        first_target=first_target,
    )


def _studied(count: int = 12) -> tuple[TrialView, ...]:
    """All of them explorers, so that it is the model's turn."""
    rng = np.random.default_rng(0)
    points = [(10 ** rng.uniform(-5, 0), rng.uniform(), int(rng.choice([2, 6, 27]))) for _ in range(count)]
    return tuple(_trial(i, *point, first_target=1) for i, point in enumerate(points, start=1))


def test_it_starts_with_explorers_on_the_lowest_rung() -> None:
    answer = decide(_view(), 3, seed=0)
    assert [type(decision) for decision in answer.decisions] == [Launch] * 3
    assert all(decision.target == 1 for decision in answer.decisions if isinstance(decision, Launch))
    assert all(
        "explorer" in decision.reason for decision in answer.decisions if not isinstance(decision, Finish)
    )


def test_a_third_of_the_training_at_least_is_the_explorers(history: History) -> None:
    explorers = [trial for trial in history.trials if trial.first_target == rung_levels(FIDELITY, 3)[0]]
    share = sum(trial.step for trial in explorers) / history.units
    # Good explorers are taken up by the model, too, so that the share may be more.
    assert 0.28 <= share < 0.8
    assert len(explorers) < len(history.trials)


@pytest.mark.parametrize(
    ("loss", "share"),
    [(0.05, 1 / 3), (0.5, 0.9), (math.inf, 0.9)],
    ids=["better than all", "among the middle", "diverged"],
)
def test_explorers_get_what_the_model_does_not_earn(loss: float, share: float) -> None:
    """Explorers came to 0.1, 0.2, ..., 2.0 at the lowest rung."""
    explorers = [_once(number, number / 10, first_target=1) for number in range(1, 21)]
    assert Explorers(_view(*explorers)).share() == pytest.approx(1 / 3), "nothing is known: trusted"
    chosen = [_once(number, loss, first_target=2) for number in range(21, 61)]
    assert Explorers(_view(*explorers, *chosen)).share() == pytest.approx(share, abs=0.02)


def test_a_hairs_breadth_on_a_plateau_is_no_success() -> None:
    plateau = [_once(number, 0.7 + number * 1e-3, first_target=1) for number in range(1, 21)]
    chosen = [_once(number, 0.70199, first_target=2) for number in range(21, 61)]
    assert Explorers(_view(*plateau, *chosen)).share() == pytest.approx(0.9, abs=0.02)


def test_it_finds_what_starts_slowly_and_ends_well(history: History) -> None:
    best = history.best[-1]
    ends = sorted(
        crossing({"lr": lr, "momentum": m}, 27)
        for lr in np.logspace(-5, 0, 40)
        for m in np.linspace(0, 1, 40)
    )
    assert best.value <= ends[len(ends) // 100]


def test_reasons_say_what_is_predicted_and_at_what_cost(history: History) -> None:
    said = [
        e.reason for e in history.events if e.kind in ("launch", "continue") and "explorer" not in e.reason
    ]
    assert said
    for reason in said:
        assert "predicted to end at" in reason
        assert "90 %" in reason
        assert "chance to beat the best so far" in reason
        assert "steps more" in reason


def test_diagnostics_tell_how_good_the_fit_is() -> None:
    diagnostics = decide(_view(*_studied()), 1, seed=0).diagnostics
    assert diagnostics["points"] >= 12
    assert set(diagnostics["leave_one_out"]) == {"log_density", "within_90"}


def test_runs_under_way_are_not_tried_again() -> None:
    answer = decide(_view(*_studied()), 4, seed=0)
    launches = [decision for decision in answer.decisions if isinstance(decision, Launch)]
    continued = Counter(decision.trial for decision in answer.decisions if isinstance(decision, Continue))
    points = [(math.log10(float(d.params["lr"])) / 5, float(d.params["momentum"])) for d in launches]
    assert len(answer.decisions) == 4
    assert all(count == 1 for count in continued.values())
    for i, one in enumerate(points):
        for other in points[:i]:
            assert math.dist(one, other) > 1e-3


def test_where_trials_diverge_fewer_are_started() -> None:
    def cliff(params: Params, step: int) -> float:
        return (
            math.nan if float(params["lr"]) > 1e-3 else 1 - 0.2 * math.log10(float(params["lr"])) ** 2 / 9
        )

    history = _simulate(Budget(fidelity=150), curve=cliff, seed=3)
    later = [trial for trial in history.trials if trial.first_target != 1]
    assert len(later) >= 5
    # Two fifths of the space diverge, and the best is at its edge.
    assert sum(trial.failure == "diverged" for trial in later) <= 0.4 * len(later)


def test_with_no_new_trial_left_it_finishes_what_is_hopeful_and_no_more() -> None:
    history = _simulate(Budget(trials=12), seed=2)
    assert len(history.trials) == 12
    assert any(trial.step == FIDELITY.max for trial in history.trials)
    assert history.units < 12 * FIDELITY.max
    assert "chance to become the best" in history.reason or "budget" in history.reason


def test_what_is_left_of_the_budget_is_spent() -> None:
    view = _view(*_studied(), budget=BudgetLeft(fidelity=3))
    answer = decide(view, 2, seed=0)
    places = {trial.number: trial.step for trial in view.trials}
    spent = sum(
        d.target - places[d.trial] if isinstance(d, Continue) else d.target
        for d in answer.decisions
        if isinstance(d, Continue | Launch)
    )
    assert 0 < spent <= 3


def test_a_fidelity_of_one_step_is_plain_bayesian_optimisation() -> None:
    history = simulate(
        space(PLANE),
        Fidelity(1, 1, 1),
        lambda params, step: crossing(params, 27),
        Budget(trials=30),
        strategy="curve-bo",
        seed=0,
    )
    assert len(history.trials) == 30
    assert all(trial.step == 1 for trial in history.trials)
    ends = sorted(
        crossing({"lr": lr, "momentum": m}, 27)
        for lr in np.logspace(-5, 0, 40)
        for m in np.linspace(0, 1, 40)
    )
    assert history.best[-1].value <= ends[len(ends) // 50]


def _believing(near: float) -> dict[str, Any]:
    return PLANE | {"lr": PLANE["lr"] | {"belief": {"near": near, "factor": 2}}}


def test_new_configurations_lean_to_a_belief() -> None:
    def distance(document: dict[str, Any]) -> float:
        view = StudyView(space(document), FIDELITY, False, "curve-bo", {}, _studied())
        decisions = [d for seed in range(3) for d in decide(view, 4, seed).decisions]
        new = [d for d in decisions if isinstance(d, Launch) and "explorer" not in d.reason]
        assert new
        return float(np.mean([abs(math.log10(float(d.params["lr"])) + 1) for d in new]))

    assert distance(_believing(0.1)) < 0.7 * distance(PLANE)


@pytest.mark.slow
def test_a_right_belief_helps_and_a_wrong_one_is_no_trap() -> None:
    def found(document: dict[str, Any], units: int) -> float:
        runs = [
            simulate(
                space(document), FIDELITY, crossing, Budget(fidelity=units), strategy="curve-bo", seed=s
            )
            for s in range(3)
        ]
        return float(np.mean([run.best[-1].value for run in runs]))

    least = min(crossing({"lr": lr, "momentum": 0.7}, 27) for lr in np.logspace(-5, 0, 400))
    assert found(_believing(1e-3), 60) - least < 0.7 * (found(PLANE, 60) - least)
    # At 0.5 the best end is 0.73 above the least.
    assert found(_believing(0.5), 270) - least < 0.1


@pytest.mark.parametrize("values", [(1e300, -1e300), (0.0, 0.0), (5.0,)])
def test_odd_losses_are_survived(values: tuple[float, ...]) -> None:
    trials = tuple(
        _trial(i, 10.0**-i, i / 6, 1, values=(values[i % len(values)],), first_target=1)
        for i in range(1, 6)
    )
    trials += (_trial(6, 0.5, 0.5, 1, values=(math.nan,), status="failed", failure="diverged"),)
    answer = decide(_view(*trials), 1, seed=0)
    assert len(answer.decisions) == 1


@pytest.mark.slow
def test_it_beats_successive_halving_where_curves_cross() -> None:
    """Mean regret over 8 seeds at ten full trainings, on curves whose early order misleads."""
    least = min(crossing({"lr": lr, "momentum": 0.7}, 27) for lr in np.logspace(-5, 0, 400))
    regrets = {
        strategy: np.mean(
            [
                _simulate(Budget(fidelity=270), strategy=strategy, seed=seed).best[-1].value - least
                for seed in range(8)
            ]
        )
        for strategy in ("curve-bo", "asha", "random")
    }
    assert regrets["curve-bo"] < 0.5 * regrets["asha"]
    assert regrets["curve-bo"] < 0.5 * regrets["random"]
