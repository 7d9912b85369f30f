"""Laws of the optimum on real pretraining runs and on planted laws, beside the published ones.

``python -m bench laws [--times 10] [--planted 200] [--only real|planted|bends|speed]``

- Folds: each of the nine cells of ``steplaw_dev.csv`` (in the folder that ``TRIMTAB_BENCH_DATA`` names, by
  default ``../shared/data`` beside the repository) is left out in turn, and the laws fitted to the others,
  with all runs and with 10 random runs a cell (``--times`` times). Excess is what the predicted learning
  rate and batch would lose against the left-out cell's best: by a referee fitted to that cell alone
  (:mod:`bench.law_referee`), and by the run nearest to the prediction that was really trained.
- Extrapolation: all cells of the largest N are left out; those of the largest D of each N; the three of
  most compute.
- Planted laws: how many of the 90 % intervals hold the truth, inside the cells and outside.
- Bends: how often a law whose exponent changes midway is flagged, and a straight one.
- Seconds of a fit of 2,000 runs with 200 draws.

N in that file is non-embedding parameters, as the Step Law has it; D and batches are tokens.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench import law_referee
from bench.law_planted import Planted, sweep
from bench.law_referee import Referee
from search.laws import published
from search.laws.base import Array, Runs
from search.laws.cells import gather
from search.laws.optimum import fitted
from search.laws.optimum_law import OptimumLaw

FEW = 10
JOINT = "joint (the default)"
TARGETS = {"inside": (2.1e8, 1.5e10), "outside": (1e9, 3e10)}
PLANTED: Mapping[str, Mapping[str, Any]] = {
    "9 cells of 72 runs": {"noise": 1e-3},
    "9 cells of 20 runs": {"noise": 1e-3, "per_cell": 20},
    "9 cells of 10 runs": {"noise": 1e-3, "per_cell": 10},
    "9 cells of 6 runs": {"noise": 1e-3, "per_cell": 6},
    "9 cells of 20 runs, cells scatter by 0.1": {"noise": 1e-3, "per_cell": 20, "scatter": 0.1},
}
BENDS: Mapping[str, Mapping[str, float]] = {
    "9 cells of 20 runs": {},
    "cells scatter by 0.08": {"scatter": 0.08},
}
BROKEN = (("", 0.0), ("N", -0.3), ("N", -0.6), ("N", -1.2), ("D", -0.3), ("D", -0.6))


@dataclass(frozen=True, slots=True)
class Data:
    """Runs by cell, with a referee for each."""

    runs: Runs
    cell: NDArray[np.intp]
    n: Array
    d: Array
    referees: tuple[Referee, ...]
    seconds: tuple[Referee, ...]
    """Those of the second-best smoother."""

    def part(self, kept: NDArray[np.bool_]) -> Runs:
        runs = self.runs
        return Runs(runs.n[kept], runs.d[kept], runs.lr[kept], runs.batch[kept], runs.loss[kept])

    def few(self, seed: int) -> NDArray[np.bool_]:
        """(r,) true for FEW random runs of each cell."""
        rng, kept = np.random.default_rng(seed), np.zeros(len(self.cell), dtype=bool)
        for cell in range(len(self.n)):
            kept[rng.choice(np.flatnonzero(self.cell == cell), FEW, replace=False)] = True
        return kept

    def excess(self, cell: int, place: Array) -> tuple[float, float, float]:
        """Of a place in ``cell``: by the referee, by the second one, and of the run trained nearest."""
        judges = self.referees[cell], self.seconds[cell]
        return judges[0].excess(place), judges[1].excess(place), self.nearest(cell, place)

    def nearest(self, cell: int, place: Array) -> float:
        """The excess of the run of ``cell`` that was trained nearest to ``place``."""
        mine = np.flatnonzero(self.cell == cell)
        lr, batch = np.log(self.runs.lr[mine]), np.log(self.runs.batch[mine])
        loss = self.runs.loss[mine]
        return float(loss[np.argmin(np.hypot(lr - place[0], batch - place[1]))] / loss.min() - 1)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one law on one left-out cell; excesses are shares of the loss."""

    law: str
    referee: float
    second: float
    nearest: float
    covered: tuple[bool, bool] | None = None
    widths: tuple[float, float] | None = None
    """Half the intervals, in log units."""


