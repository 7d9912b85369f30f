"""A fitted law of the optimum: what it says of targets, and its turning to JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
from scipy.stats import t as student

from search.errors import Mistake, SearchError
from search.laws import forms
from search.laws.base import Array, Box, Caution, Form, Interval, PowerLaw, Prediction
from search.laws.cautions import of_target
from search.laws.loss import LossFit
from search.laws.surface import Shape, shape

PLATEAUS = (0.001, 0.0025, 0.01)
WIDE = 10.0
"""An interval whose ends differ by more than this factor says that the optimum is not known."""
SIZE_SCATTER = 0.07
"""Standard deviation of log lr* and log batch* that cells of one N may share. The cells of the one real
sweep that is known scatter by 0.09 and 0.10 about their law."""
FREE_LEVERAGE = 2.0
"""Of a target among the sizes (values of log N): of three sizes at equal steps, the place 1.8 steps from
the middle one. From there on the shared scatter counts."""
_LEAST_SPREAD = 1e-3
"""Of the sizes: one value of N tells nothing of another."""
WIDE_LOSS = 0.1
"""An interval of the loss that is wider than this part of it says that the loss is hardly known."""
_TAIL = 0.05
"""On each side of an interval."""
_NORMAL = 1.6449


@dataclass(frozen=True, slots=True)
class CellFit:
    """One cell: what was run, and what the fit makes of it."""

    n: float
    d: float
    runs: int
    best_lr: float
    best_batch: float
    best_loss: float
    """Of the run with the lowest loss."""
    loss: float
    """The fitted lowest loss; the best run's where the estimator has no surface."""
    lr: float
    batch: float
    """The cell's own optimum, as far as its runs tell it from the law's."""
    lr_error: float
    batch_error: float
    """Standard errors of the logs of these."""
    edge: tuple[str, ...]
    """Sides of the cell's grid on which its optimum lies: ``lr low``, ``lr high``, ``batch low``,
    ``batch high``."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another form or estimator, with the coefficients it has on the same cells."""

    name: str
    lr_form: str
    batch_form: str
    lr: tuple[float, ...]
    batch: tuple[float, ...]
    refuted: bool
    """The runs speak against this form: it is not among the answers of :meth:`OptimumLaw.predict`."""


