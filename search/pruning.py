"""Searching less of a space: parameters that do not matter are frozen, ranges narrowed to the good region.

Only where the study allows it (``prune: true``), and carefully:

- Nothing is pruned before ``FIRST_RESULTS`` results (more in large spaces), and again only when there are
  a quarter more, or when an outsider has become the best.
- A parameter is frozen, at the value of the best trial, where the Sobol index with all interactions
  (:mod:`search.importances`) says that it does not matter, and the model behind it predicts trials that it
  was not told of very well. It is let go again when the index rises, or the model predicts no more.
- A range is narrowed to that of the best trials with a margin on either side, never below ``LEAST_WIDTH``
  of the whole. Each time it is made anew from all trials, so it may widen, too.
- Measurements that break a limit of the study are no results.
- One in ``WHOLE_EVERY`` new configurations comes from the whole space, whatever was pruned: these outsiders
  show what was pruned wrongly.

A strategy knows nothing of it: it is given a view with a smaller space (:func:`inside`), in which what was
tried before has the frozen values, since they make no difference. Ranges are narrowed for strategies that
have no model of the space (``MODELLESS``); the others find the good region themselves, and would lose what
they know of the rest.

Left as they are: shares of a simplex, parameters on whose values the existence of others depends, and those
that constraints or forbidden combinations name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from search.along import OPTION
from search.domains import Choice, Domain, Fixed, ParamValue, Real, RealGrid, Whole
from search.parameters import Parameter
from search.view import StudyView, TrialView

FIRST_RESULTS = 40
PER_PARAMETER = 3
"""So many results for each parameter before anything is pruned."""
GROWTH = 1.25
WHOLE_EVERY = 5
MODELLESS = frozenset({"random", "sobol", "asha", "hyperband"})

_IRRELEVANT = 0.01
"""Sobol index with interactions up to which a parameter is frozen ..."""
_RELEVANT = 0.02
"""... and beyond which it is let go."""
_EXPLAINED = 0.9
"""What the model must predict of the differences between trials it was not told of: what it does not may be
the work of a parameter that it takes for irrelevant."""
_BEST_SHARE, _LEAST_BEST = 0.15, 8
_MARGIN = 0.1
_WORTH_IT = 0.75
"""A range is narrowed to at most so much of the whole, or not at all."""
LEAST_WIDTH = 0.3


@dataclass(frozen=True, slots=True)
class Pruning:
    """What of a space is searched."""

    results: int
    """So many results it was made from."""
    frozen: Mapping[str, ParamValue] = field(default_factory=dict)
    ranges: Mapping[str, tuple[ParamValue, ParamValue]] = field(default_factory=dict)
    """The first and the last value of a parameter."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """In words, by parameter; for those that cannot be pruned, too."""

    @property
    def prunes(self) -> bool:
        return bool(self.frozen or self.ranges)

    def to_json(self) -> dict[str, Any]:
        ranges = {name: list(ends) for name, ends in self.ranges.items()}
        return {
            "results": self.results,
            "frozen": dict(self.frozen),
            "ranges": ranges,
            "reasons": dict(self.reasons),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Pruning:
        ranges = {name: (low, high) for name, (low, high) in document["ranges"].items()}
        return cls(document["results"], document["frozen"], ranges, document["reasons"])


def whole_turn(view: StudyView) -> bool:
    """Whether the next new configuration comes from the whole space."""
    return (len(view.trials) + 1) % WHOLE_EVERY == 0


def until_whole(view: StudyView) -> int:
    """How many new configurations there are before the next one from the whole space."""
    return WHOLE_EVERY - 1 - len(view.trials) % WHOLE_EVERY


def inside(view: StudyView, pruning: Pruning) -> StudyView:
    """The study as if its space were what is left of it."""
    space = view.space
    parameters = tuple(_left(p, pruning) for p in space.parameters)
    return replace(
        view,
        space=replace(space, parameters=parameters),
        trials=tuple(_with_frozen(trial, pruning.frozen) for trial in view.trials),
    )


def due(view: StudyView) -> bool:
    """Whether it is time to prune, or to prune anew."""
    view = view.counted()
    results = _results(view)
    if view.pruning is None:
        return results >= max(FIRST_RESULTS, PER_PARAMETER * len(view.space.dimensions))
    return results >= GROWTH * view.pruning.results or (
        results > view.pruning.results and _outsider_leads(view, view.pruning)
    )


def prune(view: StudyView, rng: np.random.Generator) -> Pruning:
    """What is left of the study's space, from all its trials and what was pruned before."""
    from search.importances import TooFewTrialsError, importances

    view = view.counted()
    results = _results(view)
    try:
        (found,) = importances(view, ("sobol",), rng).rankings
    except TooFewTrialsError:
        return Pruning(results)
    index = {row.parameter: row.total or 0.0 for row in found.importances}
    before = view.pruning or Pruning(results)
    best = _leader(view)
    explained = found.explained or 0.0
    frozen: dict[str, ParamValue] = {}
    reasons: dict[str, str] = {}
    for name in index:
        why_not = _untouchable(view, name)
        if why_not:
            reasons[name] = f"left as it is: {why_not}"
            continue
        threshold = _RELEVANT if name in before.frozen else _IRRELEVANT
        if name in best.params and explained >= _EXPLAINED and index[name] <= threshold:
            frozen[name] = before.frozen.get(name, best.params[name])
            value = "as before" if name in before.frozen else f"at the value of trial {best.number}"
            reasons[name] = (
                f"frozen {value}: {index[name]:.1%} of the differences with all interactions, "
                f"by a model that predicts {explained:.0%} of them"
            )
    ranges = _ranges(view, {*frozen, *reasons}, reasons) if view.strategy in MODELLESS else {}
    return Pruning(results, frozen, ranges, reasons)