def load() -> Data:
    """Read ``steplaw_dev.csv`` and fit the referees."""
    folder = os.environ.get("TRIMTAB_BENCH_DATA")
    shared = Path(folder) if folder else Path(__file__).resolve().parents[2] / "shared" / "data"
    with (shared / "steplaw_dev.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    names = ("N", "D", "lr", "batch_tokens", "loss")
    n, d, lr, batch, loss = (np.array([float(row[name]) for row in rows]) for name in names)
    sizes, cell = np.unique(np.stack([n, d]), axis=1, return_inverse=True)
    cell = np.asarray(cell).reshape(-1)
    places = np.stack([np.log(lr), np.log(batch)], 1)

    def judges(name: str) -> tuple[Referee, ...]:
        smoother = law_referee.SMOOTHERS[name]
        return tuple(
            law_referee.referee(places[cell == c], loss[cell == c], smoother) for c in range(sizes.shape[1])
        )

    runs = Runs(n, d, lr, batch, loss)
    return Data(runs, cell, sizes[0], sizes[1], judges(law_referee.CHOSEN), judges(law_referee.SECOND))


def judged(
    data: Data, kept: NDArray[np.bool_], held: Sequence[int], seed: int, draws: int
) -> list[Verdict]:
    """All laws, fitted to the runs ``kept`` (r,) that are not in the cells ``held``, on these cells."""
    runs = data.part(kept & ~np.isin(data.cell, held))
    law: OptimumLaw = fitted(runs, {"draws": draws}, seed, lambda share: None)
    cells = gather(runs)
    found = []
    for cell in held:
        n, d = float(data.n[cell]), float(data.d[cell])
        answer = law.optimum(n, d)
        place = np.log([interval.value for interval in answer])
        truth = data.referees[cell].best
        inside = [i.low <= np.exp(x) <= i.high for i, x in zip(answer, truth, strict=True)]
        widths = [float(np.log(i.high / i.low) / 2) for i in answer]
        found.append(
            Verdict(JOINT, *data.excess(cell, place), (inside[0], inside[1]), (widths[0], widths[1]))
        )
        others = [law.alternative(other, n, d) for other in law.alternatives]
        for form in (*others, *published.laws(n, d), *published.rules(cells, n, d)):
            found.append(Verdict(form.name, *data.excess(cell, np.log([form.lr, form.batch]))))
    return found


def folds(data: Data, times: int, draws: int) -> tuple[list[Verdict], list[Verdict]]:
    """Every cell left out once: with all runs, and with FEW of each cell, ``times`` times."""
    everything = np.ones(len(data.cell), dtype=bool)
    cells = range(len(data.n))
    full = [verdict for cell in cells for verdict in judged(data, everything, [cell], 0, draws)]
    few = []
    for seed in range(times):
        kept = data.few(seed)
        few += [verdict for cell in cells for verdict in judged(data, kept, [cell], seed, draws)]
    return full, few


def extrapolations(data: Data) -> Mapping[str, list[int]]:
    """Cells that are left out together."""
    cells = range(len(data.n))
    compute = data.n * data.d
    return {
        "largest N": [c for c in cells if data.n[c] == data.n.max()],
        "largest D of each N": [c for c in cells if data.d[c] == data.d[data.n == data.n[c]].max()],
        "most compute": [int(c) for c in np.argsort(compute)[-3:]],
    }


def table(title: str, columns: Mapping[str, list[Verdict]], full: bool) -> Table:
    """Mean excesses by law (rows) and set of verdicts (columns), in percent."""
    shown = Table(title=title)
    shown.add_column("law")
    for name in columns:
        shown.add_column(name, justify="right")
        if full:
            shown.add_column("worst", justify="right")
            shown.add_column("2nd referee", justify="right")
        shown.add_column("nearest run", justify="right")
    for law in dict.fromkeys(verdict.law for verdicts in columns.values() for verdict in verdicts):
        row = [law]
        for verdicts in columns.values():
            mine = [verdict for verdict in verdicts if verdict.law == law]
            row.append(f"{100 * np.mean([v.referee for v in mine]):.3f}")
            if full:
                row.append(f"{100 * max(v.referee for v in mine):.2f}")
                row.append(f"{100 * np.mean([v.second for v in mine]):.3f}")
            row.append(f"{100 * np.mean([v.nearest for v in mine]):.3f}")
        shown.add_row(*row)
    return shown


def coverage(title: str, columns: Mapping[str, list[Verdict]]) -> Table:
    """How many 90 % intervals hold the left-out cell's optimum, and how wide they are."""
    shown = Table(title=title)
    for name in ("", "folds", "lr", "batch", "both", "half width lr", "batch"):
        shown.add_column(name, justify="right" if name else "left")
    for name, verdicts in columns.items():
        mine = [v for v in verdicts if v.covered is not None and v.widths is not None]
        held = np.array([v.covered for v in mine], dtype=float)
        widths = np.median(np.array([v.widths for v in mine]), axis=0)
        shares = (held[:, 0].mean(), held[:, 1].mean(), held.mean())
        shown.add_row(
            name, str(len(mine)), *(f"{share:.0%}" for share in shares), *(f"{w:.2f}" for w in widths)
        )
    return shown


def referees(data: Data) -> Table:
    """The errors by which the referee was chosen, and how well a perfect law would be judged."""
    shown = Table(title="referees: error at left-out runs within 0.75 % of the best, % of the loss")
    shown.add_column("smoother")
    shown.add_column("error", justify="right")
    shown.add_column("says of a perfect law", justify="right")
    places = np.stack([np.log(data.runs.lr), np.log(data.runs.batch)], 1)
    for name, smoother in law_referee.SMOOTHERS.items():
        errors, floors = [], []
        for cell in range(len(data.n)):
            mine = data.cell == cell
            errors.append(law_referee.left_out_error(places[mine], data.runs.loss[mine], smoother))
            if name != law_referee.SECOND:  # too slow
                rng = np.random.default_rng(cell)
                floors.append(law_referee.floor(places[mine], data.runs.loss[mine], smoother, rng))
        least = f"{100 * np.mean(floors):.3f}" if floors else "-"
        shown.add_row(name, f"{100 * np.mean(errors):.4f}", least)
    return shown


def planted(times: int) -> Table:
    """Coverage of planted laws whose surfaces are not of the shape that is fitted."""
    shown = Table(
        title=f"planted laws, {times} draws: 90 % intervals that hold the truth; root mean square error"
    )
    for name in ("runs", "surface", "target", "lr", "batch", "error lr", "batch"):
        shown.add_column(name, justify="left" if name in ("runs", "surface", "target") else "right")
    for bend, surface in ((0.35, "lopsided"), (0.0, "quadratic")):
        law = Planted(bend=bend)
        for name, options in PLANTED.items():
            held, off = planted_draws(law, options, times)
            for at, target in enumerate(TARGETS):
                shares, errors = held[:, at].mean(0), np.sqrt((off[:, at] ** 2).mean(0))
                shown.add_row(
                    name, surface, target, *(f"{s:.0%}" for s in shares), *(f"{e:.3f}" for e in errors)
                )
    return shown


def planted_draws(law: Planted, options: Mapping[str, Any], times: int) -> tuple[Array, Array]:
    """(times, targets, 2) whether intervals of lr and batch hold the truth, and errors in log units."""
    held, off = [], []
    for seed in range(times):
        rng = np.random.default_rng(seed)
        found = fitted(sweep(law, rng, **options), {"draws": 60, "forms": False}, seed, lambda share: None)
        for n, d in TARGETS.values():
            for interval, truth in zip(found.optimum(n, d), law.best(n, d), strict=True):
                held.append(interval.low <= truth <= interval.high)
                off.append(np.log(interval.value / truth))
    shape = (times, len(TARGETS), 2)
    return np.array(held, dtype=float).reshape(shape), np.array(off).reshape(shape)


def bends(times: int) -> Table:
    """How often straight laws and broken ones have the caution ``bent``."""
    shown = Table(title=f"laws flagged as bent, of {times} draws each; noise 0.1 %")
    for name in ("the exponent of lr changes midway", *BENDS):
        shown.add_column(name, justify="right" if name in BENDS else "left")
    for broken, change in BROKEN:
        shares = [flagged(Planted(broken=broken, change=change), times, **own) for own in BENDS.values()]
        name = f"of {broken} by {change:+g}" if broken else "no"
        shown.add_row(name, *(f"{share:.0%}" for share in shares))
    return shown


def flagged(law: Planted, times: int, scatter: float = 0.0) -> float:
    """The share of sweeps (nine cells of 20 runs) under ``law`` whose fit is called bent."""
    found = []
    for seed in range(times):
        runs = sweep(law, np.random.default_rng(seed), per_cell=20, noise=1e-3, scatter=scatter)
        fit = fitted(runs, {"draws": 20, "forms": False}, seed, lambda share: None)
        found.append(any(caution.code == "bent" for caution in fit.cautions))
    return float(np.mean(found))


def seconds() -> str:
    """Of a fit of 2,000 runs in 28 cells with 200 draws, the alternatives with it."""
    sizes = [(n, ratio * n) for n in (3e7, 6e7, 1e8, 2e8, 4e8, 6e8, 1e9) for ratio in (20, 50, 100, 200)]
    runs = sweep(Planted(), np.random.default_rng(0), cells=sizes, noise=1e-3)
    n, d, lr, batch, loss = (column[:2000] for column in (runs.n, runs.d, runs.lr, runs.batch, runs.loss))
    part = Runs(n, d, lr, batch, loss)
    began, cpu = time.perf_counter(), time.process_time()
    fitted(part, {"draws": 200}, 0, lambda share: None)
    took, burnt = time.perf_counter() - began, time.process_time() - cpu
    return f"{len(part)} runs, 200 draws: {took:.1f} s ({burnt:.1f} s of one core)"


def main(arguments: Sequence[str], console: Console) -> int:
    """The command ``python -m bench laws``."""
    parser = argparse.ArgumentParser(prog="bench laws", description="Laws of the optimum")
    parser.add_argument("--times", type=int, default=10, help="random choices of 10 runs a cell")
    parser.add_argument("--draws", type=int, default=100, help="of the bootstrap")
    parser.add_argument("--planted", type=int, default=200, help="draws of each planted law; 0: none")
    parser.add_argument("--only", choices=("real", "planted", "bends", "speed"))
    chosen = parser.parse_args(arguments)
    if chosen.only in (None, "real"):
        data = load()
        console.print(referees(data))
        full, few = folds(data, chosen.times, chosen.draws)
        columns = {"all runs": full, f"{FEW} runs a cell": few}
        console.print(table("one cell left out: mean excess, %", columns, full=True))
        console.print(coverage("one cell left out: 90 % intervals of the default", columns))
        everything = np.ones(len(data.cell), dtype=bool)
        beyond = {
            name: judged(data, everything, held, 0, chosen.draws)
            for name, held in extrapolations(data).items()
        }
        console.print(table("extrapolation, all runs: mean excess, %", beyond, full=False))
        console.print(coverage("extrapolation: 90 % intervals of the default", beyond))
    if chosen.only in (None, "planted") and chosen.planted:
        console.print(planted(chosen.planted))
    if chosen.only in (None, "bends") and chosen.planted:
        console.print(bends(chosen.planted // 2))
    if chosen.only in (None, "speed"):
        console.print(seconds())
    return 0
