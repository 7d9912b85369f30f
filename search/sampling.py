"""Drawing configurations that the study has not tried yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import numpy.typing as npt

from search.space import Key, ParamValue, SearchSpace
from search.view import StudyView

_DRAWS = 256
"""Points drawn before the untried configurations of a finite space are listed instead."""
_LISTED = 4_096
"""Untried configurations from which one is then chosen."""


def sobol_points(dimensions: int, start: int, seed: int) -> Iterator[npt.NDArray[np.float64]]:
    """The Sobol sequence from its point ``start`` on, scrambled by ``seed``; each of shape (dimensions,).

    Owen-scrambled as in scipy; the same seed gives the same sequence, so that a study can be taken up at
    any point of it.
    """
    if dimensions == 0:
        while True:
            yield np.empty(0)
    from scipy.stats import qmc  # heavy: only when a sequence is drawn

    sequence = qmc.Sobol(dimensions, scramble=True, seed=np.random.default_rng(seed))
    if start:
        sequence.fast_forward(start)
    while True:
        yield sequence.random(1)[0]


def uniform_points(dimensions: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.float64]]:
    """Uniform points of the cube, each of shape (dimensions,)."""
    while True:
        yield rng.random(dimensions)


def tried(view: StudyView) -> set[Key]:
    """What need not be tried again: every configuration of the study, whatever became of it."""
    return {view.space.key(trial.params) for trial in view.trials}


def fresh(
    space: SearchSpace,
    seen: set[Key],
    points: Iterable[npt.NDArray[np.float64]],
    rng: np.random.Generator,
) -> dict[str, ParamValue] | None:
    """The first configuration among ``points`` that is not in ``seen``; it is added to ``seen``.

    Where the points keep hitting what is known, one of the untried configurations is taken at random.
    None: the space is exhausted. In a continuous space that keeps hitting (one whose only continuous
    parameter is seldom active, say) a configuration is repeated.
    """
    size = space.cardinality
    if size is not None and len(seen) >= size:
        return None
    params: dict[str, ParamValue] = {}
    for point in islice(points, _DRAWS):
        params = space.decode(point)
        key = space.key(params)
        if key not in seen:
            seen.add(key)
            return params
    if size is None:
        return params
    # At most len(seen) configurations are passed over before an untried one comes.
    untried = list(islice((c for c in space.configurations() if space.key(c) not in seen), _LISTED))
    if not untried:
        return None
    params = untried[int(rng.integers(len(untried)))]
    seen.add(space.key(params))
    return params
