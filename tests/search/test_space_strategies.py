"""Every strategy in spaces that say all they may: what it starts is legal, or it refuses at submission."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from search.decide import decide
from search.decision import Launch
from search.sampling import candidates
from search.simulator import Budget, History, simulate
from search.space import ParamValue, SearchSpace
from search.view import Fidelity, StudyView, TrialView
from tests.search.support import GENERAL
from tests.search.test_space_rules import linear

FIDELITY = Fidelity(1, 9, 1)
OPTIONS: Mapping[str, Mapping[str, ParamValue]] = {
    "bo": {"initial_trials": 3},
    "cmaes": {"population": 4},
    "mf-bo": {"along": "n", "initial_trials": 4},
    "tpe": {"initial_trials": 3},
}

PLAIN: dict[str, Any] = {
    "mix": {"type": "simplex", "parts": ["web", "code", "books"], "min": 0.1},
    "x": {"type": "float", "low": -1.0, "high": 3.0, "belief": {"near": 0.0, "sd": 0.5}},
    "n": {"type": "int", "low": 2, "high": 20, "step": 2},
}
PLAIN_CONSTRAINTS = [linear({"x": 1, "n": 0.1}, "<=", 2), linear({"mix/books": 2, "n": 0.05}, ">=", 0.6)]

WIDE: dict[str, Any] = {
    **PLAIN,
    "lr": {"type": "float", "low": 1e-5, "high": 1.0, "log": True, "belief": {"near": 1e-3, "factor": 3}},
    "optimizer": {"type": "categorical", "choices": ["adam", "sgd"]},
    "momentum": {"type": "float", "low": 0.0, "high": 0.99, "when": {"optimizer": "sgd"}},
    "nesterov": {"type": "bool", "when": {"optimizer": "sgd"}},
    "delay": {"type": "int", "low": 0, "high": 4, "when": {"nesterov": True}},
}
WIDE_RULES: dict[str, Any] = {
    "constraints": [
        *PLAIN_CONSTRAINTS,
        linear({"mix/web": 1, "mix/code": -1}, "==", 0.1),
        linear({"momentum": 1, "lr": 1}, "<=", 1.0),
    ],
    "forbid": [{"optimizer": "adam", "lr": {"above": 0.1}}, {"nesterov": True, "delay": [0, 1]}],
}


def _loss(params: Mapping[str, ParamValue], step: int) -> float:
    return (float(params["x"]) - 1) ** 2 + float(params["mix/web"]) + int(params["n"]) / 20 + 1 / step


def _simulate(found: SearchSpace, strategy: str, trials: int) -> History:
    # A strategy that starts what is illegal is stopped by decide.
    return simulate(
        found,
        FIDELITY,
        _loss,
        Budget(trials=trials),
        strategy=strategy,
        options=OPTIONS.get(strategy),
        workers=2,
        seed=1,
    )


@pytest.mark.parametrize("strategy", [name for name in GENERAL if name not in ("bo", "cmaes")])
def test_what_starts_in_a_wide_space_is_legal(strategy: str) -> None:
    found = SearchSpace.from_json(WIDE, **WIDE_RULES)
    count = 12 if strategy == "mf-bo" else 25  # its model takes a tenth of a second for each
    trials = _simulate(found, strategy, count).trials
    assert len({found.key(trial.params) for trial in trials}) == count
    assert all(found.check(trial.params) == [] for trial in trials)
    assert {trial.params["optimizer"] for trial in trials} == {"adam", "sgd"}


def test_what_starts_in_a_wide_space_of_numbers_is_legal() -> None:
    found = SearchSpace.from_json(PLAIN, [*PLAIN_CONSTRAINTS, WIDE_RULES["constraints"][2]])
    trials = _simulate(found, "cmaes", 25).trials
    assert len({found.key(trial.params) for trial in trials}) == 25


def test_bo_models_a_wide_space() -> None:
    found = SearchSpace.from_json(WIDE, **WIDE_RULES)
    rng = np.random.default_rng(0)
    trials = tuple(
        TrialView(number, params, "completed", (9,), (_loss(params, 9),), 9, 9, 9)
        for number, params in enumerate(candidates(found, 14, rng), start=1)
    )
    answer = decide(StudyView(found, FIDELITY, False, "bo", OPTIONS["bo"], trials), 2, 0)
    launches = [d for d in answer.decisions if isinstance(d, Launch)]
    assert len({found.key(launch.params) for launch in launches}) == 2
    assert all(launch.reason.startswith("model of 14 results") for launch in launches)
    # The best that is legal has x near 1, few books and little n; the model is not far from it.
    best = min(trial.values[0] for trial in trials)
    assert min(_loss(launch.params, 9) for launch in launches) < best


def test_a_belief_that_is_right_helps_and_one_that_is_wrong_is_outgrown() -> None:
    def nearest(near: float, seed: int, trials: int) -> float:
        document = {**PLAIN, "x": {**PLAIN["x"], "belief": {"near": near, "sd": 0.1}}}
        found = SearchSpace.from_json(document)
        history = simulate(found, FIDELITY, _loss, Budget(trials=trials), strategy="random", seed=seed)
        return min(abs(float(trial.params["x"]) - 1) for trial in history.trials)

    def mean(near: float, trials: int) -> float:
        return float(np.mean([nearest(near, seed, trials) for seed in range(10)]))

    assert mean(1.0, 5) < 0.1 < 0.25 < mean(-0.9, 5)
    assert mean(-0.9, 60) < 0.1
