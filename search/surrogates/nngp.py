"""The surrogate ``nngp``: a neural network of infinite width, which is a Gaussian process.

The kernel is that of a fully connected ReLU network on (features, progress) with random weights as its
layers grow infinitely wide (Lee et al., "Deep Neural Networks as Gaussian Processes", 2018), built from the
arc-cosine kernel of degree 1 (Cho and Saul, "Kernel Methods for Deep Learning", 2009). Unlike a stationary
kernel it goes on beyond the data in straight lines. The variance of the first layer's weights is found for
each input, so that inputs that do not matter are left out.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from search.surrogates.history import Array, Points
from search.surrogates.kernel_gp import KernelGP, Prior, fit
from search.surrogates.kernels import Tensor

_LAYERS = 3
"""Hidden ones."""
_ITERATIONS = 20
_AMPLITUDE = (1.0, 0.5)
"""Median and standard deviation of the logarithm, as of the next ones."""
_BIAS = (1.0, 0.5)
_LENGTH = (2.0, 0.6)
"""Of an input: its weights' standard deviation is the inverse of it."""
_NEARLY = 1.0 - 1e-9
"""Largest cosine: at 1 the angle has no gradient."""


class _ArcCosine:
    """Hyperparameters: length-scales of the d features and of progress, bias, amplitude; logarithms."""

    def prior(self, width: int, rng: np.random.Generator) -> Prior:
        wanted = [_LENGTH] * (width + 1) + [_BIAS, _AMPLITUDE]
        centre = np.log([median for median, _ in wanted])
        return Prior(centre, np.array([spread for _, spread in wanted]), centre)

    def embed(self, theta: Tensor, features: Tensor, progress: Tensor) -> Tensor:
        """The inputs about 0, scaled, with the first layer's bias as a further one."""
        inputs = 2 * torch.cat([features, progress[:, None]], dim=1) - 1
        bias = theta[-2].exp().expand(len(inputs), 1)
        return torch.cat([inputs * (-theta[:-2]).exp(), bias], dim=1)

    def covariance(self, theta: Tensor, first: Tensor, second: Tensor) -> Tensor:
        one, other = first.square().sum(1)[:, None], second.square().sum(1)[None, :]
        return self._deep(theta, first @ second.T, one, other)

    def paired(self, theta: Tensor, first: Tensor, second: Tensor) -> Tensor:
        return self._deep(theta, (first * second).sum(1), first.square().sum(1), second.square().sum(1))

    def lengths(self, theta: Array, width: int) -> Array:
        lengths: Array = np.exp(theta[:width])
        return lengths

    def _deep(self, theta: Tensor, inner: Tensor, one: Tensor, other: Tensor) -> Tensor:
        """The covariance after all layers, from that of the first and the variances of both sides.

        Weights have twice the variance per input that a layer's width asks for (He et al., 2015): a layer
        then adds to a variance nothing but its bias.
        """
        bias, amplitude = theta[-2].exp() ** 2, theta[-1].exp() ** 2
        for _ in range(_LAYERS):
            norm = (one * other).sqrt()
            cosine = (inner / norm).clamp(-_NEARLY, _NEARLY)
            angle = torch.acos(cosine)
            inner = bias + norm / math.pi * ((1 - cosine.square()).sqrt() + (math.pi - angle) * cosine)
            one, other = one + bias, other + bias
        return amplitude * inner


def fitted(points: Points, rng: np.random.Generator) -> KernelGP:
    """The process with this kernel, fitted."""
    return fit(points, rng, _ArcCosine(), _ITERATIONS)
