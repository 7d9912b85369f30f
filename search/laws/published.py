"""Published laws and rules of thumb for the best learning rate and batch, to compare with.

Batches are in tokens throughout.
"""

from __future__ import annotations

import numpy as np

from search.laws.base import Form, PowerLaw
from search.laws.cells import Cells

STEP_LR = PowerLaw(float(np.log(1.79)), {"N": -0.713, "D": 0.307})
STEP_BATCH = PowerLaw(float(np.log(0.58)), {"D": 0.571})
"""Li et al. 2025, "Predictable Scale: Part I", with N the non-embedding parameters."""
DEEPSEEK_LR = PowerLaw(float(np.log(0.3118)), {"C": -0.125})
DEEPSEEK_BATCH = PowerLaw(float(np.log(0.2920)), {"C": 0.3271})
"""Bi et al. 2024, "DeepSeek LLM", equation 1: batches in tokens, and C = M D, where M, non-embedding
FLOP per token, is near 6 N for models whose attention is cheap beside their layers."""


def laws(n: float, d: float) -> tuple[Form, ...]:
    """What the published laws say of a target of ``n`` parameters and ``d`` tokens, with C = 6 N D."""
    c = 6.0 * n * d
    return (
        Form("step-law", STEP_LR(N=n, D=d), STEP_BATCH(D=d)),
        Form("deepseek", DEEPSEEK_LR(C=c), DEEPSEEK_BATCH(C=c)),
    )


def rules(cells: Cells, n: float, d: float) -> tuple[Form, ...]:
    """What is carried over from the best run of the nearest cell, in (log N, log D).

    ``nearest``: its learning rate and batch as they are. ``square-root`` and ``linear``: batch times the
    ratio of the amounts of data to the power of 1/2 (the critical batch size's), and the rate scaled with
    the batch by its square root (Adam; Malladi et al. 2022) or linearly (SGD; Goyal et al. 2017).
    """
    cell = int(np.argmin(np.hypot(np.log(cells.n / n), np.log(cells.d / d))))
    mine = np.flatnonzero(cells.of == cell)
    best = mine[int(np.argmin(cells.loss[mine]))]
    lr, batch = float(np.exp(cells.lr[best])), float(np.exp(cells.batch[best]))
    growth = float(np.sqrt(d / cells.d[cell]))
    return (
        Form("nearest", lr, batch),
        Form("square-root", lr * growth**0.5, batch * growth),
        Form("linear", lr * growth, batch * growth),
    )
