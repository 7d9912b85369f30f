"""The surrogate ``deep-kernel``: a Gaussian process on what a small network makes of the inputs.

The kernel is Matérn 5/2 of the distance between phi(x, t) and phi(x', t'), where phi is a network on the
features and the progress; its weights are hyperparameters, found by marginal likelihood (Wilson et al.,
"Deep Kernel Learning", 2016; for learning curves: Wistuba, Kadra, Grabocka, "Supervising the Multi-Fidelity
Race of Hyperparameter Configurations" (DyHPO), 2022). Two things keep it from learning a small study by
heart (Ober, Rasmussen, van der Wilk, "The Promises and Pitfalls of Deep Kernel Learning", 2021): the inputs
themselves, scaled, are part of phi, so that it begins as a plain process, and weights have a normal prior.
"""

from __future__ import annotations

import numpy as np
import torch

from search.surrogates.history import Array, Points
from search.surrogates.kernel_gp import KernelGP, Prior, fit
from search.surrogates.kernels import Tensor, distance, matern

_HIDDEN = 16
_OUT = 4
_ITERATIONS = 30
_AMPLITUDE = (1.5, 0.3)
"""Median and standard deviation of the logarithm, as of the next ones."""
_LENGTH = (2.0, 0.9)
_TIME_LENGTH = (1.5, 0.6)
_OUTPUT = 0.5
"""Prior standard deviation of phi's outputs, in length-scales."""
_START = 0.5
"""Weights are drawn from as much of their prior's spread to begin with."""


class _Deep:
    """Hyperparameters: weights and biases of the two hidden layers and the last one, then the logarithms of
    the length-scales of the d features and of progress, and of the amplitude."""

    def prior(self, width: int, rng: np.random.Generator) -> Prior:
        spreads = [
            np.full((into + 1) * out, size / np.sqrt(into + 1)) for into, out, size in _layers(width)
        ]
        weights = np.concatenate(spreads)
        scalars = [_LENGTH] * width + [_TIME_LENGTH, _AMPLITUDE]
        medians = np.log([median for median, _ in scalars])
        return Prior(
            np.concatenate([np.zeros(len(weights)), medians]),
            np.concatenate([weights, [spread for _, spread in scalars]]),
            np.concatenate([_START * weights * rng.standard_normal(len(weights)), medians]),
        )

    def embed(self, theta: Tensor, features: Tensor, progress: Tensor) -> Tensor:
        """phi."""
        width = features.shape[1]
        inputs = torch.cat([features, progress[:, None]], dim=1)
        deep, at = 2 * inputs - 1, 0
        layers = _layers(width)
        for place, (into, out, _) in enumerate(layers):
            block = theta[at : at + (into + 1) * out].reshape(into + 1, out)
            at += block.numel()
            deep = deep @ block[:-1] + block[-1]
            if place < len(layers) - 1:
                deep = torch.tanh(deep)
        return torch.cat([inputs * (-theta[at:-1]).exp(), deep], dim=1)

    def covariance(self, theta: Tensor, first: Tensor, second: Tensor) -> Tensor:
        return theta[-1].exp() ** 2 * matern(distance(first, second))

    def paired(self, theta: Tensor, first: Tensor, second: Tensor) -> Tensor:
        apart = (first - second).square().sum(1).clamp(min=1e-12).sqrt()
        return theta[-1].exp() ** 2 * matern(apart)

    def lengths(self, theta: Array, width: int) -> Array:
        """Of the inputs as such; what the network makes of them is not counted."""
        lengths: Array = np.exp(theta[-width - 2 : -2])
        return lengths


def _layers(width: int) -> tuple[tuple[int, int, float], ...]:
    """Inputs and outputs of each layer, and the spread that its outputs have a priori, for inputs of 1."""
    return (width + 1, _HIDDEN, 2.0), (_HIDDEN, _HIDDEN, 2.0), (_HIDDEN, _OUT, _OUTPUT)


def fitted(points: Points, rng: np.random.Generator) -> KernelGP:
    """The process with this kernel, fitted."""
    return fit(points, rng, _Deep(), _ITERATIONS)
