"""Bayesian optimisation: what the model is told, and that it is worth its time."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from search.decide import decide
from search.decision import Launch
from search.simulator import Budget, History, simulate
from search.strategies.knowledge import Knowledge
from search.surrogates.outcomes import Outcome, scaled, standardised
from search.view import Fidelity, Limit, Objective, StudyView, TrialView
from tests.search.support import space

FIDELITY = Fidelity(1, 4, 1)
PLANE: dict[str, Any] = {
    "x": {"type": "float", "low": 0.0, "high": 1.0},
    "n": {"type": "int", "low": 1, "high": 1024, "log": True},
}


def _trial(number: int, status: Any, *values: float, failure: str | None = None) -> TrialView:
    steps = tuple(range(1, len(values) + 1))
    return TrialView(
        number, {"x": number / 20, "n": number}, status, steps, values, len(values), 4, 4, failure=failure
    )


def _view(*trials: TrialView, maximize: bool = False, **options: Any) -> StudyView:
    return StudyView(space(PLANE), FIDELITY, maximize, "bo", options, trials)


def test_what_the_model_is_told() -> None:
    known = Knowledge.of(
        _view(
            _trial(1, "completed", 3.0, 1.0, 2.0),
            _trial(2, "stopped", 5.0),
            _trial(3, "failed", 4.0, math.nan, failure="diverged"),
            _trial(4, "failed", failure="out_of_memory"),
            _trial(5, "failed", 0.1, failure="crash"),
            _trial(6, "running", 0.5),
            _trial(7, "queued"),
        )
    )
    assert {t.number: loss for t, loss in zip(known.observed, known.losses, strict=True)} == {
        1: 1.0,
        2: 5.0,
        3: 5.0,
        4: 5.0,
    }
    assert [t.number for t in known.pending] == [6, 7]
    assert [t.number for t in known.failed] == [5]
    assert known.blamed == 2


def test_maximising_takes_the_largest_value_of_a_curve() -> None:
    known = Knowledge.of(_view(_trial(1, "completed", 3.0, 1.0, 2.0), maximize=True))
    assert known.losses == (-3.0,)


@pytest.mark.parametrize(
    "losses",
    [
        [1.0, 2.0, 3.0, 1e300],
        [1e300, 1e300],
        [-1e308, 1e308, 0.0],
        [5.0, 5.0, 5.0],
        [1e-300, 2e-300, 3e-300],
    ],
)
def test_losses_of_any_size_come_onto_a_scale_of_one(losses: list[float]) -> None:
    _, _, scaled = standardised(losses)
    assert all(math.isfinite(v) and abs(v) <= 10 for v in scaled)
    order = np.argsort(losses, kind="stable")
    assert (np.diff(np.asarray(scaled)[order]) >= 0).all()


def test_an_outlier_leaves_the_differences_among_the_good_ones() -> None:
    _, _, scaled = standardised([1.0, 2.0, 3.0, 4.0, 1e300])
    assert scaled[1] - scaled[0] > 0.1


@pytest.mark.parametrize("maximize", [True, False])
@pytest.mark.parametrize("alone", [True, False])
def test_a_scale_leads_back_to_the_values(maximize: bool, alone: bool) -> None:
    values = np.array([1.0, 2.0, 3.0, 5.0, 9.0, 30.0])
    scale, told = scaled(Outcome(None, maximize), values, alone)
    assert [scale.value(each) for each in told] == pytest.approx(list(values))
    assert (np.diff(told if maximize else -told) > 0).all()
    # Noise is told to the model in units of the good values' part of the scale.
    good = np.argsort(told)[-2:]
    assert abs(values[good[1]] - values[good[0]]) == pytest.approx(
        scale.width * (told[good[1]] - told[good[0]])
    )


def test_the_design_comes_first_and_says_so() -> None:
    answer = decide(_view(initial_trials=4), 3, 0)
    reasons = [d.reason for d in answer.decisions]
    assert reasons == ["middle of the space, 1 of 4", "Sobol design, 2 of 4", "Sobol design, 3 of 4"]
    assert next(d.params["x"] for d in answer.decisions if isinstance(d, Launch)) == 0.5


def test_a_model_needs_results_and_says_so() -> None:
    answer = decide(_view(*[_trial(n, "running") for n in (1, 2, 3, 4)], initial_trials=4), 1, 0)
    assert [d.reason for d in answer.decisions] == [
        "Sobol design goes on: 0 finite results are too few for a model"
    ]


@pytest.fixture(scope="module")
def modelled() -> StudyView:
    rng = np.random.default_rng(1)
    trials = []
    for i in range(1, 9):
        x, n = float(rng.random()), int(rng.integers(1, 1025))
        value = -((x - 0.7) ** 2) - 0.02 * math.log2(n / 32) ** 2
        trials.append(TrialView(i, {"x": x, "n": n}, "completed", (4,), (value,), 4, 4, 4))
    return StudyView(space(PLANE), FIDELITY, True, "bo", {"initial_trials": 5}, tuple(trials))


def test_a_suggestion_comes_with_its_prediction_and_the_fit(modelled: StudyView) -> None:
    answer = decide(modelled, 2, 0)
    first, second = answer.decisions
    assert isinstance(first, Launch)
    assert isinstance(second, Launch)
    assert first.params != second.params  # The second knows that the first is pending.
    assert first.reason.startswith("model of 8 results predicts ")
    assert abs(float(first.params["x"]) - 0.7) < 0.35
    assert answer.diagnostics["observations"] == 8
    assert answer.diagnostics["noise"] == "inferred"
    assert answer.diagnostics["fit_seconds"] >= 0
    (fit,) = answer.diagnostics["leave_one_out"]
    assert 0.5 <= fit["within_90"] <= 1
    best = max(modelled.trials, key=lambda t: t.values[0])
    assert answer.diagnostics["best_predicted"]["trial"] == best.number
    assert answer.diagnostics["best_predicted"]["value"] == pytest.approx(best.values[0], abs=0.05)


def test_given_noise_reaches_the_model(modelled: StudyView) -> None:
    noisy = StudyView(
        modelled.space, FIDELITY, True, "bo", {"initial_trials": 5, "noise_sd": 5.0}, modelled.trials
    )
    answer = decide(noisy, 1, 0)
    assert answer.diagnostics["noise"] == 5.0
    # Noise far above the differences: the model predicts nearly the same everywhere.
    predicted = answer.diagnostics["best_predicted"]["value"]
    values = [t.values[0] for t in modelled.trials]
    assert abs(predicted - statistics.mean(values)) < 0.5 * (max(values) - statistics.mean(values))


SQUARE: dict[str, Any] = {axis: {"type": "float", "low": 0.0, "high": 1.0} for axis in "xy"}


def _ended(
    loss: Callable[[float, float], float],
    trials: int = 12,
    broken: Callable[[float, float], bool] = lambda x, y: False,
    **outcomes: Callable[[float, float], float],
) -> tuple[TrialView, ...]:
    """Trials at random points of the unit square."""
    ended = []
    for number, (x, y) in enumerate(np.random.default_rng(3).random((trials, 2)).tolist(), start=1):
        params = {"x": x, "y": y}
        if broken(x, y):
            ended.append(TrialView(number, params, "failed", step=1, target=4, failure="diverged"))
        else:
            others = {name: outcome(x, y) for name, outcome in outcomes.items()}
            ended.append(
                TrialView(number, params, "completed", (4,), (loss(x, y),), 4, 4, 4, outcomes=others)
            )
    return tuple(ended)


def _launched(view: StudyView, slots: int) -> list[Launch]:
    launches = [d for d in decide(view, slots, 0).decisions if isinstance(d, Launch)]
    assert len({view.space.key(launch.params) for launch in launches}) == slots
    return launches


def _square(trials: tuple[TrialView, ...], maximize: bool = False, **goals: Any) -> StudyView:
    return StudyView(space(SQUARE), FIDELITY, maximize, "bo", {"initial_trials": 2}, trials, **goals)


def test_several_objectives_lead_to_their_front() -> None:
    # The front is y = 0, where every x is another compromise.
    trials = _ended(lambda x, y: x**2 + y, gain=lambda x, y: -((1 - x) ** 2) - y)
    launches = _launched(_square(trials, objectives=(Objective("gain", True),)), 4)
    assert all(float(launch.params["y"]) < 0.1 for launch in launches)
    xs = [float(launch.params["x"]) for launch in launches]
    assert max(xs) - min(xs) > 0.3
    assert ", gain -" in launches[0].reason
    assert "expected to enlarge the hypervolume of the front by" in launches[0].reason


def test_no_kernel_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """BoTorch would compile one behind a lock on disk: all others wait for ever if its owner is killed."""
    compiled: list[object] = []
    monkeypatch.setattr("torch.utils.cpp_extension.load", lambda **kernel: compiled.append(kernel))
    trials = _ended(lambda x, y: x**2 + y, gain=lambda x, y: -((1 - x) ** 2) - y)
    assert _launched(_square(trials, objectives=(Objective("gain", True),)), 1)
    assert not compiled


def test_limits_are_kept_up_to_their_edge() -> None:
    # Both ways to say it: x may be at most 0.4, and y at least 0.3.
    trials = _ended(lambda x, y: y - x, size=lambda x, y: 100 * x, speed=lambda x, y: y)
    limits = (Limit("size", 40.0, True), Limit("speed", 0.3, False))
    answer = decide(_square(trials, limits=limits), 1, 0)
    (launch,) = answer.decisions
    assert isinstance(launch, Launch)
    assert 0.3 < float(launch.params["x"]) < 0.42
    assert 0.28 < float(launch.params["y"]) < 0.4
    assert "chance to keep the limits" in launch.reason
    kept = sum(t.params["x"] <= 0.4 and t.params["y"] >= 0.3 for t in trials)
    assert answer.diagnostics["keep_limits"] == kept


def test_objectives_within_limits() -> None:
    trials = _ended(lambda x, y: x**2 + y, other=lambda x, y: (1 - x) ** 2 + y, size=lambda x, y: x)
    goals: dict[str, Any] = {
        "objectives": (Objective("other", False),),
        "limits": (Limit("size", 0.5, True),),
    }
    launches = _launched(_square(trials, **goals), 2)
    assert all(float(launch.params["x"]) < 0.55 for launch in launches)
    assert all(float(launch.params["y"]) < 0.2 for launch in launches)


def test_a_limit_that_nothing_keeps_yet_is_looked_for() -> None:
    trials = _ended(lambda x, y: x, size=lambda x, y: x + y)
    (launch,) = _launched(_square(trials, limits=(Limit("size", 0.05, True),)), 1)
    assert float(launch.params["x"]) + float(launch.params["y"]) < 0.15


def test_where_trainings_fail_nothing_is_started_lightly() -> None:
    # The loss falls towards x = 1, but beyond 0.5 all diverges.
    (launch,) = _launched(_square(_ended(lambda x, y: -x, 20, broken=lambda x, y: x > 0.5)), 1)
    assert 0.45 < float(launch.params["x"]) < 0.62
    assert "risk to fail" in launch.reason


def test_duplicates_with_different_results_are_noise() -> None:
    trials = _ended(lambda x, y: x + y)
    again = tuple(
        replace(t, number=t.number + 12, values=(t.values[0] + (-0.2 if t.number % 2 else 0.2),))
        for t in trials
    )
    (launch,) = _launched(_square((*trials, *again)), 1)
    assert launch.reason.startswith("model of 24 results")


def test_a_model_that_cannot_be_fitted_is_said_and_replaced_by_the_design() -> None:
    view = _square(_ended(lambda x, y: x))
    answer = decide(replace(view, options={"initial_trials": 2, "noise_sd": 1e200}), 2, 0)
    assert all("Sobol point without a model: the fit failed" in d.reason for d in answer.decisions)
    assert len(answer.decisions) == 2
    unmeasured = replace(view, limits=(Limit("size", 1.0, True),))
    (launch,) = _launched(unmeasured, 1)
    assert launch.reason == "Sobol point without a model: no result has a value of size"


def _bowl(params: Any, step: int) -> float:
    return (float(params["x"]) - 0.7) ** 2 + 0.05 * math.log2(int(params["n"]) / 32) ** 2


@pytest.mark.slow
def test_it_beats_random_on_a_bowl() -> None:
    def best(strategy: str, seed: int, **options: Any) -> float:
        history: History = simulate(
            space(PLANE),
            Fidelity(1, 1, 1),
            _bowl,
            Budget(trials=18),
            strategy=strategy,
            options=options,
            workers=2,
            seed=seed,
        )
        return history.best[-1].value

    bo = [best("bo", seed, initial_trials=6) for seed in range(2)]
    random = [best("random", seed) for seed in range(2)]
    assert statistics.mean(bo) < 0.25 * statistics.mean(random)
