"""A tree-structured Parzen estimator over a search space, on Optuna's ``TPESampler``.

Bergstra et al., "Algorithms for Hyper-Parameter Optimization" (2011), multivariate as in Falkner et al.,
"BOHB" (2018): one density is fitted to the best results, one to the others and to what is still in
training; of some draws from the first, the one is taken that is most likely under the first against the
second. Only the order of the losses counts. Parameters that are active under one condition have densities
of their own, fitted to the results in which they are active.

Optuna is told coordinates of the unit cube, which is its own scale for reals and for integers on the log
scale; of other finite domains it is told the index of the value. A study is built in memory for each
decision and thrown away.

Optuna is imported here and in :mod:`search.importances` alone, and only when it is needed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.domains import Choice, Domain, Real, Whole
from search.legal import legal_at
from search.space import Key, ParamValue, SearchSpace

Params = Mapping[str, ParamValue]

_REDRAWS = 16
"""Draws for one suggestion before it is given up."""


class ParzenEstimator:
    """The model of one decision. What it draws counts as pending from then on."""

    def __init__(
        self,
        space: SearchSpace,
        observed: Sequence[tuple[Params, float]],
        pending: Sequence[Params],
        seed: int,
    ) -> None:
        """``observed``: configurations with finite losses, the oldest, which counts least, first."""
        self._space = space
        self._distributions = {
            name: distribution_of(space.by_name[name].domain) for name in space.dimensions
        }
        with quiet():
            sampler = optuna.samplers.TPESampler(n_startup_trials=0, seed=seed, group=space.conditional)
            self._study = optuna.create_study(sampler=sampler)
            self._study.add_trials(
                [
                    *(self._trial(params, TrialState.COMPLETE, loss) for params, loss in observed),
                    *(self._trial(params, TrialState.RUNNING) for params in pending),
                ]
            )

    def draw(self, seen: set[Key]) -> dict[str, ParamValue] | None:
        """A legal configuration that is not in ``seen``, and is added to it; None if none comes.

        What was drawn and passed over stays pending, too, which drives the next draw away from it.
        """
        for _ in range(_REDRAWS):
            with quiet():
                drawn = self._study.ask(self._distributions).params
            # Children of conditions that do not hold are drawn along; decoding leaves them out.
            params = legal_at(
                self._space,
                [_coordinate(drawn[name], self._distributions[name]) for name in self._space.dimensions],
            )
            if params is not None and self._space.key(params) not in seen:
                seen.add(self._space.key(params))
                return params
        return None

    def _trial(self, params: Params, state: TrialState, loss: float | None = None) -> FrozenTrial:
        point = dict(zip(self._space.dimensions, self._space.encode(params).tolist(), strict=True))
        active = {name: d for name, d in self._distributions.items() if name in params}
        return create_trial(
            state=state,
            value=loss,
            params={name: coded(point[name], distribution) for name, distribution in active.items()},
            distributions=active,
        )


def distribution_of(domain: Domain) -> BaseDistribution:
    """What Optuna is told of a domain."""
    if domain.size == 1:
        return IntDistribution(0, 0)
    if isinstance(domain, Real) or (isinstance(domain, Whole) and domain.log):
        return FloatDistribution(0, 1)
    assert domain.size is not None
    if isinstance(domain, Choice) and domain.kind != "ordered":
        return CategoricalDistribution(range(domain.size))
    return IntDistribution(0, domain.size - 1)


def _cells(distribution: BaseDistribution) -> int | None:
    """How many values share the unit interval equally; None: every number of it is one."""
    if isinstance(distribution, IntDistribution):
        return distribution.high + 1
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    return None


def coded(coordinate: float, distribution: BaseDistribution) -> float | int:
    """What Optuna is told of a coordinate of the cube."""
    cells = _cells(distribution)
    return coordinate if cells is None else min(cells - 1, math.floor(coordinate * cells))


def _coordinate(code: float | int, distribution: BaseDistribution) -> float:
    """The coordinate of what Optuna draws."""
    cells = _cells(distribution)
    return code if cells is None else (code + 0.5) / cells


@contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's notes on each new study and on ``group`` being experimental; only meanwhile."""
    verbosity = optuna.logging.get_verbosity()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            yield
        finally:
            optuna.logging.set_verbosity(verbosity)
