"""What a space is made of: parameters, with the belief and the tie they may carry, and simplexes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from search.domains import Domain, ParamValue, Real

Array = npt.NDArray[np.float64]

TieRule = Literal["sqrt", "linear", "inverse-sqrt", "one-minus"]

SHARE_UNITS = 10**6
"""Shares of a simplex are whole multiples of 1 / SHARE_UNITS."""


@dataclass(frozen=True, slots=True)
class Belief:
    """Where the user thinks that good values of a parameter lie: a plateau with normal flanks.

    Between ``low`` and ``high`` all values are equally good (``low == high``: a single best guess). Beyond,
    the density falls like that of a normal distribution: of the value with standard deviation ``spread``,
    or if ``log`` of its logarithm with standard deviation log(``spread``). The density is relative to the
    parameter's own scale, so that on a log scale a belief with ``log`` is a log-normal distribution.
    """

    low: float
    high: float
    spread: float
    log: bool

    def log_density(self, values: Array) -> Array:
        """The log-density at ``values``, up to a constant: 0 on the plateau, negative beyond."""
        width = math.log(self.spread) if self.log else self.spread
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.log:
                beyond = np.maximum(
                    np.log(self.low) - np.log(values), np.log(values) - np.log(self.high)
                ).clip(0)
                beyond = np.where(values > 0, beyond, np.inf)
            else:
                beyond = np.maximum(self.low - values, values - self.high).clip(0)
            return np.asarray(-0.5 * (beyond / width) ** 2)

    def to_json(self) -> dict[str, Any]:
        where = {"near": self.low} if self.low == self.high else {"between": [self.low, self.high]}
        return {**where, "factor" if self.log else "sd": self.spread}


@dataclass(frozen=True, slots=True)
class Tie:
    """A scaling rule: the search sees a parameter's value at a reference value ``at`` of another parameter.

    Whoever trains scales the value v by k = other / at, as the rule says: v k (linear), v sqrt(k) (sqrt),
    v / sqrt(k) (inverse-sqrt) or 1 - (1 - v) k (one-minus); search does not look at it.
    """

    to: str
    at: float
    rule: TieRule

    def to_json(self) -> dict[str, Any]:
        return {"to": self.to, "at": self.at, "rule": self.rule}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A named domain, and when it is active."""

    name: str
    domain: Domain
    when: tuple[tuple[str, tuple[ParamValue, ...]], ...] = ()
    """Each named parameter must be active and have one of these (canonical) values."""
    doc: str = ""
    belief: Belief | None = None
    """Only on a Real, RealGrid or Whole domain."""
    tie: Tie | None = None
    """Only on numbers, and not on whole ones of a range."""


@dataclass(frozen=True)
class Simplex:
    """Shares that sum to one, such as the parts of a data mixture; each share is a parameter.

    The parameters are named ``SIMPLEX/PART`` and stand side by side in the space. Every share is a multiple
    of a millionth and at least ``low``; as decimals they sum to exactly one. In the cube each share has a
    coordinate u, and the shares are in proportion to -log(u): independent exponential variables, so that a
    uniform point of the cube gives a uniform point of the simplex, whatever the order of the parts.
    """

    name: str
    parts: tuple[str, ...]
    """The names of the parts, without that of the simplex."""
    low: float = 0.0

    @cached_property
    def shares(self) -> tuple[str, ...]:
        """The names of the parameters."""
        return tuple(f"{self.name}/{part}" for part in self.parts)

    @property
    def domain(self) -> Real:
        """Of each share."""
        units = SHARE_UNITS - (len(self.parts) - 1) * self._low_units
        return Real(self._low_units / SHARE_UNITS, units / SHARE_UNITS)

    def decode(self, points: Array) -> Array:
        """The shares of points of the cube, both of shape (n, parts)."""
        sizes = -np.log(np.clip(points, 1e-300, 1.0))
        return self.rounded(sizes)

    def encode(self, shares: Array) -> Array:
        """Points of the cube that decode to these shares, both of shape (n, parts)."""
        free = 1 - len(self.parts) * self.low
        sizes = (
            (shares - self.low) / free if self._free_units else np.full_like(shares, 1 / len(self.parts))
        )
        return np.exp(-len(self.parts) * np.clip(sizes, 0.0, 1.0))

    def rounded(self, sizes: Array) -> Array:
        """Legal shares in proportion to ``sizes`` (not negative) above the least share.

        Rounding is by largest remainder: every share is rounded down, and the millionths that are then
        missing go to those that lost most.
        """
        total = sizes.sum(axis=1, keepdims=True)
        even = np.full_like(sizes, 1 / len(self.parts))
        exact = np.divide(sizes, total, out=even, where=total > 0) * self._free_units
        # The small number keeps a share that is whole up to rounding from being rounded down.
        units = np.floor(exact + 1e-6)
        missing = self._free_units - units.sum(axis=1)
        rank = np.argsort(np.argsort(units - exact, axis=1, kind="stable"), axis=1, kind="stable")
        units += rank < missing[:, None]
        return np.asarray((units + self._low_units) / SHARE_UNITS)

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {"type": "simplex", "parts": list(self.parts)}
        if self.low:
            data["min"] = self.low
        return data

    @property
    def _low_units(self) -> int:
        return round(self.low * SHARE_UNITS)

    @property
    def _free_units(self) -> int:
        return SHARE_UNITS - len(self.parts) * self._low_units


def same(a: ParamValue, b: ParamValue) -> bool:
    """Equal as canonical values of one domain: ``True``, ``1`` and ``1.0`` are three values."""
    return type(a) is type(b) and a == b


def is_active(parameter: Parameter, active: Mapping[str, ParamValue]) -> bool:
    """Whether the conditions hold, given the values of the active parameters."""
    return all(
        parent in active and any(same(active[parent], value) for value in values)
        for parent, values in parameter.when
    )
