"""A parameter as the fidelity of a study: model size, share of the data, size of the images.

The study's option ``along`` names it. Its highest value is the one that counts, the *target*: the best
configuration is sought there, and trials at lower values (proxies) are cheaper evidence of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from search.domains import Choice, ParamValue, Real, RealGrid, Whole, identity
from search.errors import Mistake, SearchError, did_you_mean, pointer
from search.space import SearchSpace
from search.table import Mask, Table, code

OPTION = "along"
_LISTED = 6
"""A parameter of so many values or fewer is searched at each of them."""
_LEVELS = 5
"""Of others, so many values are: even on the parameter's scale, both ends among them."""
_LEAST_COST = 1e-3
"""Least expected cost of a training, as a share of one at the target."""


@dataclass(frozen=True)
class Along:
    """The parameter, in the space of a study."""

    name: str
    space: SearchSpace

    @classmethod
    def read(cls, options: Mapping[str, ParamValue], space: SearchSpace) -> Along | None:
        """What the study's options name; None if they name nothing.

        Raises :class:`~search.errors.SearchError` if it cannot be a fidelity: one that the space does not
        have, that has one value or no order, that is a share of a simplex, that has conditions, or on
        whose values others depend.
        """
        if OPTION not in options:
            return None
        name = str(options[OPTION])
        why_not, hint = _unfit(name, space)
        if why_not:
            raise SearchError([Mistake(pointer("strategy", "options", OPTION), why_not, hint)])
        return cls(name, space)

    @cached_property
    def domain(self) -> Real | RealGrid | Whole | Choice:
        domain = self.space.by_name[self.name].domain
        assert isinstance(domain, Real | RealGrid | Whole | Choice)
        return domain

    @cached_property
    def target(self) -> ParamValue:
        """The value that counts."""
        return self.domain.decode(1.0)

    @cached_property
    def levels(self) -> tuple[ParamValue, ...]:
        """The values that are searched, rising; the last one is the target."""
        if self.domain.size is not None and self.domain.size <= _LISTED:
            ends = (np.arange(self.domain.size) + 0.5) / self.domain.size
            if isinstance(self.domain, Whole) and self.domain.log:
                every: list[ParamValue] = [self.domain.at(i) for i in range(self.domain.size)]
                return tuple(every)
        else:
            ends = np.linspace(0.0, 1.0, _LEVELS)
        return tuple(dict.fromkeys(self.domain.decode(float(at)) for at in ends))

    def counts(self, params: Mapping[str, ParamValue]) -> bool:
        """Whether a trial of this configuration can be the best: it is trained at the target."""
        return identity(self.domain, params[self.name]) == identity(self.domain, self.target)

    def progress(self, value: ParamValue) -> float:
        """Where a value lies on the parameter's scale: 0 the lowest, 1 the target."""
        low, high = self.domain.encode(self.domain.decode(0.0)), self.domain.encode(self.target)
        return (self.domain.encode(value) - low) / (high - low)

    def expected_cost(self, value: ParamValue) -> float:
        """What a training is expected to cost before any was timed, in trainings at the target.

        In proportion to the value; to its place in the list, where the values are words.
        """
        if isinstance(self.domain, Choice) and not all(_positive(v) for v in self.domain.values):
            place = self.domain.index(value)
            assert place is not None
            return (place + 1) / len(self.domain.values)
        if not _positive(self.target):
            return 1.0
        return max(_LEAST_COST, min(1.0, float(value) / float(self.target)))

    @cached_property
    def at_target(self) -> SearchSpace:
        """The space with this parameter at the target and nowhere else."""
        domain = self.domain
        if isinstance(domain, Choice):
            only: Real | RealGrid | Whole | Choice = replace(domain, values=(self.target,))
        elif isinstance(domain, Whole):
            only = replace(domain, low=int(self.target), high=int(self.target))
        else:
            only = replace(domain, low=float(self.target), high=float(self.target))
        parameters = tuple(
            replace(p, domain=only, belief=None) if p.name == self.name else p
            for p in self.space.parameters
        )
        return replace(self.space, parameters=parameters)

    def at(self, params: Mapping[str, ParamValue], value: ParamValue) -> dict[str, ParamValue]:
        """The configuration with another value of the parameter."""
        return {**params, self.name: value}

    def legal_at(self, table: Table, value: ParamValue) -> Mask:
        """Which configurations of :attr:`at_target` are legal with a value of the parameter, shape (n,)."""
        if not self.space.constrained:
            return np.ones(len(table), dtype=np.bool_)
        codes = table.codes.copy()
        codes[:, self.space.layout.columns[self.name]] = code(self.domain, value)
        return self.space.rules.legal(Table(codes, table.active))


def _positive(value: ParamValue) -> bool:
    return not isinstance(value, bool | str) and float(value) > 0


def _unfit(name: str, space: SearchSpace) -> tuple[str, str]:
    """Why the parameter cannot be a fidelity, and what to do; two empty texts if it can."""
    hint = "name a number or an ordered parameter whose higher values cost more, such as the model's size"
    if name not in space.by_name:
        shares = [s.name for s in space.simplexes]
        if name in shares:
            return f"{name} is a simplex: it has no highest value", hint
        return f"the space has no parameter {name}", did_you_mean(name, space.dimensions) or hint
    parameter = space.by_name[name]
    domain = parameter.domain
    if domain.size == 1:
        return f"{name} has one value only", hint
    if isinstance(domain, Choice) and domain.kind != "ordered":
        return f"the values of {name} have no order", f"make it ordered, or {hint}"
    if any(name in simplex.shares for simplex in space.simplexes):
        return f"{name} is a share of a simplex", hint
    if parameter.when:
        return f"{name} exists only under conditions", hint
    if any(name == parent for p in space.parameters for parent, _ in p.when):
        return f"other parameters exist only under some values of {name}", hint
    if isinstance(domain, Choice) and any(name in rule.names for rule in space.forbidden):
        return f"forbidden combinations name {name}", "give it as a number, or leave them out"
    return "", ""
