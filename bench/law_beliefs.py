"""A fitted law as the belief of a new study: what a right one spares, and what a wrong one costs.

The study trains one model of 1B parameters on 20B tokens (simulated: a planted law with a lopsided surface)
and searches the learning rate over five decades and the batch over three. Its belief is what a law says
that was fitted to runs of models of at most a fifth of the size, as the service resolves it; the wrong one
is the same, a factor of ten too high in the learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.table import Table

from search.laws.base import Runs
from search.laws.optimum import fitted
from search.simulator import Budget, simulate
from search.space import ParamValue, SearchSpace
from search.view import Fidelity
from service.law_beliefs import around
from trimtab.wire.laws import FormValue, PlateauBox, PredictionResponse, Range

TARGET = (1e9, 2e10)
FIDELITY = Fidelity(1, 27, 1)
TRAININGS = (1, 2, 4, 8, 16)
"""Budgets, in full trainings."""
STUDIES: Mapping[str, int] = {"asha": 20, "random": 20, "curve-bo": 4}
"""Seeds of each strategy; ``curve-bo`` thinks for a tenth of a second at each decision."""
LONGEST = {"curve-bo": 8}
"""Of the budgets, for those."""


def best(n: float, d: float) -> tuple[float, float]:
    """The planted learning rate and batch."""
    return 1.6 * n**-0.55 * d**0.14, 0.9 * n**0.08 * d**0.5


def excess(lr: float, batch: float, n: float, d: float) -> float:
    """The planted loss over its least, as a share; at most 1, like a run that learns nothing."""
    best_lr, best_batch = best(n, d)
    x, y = math.log(lr / best_lr), math.log(batch / best_batch)
    terms = ((0.004, 0.9 * x - 0.5 * y), (0.003, -0.9 * x), (0.004, y), (0.0006, 2.2 * x))
    return min(1.0, sum(weight * (math.exp(min(z, 30.0)) - 1 - z) for weight, z in terms))


def small_runs(seed: int) -> Runs:
    """Twelve runs in each of nine cells, with noise of 0.1 %."""
    rng = np.random.default_rng(seed)
    rows = []
    for n in (2.5e7, 7e7, 2e8):
        for d in (10 * n, 30 * n, 90 * n):
            best_lr, best_batch = best(n, d)
            for _ in range(12):
                lr, batch = (
                    best_lr * math.exp(rng.normal(0, 0.8)),
                    best_batch * math.exp(rng.normal(0, 0.8)),
                )
                rows.append(
                    (n, d, lr, batch, 3.0 * (1 + excess(lr, batch, n, d)) * (1 + rng.normal(0, 1e-3)))
                )
    n_, d_, lr_, batch_, loss_ = np.array(rows).T
    return Runs(n=n_, d=d_, lr=lr_, batch=batch_, loss=loss_)


def beliefs() -> dict[str, dict[str, Any]]:
    """What the fitted law says of the learning rate and the batch, as a study stores it."""
    found = fitted(small_runs(0), {}, 0, lambda share: None).predict(*TARGET)
    answer = PredictionResponse(
        fit="bench",
        n=found.n,
        d=found.d,
        lr=Range(low=found.lr.low, value=found.lr.value, high=found.lr.high),
        batch=Range(low=found.batch.low, value=found.batch.value, high=found.batch.high),
        forms=[FormValue(name=form.name, lr=form.lr, batch=form.batch) for form in found.forms],
        plateau=[PlateauBox(excess=box.excess, lr=box.lr, batch=box.batch) for box in found.plateau],
        loss=None,
        confident=True,
        cautions=[],
    )
    told = {}
    for name in ("lr", "batch"):
        between, factor = around(answer, name)
        told[name] = {"between": list(between), "factor": factor}
    return told


def space(believed: Mapping[str, Mapping[str, Any]], off: float = 1.0) -> SearchSpace:
    """The study's space; the belief about the learning rate is ``off`` by so much."""
    lr: dict[str, Any] = {"type": "float", "low": 1e-6, "high": 1e-1, "log": True}
    batch: dict[str, Any] = {"type": "float", "low": 1.6e4, "high": 1.6e7, "log": True}
    if believed:
        low, high = believed["lr"]["between"]
        lr["belief"] = {"between": [low * off, high * off], "factor": believed["lr"]["factor"]}
        batch["belief"] = dict(believed["batch"])
    return SearchSpace.from_json({"lr": lr, "batch": batch})


def curve(params: Mapping[str, ParamValue], step: int) -> float:
    """The loss after ``step`` of 27 parts of the training; the excess shows from the start."""
    over = excess(float(params["lr"]), float(params["batch"]), *TARGET)
    return float(2.4 * (1 + over) + 1.5 * (step**-0.5 - 27**-0.5))


def regrets(searched: SearchSpace, strategy: str, seed: int) -> list[float]:
    """The excess of the best loss after each of ``TRAININGS``; NaN where the study is shorter."""
    longest = LONGEST.get(strategy, TRAININGS[-1])
    history = simulate(
        searched, FIDELITY, curve, Budget(fidelity=longest * 27), strategy=strategy, seed=seed
    )
    found = []
    for trainings in TRAININGS:
        best_loss = history.best_by_units(trainings * 27) if trainings <= longest else None
        found.append(math.nan if best_loss is None else best_loss / 2.4 - 1)
    return found


def run() -> Table:
    """The table: mean regrets in per cent of the least loss."""
    told = beliefs()
    table = Table(title="A fitted law as belief: mean excess loss of the best (%), after so many trainings")
    table.add_column("strategy")
    table.add_column("belief")
    for trainings in TRAININGS:
        table.add_column(str(trainings), justify="right")
    arms = {"none": space({}), "the law": space(told), "the law, 10 times too high": space(told, 10.0)}
    for strategy, seeds in STUDIES.items():
        for name, searched in arms.items():
            means = np.mean([regrets(searched, strategy, seed) for seed in range(seeds)], axis=0)
            table.add_row(strategy, name, *("" if math.isnan(x) else f"{100 * x:.2f}" for x in means))
    return table


if __name__ == "__main__":
    from rich.console import Console

    Console(width=110).print(run())
