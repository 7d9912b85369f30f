"""The strategies, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from search import along
from search.domains import Choice
from search.errors import Mistake, SearchError
from search.space import ParamValue, SearchSpace, did_you_mean
from search.strategies.asha import Asha
from search.strategies.autolrs import AutoLrs
from search.strategies.base import Strategy
from search.strategies.bo import BayesianOptimisation
from search.strategies.bohb import Bohb
from search.strategies.cmaes import CmaEs
from search.strategies.freeze_thaw import CurveBO
from search.strategies.hyperband import Hyperband
from search.strategies.lr_schedule import LrSchedule
from search.strategies.mf_bo import MultiFidelityBO
from search.strategies.options import words_of
from search.strategies.pbt import PopulationBasedTraining
from search.strategies.quasirandom import Random, Sobol
from search.strategies.scaling import SIZE, Scaling
from search.strategies.tpe import Tpe
from search.view import Fidelity

# A new strategy enters here, and tests/search/test_contract.py holds it to the contract.
_ALL: tuple[type[Strategy], ...] = (
    Asha,
    AutoLrs,
    BayesianOptimisation,
    Bohb,
    CmaEs,
    CurveBO,
    Hyperband,
    LrSchedule,
    MultiFidelityBO,
    PopulationBasedTraining,
    Random,
    Scaling,
    Sobol,
    Tpe,
)
_STRATEGIES: Mapping[str, type[Strategy]] = {strategy.name: strategy for strategy in _ALL}


def names() -> tuple[str, ...]:
    """The names of all strategies, sorted."""
    return tuple(sorted(_STRATEGIES))


def catalogue() -> dict[str, Any]:
    """What each strategy understands, as JSON, for those who check study files without this package."""
    return {
        name: {
            "conditional": strategy.conditional,
            "categorical": strategy.categorical,
            "outcomes": strategy.outcomes,
            "seeds": repeats(name),
            "options": [asdict(option) for option in strategy.known_options],
        }
        for name, strategy in sorted(_STRATEGIES.items())
    }


def forks(name: str) -> bool:
    """Whether the strategy of this name, which exists, forks trials."""
    return _STRATEGIES[name].forks


def repeats(name: str) -> bool:
    """Whether trials of the strategy of this name, which exists, can be repeated with other seeds.

    What a forked trial comes to is owed to its ancestors, too; and of trials at several values of a
    parameter like the model's size only those at the highest would have to be repeated. A law reads every
    run by itself.
    """
    strategy = _STRATEGIES[name]
    sized = any(option.name in (along.OPTION, SIZE) for option in strategy.known_options)
    return not strategy.forks and not sized


def metrics(name: str, options: Mapping[str, ParamValue]) -> tuple[str, ...]:
    """The metrics of trials that the strategy of this name, which exists, reads beside the study's own."""
    known = _STRATEGIES[name].known_options
    words = words_of(options, known)
    return tuple(
        words[option.name] for option in known if option.names == "metric" and option.name in words
    )


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
    mistakes = _beyond(_STRATEGIES[name], space)
    try:
        strategy = _STRATEGIES[name].create(options, space, fidelity)
    except SearchError as error:
        mistakes.extend(error.mistakes)
    if mistakes:
        raise SearchError(mistakes)
    return strategy


def _beyond(strategy: type[Strategy], space: SearchSpace) -> list[Mistake]:
    """What the space asks for that the strategy cannot model."""
    mistakes = []
    conditional = [p.name for p in space.parameters if p.when]
    if conditional and not strategy.conditional:
        able = _words(name for name, other in _STRATEGIES.items() if other.conditional)
        mistakes.append(
            Mistake(
                "/strategy/name",
                f"{strategy.name} cannot model conditional parameters ({', '.join(conditional)})",
                f"use {able}, or drop the conditions",
            )
        )
    unordered = [
        p.name for p in space.parameters if isinstance(p.domain, Choice) and p.domain.kind == "categorical"
    ]
    if unordered and not strategy.categorical:
        able = _words(name for name, other in _STRATEGIES.items() if other.categorical)
        mistakes.append(
            Mistake(
                "/strategy/name",
                f"{strategy.name} cannot model categorical parameters ({', '.join(unordered)})",
                f"use {able}, or make them ordered if their values have an order",
            )
        )
    return mistakes


def _words(names: Iterable[str]) -> str:
    *others, last = sorted(names)
    return f"{', '.join(others)} or {last}"
