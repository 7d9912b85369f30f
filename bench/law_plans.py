"""Do plans of runs pay? Planted laws, whose truth is known, fitted before and after the runs that were
added.

``python -m bench law_plans [--repeats 20] [--only loss,optimum]``

A sweep of small runs is fitted, and so many times its compute is spent on: the plan's runs, repeats of the
largest cell, the sweep's grid again, or a uniform grid as far towards the target as the compute reaches.
Shown are the width of the 90 % interval at the target (in logarithms, the median) and the root mean square
of the true error. Cells scatter about the law of the optimum by 0.05, so repeats of one cell cannot tell
all.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.loss_laws import planted
from search.laws.base import Array, Interval, PowerLaw, Runs
from search.laws.design import plan_loss, plan_optimum
from search.laws.loss import LossFit, fit_loss
from search.laws.optimum import fitted
from search.laws.optimum_law import OptimumLaw

TARGET = (7e9, 1.4e11)
LOSS_FACTOR, OPTIMUM_FACTOR = 4.0, 2.0
"""Compute of the added runs, over that of the sweep."""
NOISE = {"loss": 0.005, "optimum": 0.001}
SCATTER = 0.05
LR = PowerLaw(float(np.log(0.5)), {"N": -0.6, "D": 0.25})
BATCH = PowerLaw(float(np.log(2.0)), {"N": -0.1, "D": 0.6})
DRAWS = 60
PER_CELL = 6

Outcome = tuple[list[float], list[float], int]
"""Widths of intervals, errors of their values, cells added."""


def main(arguments: Sequence[str], console: Console) -> int:
    """Print the tables. Exit code 2 for bad arguments."""
    parser = argparse.ArgumentParser(prog="python -m bench law_plans", description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--only", default="loss,optimum")
    given = parser.parse_args(arguments)
    kinds: dict[str, tuple[Callable[[int], dict[str, Outcome]], tuple[str, ...]]] = {
        "loss": (loss_plans, ("loss",)),
        "optimum": (optimum_plans, ("lr", "batch")),
    }
    for name in given.only.split(","):
        if name not in kinds:
            parser.error(f"no kind {name!r}; there are {', '.join(kinds)}")
        run, quantities = kinds[name]
        found: dict[str, list[Outcome]] = {}
        for seed in range(given.repeats):
            for kind, outcome in run(seed).items():
                found.setdefault(kind, []).append(outcome)
        console.print(table(name, found, quantities))
    return 0


def table(name: str, found: Mapping[str, Sequence[Outcome]], quantities: Sequence[str]) -> Table:
    """Median widths and root mean square errors of every kind of plan."""
    count = len(next(iter(found.values())))
    printed = Table(title=f"Plans for the law of the {name}: {count} sweeps, target N 7e9, D 1.4e11")
    headings = [f"{what} of log {q}" for q in quantities for what in ("width", "true error")]
    for heading in ("runs added", *headings, "cells added"):
        printed.add_column(heading)
    for kind, outcomes in found.items():
        cells = []
        for index in range(len(quantities)):
            cells.append(f"{np.median([widths[index] for widths, _, _ in outcomes]):.4f}")
            cells.append(f"{np.sqrt(np.mean([errors[index] ** 2 for _, errors, _ in outcomes])):.4f}")
        printed.add_row(kind, *cells, f"{np.mean([added for _, _, added in outcomes]):.1f}")
    return printed


def loss_plans(seed: int) -> dict[str, Outcome]:
    """One sweep of 16 cells, N 5e7 to 5e8 and D 1e9 to 1e10, and what was added to it."""
    rng = np.random.default_rng(seed)
    sweep = _grid(5e7, 5e8, 1e9, 1e10, 4)
    runs = _loss_runs(sweep, rng)
    law = _fit_loss(runs, seed)
    budget = LOSS_FACTOR * float(6 * sweep.prod(axis=1).sum())
    plan = plan_loss(law, *TARGET, budget, seed)
    added = {
        "none": sweep[:0],
        "the plan's": np.array([(run.n, run.d) for run in plan.runs]),
        "the largest cell again": np.repeat(sweep[-1:], int(budget // (6 * sweep[-1].prod())), axis=0),
        "the grid again": np.tile(sweep, (int(LOSS_FACTOR), 1)),
        "a uniform grid": _reaching(sweep, 4, budget),
    }
    true = float(planted(np.array([TARGET[0]]), np.array([TARGET[1]]))[0])
    found = {}
    for kind, cells in added.items():
        law = _fit_loss(_joined([runs, _loss_runs(cells, rng)]), seed)
        said = law.predict(*TARGET).loss
        found[kind] = ([_width(said)], [float(np.log(said.value / true))], len(cells))
    return found


def optimum_plans(seed: int) -> dict[str, Outcome]:
    """One sweep of 9 cells, N 1e8 to 4e8 and D 2e9 to 8e9, 8 runs each at random, and what was added."""
    rng = np.random.default_rng(seed)
    sweep = _grid(1e8, 4e8, 2e9, 8e9, 3)
    runs = _joined([_cell(n, d, rng, _random_settings(n, d, rng)) for n, d in sweep.tolist()])
    law = _fit_optimum(runs, seed)
    budget = OPTIMUM_FACTOR * float((6 * runs.n * runs.d).sum())
    plan = plan_optimum(law, runs, *TARGET, budget, PER_CELL, seed)
    planned = []
    for start in range(0, len(plan.runs), PER_CELL):
        cell = plan.runs[start : start + PER_CELL]
        settings = np.array([(run.lr, run.batch) for run in cell], dtype=float)
        planned.append((cell[0].n, cell[0].d, settings))
    n, d = sweep[-1].tolist()
    count = int(budget // (6 * n * d))
    uniform = _reaching(sweep, 3, budget / PER_CELL).tolist()
    added = {
        "none": [],
        "the plan's": planned,
        "the largest cell again": [(n, d, _random_settings(n, d, rng, count))],
        "the grid again": [(n, d, _random_settings(n, d, rng, 16)) for n, d in sweep.tolist()],
        "a uniform grid": [(n, d, _random_settings(n, d, rng, PER_CELL)) for n, d in uniform],
    }
    best = LR(N=TARGET[0], D=TARGET[1]), BATCH(N=TARGET[0], D=TARGET[1])
    found = {}
    for kind, cells in added.items():
        more = [_cell(*cell[:2], rng, cell[2]) for cell in cells]
        said = _fit_optimum(_joined([runs, *more]), seed).optimum(*TARGET)
        errors = [float(np.log(each.value / true)) for each, true in zip(said, best, strict=True)]
        found[kind] = ([_width(each) for each in said], errors, len(cells))
    return found


def _grid(low_n: float, high_n: float, low_d: float, high_d: float, side: int) -> Array:
    """Shape (side^2, 2), the largest cell last."""
    axes = np.geomspace(low_n, high_n, side), np.geomspace(low_d, high_d, side)
    return np.stack(np.meshgrid(*axes), -1).reshape(-1, 2)


def _reaching(sweep: Array, side: int, budget: float) -> Array:
    """The grid of so many cells that reaches as far beyond the sweep as ``budget`` pays for."""
    low, high = sweep[0], sweep[-1]
    for scale in np.linspace(10.0, 0.1, 500):
        cells = _grid(low[0], high[0] * scale, low[1], high[1] * scale, side)
        if 6 * cells.prod(axis=1).sum() <= budget:
            return cells
    return sweep[:0]


def _loss_runs(cells: Array, rng: np.random.Generator) -> Runs:
    n, d = cells[:, 0], cells[:, 1]
    nothing = np.full(len(n), np.nan)
    loss = planted(n, d) * np.exp(rng.normal(0, NOISE["loss"], len(n)))
    return Runs(n=n, d=d, lr=nothing, batch=nothing, loss=loss)


def _random_settings(n: float, d: float, rng: np.random.Generator, count: int = 8) -> Array:
    """Learning rates and batches within a factor of 3.3 of the best, shape (count, 2)."""
    return np.array([LR(N=n, D=d), BATCH(N=n, D=d)]) * np.exp(rng.uniform(-1.2, 1.2, (count, 2)))


def _cell(n: float, d: float, rng: np.random.Generator, settings: Array) -> Runs:
    """Runs of one cell: lopsided about its optimum, which scatters about the law."""
    moved = SCATTER * rng.standard_normal(2)
    u = np.log(settings[:, 0] / LR(N=n, D=d)) - moved[0]
    v = np.log(settings[:, 1] / BATCH(N=n, D=d)) - moved[1]
    excess = 0.006 * (_lopsided(u - 0.4 * v) + _lopsided(v)) * (n / 2e8) ** -0.1
    noise = np.exp(rng.normal(0, NOISE["optimum"], len(settings)))
    loss = planted(np.array([n]), np.array([d])) * (1 + excess) * noise
    one = np.ones(len(settings))
    return Runs(n=n * one, d=d * one, lr=settings[:, 0], batch=settings[:, 1], loss=loss)


def _lopsided(x: Array, bend: float = 0.35) -> Array:
    return np.asarray(2 * (np.exp(bend * x) - 1 - bend * x) / bend**2)


def _joined(parts: Sequence[Runs]) -> Runs:
    n, d, lr, batch, loss = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("n", "d", "lr", "batch", "loss")
    )
    return Runs(n=n, d=d, lr=lr, batch=batch, loss=loss)


def _fit_loss(runs: Runs, seed: int) -> LossFit:
    return fit_loss(runs, {"draws": DRAWS}, seed, lambda _: None)


def _fit_optimum(runs: Runs, seed: int) -> OptimumLaw:
    return fitted(runs, {"draws": DRAWS, "forms": False}, seed, lambda _: None)


def _width(interval: Interval) -> float:
    return float(np.log(interval.high / interval.low))
