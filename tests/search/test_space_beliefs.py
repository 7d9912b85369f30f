"""Beliefs: densities on every scale, draws that follow them, and a weight that falls."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.beliefs import believed_candidates, leaning, log_prior, weight
from search.sampling import candidates, sobol_points
from search.space import SearchSpace
from tests.search.support import MIXED, constrained, space

LR = {"type": "float", "low": 1e-6, "high": 1.0, "log": True}
BELIEVED = space({"lr": {**LR, "belief": {"near": 3e-4, "factor": 3}}})


def _density(found: SearchSpace, *values: float) -> Any:
    return log_prior(found, [{"lr": value} for value in values])


def test_a_factor_is_a_log_normal_density() -> None:
    at = _density(BELIEVED, 3e-4, 9e-4, 1e-4, 27e-4)
    assert at - at[0] == pytest.approx([0, -0.5, -0.5, -2])


def test_the_density_has_mean_one_over_the_cube() -> None:
    for belief in (
        {"near": 3e-4, "factor": 3},
        {"between": [1e-3, 1e-2], "factor": 1.5},
        {"near": 0.5, "sd": 0.1},
    ):
        found = space({"lr": {**LR, "belief": belief}})
        drawn = [found.decode([u]) for u in (np.arange(20_000) + 0.5) / 20_000]
        assert np.exp(log_prior(found, drawn)).mean() == pytest.approx(1, rel=2e-3)


def test_a_plateau_is_flat_and_a_normal_belief_is_on_the_values() -> None:
    plateau = space({"lr": {**LR, "belief": {"between": [1e-3, 1e-2], "factor": 2}}})
    at = _density(plateau, 1e-3, 5e-3, 1e-2, 2e-2)
    assert at - at[0] == pytest.approx([0, 0, 0, -0.5])
    normal = space({"lr": {"type": "float", "low": 0, "high": 1, "belief": {"near": 0.1, "sd": 0.02}}})
    at = _density(normal, 0.1, 0.12, 0.06)
    assert at - at[0] == pytest.approx([0, -0.5, -2])


def test_who_lacks_the_parameter_is_neither_better_nor_worse() -> None:
    found = space(
        {
            "optimizer": {"type": "categorical", "choices": ["adam", "sgd"]},
            "momentum": {
                "type": "float",
                "low": 0,
                "high": 1,
                "when": {"optimizer": "sgd"},
                "belief": {"near": 0.9, "sd": 0.05},
            },
        }
    )
    adam, good, bad = log_prior(
        found,
        [
            {"optimizer": "adam"},
            {"optimizer": "sgd", "momentum": 0.9},
            {"optimizer": "sgd", "momentum": 0.5},
        ],
    )
    assert bad < adam == 0 < good


def test_draws_follow_the_belief_and_its_power() -> None:
    rng = np.random.default_rng(0)
    for power in (1.0, 0.25):
        drawn = np.log([float(p["lr"]) for p in believed_candidates(BELIEVED, 4000, rng, power)])
        assert drawn.mean() == pytest.approx(math.log(3e-4), abs=0.1)
        assert drawn.std() == pytest.approx(math.log(3) / math.sqrt(power), rel=0.05)


def test_draws_of_whole_numbers_follow_the_belief() -> None:
    found = space({"depth": {"type": "int", "low": 1, "high": 20, "belief": {"near": 4, "sd": 1}}})
    drawn = [p["depth"] for p in believed_candidates(found, 2000, np.random.default_rng(0))]
    assert np.mean(drawn) == pytest.approx(4, abs=0.1)
    assert np.std(drawn) == pytest.approx(1, rel=0.1)


def test_a_very_narrow_belief_still_gives_draws() -> None:
    found = space({"lr": {**LR, "belief": {"near": 3e-4, "factor": 1.0000001}}})
    drawn = believed_candidates(found, 10, np.random.default_rng(0))
    assert all(float(p["lr"]) == pytest.approx(3e-4, rel=0.02) for p in drawn)
    assert np.isfinite(log_prior(found, drawn)).all()


@settings(max_examples=50, deadline=None)
@given(constrained(), st.integers(0, 2**32))
def test_believed_candidates_are_legal(found: SearchSpace, seed: int) -> None:
    drawn = believed_candidates(found, 10, np.random.default_rng(seed))
    assert len(drawn) == 10
    assert all(found.check(params) == [] for params in drawn)


def test_believed_candidates_are_legal_where_constraints_are_narrow() -> None:
    ten: dict[str, Any] = {f"x{i}": {"type": "float", "low": 0, "high": 1} for i in range(10)}
    ten["x0"]["belief"] = {"near": 0.2, "sd": 0.05}
    found = SearchSpace.from_json(ten, [{"terms": dict.fromkeys(ten, 1.0), "relation": "<=", "bound": 0.3}])
    drawn = believed_candidates(found, 100, np.random.default_rng(0))
    plain = candidates(found, 100, np.random.default_rng(0))
    assert all(found.check(params) == [] for params in drawn)
    assert np.mean([p["x0"] for p in drawn]) > 2 * np.mean([p["x0"] for p in plain])


def test_the_weight_falls_by_half_after_ten_results() -> None:
    assert [weight(n) for n in (0, 10, 30)] == [1, 0.5, 0.25]


def test_points_lean_less_and_less_and_the_same_place_always_alike() -> None:
    found = space({**MIXED, "lr": {**LR, "belief": {"near": 3e-4, "factor": 1.1}}})
    plain = sobol_points(len(found.dimensions), 0, 1)
    leaned = leaning(found, sobol_points(len(found.dimensions), 0, 1), 0)
    moved = [bool((a != b).any()) for a, b, _ in zip(plain, leaned, range(200), strict=False)]
    assert moved[0]
    assert sum(moved[:20]) > 2 * sum(moved[20:40])
    assert 20 < sum(moved) < 40
    later = leaning(found, sobol_points(len(found.dimensions), 50, 1), 50)
    plain = sobol_points(len(found.dimensions), 50, 1)
    again = [bool((a != b).any()) for a, b, _ in zip(plain, later, range(150), strict=False)]
    assert again == moved[50:]


def test_without_beliefs_nothing_leans() -> None:
    found = space(MIXED)
    points = [np.full(len(found.dimensions), 0.3)]
    assert list(leaning(found, points, 0)) == points
    assert (log_prior(found, candidates(found, 5, np.random.default_rng(0))) == 0).all()
