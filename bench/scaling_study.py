"""Does a ``scaling`` study pay? Planted laws, whose truth is known, at the same compute.

``python -m bench scaling_study [--seeds 10] [--flops 5e19]``

A study of the strategy spends its FLOPs on a planted law (:mod:`bench.law_planted`); beside it stand even
sweeps of the same compute, fitted in the end: the very cells of the study, with as many runs, spread evenly
over learning rate and batch; and a grid of three sizes and three lengths, twelve runs each, as far towards
the largest as the compute reaches. Losses have noise of 0.1 %, and cells scatter about the law by 0.05. The
target has six times the parameters of the largest model, and three times the longest training.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.law_planted import Planted
from search.laws.base import Interval, Runs
from search.laws.optimum import fitted
from search.sampling import sobol_points
from search.simulator import Budget, Params, simulate
from search.space import SearchSpace
from search.view import Fidelity

TARGET = (1e9, 2e10)
SIZES = np.geomspace(1e7, 1.6e8, 9).round()
LENGTHS = np.geomspace(2e8, 6.4e9, 11).round()
LR, BATCH = (1e-4, 3e-2), (2.0**14, 2.0**21)
NOISE, SCATTER = 0.001, 0.05
DRAWS = 100
GRID_SIDE, GRID_RUNS = 3, 12

Cell = tuple[float, float]


@dataclass(frozen=True)
class Outcome:
    """What the runs of one way say of the target."""

    width: tuple[float, float]
    """Of the 90 % intervals of lr and batch, in logarithms."""
    error: tuple[float, float]
    """Of lr and batch, in logarithms."""
    covered: tuple[bool, bool]
    excess: float
    """Loss at the predicted lr and batch over the least, a share."""
    grave: bool
    runs: int
    cells: int
    flops: float


def main(arguments: Sequence[str], console: Console) -> int:
    """Print the table. Exit code 2 for bad arguments."""
    parser = argparse.ArgumentParser(prog="python -m bench scaling_study", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--flops", type=float, default=5e19)
    given = parser.parse_args(arguments)
    found: dict[str, list[Outcome]] = {}
    for seed in range(given.seeds):
        for way, outcome in outcomes(seed, given.flops).items():
            found.setdefault(way, []).append(outcome)
            console.print(f"seed {seed}, {way}: {outcome}", style="dim")
    console.print(table(found, given.flops))
    return 0


def table(found: Mapping[str, Sequence[Outcome]], flops: float) -> Table:
    """Medians of widths, root mean squares of errors, shares of the rest."""
    count = len(next(iter(found.values())))
    printed = Table(
        title=f"{count} studies of {flops:.2g} FLOP, target N {TARGET[0]:.0e}, D {TARGET[1]:.0e}"
    )
    headings = [
        f"{what} of log {q}" for q in ("lr", "batch") for what in ("width", "true error", "covered")
    ]
    for heading in ("", *headings, "excess loss", "grave cautions", "runs", "cells", "FLOP spent"):
        printed.add_column(heading)
    for way, rows in found.items():
        cells = []
        for axis in (0, 1):
            cells.append(f"{np.median([row.width[axis] for row in rows]):.2f}")
            cells.append(f"{np.sqrt(np.mean([row.error[axis] ** 2 for row in rows])):.3f}")
            cells.append(f"{np.mean([row.covered[axis] for row in rows]):.0%}")
        printed.add_row(
            way,
            *cells,
            f"{np.mean([row.excess for row in rows]):.3%}",
            f"{np.mean([row.grave for row in rows]):.0%}",
            f"{np.mean([row.runs for row in rows]):.0f}",
            f"{np.mean([row.cells for row in rows]):.1f}",
            f"{np.mean([row.flops for row in rows]):.2g}",
        )
    return printed


def outcomes(seed: int, flops: float) -> dict[str, Outcome]:
    """By way: what it found of one planted law."""
    trainer = Trainer(seed)
    study = trainer.study(flops)
    cells = Counter((n, d) for n, d, _, _ in study)
    reach = grid_within(flops / GRID_RUNS)
    ways = {
        "scaling": study,
        "the same cells, evenly": evenly(cells, seed),
        "a grid of 3 by 3, evenly": evenly(dict.fromkeys(reach, GRID_RUNS), seed),
    }
    return {way: trainer.judge(runs, seed) for way, runs in ways.items()}


class Trainer:
    """Trains under one planted law: a run's loss depends on its settings and the seed alone."""

    def __init__(self, seed: int) -> None:
        self._planted = Planted()
        self._seed = seed

    def loss(self, n: float, d: float, lr: float, batch: float) -> float:
        """At the end of a run, the same whenever it is asked for."""
        moved = np.exp(SCATTER * self._normal(n, d))
        noise = self._normal(n, d, lr, batch)[0]
        at = np.array(lr / moved[0]), np.array(batch / moved[1])
        return float(self._planted.loss(n, d, *at) * (1 + NOISE * noise))

    def study(self, flops: float) -> list[tuple[float, float, float, float]]:
        """The runs (N, D, lr, batch) of a study that spends all it has."""
        space = SearchSpace.from_json(
            {
                "size": {"type": "ordered", "values": SIZES.tolist()},
                "length": {"type": "ordered", "values": LENGTHS.tolist()},
                "batch_size": {"type": "ordered", "values": np.geomspace(*BATCH, 8).round().tolist()},
                "lr": {"type": "float", "low": LR[0], "high": LR[1], "log": True},
            }
        )
        history = simulate(
            space,
            Fidelity(1, 1, 1),
            lambda params, step: self.loss(*_run(params)),
            Budget(),
            strategy="scaling",
            options={
                "size": "size",
                "length": "length",
                "target_n": TARGET[0],
                "target_d": TARGET[1],
                "flops": flops,
                "within": 1.001,
            },
            workers=4,
            seed=self._seed,
            outcomes=lambda params, step: {
                "parameters": float(params["size"]),
                "tokens": float(params["length"]),
            },
        )
        return [_run(trial.params) for trial in history.trials]

    def judge(self, runs: Sequence[tuple[float, float, float, float]], seed: int) -> Outcome:
        """What the law fitted to these runs says of the target."""
        n, d, lr, batch = np.array(runs).T
        loss = np.array([self.loss(*run) for run in runs])
        law = fitted(
            Runs(n=n, d=d, lr=lr, batch=batch, loss=loss),
            {"draws": DRAWS, "forms": False},
            seed,
            lambda _: None,
        )
        said = law.predict(*TARGET)
        best = self._planted.best(*TARGET)
        both = tuple(zip((said.lr, said.batch), best, strict=True))
        width, error = ([f(*each) for each in both] for f in (_width, _error))
        covered = [each.low <= true <= each.high for each, true in both]
        return Outcome(
            width=(width[0], width[1]),
            error=(error[0], error[1]),
            covered=(covered[0], covered[1]),
            excess=float(
                self._planted.excess(*TARGET, np.array(said.lr.value), np.array(said.batch.value))
            ),
            grave=any(caution.grave for caution in said.cautions),
            runs=len(runs),
            cells=len(law.cells),
            flops=float((6 * n * d).sum()),
        )

    def _normal(self, *what: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        bits = np.array(what).view(np.uint32).tolist()
        return np.random.default_rng([self._seed, *bits]).standard_normal(2)


def _width(said: Interval, _: float) -> float:
    return float(np.log(said.high / said.low))


def _error(said: Interval, true: float) -> float:
    return float(np.log(said.value / true))


def _run(params: Params) -> tuple[float, float, float, float]:
    n, d, lr, batch = (float(params[name]) for name in ("size", "length", "lr", "batch_size"))
    return n, d, lr, batch


def evenly(cells: Mapping[Cell, int], seed: int) -> list[tuple[float, float, float, float]]:
    """Runs of a Sobol sequence that goes on from cell to cell."""
    points = sobol_points(2, 0, seed)
    low, high = np.log([LR[0], BATCH[0]]), np.log([LR[1], BATCH[1]])
    found = []
    for (n, d), count in cells.items():
        for point in islice(points, count):
            lr, batch = np.exp(low + point * (high - low)).tolist()
            found.append((n, d, lr, batch))
    return found


def grid_within(flops: float) -> list[Cell]:
    """The largest grid from the smallest cell of the space towards its largest that ``flops`` pay for."""
    for reach in np.linspace(1.0, 0.05, 96):
        sizes = np.geomspace(SIZES[0], SIZES[0] * (SIZES[-1] / SIZES[0]) ** reach, GRID_SIDE)
        lengths = np.geomspace(LENGTHS[0], LENGTHS[0] * (LENGTHS[-1] / LENGTHS[0]) ** reach, GRID_SIDE)
        cells = [(float(n), float(d)) for n in sizes for d in lengths]
        if sum(6 * n * d for n, d in cells) <= flops:
            return cells
    raise ValueError(f"{flops:g} FLOP pay for no grid")
