"""Linear constraints as people write them: ``layers + 2 * heads <= 32``, ``warmup <= 0.5 * steps``.

A side is a sum of numbers, names, and products of a number and a name; the relation is ``<=``, ``>=``, or
``==`` (``=`` is the same). Names may hold ``- . /``, so a minus stands between spaces.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Relation = Literal["<=", ">=", "=="]
_RELATIONS: Mapping[str, Relation] = {"<=": "<=", ">=": ">=", "==": "==", "=": "=="}

_TOKEN = re.compile(
    r"(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_.\-/]*)"
    r"|(?P<relation><=|>=|==|=(?!=)|<|>)"
    r"|(?P<sign>[-+*])"
    r"|(?P<space>\s+)"
    r"|(?P<other>.)"
)


@dataclass(frozen=True, slots=True)
class Linear:
    """``sum of coefficient * parameter``  relation  ``bound``."""

    terms: Mapping[str, float]
    """Coefficients, none of them 0."""
    relation: Relation
    bound: float
    text: str
    """As it was written."""


def parse(text: str) -> Linear:
    """The constraint that a text says.

    Raises ValueError with what is wrong and what to write.
    """
    sides: list[_Side] = [_Side()]
    relation: Relation | None = None
    for kind, word in _tokens(text):
        if kind == "relation":
            if word in ("<", ">"):
                raise ValueError(f"{word} has no meaning for real numbers: write {word}=")
            if relation is not None:
                raise ValueError("there are two relations: make two constraints of it")
            relation = _RELATIONS[word]
            sides[-1].end()
            sides.append(_Side())
        elif kind == "other":
            hint = {"/": "multiply by a number instead", "(": "write the sum out", ")": "write the sum out"}
            raise ValueError(f"{word} has no meaning here: {hint.get(word, 'use only + - * and <= >= ==')}")
        else:
            sides[-1].take(kind, word)
    sides[-1].end()
    if relation is None:
        raise ValueError("it compares nothing: write <=, >= or ==, such as layers + 2 * heads <= 32")
    left, right = sides
    names = dict.fromkeys([*left.terms, *right.terms])
    terms = {name: left.terms.get(name, 0.0) - right.terms.get(name, 0.0) for name in names}
    terms = {name: coefficient for name, coefficient in terms.items() if coefficient != 0}
    bound = right.constant - left.constant
    if not terms:
        raise ValueError("it names no parameter, or they cancel out")
    if not all(map(math.isfinite, (bound, *terms.values()))):
        raise ValueError("a number in it is too large")
    return Linear(terms, relation, bound, text.strip())


class _Side:
    """One side of a constraint while it is read."""

    def __init__(self) -> None:
        self.terms: dict[str, float] = {}
        self.constant = 0.0
        self._sign = 1.0
        self._factors: list[float | str] = []
        self._due = True
        """Whether a number or a name must come next."""
        self._last = ""

    def take(self, kind: str, word: str) -> None:
        if kind == "sign":
            if word == "*" and self._due:
                raise ValueError("* stands between a number and a name")
            if word == "*":
                self._due = True
            elif not self._due:
                self._add()
                self._sign, self._due = (-1.0 if word == "-" else 1.0), True
            elif word == "-":
                self._sign = -self._sign
        elif not self._due:
            raise ValueError(
                f"something is missing before {word}: write {self._last} * {word}, or + between"
            )
        else:
            self._factors.append(float(word) if kind == "number" else word)
            self._due = False
        self._last = word

    def end(self) -> None:
        if self._due:
            after = f" after {self._last}" if self._last else ": a side is empty"
            raise ValueError(f"a number or a name is missing{after}")
        self._add()

    def _add(self) -> None:
        names = [factor for factor in self._factors if isinstance(factor, str)]
        if len(names) > 1:
            raise ValueError(f"{' * '.join(names)} is not linear: one name in each product")
        value = self._sign * math.prod(factor for factor in self._factors if not isinstance(factor, str))
        if names:
            self.terms[names[0]] = self.terms.get(names[0], 0.0) + value
        else:
            self.constant += value
        self._factors = []


def _tokens(text: str) -> list[tuple[str, str]]:
    found = [(str(match.lastgroup), match.group()) for match in _TOKEN.finditer(text)]
    return [(kind, word) for kind, word in found if kind != "space"]
