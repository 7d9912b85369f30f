"""Reading the options of a strategy, with every mistake found at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from search.errors import Mistake, SearchError
from search.space import ParamValue, did_you_mean, pointer


@dataclass(frozen=True, slots=True)
class Option:
    """A number or a word that a strategy may be given."""

    name: str
    word: bool = False
    """Any text, such as the name of a parameter, or one of ``choices``."""
    choices: tuple[str, ...] = ()
    whole: bool = False
    above: float | None = None
    """Exclusive lower bound."""
    at_least: float | None = None
    at_most: float | None = None
    required: bool = False
    names: Literal["", "parameter", "metric"] = ""
    """What a word names: a parameter of the space, or a metric of the trials that the strategy reads."""
    default: str = ""
    """The word that is taken if none is given."""


def read_options(
    strategy: str, options: Mapping[str, ParamValue], known: Sequence[Option] = ()
) -> dict[str, float]:
    """The numbers that are given, by name; :func:`words_of` has the words.

    Raises :class:`~search.errors.SearchError` with every mistake, pointers below ``/strategy/options``.
    """
    by_name = {option.name: option for option in known}
    mistakes: list[Mistake] = []
    read: dict[str, float] = {}
    for name, value in options.items():
        place = pointer("strategy", "options", name)
        option = by_name.get(name)
        if option is None:
            message = f"{strategy} has no option {name}"
            hint = did_you_mean(name, by_name) if by_name else f"{strategy} takes no options"
            mistakes.append(Mistake(place, message, hint))
        elif wrong := _wrong(option, value):
            mistakes.append(Mistake(place, f"{name} must be {_describe(option)}, not {value!r}", wrong))
        elif not option.word:
            assert isinstance(value, int | float)
            read[name] = value
    mistakes.extend(
        Mistake(
            pointer("strategy", "options"), f"{strategy} needs the option {option.name}", _describe(option)
        )
        for option in known
        if option.required and option.name not in options
    )
    if mistakes:
        raise SearchError(mistakes)
    return read


def words_of(options: Mapping[str, ParamValue], known: Sequence[Option]) -> dict[str, str]:
    """The words that are given, and defaults, by name; those that are no text are left out."""
    words = {option.name: options.get(option.name, option.default) for option in known if option.word}
    return {name: word for name, word in words.items() if isinstance(word, str) and word}


def _wrong(option: Option, value: ParamValue) -> str:
    """What to do about an illegal value; empty if it is legal."""
    if option.word:
        if isinstance(value, str) and value and (not option.choices or value in option.choices):
            return ""
        return (isinstance(value, str) and did_you_mean(value, option.choices)) or "give a name"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return "give a number"
    if option.whole and not isinstance(value, int):
        return "give a whole number"
    if option.above is not None and value <= option.above:
        return f"give a number above {option.above:g}"
    if option.at_least is not None and value < option.at_least:
        return f"give {option.at_least:g} or more"
    if option.at_most is not None and value > option.at_most:
        return f"give {option.at_most:g} or less"
    return ""


def _describe(option: Option) -> str:
    if option.word:
        what = f"the name of a {option.names}" if option.names else "a name"
        return f"one of {', '.join(option.choices)}" if option.choices else what
    parts = ["a whole number" if option.whole else "a number"]
    if option.above is not None:
        parts.append(f"above {option.above:g}")
    if option.at_least is not None:
        parts.append(f"of at least {option.at_least:g}")
    if option.at_most is not None:
        parts.append(f"of at most {option.at_most:g}")
    return " ".join(parts)
