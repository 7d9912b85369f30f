"""Runs of a planted law of the optimum, as tables."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np

COLUMNS = {"n": "params", "d": "tokens", "lr": "lr", "batch": "batch_tokens"}
QUICK = {"draws": 20}
"""Options of a fit that need not be sure."""


def best(n: float, d: float) -> tuple[float, float]:
    """The planted learning rate and batch."""
    return 1.6 * n**-0.55 * d**0.14, 0.9 * n**0.08 * d**0.5


def runs(
    *, runs_per_cell: int = 10, sizes: int = 3, seed: int = 0, diverged: int = 1
) -> dict[str, list[Any]]:
    """Columns of runs at ``sizes`` times three cells; of each size so many have no loss."""
    rng = np.random.default_rng(seed)
    table: dict[str, list[Any]] = {name: [] for name in ("params", "tokens", "lr", "batch_tokens", "loss")}
    for n in (60e6 * 3**k for k in range(sizes)):
        for place, d in enumerate((10 * n, 30 * n, 90 * n)):
            best_lr, best_batch = best(n, d)
            least = 1.75 + 420 / n**0.335 + 1900 / d**0.36
            for run in range(runs_per_cell):
                x, y = rng.normal(0, 0.8, 2)
                noise, slow = 0.9 * x - 0.5 * y, -0.9 * x
                excess = 0.004 * (np.exp(noise) - 1 - noise) + 0.003 * (np.exp(slow) - 1 - slow)
                excess += 0.004 * (np.exp(y) - 1 - y) + 0.0006 * (np.exp(2.2 * x) - 1 - 2.2 * x)
                loss = least * (1 + excess) * (1 + rng.normal(0, 0.0005))
                lost = place == 0 and run < diverged
                values = (n, d, best_lr * np.exp(x), best_batch * np.exp(y), "NaN" if lost else float(loss))
                for name, value in zip(table, values, strict=True):
                    table[name].append(value)
    return table


def as_csv(table: dict[str, list[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))
    return text.getvalue()
