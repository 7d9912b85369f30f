"""Search spaces: which configurations are legal, and how they map onto the unit cube.

A space is an ordered set of parameters. Each has a domain (:mod:`search.domains`) and perhaps conditions:
it is *active* only while every parameter it names is active and has one of the values it names. A
configuration names the active parameters and no others.

The cube has one dimension for each parameter that is not fixed, in the order of the space. Every point of
the cube decodes to a legal configuration; ``decode(encode(x)) == x`` for every legal ``x`` (a continuous
float comes back up to rounding). Coordinates of inactive parameters are 0.5 and are not read.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from search.domains import Choice, Domain, Fixed, ParamValue, Real, RealGrid, Whole, identity, value_at
from search.errors import Mistake

__all__ = [
    "Choice",
    "Domain",
    "Fixed",
    "ParamValue",
    "Parameter",
    "Real",
    "RealGrid",
    "SearchSpace",
    "Whole",
    "did_you_mean",
    "pointer",
]

Key = tuple[ParamValue | None, ...]
"""A configuration as something to compare: what identifies each value, None where inactive."""

_MAX_STATES = 10_000
"""Combinations of condition values beyond which a space is not counted."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A named domain, and when it is active."""

    name: str
    domain: Domain
    when: tuple[tuple[str, tuple[ParamValue, ...]], ...] = ()
    """Each named parameter must be active and have one of these (canonical) values."""
    doc: str = ""


@dataclass(frozen=True)
class SearchSpace:
    """A search space. Build one with :meth:`from_json`, which checks it."""

    parameters: tuple[Parameter, ...]

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> SearchSpace:
        """The space that the wire's ``space`` JSON describes.

        Raises :class:`~search.errors.SearchError` naming every mistake, with pointers below ``/space``.
        """
        from search.parsing import parse_parameters  # parsing builds the dataclasses of this module

        return cls(parse_parameters(document))

    def to_json(self) -> dict[str, Any]:
        """The wire's ``space`` JSON; what is at its default is left out."""
        document: dict[str, Any] = {}
        for p in self.parameters:
            data = p.domain.to_json()
            if p.when:
                data["when"] = {
                    parent: values[0] if len(values) == 1 else list(values) for parent, values in p.when
                }
            if p.doc:
                data["doc"] = p.doc
            document[p.name] = data
        return document

    @cached_property
    def by_name(self) -> Mapping[str, Parameter]:
        return {p.name: p for p in self.parameters}

    @cached_property
    def dimensions(self) -> tuple[str, ...]:
        """Names of the parameters that have a coordinate in the cube, in its order."""
        return tuple(p.name for p in self.parameters if not isinstance(p.domain, Fixed))

    @cached_property
    def conditional(self) -> bool:
        """Whether any parameter has a condition."""
        return any(p.when for p in self.parameters)

    @cached_property
    def parents_first(self) -> tuple[Parameter, ...]:
        """The parameters in an order in which conditions look backwards only."""
        placed: dict[str, Parameter] = {}

        def place(p: Parameter) -> None:
            if p.name in placed:
                return
            for parent, _ in p.when:
                place(self.by_name[parent])
            placed[p.name] = p

        for p in self.parameters:
            place(p)
        return tuple(placed.values())

    def check(self, params: Mapping[str, object]) -> list[Mistake]:
        """Everything that makes ``params`` no configuration of this space; pointers are ``/NAME``."""
        mistakes: list[Mistake] = []
        active: dict[str, ParamValue] = {}
        unclear: set[str] = set()  # Their own value is wrong: nothing is said of what depends on them.
        for name in params:
            if name not in self.by_name:
                mistakes.append(
                    Mistake(
                        pointer(name),
                        f"the space has no parameter {name}",
                        did_you_mean(name, self.by_name),
                    )
                )
        for p in self.parents_first:
            if any(parent in unclear for parent, _ in p.when):
                unclear.add(p.name)
            elif not _is_active(p, active):
                if p.name in params:
                    mistakes.append(
                        Mistake(
                            pointer(p.name),
                            f"{p.name} is not active here: it needs {_describe_condition(p)}",
                            "leave it out",
                        )
                    )
            elif p.name not in params:
                unclear.add(p.name)
                mistakes.append(
                    Mistake(pointer(p.name), f"{p.name} is missing", f"give it {p.domain.describe()}")
                )
            else:
                value = p.domain.canonical(params[p.name])
                if value is None:
                    unclear.add(p.name)
                    mistakes.append(
                        Mistake(
                            pointer(p.name),
                            f"{p.name} is {params[p.name]!r}, which is not {p.domain.describe()}",
                            _nearest(p.domain, params[p.name]),
                        )
                    )
                else:
                    active[p.name] = value
        return mistakes

    def encode(self, params: Mapping[str, ParamValue]) -> npt.NDArray[np.float64]:
        """The point of a legal configuration, shape (len(dimensions),), each in [0, 1]."""
        return np.array(
            [
                self.by_name[name].domain.encode(params[name]) if name in params else 0.5
                for name in self.dimensions
            ],
            dtype=np.float64,
        )

    def decode(self, point: npt.ArrayLike) -> dict[str, ParamValue]:
        """The configuration of a point of the cube, shape (len(dimensions),)."""
        coordinates = dict(zip(self.dimensions, np.asarray(point, dtype=np.float64).tolist(), strict=True))
        active: dict[str, ParamValue] = {}
        for p in self.parents_first:
            if _is_active(p, active):
                active[p.name] = p.domain.decode(coordinates.get(p.name, 0.5))
        return {p.name: active[p.name] for p in self.parameters if p.name in active}

    def key(self, params: Mapping[str, ParamValue]) -> Key:
        """Equal for two legal configurations if and only if they are the same."""
        return tuple(
            identity(p.domain, params[p.name]) if p.name in params else None for p in self.parameters
        )

    @cached_property
    def cardinality(self) -> int | None:
        """How many configurations there are; None: infinitely many, or too entangled to count."""
        # Forward over the parameters, counting the ways to each combination of those values that later
        # conditions look at. A value is kept by its index among the named ones (True == 1 in Python).
        named = self._named_values()
        last_reader = {parent: i for i, p in enumerate(self.parents_first) for parent, _ in p.when}
        states: dict[frozenset[tuple[str, int]], int] = {frozenset(): 1}
        for i, p in enumerate(self.parents_first):
            following: dict[frozenset[tuple[str, int]], int] = {}
            for state, ways in states.items():
                outcomes: list[tuple[int | None, int]] = [(None, 1)]
                if _is_active(p, {parent: named[parent][index] for parent, index in state}):
                    size = p.domain.size
                    if size is None:
                        return None
                    own = named.get(p.name, [])
                    outcomes = [(index, 1) for index in range(len(own))]
                    if size > len(own):
                        outcomes.append((None, size - len(own)))
                for index, more in outcomes:
                    after = state if index is None else state | {(p.name, index)}
                    kept = frozenset(known for known in after if last_reader[known[0]] > i)
                    following[kept] = following.get(kept, 0) + ways * more
            if len(following) > _MAX_STATES:
                return None
            states = following
        return sum(states.values())

    def configurations(self) -> Iterator[dict[str, ParamValue]]:
        """Every configuration once, in a fixed order. Only for a space with a ``cardinality``."""

        def extend(i: int, active: dict[str, ParamValue]) -> Iterator[dict[str, ParamValue]]:
            if i == len(self.parents_first):
                yield {p.name: active[p.name] for p in self.parameters if p.name in active}
                return
            p = self.parents_first[i]
            if not _is_active(p, active):
                yield from extend(i + 1, active)
                return
            for index in range(p.domain.size or 0):
                yield from extend(i + 1, {**active, p.name: value_at(p.domain, index)})

        return extend(0, {})

    def _named_values(self) -> dict[str, list[ParamValue]]:
        """For each parameter that conditions look at: the values they name, each once."""
        named: dict[str, list[ParamValue]] = {}
        for p in self.parameters:
            for parent, values in p.when:
                own = named.setdefault(parent, [])
                own.extend(value for value in values if not any(_same(value, known) for known in own))
        return named


