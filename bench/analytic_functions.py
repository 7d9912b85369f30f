"""Functions whose optimum is known, each as a study of ours and as an experiment of Ax.

Every metric is minimised; a limit is an upper bound. A score is what is missed at the end: the distance
from the optimum of the best configuration evaluated, judged without noise and among those that keep the
limits; of several objectives the hypervolume missed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from search.space import ParamValue

Params = Mapping[str, ParamValue]
Metrics = dict[str, float]

LOSS = "loss"


@dataclass(frozen=True)
class Function:
    """A function to minimise, and how it is told to either side."""

    name: str
    space: Mapping[str, Any]
    """The wire's JSON."""
    evaluate: Callable[[Params], Metrics]
    """Of a configuration, without noise. ``loss`` is the study's own metric."""
    evaluations: int
    optimum: float
    """The least loss; of several objectives the greatest hypervolume."""
    noise_sd: float = 0.0
    """Of the normal noise that is added to every loss."""
    objectives: tuple[str, ...] = ()
    """Further metrics to minimise."""
    reference: tuple[float, ...] = ()
    """Where hypervolume is measured from: the loss, then the further objectives."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """Upper bounds on metrics."""
    nothing_kept: float = math.nan
    """The score if no configuration kept the limits."""
    shares: tuple[str, ...] = ()
    """Parameters that sum to one. Ax is given all but the last, with a bounded sum."""
    flat: bool = False
    """Ax is given every parameter in every trial: it is not told the conditions."""

    def score(self, evaluated: Sequence[Params]) -> float:
        """What the configurations, at least one, miss."""
        values = [self.evaluate(params) for params in evaluated]
        if self.objectives:
            return self.optimum - self._hypervolume(values)
        kept = [v[LOSS] for v in values if all(v[name] <= bound for name, bound in self.limits.items())]
        return min(kept) - self.optimum if kept else self.nothing_kept

    def _hypervolume(self, values: Sequence[Metrics]) -> float:
        """Of two objectives: the area between the front and the reference point."""
        second = self.objectives[0]
        points = sorted((v[LOSS], v[second]) for v in values)
        area, lowest = 0.0, self.reference[1]
        for first, other in points:
            if first < self.reference[0] and other < lowest:
                area += (self.reference[0] - first) * (lowest - other)
                lowest = other
        return area


def functions() -> dict[str, Function]:
    """All of them, by name."""
    every = (
        Function("branin", _BRANIN_SPACE, _branin, 20, _BRANIN_LEAST),
        Function("branin-noisy", _BRANIN_SPACE, _branin, 25, _BRANIN_LEAST, noise_sd=5.0),
        Function(
            "branin-disk",
            _BRANIN_SPACE,
            _branin_disk,
            20,
            # On the disk lies one of Branin's three optima.
            _BRANIN_LEAST,
            limits={"disk": 50.0},
            nothing_kept=50.0,
        ),
        Function("hartmann6", _unit(6), _hartmann6, 30, -3.32237),
        Function("hartmann3-in-20", _unit(20), _hartmann3_in_20, 25, -3.86278),
        Function(
            "dtlz2",
            _unit(4),
            _dtlz2,
            20,
            # The square up to the reference point less the quarter of the unit disk.
            1.1**2 - math.pi / 4,
            objectives=("other",),
            reference=(1.1, 1.1),
        ),
        Function("conditional", _CONDITIONAL_SPACE, _conditional, 25, 0.1, flat=True),
        Function(
            "mixture",
            {"mix": {"type": "simplex", "parts": [f"d{i}" for i in range(len(_WEIGHTS))]}},
            _mixture,
            15,
            float(_mixture_loss(_best_mixture())),
            shares=tuple(f"mix/d{i}" for i in range(len(_WEIGHTS))),
        ),
    )
    return {function.name: function for function in every}


def _unit(dimensions: int) -> dict[str, Any]:
    return {f"x{i}": {"type": "float", "low": 0.0, "high": 1.0} for i in range(dimensions)}


_BRANIN_SPACE = {
    "x0": {"type": "float", "low": -5.0, "high": 10.0},
    "x1": {"type": "float", "low": 0.0, "high": 15.0},
}
_BRANIN_LEAST = 0.397887


def _branin(params: Params) -> Metrics:
    x, y = float(params["x0"]), float(params["x1"])
    valley = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return {LOSS: valley**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10}


def _branin_disk(params: Params) -> Metrics:
    """Gelbart, Snoek, Adams, "Bayesian Optimization with Unknown Constraints", 2014."""
    x, y = float(params["x0"]), float(params["x1"])
    return {**_branin(params), "disk": (x - 2.5) ** 2 + (y - 7.5) ** 2}


_SIX_A: list[list[float]] = [
    [10, 3, 17, 3.5, 1.7, 8],
    [0.05, 10, 17, 0.1, 8, 14],
    [3, 3.5, 1.7, 10, 17, 8],
    [17, 8, 0.05, 10, 0.1, 14],
]
_SIX_P = [
    [0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886],
    [0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991],
    [0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650],
    [0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381],
]
_THREE_A: list[list[float]] = [[3, 10, 30], [0.1, 10, 35], [3, 10, 30], [0.1, 10, 35]]
_THREE_P = [
    [0.3689, 0.1170, 0.2673],
    [0.4699, 0.4387, 0.7470],
    [0.1091, 0.8732, 0.5547],
    [0.0381, 0.5743, 0.8828],
]
_LIVE = (2, 9, 16)
"""The axes of the 20 that matter."""


def _hartmann(x: list[float], a: list[list[float]], p: list[list[float]]) -> float:
    inner = (np.array(a) * (np.array(x) - np.array(p)) ** 2).sum(axis=1)
    return -float(np.array([1.0, 1.2, 3.0, 3.2]) @ np.exp(-inner))


def _hartmann6(params: Params) -> Metrics:
    return {LOSS: _hartmann([float(params[f"x{i}"]) for i in range(6)], _SIX_A, _SIX_P)}


def _hartmann3_in_20(params: Params) -> Metrics:
    return {LOSS: _hartmann([float(params[f"x{i}"]) for i in _LIVE], _THREE_A, _THREE_P)}


def _dtlz2(params: Params) -> Metrics:
    """Deb, Thiele, Laumanns, Zitzler, "Scalable Test Problems", 2005; two objectives, four dimensions."""
    x = [float(params[f"x{i}"]) for i in range(4)]
    radius = 1 + sum((value - 0.5) ** 2 for value in x[1:])
    angle = x[0] * math.pi / 2
    return {LOSS: radius * math.cos(angle), "other": radius * math.sin(angle)}


_CONDITIONAL_SPACE = {
    "lr": {"type": "float", "low": 1e-5, "high": 1.0, "log": True},
    "optimizer": {"type": "categorical", "choices": ["sgd", "adam"]},
    "momentum": {"type": "float", "low": 0.0, "high": 1.0, "when": {"optimizer": "sgd"}},
    "beta": {"type": "float", "low": 0.0, "high": 1.0, "when": {"optimizer": "adam"}},
    "clip": {"type": "bool", "when": {"optimizer": "adam"}},
    "clip_at": {"type": "float", "low": 0.01, "high": 10.0, "log": True, "when": {"clip": True}},
}


def _conditional(params: Params) -> Metrics:
    """Two optimizers, of which the one with more parameters is better once they are right."""
    rate = math.log10(float(params["lr"]))
    if params["optimizer"] == "sgd":
        return {LOSS: 0.3 + 0.2 * (rate + 1) ** 2 + 2 * (float(params["momentum"]) - 0.9) ** 2}
    clipped = 0.1 * (math.log10(float(params["clip_at"])) + 0.5) ** 2 if params["clip"] else 0.1
    return {LOSS: 0.1 + 0.2 * (rate + 3) ** 2 + 2 * (float(params["beta"]) - 0.7) ** 2 + clipped}


_WEIGHTS = np.array([0.4, 0.25, 0.2, 0.1, 0.05])
_POWER, _FREE = 0.3, 0.02


def _mixture_loss(shares: np.ndarray[Any, Any]) -> float:
    """Each source's loss falls by a power of its share."""
    return float(_WEIGHTS @ (shares + _FREE) ** -_POWER)


def _best_mixture() -> np.ndarray[Any, Any]:
    """Where the gains of all sources are equal; every share comes out positive."""
    even = _WEIGHTS ** (1 / (1 + _POWER))
    best: np.ndarray[Any, Any] = even / even.sum() * (1 + _FREE * len(_WEIGHTS)) - _FREE
    return best


def _mixture(params: Params) -> Metrics:
    return {LOSS: _mixture_loss(np.array([float(params[f"mix/d{i}"]) for i in range(len(_WEIGHTS))]))}