def _ranges(
    view: StudyView, without: set[str], reasons: dict[str, str]
) -> dict[str, tuple[ParamValue, ParamValue]]:
    """The ranges that are worth narrowing, with the reasons put into ``reasons``."""
    from search.ends import Ends

    ends = Ends.of(view, np.random.default_rng([view.seed, len(view.trials)]))
    count = max(_LEAST_BEST, math.ceil(_BEST_SHARE * len(ends.trials)))
    order = np.argsort(ends.losses, kind="stable").tolist()
    # The best measurement, too, wherever its trial is predicted to end.
    good = [*(ends.trials[place] for place in order[:count]), _leader(view)]
    ranges: dict[str, tuple[ParamValue, ParamValue]] = {}
    for name in view.space.dimensions:
        domain = view.space.by_name[name].domain
        if name in without or (isinstance(domain, Choice) and domain.kind != "ordered"):
            continue
        at = [domain.encode(trial.params[name]) for trial in good if name in trial.params]
        if len(at) < _LEAST_BEST:
            continue
        low, high = max(0.0, min(at) - _MARGIN), min(1.0, max(at) + _MARGIN)
        missing = LEAST_WIDTH - (high - low)
        if missing > 0:
            low, high = max(0.0, low - missing / 2), min(1.0, high + missing / 2)
            low, high = max(0.0, min(low, high - LEAST_WIDTH)), min(1.0, max(high, low + LEAST_WIDTH))
        if high - low > _WORTH_IT:
            continue
        ends_of = (domain.decode(low), domain.decode(high))
        if ends_of[0] != ends_of[1]:
            ranges[name] = ends_of
            reasons[name] = (
                f"narrowed to {high - low:.0%} of the whole, where the best {count} of "
                f"{len(ends.trials)} results lie"
            )
    return ranges


def _left(parameter: Parameter, pruning: Pruning) -> Parameter:
    """What is left of a parameter."""
    if parameter.name in pruning.frozen:
        fixed = Fixed(pruning.frozen[parameter.name])
        return replace(parameter, domain=fixed, belief=None, tie=None)
    if parameter.name in pruning.ranges:
        return replace(parameter, domain=_between(parameter.domain, *pruning.ranges[parameter.name]))
    return parameter


def _between(domain: Domain, low: ParamValue, high: ParamValue) -> Domain:
    """The values of a domain from ``low`` to ``high``, both of them its own."""
    if isinstance(domain, Real | RealGrid):
        return replace(domain, low=float(low), high=float(high))
    if isinstance(domain, Whole):
        return replace(domain, low=int(low), high=int(high))
    assert isinstance(domain, Choice)
    first, last = domain.index(low), domain.index(high)
    assert first is not None
    assert last is not None
    return replace(domain, values=domain.values[first : last + 1])


def _with_frozen(trial: TrialView, frozen: Mapping[str, ParamValue]) -> TrialView:
    changed = {name: value for name, value in frozen.items() if name in trial.params}
    return replace(trial, params={**trial.params, **changed}) if changed else trial


def _untouchable(view: StudyView, name: str) -> str:
    """Why a parameter cannot be pruned; empty if it can."""
    space = view.space
    if name == view.options.get(OPTION):
        return "it is the study's fidelity"
    if any(name in simplex.shares for simplex in space.simplexes):
        return "a share of a simplex"
    if any(name == parent for p in space.parameters for parent, _ in p.when):
        return "others exist only under some of its values"
    named = [rule.names for rule in space.constraints] + [rule.names for rule in space.forbidden]
    if any(name in names for names in named):
        return "a constraint names it"
    return ""


def _results(view: StudyView) -> int:
    """Trials that have ended, or wait, with a finite result."""
    return sum(not trial.active and math.isfinite(_best(view, trial)) for trial in view.trials)


def _leader(view: StudyView) -> TrialView:
    """The trial with the best measurement."""
    return min(view.trials, key=lambda trial: _best(view, trial))


def _best(view: StudyView, trial: TrialView) -> float:
    return min((view.loss(value) for value in trial.values), default=math.inf)


def _outsider_leads(view: StudyView, pruning: Pruning) -> bool:
    """Whether the best trial lies outside of a narrowed range."""
    best = _leader(view)
    return any(
        name in best.params and not low <= view.space.by_name[name].domain.encode(best.params[name]) <= high
        for name, (low, high) in (
            (name, tuple(map(view.space.by_name[name].domain.encode, ends)))
            for name, ends in pruning.ranges.items()
        )
    )