def pointer(*parts: str) -> str:
    """A JSON pointer (RFC 6901) to the place named by ``parts``."""
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A suggestion for a misspelt name; names all that are known if none is close and they are few."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    return f"known are {', '.join(names)}" if 0 < len(names) <= 12 else ""


def _same(a: ParamValue, b: ParamValue) -> bool:
    return isinstance(a, bool) == isinstance(b, bool) and a == b


def _is_active(p: Parameter, active: Mapping[str, ParamValue]) -> bool:
    return all(
        parent in active and any(_same(active[parent], value) for value in values)
        for parent, values in p.when
    )


def _describe_condition(p: Parameter) -> str:
    return " and ".join(
        f"{parent} = {' or '.join(str(value) for value in values)}" for parent, values in p.when
    )


def _nearest(domain: Domain, value: object) -> str:
    """What to write instead of an illegal value, where that is plain."""
    if isinstance(domain, Choice) and isinstance(value, str):
        return did_you_mean(value, [v for v in domain.values if isinstance(v, str)])
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return ""
    if isinstance(domain, Real | RealGrid | Whole):
        clipped = min(max(value, domain.low), domain.high)
        if isinstance(domain, RealGrid):
            clipped = domain.at(domain.index(clipped))
        elif isinstance(domain, Whole):
            clipped = domain.at(min(domain.size - 1, round((clipped - domain.low) / domain.step)))
        return f"the nearest legal value is {clipped}"
    return ""
