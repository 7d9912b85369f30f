"""Runs of a planted mixture law, as tables."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

MIXTURE_COLUMNS = {"n": "params", "d": "tokens", "loss": "loss", "share": "code_share"}
SHARES = (0.05, 0.2, 0.4, 0.6, 0.8, 0.95)


def mixture_runs(seed: int = 0) -> dict[str, list[Any]]:
    """Columns of runs at nine sizes times six shares, of a loss that is lowest in between."""
    rng = np.random.default_rng(seed)
    cells = list(itertools.product((1e8, 4.5e8, 2e9), (2e9, 1e10, 5e10), SHARES))
    n, d, r = np.array(cells).T
    loss = 1.5 + 400 / n**0.34 + 600 * r**0.1 / d**0.36 + 0.6 / (r + 0.1) ** 0.4 + 0.5 / (1.1 - r) ** 0.4
    loss *= np.exp(rng.normal(0, 0.002, len(n)))
    names = MIXTURE_COLUMNS.values()
    return {name: column.tolist() for name, column in zip(names, (n, d, loss, r), strict=True)}
