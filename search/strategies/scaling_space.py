"""The space of a scaling study: what makes models larger and trainings longer, and what is tuned."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np

from search.domains import Choice, Domain, ParamValue, Real, RealGrid, Whole
from search.errors import Mistake, did_you_mean, pointer
from search.sampling import sobol_points
from search.space import Key, SearchSpace

_LISTED = 64
"""A parameter of so many values or fewer is trained at any of them."""
_LEVELS = 33
"""Of others, so many values are considered, even on the log scale."""
_POINTS = 4_096
"""Points of a sequence that are tried for configurations that are new."""

Cell = tuple[float, float]
"""Values of the parameters that make models larger and trainings longer."""
Setting = tuple[float, float]
"""A learning rate, and a batch as the space counts it."""


@dataclass(frozen=True)
class Axis:
    """A parameter of positive numbers."""

    name: str
    domain: Real | RealGrid | Whole | Choice

    @cached_property
    def levels(self) -> tuple[float, ...]:
        """The values that are considered, rising."""
        domain = self.domain
        if isinstance(domain, Choice):
            return tuple(sorted(float(value) for value in domain.values))
        if domain.size is not None and domain.size <= _LISTED:
            ends = (np.arange(domain.size) + 0.5) / domain.size
            if isinstance(domain, Whole):
                return tuple(float(domain.at(i)) for i in range(domain.size))
            return tuple(float(domain.decode(float(at))) for at in ends)
        even = np.geomspace(domain.low, domain.high, _LEVELS)
        return tuple(dict.fromkeys(float(self.nearest(float(value))) for value in even))

    @property
    def low(self) -> float:
        return self.levels[0]

    @property
    def high(self) -> float:
        return self.levels[-1]

    def nearest(self, value: float) -> ParamValue:
        """The legal value nearest to ``value``, of listed ones in the logarithm."""
        domain = self.domain
        if isinstance(domain, Choice):
            return min(domain.values, key=lambda each: abs(math.log(float(each) / value)))
        value = min(domain.high, max(domain.low, value))
        if isinstance(domain, RealGrid):
            return domain.at(domain.index(value))
        if isinstance(domain, Whole):
            return domain.at(min(domain.size - 1, round((value - domain.low) / domain.step)))
        return value

    def first(self, many: int, apart: float) -> tuple[float, ...]:
        """The lowest ``many`` levels that differ by the factor ``apart``; if these are too few, by less."""
        chosen = [self.low]
        for level in self.levels:
            if level >= apart * chosen[-1]:
                chosen.append(level)
        if len(chosen) < many:
            places = np.linspace(0, len(self.levels) - 1, min(many, len(self.levels))).round()
            chosen = [self.levels[int(place)] for place in places]
        return tuple(chosen[:many])


@dataclass(frozen=True)
class ScalingSpace:
    """The four parameters, in the space of a study."""

    space: SearchSpace
    size: Axis
    length: Axis
    lr: Axis
    batch: Axis

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        return tuple((size, length) for size in self.size.levels for length in self.length.levels)

    def cell(self, params: Mapping[str, ParamValue]) -> Cell:
        return float(params[self.size.name]), float(params[self.length.name])

    def params(self, cell: Cell, setting: Setting) -> dict[str, ParamValue]:
        """The legal configuration next to a cell and a setting."""
        chosen = {
            self.size.name: self.size.nearest(cell[0]),
            self.length.name: self.length.nearest(cell[1]),
            self.lr.name: self.lr.nearest(setting[0]),
            self.batch.name: self.batch.nearest(setting[1]),
        }
        return {
            p.name: chosen[p.name] if p.name in chosen else p.domain.decode(0.5)
            for p in self.space.parameters
        }

    def spread(self, window: tuple[Setting, Setting], seed: int, start: int) -> Iterator[Setting]:
        """A scrambled Sobol sequence of settings, even in logarithms between two corners."""
        low, high = np.log(window[0]), np.log(window[1])
        for point in sobol_points(2, start, seed):
            lr, batch = np.exp(low + point * (high - low)).tolist()
            yield lr, batch

    @property
    def whole(self) -> tuple[Setting, Setting]:
        """The window that is all of the space."""
        return (self.lr.low, self.batch.low), (self.lr.high, self.batch.high)

    def new(
        self, cell: Cell, settings: Iterable[Setting], seen: set[Key], count: int
    ) -> list[dict[str, ParamValue]]:
        """``count`` configurations of a cell that are not in ``seen``, of the first settings."""
        found: list[dict[str, ParamValue]] = []
        seen = set(seen)
        for setting in islice(settings, _POINTS):
            if len(found) == count:
                break
            params = self.params(cell, setting)
            key = self.space.key(params)
            if key not in seen:
                seen.add(key)
                found.append(params)
        return found


def read_space(
    strategy: str, roles: Mapping[str, tuple[str, str]], space: SearchSpace
) -> tuple[ScalingSpace | None, list[Mistake]]:
    """The space, and every mistake in it; None if there are any, or if a role is left out.

    ``roles``: ``size``, ``length``, ``lr`` and ``batch``, each with the option that names its parameter,
    and the parameter's name.
    """
    mistakes: list[Mistake] = []
    axes: dict[str, Axis] = {}
    for role, (option, name) in roles.items():
        place = pointer("strategy", "options", option)
        parameter = space.by_name.get(name)
        if parameter is None:
            hint = did_you_mean(name, space.dimensions) or f"name it with the option {option}"
            mistakes.append(Mistake(place, f"the space has no parameter {name}", hint))
            continue
        why_not, hint = _unfit(role, name, parameter.domain)
        if parameter.tie is not None:
            why_not, hint = (
                f"{name} is tied to another parameter",
                "search it untied: the law finds the tie",
            )
        if why_not:
            mistakes.append(Mistake(place, why_not, hint))
        else:
            assert isinstance(parameter.domain, Real | RealGrid | Whole | Choice)
            axes[role] = Axis(name, parameter.domain)
    names = [name for _, name in roles.values()]
    for twice in sorted({name for name in names if names.count(name) > 1}):
        options = " and ".join(option for option, name in roles.values() if name == twice)
        mistakes.append(
            Mistake("/strategy/options", f"{options} name the same parameter, {twice}", "name one for each")
        )
    varying = [p.name for p in space.parameters if p.name not in names and p.domain.size != 1]
    if len(set(names) & set(space.by_name)) < len(_FEWEST):
        varying = []  # those whose names are misspelt
    if varying or space.constrained:
        what = ", ".join(varying) or "constraints"
        law = f"a law of {', '.join(names)}"
        message = f"{strategy} fits {law}, with everything else alike; the space has {what}, too"
        mistakes.append(Mistake("/space", message, "fix them, or tune them first with another strategy"))
    whole = not mistakes and len(axes) == len(_FEWEST)
    return (ScalingSpace(space, **axes) if whole else None), mistakes


_FEWEST = {"size": 3, "length": 2, "lr": 2, "batch": 2}


def _unfit(role: str, name: str, domain: Domain) -> tuple[str, str]:
    """Why a parameter cannot have the role, and what to do; two empty texts if it can."""
    if role == "lr":
        if not isinstance(domain, Real) or not 0 < domain.low < domain.high:
            return f"{name} is not a positive number with a range", "give it as a float with 0 < low < high"
        return "", ""
    hint = "give it as an ordered parameter of numbers, or as an int or a float with a range"
    if isinstance(domain, Choice):
        numbers = [v for v in domain.values if not isinstance(v, bool | str) and math.isfinite(v) and v > 0]
        if domain.kind != "ordered" or len(numbers) < len(domain.values):
            return f"the values of {name} are not all positive numbers in an order", hint
        many = len(set(numbers))
    elif isinstance(domain, Real | RealGrid | Whole):
        if domain.low <= 0:
            return f"{name} has values that are not above 0", hint
        many = domain.size or _LEVELS
    else:
        return f"{name} is not a number with several values", hint
    if many < _FEWEST[role]:
        return f"{name} has {many} values, a law needs at least {_FEWEST[role]}", "add more"
    return "", ""