@dataclass(frozen=True, slots=True)
class OptimumLaw:
    """The best learning rate and batch as power laws; coefficients are of centred variables (see forms)."""

    estimator: str
    lr_form: str
    batch_form: str
    centre: tuple[float, float]
    """Means of log N and log D over the cells."""
    shared: tuple[float, ...]
    """Coefficients of lr, of batch, and of estimators with a surface those of log amplitude, and the
    shape."""
    draws: tuple[tuple[float, ...], ...]
    """The same of each draw of the bootstrap."""
    scatter: tuple[float, float]
    """Standard deviations of cells' own log lr* and log batch* about the law, beyond noise."""
    noise: float
    """Of training, as a share of the loss; 0 where the estimator does not know it."""
    alternatives: tuple[Alternative, ...]
    cells: tuple[CellFit, ...]
    runs: int
    diverged: int
    cautions: tuple[Caution, ...]
    family: str = "optimum"
    loss: LossFit | None = None
    """The law of the loss at the optimum; None where the cells do not tell it."""

    @property
    def lr(self) -> PowerLaw:
        """The law of the best learning rate."""
        return forms.power_law(self.lr_form, self.shared[: self._ends[0]], self.centre)

    @property
    def batch(self) -> PowerLaw:
        """The law of the best batch, in tokens."""
        return forms.power_law(self.batch_form, self.shared[self._ends[0] : self._ends[1]], self.centre)

    def optimum(self, n: float, d: float) -> tuple[Interval, Interval]:
        """The best learning rate and batch as :meth:`predict` has them, and quicker for being without
        the rest."""
        middle = self._optima(n, d, np.array([self.shared]))[0]
        drawn = self._optima(n, d, np.array(self.draws))
        beside = self._beside(n, d)
        lr, batch = (self._stretched(middle[k], drawn[:, k], beside[k]) for k in (0, 1))
        return _interval(*lr), _interval(*batch)

    def predict(self, n: float, d: float, batch: float | None = None) -> Prediction:
        """The best learning rate and batch for ``n`` parameters and ``d`` tokens, both positive.

        With ``batch`` (tokens) the learning rate is the best at that batch, lr*(N, D | B); that needs a
        surface. Raises :class:`~search.errors.SearchError` for what is not positive, or for a ``batch``
        where there is no surface.
        """
        _positive(n=n, d=d, batch=1.0 if batch is None else batch)
        middle = self._optima(n, d, np.array([self.shared]))[0]
        drawn = self._optima(n, d, np.array(self.draws))
        if batch is None:
            lr, size = self.optimum(n, d)
        else:
            given = float(np.log(batch))
            shapes = self._shapes(np.array([self.shared, *self.draws]))
            rates = np.append(middle[0], drawn[:, 0]) + shapes.best_lr(
                given - np.append(middle[1], drawn[:, 1])
            )
            lr = _interval(*self._stretched(rates[0], rates[1:], self._beside(n, d)[0]))
            size = Interval(batch, batch, batch)
        loss = None if self.loss is None or batch is not None else self.loss.predict(n, d).loss
        cautions = (
            *self.cautions,
            *of_target(self._column("n"), self._column("d"), n, d),
            *_wide(lr, size),
            *_wide_loss(loss),
        )
        return Prediction(
            n=n,
            d=d,
            lr=lr,
            batch=size,
            forms=tuple(self.alternative(each, n, d) for each in self.alternatives if not each.refuted),
            plateau=self._plateau(n, d, middle) if self.has_surface else (),
            loss=loss,
            cautions=cautions,
        )

    def drawn_optima(self, n: float, d: float) -> Array:
        """(k, 2) log lr* and log batch* at one target, of each draw of the bootstrap."""
        return self._optima(n, d, np.array(self.draws))

    @property
    def has_surface(self) -> bool:
        """Whether plateaus, excesses and rates at a given batch are known."""
        return len(self.shared) > self._ends[1]

    def surface(self, n: float, d: float, lr: Array, batch: Array) -> Array:
        """(...,) the predicted excess loss, a share of the lowest, at rates and batches (...,) for one
        target.

        Raises :class:`~search.errors.SearchError` if the estimator has no surface.
        """
        middle = self._optima(n, d, np.array([self.shared]))[0]
        z = np.stack([np.log(lr) - middle[0], np.log(batch) - middle[1]], -1)
        surface = self._shapes(np.array(self.shared))
        return np.asarray(self._amplitudes(n, d, np.array([self.shared]))[0] * surface.excess(z))

    def excess(self, n: float, d: float, lr: float, batch: float) -> Interval:
        """The predicted excess loss of a rate and batch of the user's own, a share of the lowest, with
        its interval.

        Raises :class:`~search.errors.SearchError` for what is not positive, or if the estimator has no
        surface.
        """
        _positive(n=n, d=d, lr=lr, batch=batch)
        value = float(self.surface(n, d, np.array(lr), np.array(batch)))
        draws = np.array(self.draws)
        optima = self._optima(n, d, draws)
        # The optimum is not known itself: it moves by the spread of the draws and the cells' scatter.
        rng = np.random.default_rng(0)
        middle = self._optima(n, d, np.array([self.shared]))[0]
        moved = middle + self._widening * (
            optima - middle + np.array(self._beside(n, d)) * rng.standard_normal(optima.shape)
        )
        z = np.stack([np.log(lr) - moved[:, 0], np.log(batch) - moved[:, 1]], -1)
        drawn = self._amplitudes(n, d, draws) * self._shapes(draws).excess(z)
        low, high = np.quantile(drawn, [_TAIL, 1 - _TAIL])
        return Interval(float(min(low, value)), value, float(max(high, value)))

    def summary(self) -> dict[str, Any]:
        """Laws with the intervals of their exponents, noise, scatter and counts."""
        draws = np.array(self.draws)
        first, second = self._ends
        laws = {}
        for name, form, law, part in (
            ("lr", self.lr_form, self.lr, slice(0, first)),
            ("batch", self.batch_form, self.batch, slice(first, second)),
        ):
            spread = draws[:, part][:, 1:]
            exponents = {
                variable: asdict(Interval(*self._stretched(self.shared[part][1 + k], spread[:, k], 0.0)))
                for k, variable in enumerate(forms.VARIABLES[form])
            }
            laws[name] = {"form": form, "constant": law.constant, "exponents": exponents}
        return {
            "family": self.family,
            "estimator": self.estimator,
            **laws,
            "noise": self.noise,
            "scatter": {"lr": self.scatter[0], "batch": self.scatter[1]},
            "cells": len(self.cells),
            "runs": self.runs,
            "diverged": self.diverged,
            "draws": len(self.draws),
        }

    def to_json(self) -> dict[str, Any]:
        """Plain JSON that :meth:`from_json` turns into the same law."""
        return asdict(replace(self, loss=None)) | {
            "loss": None if self.loss is None else self.loss.to_json()
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The law of :meth:`to_json`."""
        plain = dict(data)
        plain["centre"] = tuple(data["centre"])
        plain["shared"] = tuple(data["shared"])
        plain["draws"] = tuple(tuple(draw) for draw in data["draws"])
        plain["scatter"] = tuple(data["scatter"])
        plain["alternatives"] = tuple(
            Alternative(**{**each, "lr": tuple(each["lr"]), "batch": tuple(each["batch"])})
            for each in data["alternatives"]
        )
        plain["cells"] = tuple(CellFit(**{**each, "edge": tuple(each["edge"])}) for each in data["cells"])
        plain["cautions"] = tuple(Caution(**each) for each in data["cautions"])
        if data.get("loss") is not None:
            plain["loss"] = LossFit.from_json(data["loss"])
        return cls(**plain)

    def with_cautions(self, cautions: tuple[Caution, ...]) -> Self:
        """The same law, with these cautions."""
        return replace(self, cautions=cautions)

    @property
    def _ends(self) -> tuple[int, int]:
        lr = 1 + len(forms.VARIABLES[self.lr_form])
        return lr, lr + 1 + len(forms.VARIABLES[self.batch_form])

    @property
    def _widening(self) -> float:
        """Student's t over the normal: a law of few cells has few degrees of freedom."""
        return widening(len(self.cells), max(self._ends[0], self._ends[1] - self._ends[0]))

    def _column(self, name: str) -> Array:
        return np.array([getattr(cell, name) for cell in self.cells])

    def _optima(self, n: float, d: float, shared: Array) -> Array:
        """(k, 2) log lr* and log batch* of parameters (k, p)."""
        first, second = self._ends
        at = np.array([np.log(n)]), np.array([np.log(d)])
        lr = shared[:, :first] @ forms.features(self.lr_form, *at, self.centre)[0]
        batch = shared[:, first:second] @ forms.features(self.batch_form, *at, self.centre)[0]
        return np.stack([lr, batch], -1)

    def _amplitudes(self, n: float, d: float, shared: Array) -> Array:
        """(k,)"""
        place = np.array([np.log(n) - self.centre[0], np.log(d) - self.centre[1]])
        return np.asarray(np.exp(shared[:, self._ends[1] : self._ends[1] + 2] @ place))

    def _shapes(self, shared: Array) -> Shape:
        if not self.has_surface:
            message = f"the estimator {self.estimator} has no surface"
            raise SearchError([Mistake("/options/estimator", message, "fit with the estimator joint")])
        return shape(shared[..., self._ends[1] + 2 :])

    def _plateau(self, n: float, d: float, middle: Array) -> tuple[Box, ...]:
        amplitude = float(self._amplitudes(n, d, np.array([self.shared]))[0])
        surface = self._shapes(np.array(self.shared))
        boxes = []
        for level in PLATEAUS:
            low, high = (np.exp(middle + corner) for corner in surface.box(level / amplitude))
            boxes.append(Box(level, (float(low[0]), float(high[0])), (float(low[1]), float(high[1]))))
        return tuple(boxes)

    def alternative(self, other: Alternative, n: float, d: float) -> Form:
        """What one of the alternatives says of a target."""
        at = np.array(np.log(n)), np.array(np.log(d))
        lr = forms.features(other.lr_form, *at, self.centre) @ np.array(other.lr)
        batch = forms.features(other.batch_form, *at, self.centre) @ np.array(other.batch)
        return Form(other.name, float(np.exp(lr)), float(np.exp(batch)))

    def _beside(self, n: float, d: float) -> tuple[float, float]:
        """Standard deviations of log lr* and log batch* at one target, beside what the draws differ by.

        The target scatters about the law as the cells do, and the cells' scatter moves the law there, by
        its leverage. Cells of one N are one architecture, so some of their scatter is shared: a target
        farther from the sizes than these tell of is given more, by its leverage among the sizes.
        """
        sizes = np.unique(np.round(np.log(self._column("n")), 2))
        spread = max(float(((sizes - sizes.mean()) ** 2).sum()), _LEAST_SPREAD)
        among = 1 / len(sizes) + (np.log(n) - sizes.mean()) ** 2 / spread
        shared = SIZE_SCATTER**2 * max(0.0, among - FREE_LEVERAGE)
        at, cells = (np.log(n), np.log(d)), (np.log(self._column("n")), np.log(self._column("d")))
        found = []
        for form, scatter in zip((self.lr_form, self.batch_form), self.scatter, strict=True):
            rows = forms.features(form, *cells, self.centre)
            row = forms.features(form, np.array(at[0]), np.array(at[1]), self.centre)
            leverage = float(row @ np.linalg.pinv(rows.T @ rows) @ row)
            told = shared if form != forms.D else 0.0
            found.append(float(np.sqrt(scatter**2 * (1 + leverage) + told)))
        return found[0], found[1]

    def _stretched(self, value: float, drawn: Array, scatter: float) -> tuple[float, float, float]:
        """The 90 % interval of ``value`` by its draws, with ``scatter`` beside them, widened for few
        cells."""
        below, above = np.quantile(drawn - value, [_TAIL, 1 - _TAIL])
        beside = _NORMAL * scatter
        low = self._widening * float(np.hypot(min(below, 0.0), beside))
        high = self._widening * float(np.hypot(max(above, 0.0), beside))
        return value - low, value, value + high


def _interval(low: float, value: float, high: float) -> Interval:
    """Of the ends' logarithms."""
    return Interval(float(np.exp(low)), float(np.exp(value)), float(np.exp(high)))


def widening(cells: int, coefficients: int) -> float:
    """Student's t over the normal at 95 %, with ``cells - coefficients`` degrees of freedom, at least
    two."""
    return float(student.ppf(1 - _TAIL, max(cells - coefficients, 2)) / _NORMAL)


def _wide(lr: Interval, batch: Interval) -> list[Caution]:
    return [
        Caution(
            "interval-wide",
            f"the runs leave the {name} at the target open by a factor of {each.high / each.low:.2g} "
            f"({each.low:.2g} to {each.high:.2g}): it is not known; train more cells near the target",
            grave=True,
        )
        for name, each in (("learning rate", lr), ("batch", batch))
        if each.high > WIDE * each.low
    ]


def _wide_loss(loss: Interval | None) -> list[Caution]:
    if loss is None or loss.high - loss.low <= WIDE_LOSS * loss.value:
        return []
    return [
        Caution(
            "loss-wide",
            f"the loss at the target may be anything from {loss.low:.3g} to {loss.high:.3g}: few cells, "
            "or far from them",
        )
    ]


def _positive(**values: float) -> None:
    mistakes = [
        Mistake(f"/target/{name}", f"{value!r} is not a positive number")
        for name, value in values.items()
        if not (np.isfinite(value) and value > 0)
    ]
    if mistakes:
        raise SearchError(mistakes)
