"""Search-space models: what a study file says under ``space``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictInt, model_validator

from trimtab.wire import limits
from trimtab.wire.base import FiniteFloat, Identifier, ParamValue, Wire

Condition = dict[Identifier, ParamValue | list[ParamValue]]


class ParameterBase(Wire):
    """What every parameter may say."""

    when: Condition = Field(default_factory=dict)
    """Active only while each named parameter has this value (or one of these values)."""
    doc: str = Field(default="", max_length=limits.MAX_TEXT_CHARS)


class FloatParameter(ParameterBase):
    """A real number in [low, high], on a log scale if ``log``, on the grid low + k*step if ``step``."""

    type: Literal["float"]
    low: FiniteFloat
    high: FiniteFloat
    log: bool = False
    step: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _check(self) -> FloatParameter:
        _check_range(self.low, self.high, self.log, self.step)
        return self


class IntParameter(ParameterBase):
    """A whole number in [low, high], on a log scale if ``log``, on the grid low + k*step if ``step``."""

    type: Literal["int"]
    low: StrictInt
    high: StrictInt
    log: bool = False
    step: Annotated[StrictInt, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _check(self) -> IntParameter:
        _check_range(self.low, self.high, self.log, self.step)
        return self


class CategoricalParameter(ParameterBase):
    """One of several values with no order."""

    type: Literal["categorical"]
    choices: Annotated[list[ParamValue], Field(min_length=1, max_length=limits.MAX_CHOICES)]

    @model_validator(mode="after")
    def _check(self) -> CategoricalParameter:
        _check_distinct(self.choices)
        return self


class OrderedParameter(ParameterBase):
    """One of several values whose order carries meaning (``[small, medium, large]``)."""

    type: Literal["ordered"]
    values: Annotated[list[ParamValue], Field(min_length=1, max_length=limits.MAX_CHOICES)]

    @model_validator(mode="after")
    def _check(self) -> OrderedParameter:
        _check_distinct(self.values)
        return self


class BoolParameter(ParameterBase):
    """True or false."""

    type: Literal["bool"]


class FixedParameter(ParameterBase):
    """Always this value; handed to the trainer and shown with every trial."""

    type: Literal["fixed"]
    value: ParamValue


Parameter = Annotated[
    FloatParameter
    | IntParameter
    | CategoricalParameter
    | OrderedParameter
    | BoolParameter
    | FixedParameter,
    Field(discriminator="type"),
]

Space = Annotated[dict[Identifier, Parameter], Field(min_length=1, max_length=limits.MAX_PARAMETERS)]


def _check_range(low: float, high: float, log: bool, step: float | None) -> None:
    if low > high:
        raise ValueError(f"low ({low:g}) must not exceed high ({high:g})")
    if log and low <= 0:
        raise ValueError(f"a log scale needs low > 0, not {low:g}")
    if log and step is not None:
        raise ValueError("log and step exclude each other: a grid is even on the linear scale")
    if step is not None and step > high - low and high > low:
        raise ValueError(f"step ({step:g}) is wider than the range {low:g}..{high:g}")


def _check_distinct(values: list[ParamValue]) -> None:
    seen: set[tuple[type, ParamValue]] = set()
    for value in values:
        key = (type(value), value)
        if key in seen:
            raise ValueError(f"{value!r} is listed twice")
        seen.add(key)
