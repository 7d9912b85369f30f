"""Planted laws of the optimum, and the runs that would be trained under them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from search.laws.base import Array, PowerLaw, Runs

GRID = [(n, d) for n in (6e7, 2.1e8, 4.3e8) for d in (20 * n, 60 * n, 150 * n)]
"""Nine cells."""

SHARPNESS = 0.3
"""Of a break (Caballero et al. 2022): the factor is (1 + (x / x_break)^(1 / f))^(c f)."""

LR = PowerLaw(float(np.log(0.5)), {"N": -0.6, "D": 0.25})
BATCH = PowerLaw(float(np.log(2.0)), {"N": -0.1, "D": 0.6})


@dataclass(frozen=True)
class Planted:
    """A loss with its optimum where the laws say; lopsided, but not by the formula that is fitted."""

    lr: PowerLaw = LR
    batch: PowerLaw = BATCH
    bend: float = 0.35
    """0 is a quadratic."""
    broken: str = ""
    """N or D, whose exponent in the best learning rate changes by ``change`` in the middle of GRID."""
    change: float = 0.0

    def best(self, n: float, d: float) -> tuple[float, float]:
        lr = self.lr(N=n, D=d)
        if self.broken:
            axis = "ND".index(self.broken)
            own = [cell[axis] for cell in GRID]
            ratio = (n, d)[axis] / np.sqrt(min(own) * max(own))
            lr *= float((1 + ratio ** (1 / SHARPNESS)) ** (self.change * SHARPNESS))
        return lr, self.batch(**{k: v for k, v in (("N", n), ("D", d)) if k in self.batch.exponents})

    def excess(self, n: float, d: float, lr: Array, batch: Array) -> Array:
        best = self.best(n, d)
        u, v = np.log(lr / best[0]), np.log(batch / best[1])
        amplitude = (n / 2e8) ** -0.1

        def lopsided(x: Array) -> Array:
            return (
                x**2 if self.bend == 0 else 2 * (np.exp(self.bend * x) - 1 - self.bend * x) / self.bend**2
            )

        return np.asarray(amplitude * (0.006 * lopsided(u - 0.4 * v) + 0.006 * lopsided(v)))

    def loss(self, n: float, d: float, lr: Array, batch: Array) -> Array:
        floor = 1.7 + 400 / n**0.34 + 410 / d**0.28
        return np.asarray(floor * (1 + self.excess(n, d, lr, batch)))


def sweep(
    planted: Planted,
    rng: np.random.Generator,
    cells: list[tuple[float, float]] = GRID,
    per_cell: int | None = None,
    noise: float = 0.0,
    scatter: float = 0.0,
) -> Runs:
    """Runs of a grid of 9 x 8 in each cell, or ``per_cell`` of them at random. ``noise`` is a share of
    the loss, ``scatter`` moves each cell's optimum off the law (log units)."""
    columns: list[tuple[Array, ...]] = []
    for n, d in cells:
        lr, batch = planted.best(n, d)
        steps = np.log(2) * np.array([-3, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5])
        sizes = np.log(2) * np.array([-2, -1.5, -1, -0.5, 0, 0.7, 1.4, 2.5])
        # Grids are round numbers, not centred on the optimum.
        u, v = np.meshgrid(steps + rng.uniform(-0.35, 0.35), sizes + rng.uniform(-0.35, 0.35))
        u, v = u.ravel(), v.ravel()
        if per_cell is not None:
            kept = rng.choice(len(u), per_cell, replace=False)
            u, v = u[kept], v[kept]
        moved = scatter * rng.standard_normal(2)
        loss = planted.loss(n, d, lr * np.exp(u - moved[0]), batch * np.exp(v - moved[1]))
        loss *= 1 + noise * rng.standard_normal(len(u))
        ones = np.ones(len(u))
        columns.append((n * ones, d * ones, lr * np.exp(u), batch * np.exp(v), loss))
    sizes, tokens, rates, batches, losses = (
        np.concatenate(column) for column in zip(*columns, strict=True)
    )
    return Runs(sizes, tokens, rates, batches, losses)
