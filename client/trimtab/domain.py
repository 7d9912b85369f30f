"""What values a parameter of a search space can take."""

from __future__ import annotations

from trimtab.explain import enumerate_words, show
from trimtab.wire.base import ParamValue
from trimtab.wire.space import (
    BoolParameter,
    CategoricalParameter,
    FixedParameter,
    FloatParameter,
    IntParameter,
    OrderedParameter,
    Parameter,
)

GRID_TOLERANCE = 1e-9
"""How far off its grid a value may be, in steps: decimal fractions have no exact floats."""


def same(a: ParamValue, b: ParamValue) -> bool:
    """Equal as parameter values: 1 and 1.0 are, 1 and true are not."""
    return isinstance(a, bool) == isinstance(b, bool) and a == b


def listed(parameter: Parameter) -> list[ParamValue] | None:
    """All values, or None where they are given by a range."""
    match parameter:
        case CategoricalParameter():
            return parameter.choices
        case OrderedParameter():
            return parameter.values
        case BoolParameter():
            return [True, False]
        case FixedParameter():
            return [parameter.value]
        case _:
            return None


def numbers(parameter: Parameter) -> tuple[float, float] | None:
    """The least and the largest value of a parameter; None if its values are no numbers."""
    match parameter:
        case FloatParameter() | IntParameter():
            return parameter.low, parameter.high
        case _:
            values = listed(parameter) or []
            found = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
            return (min(found), max(found)) if found and len(found) == len(values) else None


def refusal(parameter: Parameter, value: ParamValue) -> str:
    """Why the parameter cannot have this value; empty if it can."""
    match parameter:
        case FloatParameter() | IntParameter():
            return _outside(parameter, value)
        case _:
            values = listed(parameter) or []
            if any(same(value, choice) for choice in values):
                return ""
            known = enumerate_words([show(choice) for choice in values])
            return (
                f"must be {known}, not {show(value)}"
                if len(values) == 1
                else (f"must be one of {known}, not {show(value)}")
            )


def _outside(parameter: FloatParameter | IntParameter, value: ParamValue) -> str:
    whole = isinstance(parameter, IntParameter)
    if isinstance(value, bool | str) or (whole and not isinstance(value, int)):
        return f"must be a {'whole ' if whole else ''}number, not {show(value)}"
    if not parameter.low <= value <= parameter.high:
        return f"must lie in {parameter.low:g}..{parameter.high:g}, not {show(value)}"
    if parameter.step is not None:
        steps = (value - parameter.low) / parameter.step
        if abs(steps - round(steps)) > GRID_TOLERANCE * max(1.0, abs(steps)):
            grid = f"{parameter.low:g}, {parameter.low + parameter.step:g}, ..."
            return f"must lie on the grid {grid}, not {show(value)}"
    return ""
