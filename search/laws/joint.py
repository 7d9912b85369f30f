"""The joint fit: one loss surface shared by all cells, moved by power laws in (N, D).

The loss of run i in cell c, over the lowest of the cell and less one, is modelled as

    m_c + s_c e(log lr_i - lr*_c, log batch_i - batch*_c),
    (log lr*, log batch*)_c = rows of a design times its coefficients,
    log s_c = a row times its coefficients + normal(0, AMPLITUDE),

with e the shape of :mod:`search.laws.surface`, and m_c, s_c the cell's own. Residuals are weighed by

    1 / (sigma^2 + (TRUST e)^2 (1 + (e / FAR)^2)):

near the optimum by the noise of training, sigma, which is estimated; farther away by how little the shape
is trusted there. The loss function is Student's t: diverged and otherwise odd runs do not bend the surface.
It is minimized by Levenberg and Marquardt's method with iterated weights, in which the cells' own
parameters are eliminated (Schur complement). Everything carries a leading axis of draws: starts of a fit
or draws of a bootstrap, which differ in the weights of cells and runs, are solved together.

Axes: k draws, r runs, c cells, p shared parameters.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from search.laws.base import Array
from search.laws.cells import Cells
from search.laws.surface import SHAPE, TERMS, shape

TRUST = 0.5
"""The shape's own error, as a share of the excess where that is small,"""
FAR = 0.05
"""and growing with it from here: at larger excesses a run says little of where the optimum is."""
FREEDOM = 4.0
"""Degrees of freedom of Student's t."""
AMPLITUDE = 0.3
"""Standard deviation of a cell's log amplitude about their law."""
MINIMUM = 0.3
"""Standard deviation of a cell's lowest loss about the lowest seen, as a share: all but free."""
NOISE = (1e-5, 0.05)
"""Bounds of the noise sigma, as a share of the loss."""
_FIRST_NOISE = 3e-3
_FAST, _SLOW = 1e-9, 1e4


@dataclass(frozen=True, slots=True, eq=False)
class Prior:
    """Normal priors of the shared parameters, (p,) each. Infinite deviations are no priors."""

    mean: Array
    deviation: Array


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """What the optimum and the amplitude depend on: rows for each cell, (c, .) each."""

    lr: Array
    batch: Array
    amplitude: Array

    @property
    def ends(self) -> tuple[int, int, int]:
        """Where the coefficients of lr, batch and amplitude end among the shared parameters; the shape
        follows."""
        lr = self.lr.shape[1]
        batch = lr + self.batch.shape[1]
        return lr, batch, batch + self.amplitude.shape[1]

    @property
    def parameters(self) -> int:
        return self.ends[2] + SHAPE


