"""What an evaluation is worth before it is made. Losses are minimised."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr
from scipy.stats import norm

Array = npt.NDArray[np.float64]

_FAR = -6.0
"""Below this many standard deviations, the tail's expansion is exact enough and does not cancel."""


def log_expected_improvement(mean: Array, sd: Array, best: npt.ArrayLike) -> Array:
    """log E[max(best - Y, 0)] for Y normal with ``mean`` and ``sd`` (positive), element by element.

    Jones, Schonlau, Welch, 1998; on the log scale, so that values far from promising still compare (Ament
    et al., "Unexpected Improvements to Expected Improvement", 2023).
    """
    z = (np.asarray(best) - mean) / sd
    near = np.maximum(z, _FAR)
    usual = np.log(near * norm.cdf(near) + norm.pdf(near))
    far = np.minimum(z, _FAR)
    # phi(z) + z Phi(z) = phi(z) / z^2 (1 - 3/z^2 + ...) in the far tail.
    tail = norm.logpdf(far) - 2 * np.log(-far) + np.log1p(-3 / far**2)
    logarithm: Array = np.log(sd) + np.where(z > _FAR, usual, tail)
    return logarithm


def probability_of_improvement(mean: Array, sd: Array, best: npt.ArrayLike) -> Array:
    """P(Y < best) for Y normal, element by element."""
    chance: Array = ndtr((np.asarray(best) - mean) / sd)
    return chance
