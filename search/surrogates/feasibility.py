"""How likely a configuration is to train at all, from those that diverged or ran out of memory."""

from __future__ import annotations

import numpy as np

from search.surrogates.history import Array
from search.view import StudyView, TrialView

BLAMED = frozenset({"diverged", "out_of_memory"})
"""Failures for which the configuration is to blame."""

_WIDTH = 0.35
"""Distance, in length-scales of the losses' model, at which a failure's weight has fallen to 0.6."""


def failed(trial: TrialView) -> bool:
    """Whether the configuration itself made the training fail."""
    return trial.failure in BLAMED


def log_feasible(view: StudyView, features: Array, lengths: Array, queries: Array) -> Array:
    """Logarithm of the chance that each query trains, shape (m,); 0 where nothing has ever failed.

    A kernel-weighted share of failures among the neighbours (Nadaraya-Watson), drawn towards the study's
    own share of failures by one trial's weight. ``features`` (trials, d) and ``queries`` (m, d) are
    compared in units of ``lengths`` (d,): where the loss varies quickly, so does what fails.
    """
    broken = np.array([failed(trial) for trial in view.trials], dtype=np.float64)
    if not broken.any():
        return np.zeros(len(queries))
    told = np.array([failed(trial) or bool(trial.values) for trial in view.trials])
    broken, known = broken[told], features[told] / lengths
    asked = queries / lengths
    squares = np.maximum((asked**2).sum(1)[:, None] + (known**2).sum(1)[None, :] - 2 * asked @ known.T, 0.0)
    weights = np.exp(-0.5 * squares / _WIDTH**2)
    base = (broken.sum() + 0.5) / (len(broken) + 1)
    chance = (weights @ broken + base) / (weights.sum(axis=1) + 1)
    logarithm: Array = np.log1p(-np.minimum(chance, 0.99))
    return logarithm
