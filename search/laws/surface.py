"""The shape of the loss around its optimum in (log lr, log batch): lopsided, convex, the same in all
cells.

With ``z = (log lr - log lr*, log batch - log batch*)`` the excess loss, as a share of the lowest, is

    e(z) = amplitude * sum_k w_k (exp(a_k . z) - 1),   w_k > 0,   sum_k w_k a_k = 0.

Each term is a power law in lr and batch, and training has four of them: noise from small batches at high
rates (about lr / batch), too little movement (a negative power of lr), too few steps (a power of batch),
instability (a high power of lr). A sum of power laws is convex in logarithms, so there is one optimum, at
z = 0, where the weighted slopes cancel. If each term also has its power of N and D, the optimum of three
terms in two variables is exactly a power law in N and D (geometric programming: Boyd et al. 2007), which
is why the shape may be shared.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from search.laws.base import Array

TERMS = 4
SHAPE = 2 * (TERMS - 1) + TERMS
"""Parameters of a shape: slopes of all terms but the last, which balances them, and log weights."""
_STEEPEST = 12.0
"""Exponents of a term are cut here: e^12 times its weight is an excess beyond all losses."""
_BISECTIONS = 30
_SIDE = 4.0
"""How far from the optimum, in log units, edges are looked for: a factor of 55."""


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """``slopes``: (..., TERMS, 2), ``weights``: (..., TERMS); leading axes are draws."""

    slopes: Array
    weights: Array

    def excess(self, z: Array) -> Array:
        """(...,) the excess at ``z`` (..., 2), for an amplitude of one."""
        powers = np.clip((self.slopes * z[..., None, :]).sum(-1), None, _STEEPEST)
        return np.asarray((self.weights * np.expm1(powers)).sum(-1))

    def best_lr(self, batch: Array) -> Array:
        """(...,) the log of the best rate over lr*, where log batch is ``batch`` (...,) off batch*.

        By bisection of the derivative, which rises with the rate. It is cut at ``_SIDE``.
        """
        low, high = np.full(batch.shape, -_SIDE), np.full(batch.shape, _SIDE)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            rising = self._along(np.stack([middle, batch], -1), 0) > 0
            low, high = np.where(rising, low, middle), np.where(rising, middle, high)
        return np.asarray((low + high) / 2)

    def box(self, level: float) -> tuple[Array, Array]:
        """Low and high corner, (2,) each and off the optimum, of the smallest box round all points
        whose excess is at most ``level`` for an amplitude of one. Only for one draw."""
        # Towards low and high of both axes at once: (2, 2), by axis and end.
        sign = np.array([[-1.0, 1.0], [-1.0, 1.0]])
        near, far = np.zeros((2, 2)), np.full((2, 2), _SIDE)
        for _ in range(_BISECTIONS):
            middle = (near + far) / 2
            inside = self._least(sign * middle) <= level
            near, far = np.where(inside, middle, near), np.where(inside, far, middle)
        corners = sign * near
        return corners[:, 0], corners[:, 1]

    def _least(self, values: Array) -> Array:
        """(2, m) the least excess where coordinate k of z is ``values[k]`` (2, m)."""
        low, high = np.full(values.shape, -2 * _SIDE), np.full(values.shape, 2 * _SIDE)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            # Of the first row the second coordinate is looked for, and the other way round.
            z = np.stack([np.stack([values[0], middle[0]], -1), np.stack([middle[1], values[1]], -1)])
            rising = np.stack([self._along(z[0], 1), self._along(z[1], 0)]) > 0
            low, high = np.where(rising, low, middle), np.where(rising, middle, high)
        return self.excess(z)

    def _along(self, z: Array, axis: int) -> Array:
        powers = np.clip((self.slopes * z[..., None, :]).sum(-1), None, _STEEPEST)
        return np.asarray((self.weights * self.slopes[..., axis] * np.exp(powers)).sum(-1))


def shape(parameters: Array) -> Shape:
    """The shape of ``parameters`` (..., SHAPE)."""
    slopes = parameters[..., : 2 * (TERMS - 1)].reshape(*parameters.shape[:-1], TERMS - 1, 2)
    weights = np.exp(np.clip(parameters[..., 2 * (TERMS - 1) :], -20.0, 5.0))
    last = -(weights[..., :-1, None] * slopes).sum(-2) / weights[..., -1:]
    return Shape(np.concatenate([slopes, last[..., None, :]], axis=-2), weights)
