"""The contract of a surrogate: a model of a study's learning curves.

A surrogate is fitted to :class:`~search.surrogates.history.Points` and says where each configuration will
come to, trained a little, a lot or not at all. It knows nothing of studies, budgets or steps.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from search.surrogates.calibration import Replays
from search.surrogates.history import Array, Indices, Points


class Outlook(Protocol):
    """Predictions for ``m`` configurations at their end, and at any other progress; all finite."""

    @property
    def mean(self) -> Array:
        """Of the value at the end, noise left out; shape (m,)."""
        ...

    @property
    def sd(self) -> Array:
        """Standard deviation, above 0; shape (m,)."""
        ...

    def at(self, progress: Array) -> tuple[Array, Array, Array]:
        """Mean, standard deviation, and covariance with the end, of the value at ``progress``; all (m,)."""
        ...


class Surrogate(Protocol):
    """A model, conditioned on points. The same points and random state give the same model."""

    @property
    def points(self) -> Points:
        """What it is conditioned on."""
        ...

    @property
    def noise(self) -> float:
        """Variance of the noise of a measurement, 0 or more."""
        ...

    @property
    def lengths(self) -> Array:
        """How far one must go along each feature until another loss is to be expected, shape (d,)."""
        ...

    def outlook(self, features: Array, owner: Indices) -> Outlook:
        """What it says of ``m`` configurations, ``features`` (m, d).

        ``owner`` (m,) is as in the points: the place of the configuration's own curve, or one without
        points. -1 is nobody's.
        """
        ...

    def plus(self, points: Points) -> Surrogate:
        """The model conditioned on further points, such as what runs under way may come to; what takes
        long to find, such as hyperparameters, is kept."""
        ...

    def replays(self) -> Replays:
        """What it would have said of each curve's newest point, told all other curves and, of its own, each
        earlier part in turn, or none. By them is corrected what people are told; empty: by what models lack
        in general. Asked for only of a model fitted to curves whose points lie together, in order."""
        ...

    def report(self) -> dict[str, Any]:
        """How well it fits, as JSON: what is kept with each decision."""
        ...


class Fit(Protocol):
    """What a plug-in is: it makes a surrogate."""

    def __call__(self, points: Points, rng: np.random.Generator) -> Surrogate:
        """Fit to one or more points, whose values are about standardised (0 is a middling trial, lower is
        better, none is infinite)."""
        ...