@dataclass(slots=True, eq=False)
class State:
    """Where the fits of k draws are."""

    shared: Array
    """(k, p)"""
    own: Array
    """(k, c, 2): m and the log amplitude about its law."""
    noise: Array
    """(k,) sigma."""
    objective: Array = field(default_factory=lambda: np.zeros(0))
    """(k,) the objective with the log of the residuals' scales, to compare starts."""


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """Cells, and what the fit's optimum depends on."""

    cells: Cells
    design: Design

    def solve(
        self, first: State, prior: Prior, means: Array, weights: Array, steps: int, fit_noise: bool
    ) -> State:
        """Fit from ``first``.

        ``means``: (k, p) the prior's means of each draw; ``weights``: (k, r) of the runs, whose mean in a
        cell also weighs its priors; ``fit_noise``: whether sigma is estimated on the way.
        """
        cells, problem = self.cells, self
        precision = 1.0 / prior.deviation**2
        own_precision = np.array([1 / MINIMUM**2, 1 / AMPLITUDE**2])
        cell_weights = np.add.reduceat(weights, cells.start, axis=1) / cells.counts
        shared, own, noise = first.shared.copy(), first.own.copy(), first.noise.copy()
        damping = np.full(len(shared), 1e-3)
        observed = cells.excess
        rows = np.arange(shared.shape[1])

        def cost(predicted: Array, scale: Array, shared: Array, own: Array) -> Array:
            t = (observed - predicted) / scale
            data = (weights * 0.5 * (FREEDOM + 1) * np.log1p(t * t / FREEDOM)).sum(1)
            own_cost = (cell_weights[..., None] * own_precision * own**2).sum((1, 2))
            return np.asarray(data + 0.5 * (precision * (shared - means) ** 2).sum(1) + 0.5 * own_cost)

        after = np.zeros(len(shared))
        for step in range(steps):
            predicted, excess, slopes, own_slopes = problem.linearized(shared, own)
            far = np.maximum(np.maximum(excess, observed - own[:, cells.of, 0]), 0.0)
            residual = observed - predicted
            if fit_noise and step % 3 == 2:
                noise = problem._noise(residual, far, noise)
            scale = _scale(noise, far)
            before = cost(predicted, scale, shared, own)
            t = residual / scale
            force = weights * (FREEDOM + 1) / (FREEDOM + t * t) / scale**2
            weighed, own_weighed = slopes * force[..., None], own_slopes * force[..., None]
            pull = (weighed * residual[..., None]).sum(1) - precision * (shared - means)
            bend = weighed.transpose(0, 2, 1) @ slopes
            bend[:, rows, rows] += precision
            own_bend = np.add.reduceat(
                own_weighed[..., :, None] * own_slopes[..., None, :], cells.start, axis=1
            )
            own_pull = np.add.reduceat(own_weighed * residual[..., None], cells.start, axis=1)
            own_pull -= cell_weights[..., None] * own_precision * own
            both = np.stack(
                [
                    np.add.reduceat(weighed * own_slopes[..., i : i + 1], cells.start, axis=1)
                    for i in (0, 1)
                ],
                -1,
            )
            for i in (0, 1):
                own_bend[..., i, i] += cell_weights * own_precision[i] + _FAST
                own_bend[..., i, i] *= 1 + damping[:, None]
            inverse = np.linalg.inv(own_bend)
            left = both @ inverse
            bend[:, rows, rows] *= 1 + damping[:, None]
            bend[:, rows, rows] += _FAST
            bend -= (left @ both.transpose(0, 1, 3, 2)).sum(1)
            right = pull - (left @ own_pull[..., None])[..., 0].sum(1)
            move = np.clip(np.linalg.solve(bend, right[..., None])[..., 0], -1.0, 1.0)
            back = own_pull - (both.transpose(0, 1, 3, 2) @ move[:, None, :, None])[..., 0]
            own_move = np.clip((inverse @ back[..., None])[..., 0], -1.0, 1.0)
            after = cost(
                problem.predicted(shared + move, own + own_move), scale, shared + move, own + own_move
            )
            better = after <= before
            shared = np.where(better[:, None], shared + move, shared)
            own = np.where(better[:, None, None], own + own_move, own)
            damping = np.where(better, np.maximum(damping / 5, _FAST), np.minimum(damping * 8, _SLOW))
            settled = (np.abs(after - before) < 1e-7 * (1 + before)) | (damping >= _SLOW)
            if step > 8 and settled.all():
                break
        objective = np.minimum(after, before) + (weights * np.log(scale)).sum(1)
        return State(shared, own, noise, objective)

    def predicted(self, shared: Array, own: Array) -> Array:
        """(k, r) the excess over the lowest loss seen in the cell."""
        z, amplitude = self._places(shared, own)
        surface = shape(shared[:, None, self.design.ends[2] :])
        return np.asarray(own[:, self.cells.of, 0] + amplitude * surface.excess(z))

    def linearized(self, shared: Array, own: Array) -> tuple[Array, Array, Array, Array]:
        """(k, r) predicted and its excess over the optimum; its derivatives (k, r, p) and (k, r, 2)."""
        design, of = self.design, self.cells.of
        lr_end, batch_end, amplitude_end = design.ends
        z, amplitude = self._places(shared, own)
        surface = shape(shared[:, amplitude_end:])
        slope, weight = surface.slopes, surface.weights
        powers = np.clip(z @ slope.transpose(0, 2, 1), None, 12.0)
        term = weight[:, None] * np.exp(powers) * amplitude[..., None]
        level = weight[:, None] * amplitude[..., None]
        excess = (term - level).sum(-1)
        along = term @ slope
        slopes = np.empty((*excess.shape, design.parameters))
        slopes[..., :lr_end] = -along[..., :1] * design.lr[of]
        slopes[..., lr_end:batch_end] = -along[..., 1:] * design.batch[of]
        slopes[..., batch_end:amplitude_end] = excess[..., None] * design.amplitude[of]
        last = term[..., -1:] * z
        shares = weight / weight[:, -1:]
        for k in range(TERMS - 1):
            at = amplitude_end + 2 * k
            slopes[..., at : at + 2] = term[..., k : k + 1] * z - shares[:, None, k : k + 1] * last
            turned = shares[:, k, None] * (last @ slope[:, k, :, None])[..., 0]
            slopes[..., amplitude_end + 2 * (TERMS - 1) + k] = term[..., k] - level[..., k] - turned
        slopes[..., -1] = term[..., -1] - level[..., -1] - (last @ slope[:, -1, :, None])[..., 0]
        own_slopes = np.stack([np.ones_like(excess), excess], -1)
        return own[:, of, 0] + excess, excess, slopes, own_slopes

    def displaced(self, state: State) -> tuple[Array, Array]:
        """(c, 2) how far each cell's own optimum is from the law of the first draw, and the standard
        errors of that.

        By one step of Newton's method in the cell's optimum, its other parameters along with it, cut at
        two standard errors of a wide prior (1 in log units).
        """
        predicted, excess, slopes, own_slopes = self.linearized(state.shared[:1], state.own[:1])
        observed, cells = self.cells.excess, self.cells
        far = np.maximum(np.maximum(excess, observed - state.own[:1, cells.of, 0]), 0.0)
        scale = _scale(state.noise[:1], far)
        residual = observed - predicted
        force = (FREEDOM + 1) / (FREEDOM + (residual / scale) ** 2) / scale**2
        # Design columns of ones: the derivatives by the optimum's constants are those by its place.
        lr_end = self.design.ends[0]
        places = slopes[0][:, [0, lr_end]]
        columns = np.concatenate([own_slopes[0], places], 1)
        weighed = columns * force[0][:, None]
        bend = np.add.reduceat(weighed[:, :, None] * columns[:, None, :], cells.start, axis=0)
        pull = np.add.reduceat(weighed * residual[0][:, None], cells.start, axis=0)
        pull[:, :2] -= np.array([1 / MINIMUM**2, 1 / AMPLITUDE**2]) * state.own[0]
        bend += np.diag([1 / MINIMUM**2, 1 / AMPLITUDE**2, 1.0, 1.0])
        inverse = np.linalg.inv(bend)
        moved = (inverse @ pull[..., None])[..., 0][:, 2:]
        return np.clip(moved, -2.0, 2.0), np.sqrt(inverse[:, [2, 3], [2, 3]])

    def _places(self, shared: Array, own: Array) -> tuple[Array, Array]:
        """(k, r, 2) each run's place off its cell's optimum, and (k, r) the amplitude of its cell."""
        lr_end, batch_end, amplitude_end = self.design.ends
        cells = self.cells
        lr = shared[:, :lr_end] @ self.design.lr.T
        batch = shared[:, lr_end:batch_end] @ self.design.batch.T
        amplitude = np.exp(shared[:, batch_end:amplitude_end] @ self.design.amplitude.T + own[..., 1])
        z = np.stack([cells.lr - lr[:, cells.of], cells.batch - batch[:, cells.of]], -1)
        return z, amplitude[:, cells.of]

    def _noise(self, residual: Array, far: Array, noise: Array) -> Array:
        """(k,) sigma, by the median of the residuals of runs where noise outweighs the shape's error."""
        result = noise.copy()
        for k in range(len(noise)):
            near = TRUST * far[k] < 2 * noise[k]
            count = int(near.sum())
            if count < 5:
                result[k] = 1.5 * noise[k]
                continue
            free = max(count - 2 * len(np.unique(self.cells.of[near])) - 4, 0.3 * count)
            spread = float(np.median(np.abs(residual[k, near]))) / 0.6745 * np.sqrt(count / free)
            result[k] = np.clip(spread, noise[k] / 2, noise[k] * 2)
        return np.clip(result, *NOISE)


def _scale(noise: Array, far: Array) -> Array:
    """(k, r) the scale of residuals, by noise (k,) and excesses (k, r)."""
    return np.asarray(np.sqrt(noise[:, None] ** 2 + (TRUST * far) ** 2 * (1 + (far / FAR) ** 2)))


def start(shared: Array, cells: int) -> State:
    """The state in which starts (k, p) of a fit begin."""
    return State(shared, np.zeros((len(shared), cells, 2)), np.full(len(shared), _FIRST_NOISE))
