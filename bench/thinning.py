"""``python -m bench thinning``: what it costs ``curve-bo`` that its model is not told every point.

By default the model is told five points of a curve and 300 in all, and its hyperparameters are fitted to
100 of them. Here the same studies are run with all points and a fit to 400, and the regrets are compared
study by study. The limits are constants of modules; this is the only place that changes them.
"""

from __future__ import annotations

import argparse
import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.search.ours import TrimtabEngine
from bench.search.problems import NoDataError, Problem, problems
from bench.search.protocol import Outcome, run_study
from search.strategies import curve_bo
from search.surrogates import curve_gp, history

BUDGETS = (60, 125, 250, 500, 1_000)
"""Epochs at which regret is read, as far as studies go."""
LIMITS = (
    (history, "_PER_CURVE", 10_000),
    (history, "_THINNING", 1.0),
    (curve_bo, "_MODEL_POINTS", 10_000),
    (curve_gp, "_FIT_POINTS", 400),
)
"""What holds points back, and what it is without."""


class Pair(NamedTuple):
    """A study, run in both ways."""

    problem: Problem
    thinned: Outcome
    whole: Outcome


@contextmanager
def everything() -> Iterator[None]:
    """Inside, the model is told every point."""
    before = [getattr(module, name) for module, name, _ in LIMITS]
    for module, name, value in LIMITS:
        setattr(module, name, value)
    try:
        yield
    finally:
        for (module, name, _), value in zip(LIMITS, before, strict=True):
            setattr(module, name, value)


def study(problem: Problem, seed: int, epochs: int) -> Outcome:
    """One study of ``curve-bo`` with one worker."""
    state = np.random.SeedSequence([seed, zlib.crc32(problem.name.encode())]).generate_state(1)
    engine = TrimtabEngine("curve-bo", problem, 1, int(state[0] >> 1))
    return run_study(problem, engine, 1, epochs, BUDGETS)


def main(arguments: Sequence[str], console: Console) -> int:
    """Measure, and print the table. Exits with code 2 for bad arguments."""
    parser = argparse.ArgumentParser(prog="python -m bench thinning", description=__doc__)
    add = parser.add_argument
    add("--seeds", type=int, default=3, help="of each problem")
    add("--first-seed", type=int, default=0)
    add("--epochs", type=int, default=500)
    add("--problems", type=lambda text: text.split(","), default=[], help="lcbench, taskset, or names")
    given = parser.parse_args(arguments)
    try:
        chosen = problems(given.problems)
    except (NoDataError, ValueError) as error:
        parser.error(str(error))
    pairs: list[Pair] = []
    for problem in chosen:
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            thinned = study(problem, seed, given.epochs)
            with everything():
                whole = study(problem, seed, given.epochs)
            pairs.append(Pair(problem, thinned, whole))
            told = ", ".join(f"{thinned.regrets[b]:.4f} {whole.regrets[b]:.4f}" for b in thinned.regrets)
            console.print(f"{problem.name} {seed}: {told}; {thinned.seconds:.0f} {whole.seconds:.0f} s")
    for family in ("lcbench", "taskset"):
        of_family = [pair for pair in pairs if pair.problem.family == family]
        if of_family:
            console.print(_table(f"{family}, {len(of_family)} pairs of studies", of_family))
    return 0


def _table(title: str, pairs: Sequence[Pair]) -> Table:
    table = Table(title=title)
    for name in ("epochs", "thinned", "every point", "thinned - every point", "better, worse"):
        table.add_column(name, justify="right")
    for budget in pairs[0].thinned.regrets:
        thinned = np.array([pair.thinned.regrets[budget] for pair in pairs])
        whole = np.array([pair.whole.regrets[budget] for pair in pairs])
        less = thinned - whole
        error = float(less.std(ddof=1)) / math.sqrt(len(less)) if len(less) > 1 else math.nan
        table.add_row(
            str(budget),
            f"{thinned.mean():.4f}",
            f"{whole.mean():.4f}",
            f"{less.mean():+.4f} ± {error:.4f}",
            f"{int((less < 0).sum())}, {int((less > 0).sum())}",
        )
    quick, slow = np.mean([(pair.thinned.seconds, pair.whole.seconds) for pair in pairs], axis=0)
    table.add_row("seconds", f"{quick:.0f}", f"{slow:.0f}", "", "")
    return table
