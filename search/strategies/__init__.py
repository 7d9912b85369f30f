"""The strategies, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from search.errors import Mistake, SearchError
from search.space import ParamValue, SearchSpace, did_you_mean
from search.strategies.asha import Asha
from search.strategies.base import Strategy
from search.strategies.bo import BayesianOptimisation
from search.strategies.hyperband import Hyperband
from search.strategies.quasirandom import Random, Sobol
from search.view import Fidelity

Create = Callable[[Mapping[str, ParamValue], SearchSpace, Fidelity], Strategy]

# A new strategy enters here, and tests/search/test_contract.py holds it to the contract. Curve-aware
# Bayesian optimisation will stand beside `bo`: the views it needs carry the whole curves already.
_STRATEGIES: Mapping[str, Create] = {
    "asha": Asha.create,
    "bo": BayesianOptimisation.create,
    "hyperband": Hyperband.create,
    "random": Random.create,
    "sobol": Sobol.create,
}


def names() -> tuple[str, ...]:
    """The names of all strategies, sorted."""
    return tuple(sorted(_STRATEGIES))


def create(
    name: str, options: Mapping[str, ParamValue], space: SearchSpace, fidelity: Fidelity
) -> Strategy:
    """The strategy ``name``, set up for a study.

    Raises :class:`~search.errors.SearchError` if there is none of that name, if an option is unknown or
    out of range, or if the strategy cannot work in this space or fidelity: nothing is replaced silently.
    """
    if name not in _STRATEGIES:
        raise SearchError(
            [Mistake("/strategy/name", f"there is no strategy {name}", did_you_mean(name, names()))]
        )
    return _STRATEGIES[name](options, space, fidelity)
