"""The one parameter of a space that a schedule search varies: the learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from search.decision import Schedule
from search.domains import Fixed, ParamValue, Real
from search.errors import Mistake, SearchError, did_you_mean, pointer
from search.space import SearchSpace
from search.strategies.options import Option

PARAMETER = Option("parameter", word=True)
_DEFAULT = "lr"


@dataclass(frozen=True, slots=True)
class Rate:
    """The learning rate in the space of a study; everything else in it is fixed."""

    name: str
    low: float
    high: float
    fixed: tuple[tuple[str, ParamValue], ...] = ()
    """Names and values of the others."""

    @classmethod
    def read(cls, strategy: str, options: Mapping[str, ParamValue], space: SearchSpace) -> Rate:
        """The parameter that the option ``parameter`` names (if none: ``lr``).

        Raises :class:`~search.errors.SearchError` if there is none of that name, if it is not a positive
        float with a range, or if something else in the space varies, too.
        """
        name = options.get(PARAMETER.name, _DEFAULT)
        place = pointer("strategy", "options", PARAMETER.name)
        parameter = space.by_name.get(str(name))
        if parameter is None:
            hint = (
                did_you_mean(str(name), space.by_name) or "name the learning rate with the option parameter"
            )
            raise SearchError([Mistake(place, f"the space has no parameter {name}", hint)])
        domain = parameter.domain
        if not isinstance(domain, Real) or not 0 < domain.low < domain.high:
            hint = "give it as a float with 0 < low < high"
            raise SearchError([Mistake(place, f"{name} is not a positive number with a range", hint)])
        others = [p for p in space.parameters if p.name != name]
        varying = [p.name for p in others if not isinstance(p.domain, Fixed)]
        if varying or space.constrained:
            what = ", ".join(varying) or "constraints"
            hint = "fix them, or tune them first with another strategy"
            message = (
                f"{strategy} searches the schedule of {name} and nothing else, but the space has {what}"
            )
            raise SearchError([Mistake("/space", message, hint)])
        fixed = tuple((p.name, p.domain.value) for p in others if isinstance(p.domain, Fixed))
        return cls(str(name), domain.low, domain.high, fixed)

    def params(self, schedule: Schedule) -> dict[str, ParamValue]:
        """The configuration of a training with a schedule: the rate is its highest."""
        return {self.name: self.clipped(max(rate for _, rate in schedule)), **dict(self.fixed)}

    def clipped(self, rate: float) -> float:
        """The nearest rate within the range."""
        return min(self.high, max(self.low, rate))

    def grid(self, many: int) -> list[float]:
        """So many rates, even on the log scale; of several, both ends among them."""
        return [float(rate) for rate in np.geomspace(self.low, self.high, many)]
