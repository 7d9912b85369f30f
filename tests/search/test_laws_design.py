"""Plans: within the budget, around the optimum, and with narrower intervals than before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.law_planted import Planted, sweep
from search.errors import SearchError
from search.laws.base import Interval, Runs
from search.laws.design import Plan, plan_loss, plan_optimum
from search.laws.loss import LossFit, fit_loss
from search.laws.optimum import fitted
from search.laws.optimum_law import OptimumLaw

CELLS = [(n, d) for n in (1e8, 4e8) for d in (2e9, 8e9)]
TARGET = (3.2e9, 6.4e10)
BUDGET = 4e20


def width(interval: Interval | None) -> float:
    assert interval is not None
    return float(np.log(interval.high / interval.low))


def joined(first: Runs, second: Runs) -> Runs:
    names = ("n", "d", "lr", "batch", "loss")
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in names
    }
    return Runs(**columns)


def planted_loss(n: np.ndarray, d: np.ndarray, rng: np.random.Generator) -> Runs:
    nothing = np.full(len(n), np.nan)
    loss = (1.8 + 480 / n**0.35 + 2100 / d**0.37) * np.exp(rng.normal(0, 0.004, len(n)))
    return Runs(n=n, d=d, lr=nothing, batch=nothing, loss=loss)


@pytest.fixture(scope="module")
def small() -> tuple[LossFit, Runs]:
    n, d = (x.ravel() for x in np.meshgrid(np.geomspace(5e7, 5e8, 4), np.geomspace(1e9, 1e10, 4)))
    runs = planted_loss(n, d, np.random.default_rng(1))
    return fit_loss(runs, {"draws": 60}, 0, lambda _: None), runs


@pytest.fixture(scope="module")
def planned(small: tuple[LossFit, Runs]) -> Plan:
    return plan_loss(small[0], *TARGET, BUDGET)


def test_a_plan_for_the_loss_shrinks_the_interval_within_its_budget(
    small: tuple[LossFit, Runs], planned: Plan
) -> None:
    (_, runs), plan, budget = small, planned, BUDGET
    assert 0.5 * budget < plan.flops <= budget
    assert all(run.lr is None for run in plan.runs)
    widths = [width(run.loss_after) for run in plan.runs]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] < width(plan.loss)
    rng = np.random.default_rng(2)
    added = planted_loss(np.array([r.n for r in plan.runs]), np.array([r.d for r in plan.runs]), rng)
    after = fit_loss(joined(runs, added), {"draws": 60}, 0, lambda _: None).predict(*TARGET).loss
    assert width(after) < 0.7 * width(plan.loss)


def test_the_same_seed_gives_the_same_plan(small: tuple[LossFit, Runs], planned: Plan) -> None:
    law, _ = small
    assert plan_loss(law, *TARGET, BUDGET) == planned


@pytest.fixture(scope="module")
def swept() -> tuple[OptimumLaw, Runs]:
    runs = sweep(Planted(), np.random.default_rng(0), CELLS, per_cell=10, noise=0.001)
    return fitted(runs, {"draws": 40}, 0, lambda _: None), runs


def test_a_plan_for_the_optimum_trains_new_cells_around_it(swept: tuple[OptimumLaw, Runs]) -> None:
    law, runs = swept
    budget = 2 * float((6 * runs.n * runs.d).sum())
    plan = plan_optimum(law, runs, *TARGET, budget, runs_per_cell=5)
    assert 0 < plan.flops <= budget
    assert len(plan.runs) == 5 * plan.cells
    last = plan.runs[-1]
    assert width(last.lr_after) <= width(plan.lr)
    assert width(last.batch_after) <= width(plan.batch)
    assert width(last.lr_after) + width(last.batch_after) < width(plan.lr) + width(plan.batch)
    for start in range(0, len(plan.runs), 5):
        cell = plan.runs[start : start + 5]
        assert {(run.n, run.d) for run in cell} == {(cell[0].n, cell[0].d)}
        assert cell[0].lr == pytest.approx(law.lr(N=cell[0].n, D=cell[0].d))
        lrs, batches = (np.array([getattr(run, name) for run in cell]) for name in ("lr", "batch"))
        assert np.sqrt(lrs.max() * lrs.min()) == pytest.approx(cell[0].lr)
        assert np.sqrt(batches.max() * batches.min()) == pytest.approx(cell[0].batch)


def test_what_cannot_be_planned_is_refused(
    small: tuple[LossFit, Runs], swept: tuple[OptimumLaw, Runs]
) -> None:
    def pointers(call: Any, *arguments: Any, **more: Any) -> list[str]:
        with pytest.raises(SearchError) as error:
            call(*arguments, **more)
        return [mistake.pointer for mistake in error.value.mistakes]

    assert pointers(plan_loss, small[0], *TARGET, 0.0) == ["/flops"]
    assert pointers(plan_loss, small[0], *TARGET, 1e10) == ["/flops"]
    assert pointers(plan_loss, small[0], -1.0, 1e10, 1e20) == ["/target/n"]
    assert pointers(plan_optimum, *swept, *TARGET, 1e10) == ["/flops"]
    assert pointers(plan_optimum, *swept, *TARGET, 1e20, runs_per_cell=2) == ["/runs_per_cell"]
