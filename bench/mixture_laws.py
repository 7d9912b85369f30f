"""Planted mixture laws: how often the 90 % interval of the best share holds the truth.

``python -m bench mixture_laws [--draws 60]``

Nine sizes (N, D) with six shares each, noise 0.2 %; the loss is lowest between the shares, and the law has
the form ``whole``. The target is twice as large in N and D as the largest that was run.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from search.laws.base import Array, Runs
from search.laws.mixture import fit_mixture

SHARES = (0.05, 0.2, 0.4, 0.6, 0.8, 0.95)
SIZES = tuple(itertools.product((1e8, 4.5e8, 2e9), (2e9, 1e10, 5e10)))
TARGET = (4e9, 1e11)
NOISE = 0.002
BOOTSTRAP = 40


def loss(n: float | Array, d: float | Array, r: Array) -> Array:
    """The planted loss of a whole of two domains, r the share of the first."""
    size = 1.5 + 400 / n**0.34 + 600 * r**0.1 / d**0.36
    return np.asarray(size + 0.6 / (r + 0.1) ** 0.4 + 0.5 / (1.1 - r) ** 0.4)


def runs(rng: np.random.Generator) -> Runs:
    """One noisy run at each size and share."""
    n, d, r = np.array([(*size, share) for size in SIZES for share in SHARES]).T
    nothing = np.full(len(n), np.nan)
    noise = np.exp(rng.normal(0, NOISE, len(n)))
    return Runs(n=n, d=d, lr=nothing, batch=nothing, loss=loss(n, d, r) * noise, share=r)


def drawn(draws: int) -> tuple[Array, Array, Array]:
    """(draws,) whether the intervals of the best share and of the loss there hold the truth, and the errors
    of the share."""
    grid = np.linspace(SHARES[0], SHARES[-1], 1001)
    truths = loss(*TARGET, grid)
    true = float(grid[np.argmin(truths)])
    held, loss_held, off = [], [], []
    for seed in range(draws):
        fitted = fit_mixture(
            runs(np.random.default_rng(seed)), {"form": "whole", "draws": BOOTSTRAP}, seed, lambda _: None
        )
        said = fitted.predict(*TARGET, share=true)
        assert said.best_share is not None
        held.append(said.best_share.low <= true <= said.best_share.high)
        loss_held.append(said.loss.low <= truths.min() <= said.loss.high)
        off.append(said.best_share.value - true)
    return np.array(held, dtype=float), np.array(loss_held, dtype=float), np.array(off)


def main(arguments: Sequence[str], console: Console) -> int:
    """Print the table. Exit code 2 for bad arguments."""
    parser = argparse.ArgumentParser(prog="python -m bench mixture_laws", description=__doc__)
    parser.add_argument("--draws", type=int, default=60, help="planted laws, each with its noise")
    given = parser.parse_args(arguments)
    held, loss_held, off = drawn(given.draws)
    table = Table(title=f"mixture law, {given.draws} draws: 90 % intervals that hold the truth")
    for heading in ("best share", "its error (root mean square)", "loss at the best share"):
        table.add_column(heading, justify="right")
    table.add_row(f"{held.mean():.0%}", f"{np.sqrt((off**2).mean()):.3f}", f"{loss_held.mean():.0%}")
    console.print(table)
    return 0
