"""Search-space models: what a study file says under ``space``, ``constraints`` and ``forbid``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StrictInt, StrictStr, model_validator

from trimtab.wire import limits, linear
from trimtab.wire.base import FiniteFloat, Identifier, ParamValue, Wire

Condition = dict[Identifier, ParamValue | list[ParamValue]]


class ParameterBase(Wire):
    """What every parameter may say."""

    when: Condition = Field(default_factory=dict)
    """Active only while each named parameter has this value (or one of these values)."""
    doc: str = Field(default="", max_length=limits.MAX_TEXT_CHARS)


class Belief(Wire):
    """Where the user thinks that good values lie; it counts less and less as results come in.

    ``near: 3.0e-4, factor: 3`` is a log-normal distribution: most likely 0.0003, two times in three
    within a factor of 3. ``near: 0.1, sd: 0.02`` is a normal one. ``between: [LOW, HIGH]`` instead of
    ``near`` holds all values of that range for equally good, with the same flanks.

    ``law: FIT, n: 1.0e9, d: 2.0e10`` asks a fitted scaling law instead: the service puts ``between``, the
    plateau that the law predicts for so many parameters and tokens, and ``factor``, how far off it may be,
    beside it when the study is submitted.
    """

    near: FiniteFloat | None = None
    between: Annotated[list[FiniteFloat], Field(min_length=2, max_length=2)] | None = None
    factor: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None = None
    sd: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    law: Annotated[str, Field(min_length=1, max_length=limits.MAX_NAME_CHARS)] | None = None
    """A fit's id; in a study file its name will do, if that is unique."""
    n: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Parameters of the model that the study trains."""
    d: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Tokens that it is trained on."""
    of: Literal["lr", "batch"] | None = None
    """What the parameter is; if nothing is said, a batch if its name has `batch` in it."""
    sequence_length: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Tokens of a sequence, where the parameter counts sequences; laws count tokens."""

    @model_validator(mode="after")
    def _check(self) -> Belief:
        asked = (self.n, self.d, self.of, self.sequence_length)
        if self.law is None and any(value is not None for value in asked):
            raise ValueError("n, d, of and sequence_length go with a law: say which fit")
        if self.law is not None:
            if self.n is None or self.d is None:
                raise ValueError("a law is asked about a size: say n, the parameters, and d, the tokens")
            if (
                self.near is not None
                or self.sd is not None
                or (self.between is None) != (self.factor is None)
            ):
                raise ValueError("a law says where good values lie: leave near, between, factor and sd out")
            if not self.told:
                return self
        if (self.near is None) == (self.between is None):
            raise ValueError("say where good values lie: either near or between")
        if (self.factor is None) == (self.sd is None):
            raise ValueError("say how far off that may be: either factor or sd")
        low, high = self.range
        if low > high:
            raise ValueError(f"between ({low:g}) must not exceed its end ({high:g})")
        if self.factor is not None and low <= 0:
            raise ValueError(f"a factor speaks of positive values, not of {low:g}: say sd")
        return self

    @property
    def told(self) -> bool:
        """Whether it says where good values lie; not so with a law that has not been asked yet."""
        return self.near is not None or self.between is not None

    @property
    def range(self) -> tuple[float, float]:
        """The plateau; twice the same value where there is none. Only of a belief that is ``told``."""
        if self.between is not None:
            return self.between[0], self.between[1]
        assert self.near is not None
        return self.near, self.near


class Tie(Wire):
    """A scaling rule: what is searched is the value at ``to = at``, and the trainer gets it scaled.

    ``tie: {to: batch_size, at: 256, rule: sqrt}`` on a learning rate hands ``lr * sqrt(batch_size / 256)``
    to the trainer, so that one learning rate is good at every batch size. With k the other parameter's
    value over ``at``, the trainer gets of a value v::

        sqrt           v sqrt(k)
        linear         v k              for SGD, with a warm-up (Goyal et al. 2017, arXiv:1706.02677)
        inverse-sqrt   v / sqrt(k)
        one-minus      1 - (1 - v) k    of a v between 0 and 1; 0 where that is less

    ``adam``, on a learning rate, stands for the square-root rule of Malladi et al. 2022 (arXiv:2205.10287)
    for Adam: ``sqrt`` for the rate, ``one-minus`` for beta1 and beta2, ``inverse-sqrt`` for eps. In a
    submitted study it is written out (:func:`trimtab.ties.with_ties`).
    """

    to: Identifier
    """A numeric parameter, always positive."""
    at: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """The value of that parameter at which nothing is scaled."""
    rule: Literal["sqrt", "linear", "inverse-sqrt", "one-minus", "adam"]

    def scaled(self, value: float, other: float) -> float:
        """What the trainer gets instead of ``value`` while the other parameter is ``other``."""
        ratio = other / self.at
        match self.rule:
            case "sqrt" | "adam":
                return float(value * ratio**0.5)
            case "linear":
                return float(value * ratio)
            case "inverse-sqrt":
                return float(value / ratio**0.5)
            case "one-minus":
                # Exactly the value at the reference, whatever 1 - (1 - v) rounds to.
                return max(0.0, float(value - (1 - value) * (ratio - 1)))


class FloatParameter(ParameterBase):
    """A real number in [low, high], on a log scale if ``log``, on the grid low + k*step if ``step``."""

    type: Literal["float"]
    low: FiniteFloat
    high: FiniteFloat
    log: bool = False
    step: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    belief: Belief | None = None
    tie: Tie | None = None

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
    belief: Belief | None = None

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
    tie: Tie | None = None
    """Only of numbers."""

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
    tie: Tie | None = None
    """Only of a number."""


class SimplexParameter(ParameterBase):
    """Shares of one whole, such as the parts of a data mixture: each at least ``min``, one in all.

    With the parts web and code, ``mix`` gives a configuration the parameters ``mix/web`` and ``mix/code``.
    Shares have six decimals and sum to exactly one.
    """

    type: Literal["simplex"]
    parts: Annotated[list[Identifier], Field(min_length=2, max_length=limits.MAX_PARTS)]
    min: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0

    @model_validator(mode="after")
    def _check(self) -> SimplexParameter:
        _check_distinct([*self.parts])
        if len(self.parts) * self.min > 1 + 1e-9:
            raise ValueError(f"{len(self.parts)} parts of at least {self.min:g} are more than 1")
        if round(self.min, 6) != self.min:
            raise ValueError(f"min has more than the six decimals of a share: write {round(self.min, 6):g}")
        return self


PlainParameter = (
    FloatParameter | IntParameter | CategoricalParameter | OrderedParameter | BoolParameter | FixedParameter
)
"""A parameter that is one value of a configuration."""

Parameter = Annotated[PlainParameter | SimplexParameter, Field(discriminator="type")]


def _check_names(space: dict[str, Parameter]) -> dict[str, Parameter]:
    names = [
        name
        for own, parameter in space.items()
        for name in (
            [f"{own}/{part}" for part in parameter.parts]
            if isinstance(parameter, SimplexParameter)
            else [own]
        )
    ]
    if len(names) > limits.MAX_PARAMETERS:
        raise ValueError(
            f"{len(names)} parameters, shares of simplexes counted, are more than {limits.MAX_PARAMETERS}"
        )
    if long := [name for name in names if len(name) > limits.MAX_NAME_CHARS]:
        raise ValueError(
            f"{long[0]}, the name of a share, has more than {limits.MAX_NAME_CHARS} characters"
        )
    return space


Space = Annotated[
    dict[Identifier, Parameter],
    Field(min_length=1, max_length=limits.MAX_PARAMETERS),
    AfterValidator(_check_names),
]


def _check_linear(text: str) -> str:
    linear.parse(text)
    return text


Constraint = Annotated[StrictStr, Field(max_length=limits.MAX_TEXT_CHARS), AfterValidator(_check_linear)]
"""A linear constraint, such as ``layers + 2 * heads <= 32``; see :mod:`trimtab.wire.linear`. It applies
while all the parameters it names are active."""


class Bounds(Wire):
    """The values above one number, below another, or both (exclusive)."""

    above: FiniteFloat | None = None
    below: FiniteFloat | None = None

    @model_validator(mode="after")
    def _check(self) -> Bounds:
        if self.above is None and self.below is None:
            raise ValueError("say above, below or both")
        if self.above is not None and self.below is not None and self.above >= self.below:
            raise ValueError(f"nothing is above {self.above:g} and below {self.below:g}")
        return self


Clause = ParamValue | list[ParamValue] | Bounds
"""Values of one parameter: one, several, or those beyond bounds."""

Combination = Annotated[
    dict[Identifier, Clause],
    Field(min_length=1, max_length=limits.MAX_PARAMETERS),
]
"""Values that must not come together."""


def expanded(space: Mapping[str, Parameter]) -> dict[str, PlainParameter]:
    """The parameters as configurations name them: each simplex as its shares."""
    plain: dict[str, PlainParameter] = {}
    for name, parameter in space.items():
        if not isinstance(parameter, SimplexParameter):
            plain[name] = parameter
            continue
        high = round(1 - (len(parameter.parts) - 1) * parameter.min, 6)
        for part in parameter.parts:
            plain[f"{name}/{part}"] = FloatParameter(
                type="float", low=parameter.min, high=high, when=parameter.when, doc=parameter.doc
            )
    return plain


def ties(space: Mapping[str, Parameter]) -> dict[str, Tie]:
    """The ties of a space by the names of the parameters that have one."""
    return {
        name: parameter.tie
        for name, parameter in space.items()
        if isinstance(parameter, FloatParameter | OrderedParameter | FixedParameter)
        and parameter.tie is not None
    }


def scaled(space: Mapping[str, Parameter], params: Mapping[str, ParamValue]) -> dict[str, ParamValue]:
    """What the trainer is handed for each tied parameter of a configuration; empty without ties.

    A tie to a parameter that is tied itself follows its scaled value. While the other parameter is not
    active, the value is handed as it is. Scaled values may lie beyond the range that is searched.
    """
    tied = {name: tie for name, tie in ties(space).items() if name in params}

    def value(name: str) -> float:
        own = params[name]
        assert isinstance(own, int | float)
        tie = tied.get(name)
        return float(own) if tie is None or tie.to not in params else tie.scaled(own, value(tie.to))

    return {name: value(name) for name in tied}


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
