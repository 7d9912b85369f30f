"""A trainer's configuration: one frozen dataclass, from which checks and the catalogue are made.

Each field of such a class is made by :func:`setting` and typed ``float``, ``int``, ``bool`` or ``str``.
:func:`parse` turns a job's settings into an instance or names every mistake at once; :func:`describe` says
the same rules as JSON, for those who check a study file without importing the trainers. Rules over several
settings (``heads`` divides ``width``) are a method ``mistakes`` of the class.

This module and the configuration classes import no torch: they are read whenever a catalogue is made.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any, TypeVar, get_type_hints

from trainers.base import InvalidConfigurationError, ParamValue

_KINDS = {float: "float", int: "int", bool: "bool", str: "text"}


@dataclass(frozen=True)
class Config:
    """Base of every configuration class."""

    def mistakes(self) -> list[str]:
        """What is wrong between settings that are each fine alone."""
        return []


C = TypeVar("C", bound=Config)


def setting(
    default: ParamValue,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str] | None = None,
    fork: bool = True,
) -> Any:
    """A field of a configuration class. ``low`` and ``high`` are allowed values themselves.

    ``fork``: whether a fork may change it. It may not where a checkpoint would not fit any more (a width),
    or where the curve would mean something else (the validation data).
    """
    metadata = {"doc": doc, "low": low, "high": high, "choices": choices, "fork": fork}
    return field(default=default, metadata=metadata)


def inherited(config: type[Config]) -> list[str]:
    """The settings that a fork cannot change."""
    return [item.name for item in fields(config) if not item.metadata["fork"]]


def describe(config: type[Config]) -> list[dict[str, Any]]:
    """The settings of a configuration class as JSON values, in order.

    ``kind`` is ``float``, ``int``, ``bool``, ``choice`` or ``text``; ``low``, ``high`` and ``choices`` are
    None where they say nothing; ``fork`` says whether a fork may change it.
    """
    types = get_type_hints(config)
    return [
        {
            "name": item.name,
            "kind": _kind(item, types),
            "default": item.default,
            "low": item.metadata["low"],
            "high": item.metadata["high"],
            "choices": list(item.metadata["choices"]) if item.metadata["choices"] else None,
            "fork": item.metadata["fork"],
            "doc": item.metadata["doc"],
        }
        for item in fields(config)
    ]


def parse(config: type[C], values: Mapping[str, ParamValue]) -> C:
    """Make a configuration from ``values``; settings that are not named keep their defaults.

    :raises InvalidConfigurationError: one line per mistake, over all settings
    """
    known = {item.name: item for item in fields(config)}
    types = get_type_hints(config)
    mistakes: list[str] = []
    accepted: dict[str, ParamValue] = {}
    for name, value in values.items():
        if name not in known:
            mistakes.append(f"{name}: no such setting{_did_you_mean(name, list(known))}")
            continue
        mistake = _mistake(known[name], _kind(known[name], types), value)
        if mistake:
            mistakes.append(f"{name}: {mistake}")
        else:
            accepted[name] = float(value) if types[name] is float else value
    made = config(**accepted)
    if not mistakes:
        mistakes = made.mistakes()
    if mistakes:
        raise InvalidConfigurationError("\n".join(mistakes))
    return made


def _kind(item: Field[Any], types: Mapping[str, Any]) -> str:
    return "choice" if item.metadata["choices"] else _KINDS[types[item.name]]


def _mistake(item: Field[Any], kind: str, value: ParamValue) -> str | None:
    """What is wrong with one value, or None."""
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
    if kind == "float" and (number is None or not math.isfinite(number)):
        return f"must be a finite number, not {value!r}"
    if kind == "int" and not isinstance(number, int):
        return f"must be a whole number, not {value!r}"
    if kind == "bool" and not isinstance(value, bool):
        return f"must be true or false, not {value!r}"
    if kind in ("choice", "text") and not isinstance(value, str):
        return f"must be text, not {value!r}"
    choices = item.metadata["choices"]
    if choices and value not in choices:
        return f"must be one of {', '.join(choices)}, not {value!r}{_did_you_mean(str(value), choices)}"
    low, high = item.metadata["low"], item.metadata["high"]
    if number is not None and low is not None and number < low:
        return f"must be at least {low:g}, not {value!r}"
    if number is not None and high is not None and number > high:
        return f"must be at most {high:g}, not {value!r}"
    return None


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
