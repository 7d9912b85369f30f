"""The strategies, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from search.errors import Mistake, SearchError
from search.space import ParamValue, SearchSpace, did_you_mean
from search.strategies.asha import Asha
from search.strategies.base import Strategy
from search.strategies.bo import BayesianOptimisation
from search.strategies.curve_bo import CurveBO
from search.strategies.hyperband import Hyperband
from search.strategies.quasirandom import Random, Sobol
from search.view import Fidelity

Named = type[Asha] | type[BayesianOptimisation] | type[CurveBO] | type[Hyperband] | type[Random] | type[Sobol]

# A new strategy enters here, and tests/search/test_contract.py holds it to the contract. Curve-aware
# Bayesian optimisation will stand beside `bo`: the views it needs carry the whole curves already.
_STRATEGIES: Mapping[str, Named] = {
    strategy.name: strategy for strategy in (Asha, BayesianOptimisation, CurveBO, Hyperband, Random, Sobol)
}


def names() -> tuple[str, ...]:
    """The names of all strategies, sorted."""
    return tuple(sorted(_STRATEGIES))


def catalogue() -> dict[str, Any]:
    """What each strategy understands, as JSON, for those who check study files without this package."""
    return {
        name: {
            "conditional": strategy.conditional,
            "options": [asdict(option) for option in strategy.known_options],
        }
        for name, strategy in sorted(_STRATEGIES.items())
    }


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
    return _STRATEGIES[name].create(options, space, fidelity)
