"""Mistakes about the strategy: its name, its options, and spaces that it cannot search.

``strategies.json`` is made from the strategies themselves (``make catalogue``), so a study can be checked
where ``search`` is not installed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from importlib import resources
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from trimtab.draft import Draft
from trimtab.explain import did_you_mean, enumerate_words, join, show
from trimtab.wire.base import ParamValue
from trimtab.wire.problems import FieldProblem
from trimtab.wire.study import StrategySpec

ALONG = "along"
"""The option that names the parameter which is a study's fidelity."""
SIZES = ("float", "int", "ordered")
"""Types of parameters that can be one."""


class Option(BaseModel):
    """A number or a word that a strategy may be given."""

    model_config = ConfigDict(frozen=True)

    name: str
    word: bool
    choices: tuple[str, ...]
    whole: bool
    above: float | None
    at_least: float | None
    at_most: float | None
    required: bool
    names: Literal["", "parameter", "metric"]
    """What a word names: a parameter of the space, or a metric of the trials."""
    default: str
    """The word that is taken if none is given."""

    def __str__(self) -> str:
        if self.word:
            what = f"the name of a {self.names}" if self.names else "a name"
            return f"one of {', '.join(self.choices)}" if self.choices else what
        bounds = (("above", self.above), ("at least", self.at_least), ("at most", self.at_most))
        words = " and ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)
        return f"a whole number, {words}" if self.whole else f"a number, {words}"

    def allows(self, value: ParamValue) -> bool:
        if self.word:
            return isinstance(value, str) and value != "" and (not self.choices or value in self.choices)
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        return (
            math.isfinite(value)
            and (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.at_most is None or value <= self.at_most)
        )


class StrategyEntry(BaseModel):
    """One strategy."""

    model_config = ConfigDict(frozen=True)

    conditional: bool
    """Whether it can search a space with conditional parameters."""
    categorical: bool
    """Whether it can search parameters whose values have no order."""
    outcomes: bool
    """Whether it can work for several objectives, and under limits on metrics."""
    seeds: bool
    """Whether its trials can be repeated with other seeds."""
    options: tuple[Option, ...]


@lru_cache(maxsize=1)
def strategies() -> dict[str, StrategyEntry]:
    """The strategies by name."""
    text = resources.files("trimtab").joinpath("strategies.json").read_text(encoding="utf-8")
    return TypeAdapter(dict[str, StrategyEntry]).validate_json(text)


def problems(draft: Draft) -> Iterator[FieldProblem]:
    """What the strategy cannot do with this study."""
    if draft.strategy is None:
        return
    name = draft.strategy.name
    entry = strategies().get(name)
    if entry is None:
        yield FieldProblem(
            pointer="/strategy/name",
            message=f"no strategy is called {name}",
            suggestion=did_you_mean(name, list(strategies()), "there are"),
        )
        return
    conditional = [name for name, parameter in draft.space.items() if parameter.when]
    if conditional and not entry.conditional:
        able = [other for other, each in strategies().items() if each.conditional]
        yield FieldProblem(
            pointer="/strategy/name",
            message=f"{name} cannot model conditional parameters ({enumerate_words(conditional)})",
            suggestion=f"use {enumerate_words(able)}, or drop the conditions",
        )
    unordered = [name for name, parameter in draft.space.items() if parameter.type == "categorical"]
    if unordered and not entry.categorical:
        able = [other for other, each in strategies().items() if each.categorical]
        yield FieldProblem(
            pointer="/strategy/name",
            message=f"{name} cannot model categorical parameters ({enumerate_words(unordered)})",
            suggestion=f"use {enumerate_words(able)}, or make them ordered if their values have an order",
        )
    yield from _outcomes(draft, draft.strategy, entry)
    known = {option.name: option for option in entry.options}
    for given, value in draft.strategy.options.items():
        pointer = join(("strategy", "options", given))
        if given not in known:
            yield FieldProblem(
                pointer=pointer,
                message=f"{name} has no option {given}",
                suggestion=did_you_mean(given, list(known), "it has") or f"{name} takes no options",
            )
        elif not known[given].allows(value):
            yield FieldProblem(
                pointer=pointer, message=f"{given} must be {known[given]}, not {show(value)}"
            )
    for option in entry.options:
        yield from _named(draft, name, option, draft.strategy.options.get(option.name, option.default))
    if ALONG in known:
        yield from _along(draft, name, draft.strategy.options.get(ALONG))


def _named(draft: Draft, strategy: str, option: Option, word: ParamValue) -> Iterator[FieldProblem]:
    """Whether an option that must be given is, and whether the space has the parameter that one names."""
    if option.required and word == "":
        yield FieldProblem(
            pointer=join(("strategy", "options")),
            message=f"{strategy} needs the option {option.name}",
            suggestion=str(option),
        )
    elif option.names == "parameter" and isinstance(word, str) and word not in draft.space:
        yield FieldProblem(
            pointer=join(("strategy", "options", option.name)),
            message=f"the space has no parameter {word}",
            suggestion=did_you_mean(word, list(draft.space), "it may be"),
        )


def _outcomes(draft: Draft, strategy: StrategySpec, entry: StrategyEntry) -> Iterator[FieldProblem]:
    """Where the study does not name its strategy, what asks too much of it is pointed at."""
    asked = {"objectives": draft.objectives, "limits": draft.limits}
    words = {"objectives": "several objectives", "limits": "limits on metrics"}
    fields = [field for field, named in asked.items() if named]
    if not fields or entry.outcomes:
        return
    able = [other for other, each in strategies().items() if each.outcomes]
    given = "name" in strategy.model_fields_set
    yield FieldProblem(
        pointer="/strategy/name" if given else f"/{fields[0]}",
        message=f"{strategy.name}{'' if given else ', the default strategy,'} cannot work with "
        f"{' and '.join(words[field] for field in fields)}",
        suggestion=f"say strategy: {{name: ...}} with {enumerate_words(able)}",
    )


def _along(draft: Draft, strategy: str, wanted: ParamValue | None) -> Iterator[FieldProblem]:
    """Whether the parameter that is to be the fidelity can be one; the service knows the finer points."""
    sized = [
        name for name, parameter in draft.space.items() if parameter.type in SIZES and not parameter.when
    ]
    pointer = join(("strategy", "options", ALONG))
    if wanted is None:
        yield FieldProblem(
            pointer=join(("strategy", "options")),
            message=f"{strategy} needs the option {ALONG}: the parameter whose highest value counts",
            suggestion=f"it may be {enumerate_words(sized)}"
            if sized
            else "add one, such as the model's size",
        )
    elif isinstance(wanted, str) and wanted not in draft.space:
        yield FieldProblem(
            pointer=pointer,
            message=f"the space has no parameter {wanted}",
            suggestion=did_you_mean(wanted, sized, "it may be"),
        )
    elif isinstance(wanted, str) and wanted not in sized:
        yield FieldProblem(
            pointer=pointer,
            message=f"{wanted} has no highest value, or conditions",
            suggestion="name a number or an ordered parameter, such as the model's size",
        )
