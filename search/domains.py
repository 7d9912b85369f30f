"""The sets that parameters take their values from, and their maps onto the unit interval.

Every domain maps a legal value to a number in [0, 1] (``encode``) and any number in [0, 1] to a legal
value (``decode``). A domain of ``n`` values gives each an equal cell of the interval, so that a uniform
number decodes to a uniform value, ends included; a log scale gives cells that are equal on that scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal

ParamValue = bool | int | float | str

MAX_INT = 10**12
"""Whole numbers beyond this are refused: a double could not hold their place in the interval."""


@dataclass(frozen=True, slots=True)
class Real:
    """A real number in [low, high], even on the linear or on the log scale."""

    low: float
    high: float
    log: bool = False

    @property
    def size(self) -> int | None:
        return 1 if self.low == self.high else None

    def canonical(self, value: object) -> float | None:
        number = _as_float(value)
        return number if number is not None and self.low <= number <= self.high else None

    def encode(self, value: ParamValue) -> float:
        """Exact at the ends, to rounding between them."""
        low, high, x = self.low, self.high, float(value)
        if self.log:
            low, high, x = math.log(low), math.log(high), math.log(x)
        if math.isinf(high - low):
            low, high, x = low / 2, high / 2, x / 2
        if high == low:
            return 0.5
        return min(1.0, max(0.0, (x - low) / (high - low)))

    def decode(self, u: float) -> float:
        if u <= 0:
            return self.low
        if u >= 1:
            return self.high
        if self.log:
            x = math.exp((1 - u) * math.log(self.low) + u * math.log(self.high))
        elif math.isinf(self.high - self.low):
            x = (1 - u) * self.low + u * self.high
        else:
            x = self.low + u * (self.high - self.low)
        return min(self.high, max(self.low, x))

    def describe(self) -> str:
        return f"a number from {self.low:g} to {self.high:g}"

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {"type": "float", "low": self.low, "high": self.high}
        if self.log:
            data["log"] = True
        return data


@dataclass(frozen=True, slots=True)
class RealGrid:
    """The numbers low, low + step, low + 2 step, ... up to high.

    The grid is computed in decimal from the numbers as they are written, so that 0.1 + 2 * 0.1 is 0.3.
    """

    low: float
    high: float
    step: float

    @property
    def size(self) -> int:
        return _grid_size(self.low, self.high, self.step)

    def at(self, index: int) -> float:
        return float(_decimal(self.low) + index * _decimal(self.step))

    def index(self, value: float) -> int:
        """The index of the grid point nearest to ``value``."""
        nearest = round((_decimal(value) - _decimal(self.low)) / _decimal(self.step))
        return min(self.size - 1, max(0, nearest))

    def canonical(self, value: object) -> float | None:
        number = _as_float(value)
        if number is None or not self.low <= number <= self.high:
            return None
        return number if self.at(self.index(number)) == number else None

    def encode(self, value: ParamValue) -> float:
        return _encode_index(self.index(float(value)), self.size)

    def decode(self, u: float) -> float:
        return self.at(_decode_index(u, self.size))

    def describe(self) -> str:
        return _describe_grid([self.at(i) for i in (0, 1, self.size - 1) if i < self.size], self.step)

    def to_json(self) -> dict[str, Any]:
        return {"type": "float", "low": self.low, "high": self.high, "step": self.step}


@dataclass(frozen=True, slots=True)
class Whole:
    """The whole numbers low, low + step, ... up to high, or all of [low, high] on the log scale."""

    low: int
    high: int
    log: bool = False
    step: int = 1

    @property
    def size(self) -> int:
        return (self.high - self.low) // self.step + 1

    def at(self, index: int) -> int:
        return self.low + index * self.step

    def canonical(self, value: object) -> int | None:
        if isinstance(value, bool) or not isinstance(value, int):
            return None
        if not self.low <= value <= self.high or (value - self.low) % self.step:
            return None
        return value

    def encode(self, value: ParamValue) -> float:
        if not self.log:
            return _encode_index((int(value) - self.low) // self.step, self.size)
        low, high = self._log_ends()
        return (math.log(int(value)) - low) / (high - low)

    def decode(self, u: float) -> int:
        if not self.log:
            return self.at(_decode_index(u, self.size))
        low, high = self._log_ends()
        return min(self.high, max(self.low, round(math.exp((1 - u) * low + u * high))))

    def describe(self) -> str:
        if self.step == 1:
            return f"a whole number from {self.low} to {self.high}"
        return _describe_grid([self.at(i) for i in (0, 1, self.size - 1) if i < self.size], self.step)

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {"type": "int", "low": self.low, "high": self.high}
        if self.log:
            data["log"] = True
        if self.step != 1:
            data["step"] = self.step
        return data

    def _log_ends(self) -> tuple[float, float]:
        # Half a unit beyond each end: the end values get whole cells too.
        return math.log(self.low - 0.5), math.log(self.high + 0.5)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several values, with or without an order."""

    values: tuple[ParamValue, ...]
    kind: Literal["categorical", "ordered", "bool"] = "categorical"

    @property
    def size(self) -> int:
        return len(self.values)

    def at(self, index: int) -> ParamValue:
        return self.values[index]

    def index(self, value: object) -> int | None:
        """The place of ``value``, None if it is not among the values.

        ``True``, ``1`` and ``"1"`` are different values; ``1`` and ``1.0`` are only where both are listed.
        """
        for i, own in enumerate(self.values):
            if type(own) is type(value) and own == value:
                return i
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        for i, own in enumerate(self.values):
            if not isinstance(own, bool) and isinstance(own, int | float) and own == value:
                return i
        return None

    def canonical(self, value: object) -> ParamValue | None:
        i = self.index(value)
        return None if i is None else self.values[i]

    def encode(self, value: ParamValue) -> float:
        i = self.index(value)
        if i is None:
            raise ValueError(f"{value!r} is not {self.describe()}")
        return _encode_index(i, len(self.values))

    def decode(self, u: float) -> ParamValue:
        return self.values[_decode_index(u, len(self.values))]

    def describe(self) -> str:
        if self.kind == "bool":
            return "true or false"
        shown = ", ".join(_show(v) for v in self.values[:8])
        return f"one of {shown}{', ...' if len(self.values) > 8 else ''}"

    def to_json(self) -> dict[str, Any]:
        if self.kind == "bool":
            return {"type": "bool"}
        return {"type": self.kind, "choices" if self.kind == "categorical" else "values": list(self.values)}


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always the same value: takes no dimension of the cube."""

    value: ParamValue

    @property
    def size(self) -> int:
        return 1

    def at(self, index: int) -> ParamValue:
        return self.value

    def canonical(self, value: object) -> ParamValue | None:
        return Choice((self.value,)).canonical(value)

    def encode(self, value: ParamValue) -> float:
        return 0.5

    def decode(self, u: float) -> ParamValue:
        return self.value

    def describe(self) -> str:
        return f"always {_show(self.value)}"

    def to_json(self) -> dict[str, Any]:
        return {"type": "fixed", "value": self.value}


Domain = Real | RealGrid | Whole | Choice | Fixed


def identity(domain: Domain, value: ParamValue) -> ParamValue | None:
    """What tells a legal value from the others; for a choice its index, since Python holds True == 1."""
    return domain.index(value) if isinstance(domain, Choice) else domain.canonical(value)


def value_at(domain: Domain, index: int) -> ParamValue:
    """The value number ``index`` (from 0) of a domain that is not continuous."""
    if isinstance(domain, Real):
        if domain.low != domain.high:
            raise ValueError("a continuous domain has no list of values")
        return domain.low
    return domain.at(index)


def _as_float(value: object) -> float | None:
    """``value`` as a finite float; None for what is no number (a bool is none)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


@lru_cache(maxsize=1024)
def _decimal(value: float) -> Decimal:
    """The number as it is written, not as it is stored: 0.1, not 0.1000000000000000055."""
    return Decimal(repr(float(value)))


@lru_cache(maxsize=1024)
def _grid_size(low: float, high: float, step: float) -> int:
    return int((_decimal(high) - _decimal(low)) / _decimal(step)) + 1


def _encode_index(index: int, size: int) -> float:
    return (index + 0.5) / size


def _decode_index(u: float, size: int) -> int:
    return min(size - 1, max(0, math.floor(u * size)))


def _describe_grid(values: list[float] | list[int], step: float) -> str:
    first, *others = dict.fromkeys(values)
    if not others:
        return f"always {first}"
    if len(others) == 1:
        return f"{first} or {others[0]}"
    return f"one of {first}, {others[0]}, ... {others[1]} (step {step:g})"


def _show(value: ParamValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
