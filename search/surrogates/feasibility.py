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
    """:func:`log_trains` from the trials of a study, whose ``features`` have shape (trials, d)."""
    broken = np.array([failed(trial) for trial in view.trials], dtype=np.bool_)
    trained = np.array([bool(trial.values) for trial in view.trials], dtype=np.bool_) & ~broken
    return log_trains(features[broken], features[trained], lengths, queries)


def log_trains(broken: Array, trained: Array, lengths: Array, queries: Array) -> Array:
    """Logarithm of the chance that each query trains, shape (m,); 0 where nothing has ever failed.

    A kernel-weighted share of failures among the neighbours (Nadaraya-Watson), drawn towards the study's
    own share of failures by one trial's weight. The encoded configurations that failed, those that trained,
    and ``queries``, each of shape (n, d), are compared in units of ``lengths`` (d,): where the loss varies
    quickly, so does what fails.
    """
    if not len(broken):
        return np.zeros(len(queries))
    asked = queries / lengths
    of_broken, of_trained = (_weights(asked, known / lengths) for known in (broken, trained))
    base = (len(broken) + 0.5) / (len(broken) + len(trained) + 1)
    chance = (of_broken + base) / (of_broken + of_trained + 1)
    logarithm: Array = np.log1p(-np.minimum(chance, 0.99))
    return logarithm


def _weights(asked: Array, known: Array) -> Array:
    """The summed kernel of ``known`` at each of ``asked``, shape (m,)."""
    squares = (asked**2).sum(1)[:, None] + (known**2).sum(1)[None, :] - 2 * asked @ known.T
    summed: Array = np.exp(-0.5 * np.maximum(squares, 0.0) / _WIDTH**2).sum(axis=1)
    return summed
