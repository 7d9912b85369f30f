"""Pruning: what does not matter is frozen, what was pruned wrongly comes back; strategies know nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from search import pruning
from search.decide import decide
from search.decision import Launch
from search.domains import Fixed
from search.importances import importances
from search.pruning import Pruning
from search.sampling import candidates
from search.simulator import Budget, simulate
from search.space import ParamValue, SearchSpace
from search.view import BudgetLeft, Fidelity, Limit, StudyView, TrialView
from tests.search import support
from tests.search.support import GENERAL

Loss = Callable[[Mapping[str, ParamValue]], float]
FLOATS = {f"x{i}": {"type": "float", "low": 0.0, "high": 1.0} for i in range(6)}


def steep(params: Mapping[str, ParamValue]) -> float:
    """Only x0 and x1 matter; the best is at 0.2 and 0.7."""
    return 4 * (float(params["x0"]) - 0.2) ** 2 + 3 * (float(params["x1"]) - 0.7) ** 2


def ended(number: int, params: Mapping[str, ParamValue], loss: float) -> TrialView:
    return TrialView(number, params, "completed", (1,), (loss,), 1, 1, 1)


def study(space: SearchSpace, loss: Loss, count: int, strategy: str = "random", **known: Any) -> StudyView:
    drawn = candidates(space, count, np.random.default_rng(3))
    trials = tuple(ended(number, params, loss(params)) for number, params in enumerate(drawn, 1))
    return StudyView(space, Fidelity(1, 1, 1), False, strategy, trials=trials, prune=True, **known)


def searched(view: StudyView, loss: Loss, count: int) -> tuple[StudyView, list[Pruning]]:
    """The study after so many more trials, one at a time, and what was pruned on the way."""
    made = []
    for _ in range(count):
        answer = decide(view, 1, 5)
        if answer.pruning is not None:
            view = replace(view, pruning=answer.pruning)
            made.append(answer.pruning)
        (launch,) = answer.decisions
        assert isinstance(launch, Launch)
        trial = ended(len(view.trials) + 1, launch.params, loss(launch.params))
        view = replace(view, trials=(*view.trials, trial))
    return view, made


def test_what_does_not_matter_is_frozen_and_the_good_region_kept() -> None:
    view, made = searched(study(SearchSpace.from_json(FLOATS), steep, 39), steep, 31)
    assert made[0].results == 40  # not before
    for one in made:
        assert {"x0", "x1"}.isdisjoint(one.frozen)
        assert len(one.frozen) >= 2
        for name, ends in one.ranges.items():
            low, high = (float(end) for end in ends)
            assert high - low >= pruning.LEAST_WIDTH - 1e-9
            if name in ("x0", "x1"):
                assert low < {"x0": 0.2, "x1": 0.7}[name] < high
        assert set(one.frozen) | set(one.ranges) == set(one.reasons)
    assert "x0" in made[-1].ranges
    pruned = view.trials[40:]
    left = pruning.inside(view, made[0]).space
    outsiders = [t for t in pruned if left.check(t.params)]
    assert len(outsiders) >= len([t for t in pruned if t.number % pruning.WHOLE_EVERY == 0]) - 1 > 3
    assert len(outsiders) < len(pruned) / 2


def test_nothing_is_pruned_unless_the_study_says_so() -> None:
    view = replace(study(SearchSpace.from_json(FLOATS), steep, 60), prune=False)
    assert decide(view, 1, 0).pruning is None


def test_the_same_history_prunes_the_same() -> None:
    view = study(SearchSpace.from_json(FLOATS), steep, 40)
    assert decide(view, 3, 7) == decide(view, 3, 7)


def test_where_everything_matters_nothing_is_frozen() -> None:
    def loss(params: Mapping[str, ParamValue]) -> float:
        return sum((float(value) - 0.4) ** 2 for value in params.values())

    _, made = searched(study(SearchSpace.from_json(FLOATS), loss, 59), loss, 30)
    assert len(made) >= 2
    assert all(not one.frozen for one in made)


def test_noise_alone_freezes_nothing() -> None:
    noise = np.random.default_rng(1)
    view = study(SearchSpace.from_json(FLOATS), lambda params: float(noise.random()), 60)
    made = pruning.prune(view, np.random.default_rng(0))
    assert made.frozen == {}


def test_a_wrong_range_is_widened_when_an_outsider_wins() -> None:
    space = SearchSpace.from_json(FLOATS)
    wrong = Pruning(40, ranges={"x0": (0.5, 0.9)}, reasons={"x0": "a mistake"})
    view = study(space, steep, 41, pruning=wrong)
    assert pruning.due(view)  # the best trial lies outside
    now = decide(view, 1, 0).pruning
    assert now is not None
    low, high = now.ranges.get("x0", (0.0, 1.0))
    assert float(low) < 0.2 < float(high)


def test_a_wrong_freeze_is_let_go_when_outsiders_show_that_it_matters() -> None:
    space = SearchSpace.from_json(FLOATS)
    wrong = Pruning(20, frozen={"x0": 0.9, "x3": 0.5}, reasons={"x0": "a mistake", "x3": "right"})
    view = study(space, steep, 40, pruning=wrong)
    now = decide(view, 1, 0).pruning
    assert now is not None
    assert "x0" not in now.frozen
    assert now.frozen["x3"] == 0.5  # what is frozen rightly keeps its value


def test_what_others_depend_on_is_left_as_it_is() -> None:
    document = {
        **FLOATS,
        "optimizer": {"type": "categorical", "choices": ["adam", "sgd"]},
        "nesterov": {"type": "bool", "when": {"optimizer": "sgd"}},
        "mix": {"type": "simplex", "parts": ["a", "b"]},
        "kind": {"type": "categorical", "choices": ["a", "b", "c"]},
    }
    space = SearchSpace.from_json(
        document, [{"terms": {"x4": 1.0, "x5": 1.0}, "relation": "<=", "bound": 1.5}]
    )
    made = pruning.prune(study(space, steep, 80), np.random.default_rng(0))
    touched = set(made.frozen) | set(made.ranges)
    assert touched.isdisjoint({"optimizer", "mix/a", "mix/b", "x4", "x5"})
    assert made.reasons["optimizer"] == "left as it is: others exist only under some of its values"
    assert made.reasons["mix/a"] == "left as it is: a share of a simplex"
    assert made.reasons["x4"] == "left as it is: a constraint names it"
    assert "x0" not in made.frozen


OPTIONS: Mapping[str, Mapping[str, ParamValue]] = {"mf-bo": {"along": "depth"}}


@pytest.mark.parametrize("strategy", GENERAL)
def test_every_strategy_searches_what_is_left(strategy: str) -> None:
    document = {
        "lr": {"type": "float", "low": 1e-5, "high": 1.0, "log": True},
        "depth": {"type": "int", "low": 1, "high": 9},
        "width": {"type": "int", "low": 8, "high": 512, "log": True},
        "momentum": {"type": "float", "low": 0.0, "high": 0.9, "step": 0.1},
        "size": {"type": "ordered", "values": [16, 32, 64, 128]},
    }
    space = SearchSpace.from_json(document)
    made = Pruning(
        99,
        frozen={"momentum": 0.3, "width": 64},
        ranges={"lr": (1e-3, 0.1), "depth": (3, 7), "size": (32, 128)}
        if strategy in pruning.MODELLESS
        else {},
    )
    view = study(space, lambda params: support.valley(params, 9), 15, strategy, pruning=made)
    view = replace(view, fidelity=Fidelity(1, 9, 1), options=OPTIONS.get(strategy, {}))
    trials = tuple(
        replace(t, status="paused", resumable=True, first_target=1, target=1) if t.number % 2 else
        replace(t, step=9, steps=(1, 9), values=(2.0, t.values[0]), target=9)
        for t in view.trials
    )  # fmt: skip
    view = replace(view, trials=trials)
    launches: list[Launch] = []
    for _ in range(12):
        answer = decide(view, 1, 1)
        assert answer.pruning is None
        for decision in answer.decisions:
            if isinstance(decision, Launch):
                launches.append(decision)
                number = len(view.trials) + 1
                new = TrialView(number, decision.params, "completed", (9,), (3.0,), 9, decision.target, 9)
                view = replace(view, trials=(*view.trials, new))
            else:
                left = [t for t in view.trials if t.number != getattr(decision, "trial", 0)]
                was = view.trials[getattr(decision, "trial", 1) - 1]
                done = replace(was, status="completed", step=9, steps=(1, 9), values=(2.0, 2.0), target=9)
                view = replace(view, trials=tuple(sorted((*left, done), key=lambda t: t.number)))
        if len(launches) >= 2:
            break
    whole = [launch for launch in launches if "from the whole space" in launch.reason]
    rest = [launch for launch in launches if launch not in whole]
    assert rest
    smaller = pruning.inside(view, made).space
    for launch in rest:
        assert smaller.check(launch.params) == []
        assert (launch.params["momentum"], launch.params["width"]) == (0.3, 64)


def test_what_is_left_may_be_exhausted_before_the_whole() -> None:
    space = SearchSpace.from_json({"a": {"type": "int", "low": 1, "high": 9}, "b": {"type": "bool"}})
    drawn = [{"a": a, "b": True} for a in range(1, 10)]
    trials = tuple(ended(number, params, float(number)) for number, params in enumerate(drawn, 1))
    view = StudyView(
        space,
        Fidelity(1, 1, 1),
        False,
        "random",
        trials=trials[:7],
        prune=True,
        pruning=Pruning(7, frozen={"b": True}, ranges={"a": (1, 7)}),
    )
    (launch,) = decide(view, 1, 0).decisions
    assert isinstance(launch, Launch)
    assert "whole space" in launch.reason


def test_what_was_frozen_is_named_where_it_seems_to_matter() -> None:
    made = Pruning(40, frozen={"x3": 0.5})
    view = study(SearchSpace.from_json(FLOATS), steep, 40, pruning=made)
    ped, sobol = importances(view, ("ped-anova", "sobol"), np.random.default_rng(0)).rankings
    assert "search froze x3" in ped.notes[0]
    assert sobol.notes == ()


def test_pruning_goes_through_json() -> None:
    one = Pruning(3, {"a": True, "b": "x"}, {"c": (1, 2.5)}, {"a": "why"})
    assert Pruning.from_json(one.to_json()) == one


def test_a_frozen_parameter_takes_no_dimension() -> None:
    view = study(SearchSpace.from_json(FLOATS), steep, 10, budget=BudgetLeft(trials=5))
    left = pruning.inside(view, Pruning(10, frozen={"x5": 0.25}))
    assert left.space.dimensions == ("x0", "x1", "x2", "x3", "x4")
    assert left.space.by_name["x5"].domain == Fixed(0.25)
    assert {trial.params["x5"] for trial in left.trials} == {0.25}
    assert [trial.values for trial in left.trials] == [trial.values for trial in view.trials]
    assert math.isfinite(left.trials[0].values[0])


LIVE = ((0, 3.0, 0.31), (1, 2.0, 0.72), (2, 1.5, 0.55))
EVERY = tuple((axis, 3.0 - 0.4 * axis, 0.2 + 0.1 * axis) for axis in range(6))


def regrets(strategy: str, axes: Any, dimensions: int, trials: int, prune: bool) -> list[float]:
    """The best of ``trials`` results of noisy bowls along ``axes``, by seed; the optimum is 0."""
    space = SearchSpace.from_json(
        {f"x{i}": {"type": "float", "low": 0.0, "high": 1.0} for i in range(dimensions)}
    )

    def curve(params: Mapping[str, ParamValue], step: int) -> float:
        bowl = sum(weight * (float(params[f"x{axis}"]) - best) ** 2 for axis, weight, best in axes)
        # Noise that repeats: a function of the configuration.
        noise = 0.01 * math.sin(1e5 * sum(float(value) for value in params.values()))
        return bowl + noise

    budget = Budget(trials=trials)
    return [
        simulate(
            space, Fidelity(1, 1, 1), curve, budget, strategy=strategy, seed=seed, workers=2, prune=prune
        )
        .best[-1]
        .value
        for seed in range(6)
    ]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("strategy", "most"), [("random", 0.8), ("tpe", 1.0)])
def test_pruning_helps_where_little_matters_and_does_no_harm_where_all_does(
    strategy: str, most: float
) -> None:
    """The figures of bench/RESULTS.md; the noise is at least -0.01."""
    for axes, dimensions, share in ((LIVE, 20, most), (EVERY, 6, 1.05)):
        plain = regrets(strategy, axes, dimensions, 120, False)
        pruned = regrets(strategy, axes, dimensions, 120, True)
        print(strategy, dimensions, np.round(plain, 4), np.round(pruned, 4))
        assert np.mean(pruned) + 0.01 <= share * (np.mean(plain) + 0.01)


def test_what_breaks_a_limit_is_no_good_region() -> None:
    """Half of the space, the best of it by the loss alone, breaks a limit."""
    view = study(SearchSpace.from_json(FLOATS), steep, 60)
    limited = tuple(
        replace(t, bests=t.values if float(t.params["x0"]) > 0.5 else (math.nan,)) for t in view.trials
    )
    view = replace(view, trials=limited, limits=(Limit("ms", 20.0, True),))
    kept = sum(float(trial.params["x0"]) > 0.5 for trial in limited)
    made = pruning.prune(view, np.random.default_rng(0))
    assert made.results == kept < 40
    assert "x0" not in made.frozen
    low, high = (float(end) for end in made.ranges["x0"])
    assert low > 0.35
    assert high > 0.7
    assert not pruning.due(view), "only results that count"
