"""The analytic functions: their optima are what they are said to be, and both sides are told the same."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from bench.analytic import _ax_parameters, _from_ax, table
from bench.analytic_functions import _best_mixture, functions
from bench.search.results import Row
from search.sampling import candidates
from search.space import SearchSpace

BEST: dict[str, list[dict[str, Any]]] = {
    "branin": [{"x0": math.pi, "x1": 2.275}],
    "branin-disk": [{"x0": math.pi, "x1": 2.275}, {"x0": -math.pi, "x1": 12.275}],
    "hartmann6": [
        dict(
            zip(
                (f"x{i}" for i in range(6)),
                (0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573),
                strict=True,
            )
        )
    ],
    "hartmann3-in-20": [{f"x{i}": {2: 0.114614, 9: 0.555649, 16: 0.852547}.get(i, 0.5) for i in range(20)}],
    "dtlz2": [{"x0": share, "x1": 0.5, "x2": 0.5, "x3": 0.5} for share in np.linspace(0, 1, 2001)],
    "conditional": [{"lr": 1e-3, "optimizer": "adam", "beta": 0.7, "clip": True, "clip_at": 10**-0.5}],
    "mixture": [{f"mix/d{i}": float(share) for i, share in enumerate(_best_mixture())}],
}


@pytest.mark.parametrize("name", sorted(BEST))
def test_nothing_is_missed_at_the_optimum_and_something_elsewhere(name: str) -> None:
    function = functions()[name]
    assert function.score(BEST[name]) == pytest.approx(0, abs=1e-3)
    space = SearchSpace.from_json(function.space)
    scores = [function.score([params]) for params in candidates(space, 200, np.random.default_rng(0))]
    assert min(scores) > -1e-6


def test_the_disk_keeps_out_what_lies_beyond_it() -> None:
    function = functions()["branin-disk"]
    assert function.score([{"x0": -math.pi, "x1": 12.275}]) == function.nothing_kept


@pytest.mark.parametrize("name", sorted(functions()))
def test_ax_searches_the_same_parameters(name: str) -> None:
    function = functions()[name]
    own = set(SearchSpace.from_json(function.space).by_name)
    point: dict[str, Any] = {
        p.name: p.bounds[0] if hasattr(p, "bounds") else p.values[0] for p in _ax_parameters(function)
    }
    assert set(_from_ax(function, point)) == own
    assert math.isfinite(function.score([_from_ax(function, point)]))


def test_the_table_compares_the_seeds_that_both_have() -> None:
    def row(engine: str, seed: int, missed: float) -> Row:
        return Row("branin", engine, 1, seed, 20, {"20": missed}, 20, 0, 20, 10.0)

    rows = [row("ax", seed, 1.0 + 0.1 * seed) for seed in range(4)]
    rows += [row("bo", seed, 0.5 + 0.1 * seed) for seed in range(3)]
    (cells,) = zip(*(column.cells for column in table(rows).columns), strict=True)
    assert cells[:3] == ("branin", "20", "3")
    assert cells[5].startswith("-0.5 ± ")
    assert "better" in cells[6]
