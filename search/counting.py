"""How many configurations a space has, and which."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from search.domains import ParamValue, value_at
from search.parameters import is_active, same

if TYPE_CHECKING:
    from search.space import SearchSpace

_MAX_STATES = 10_000
"""Combinations of condition values beyond which a space is not counted."""
_MAX_LISTED = 20_000
"""Configurations that are listed one by one to count those that the constraints leave."""
_BLOCK = 512


def count(space: SearchSpace) -> int | None:
    """How many configurations there are; None: infinitely many, or too entangled to count."""
    unconstrained = _count_all(space)
    if not space.constrained or unconstrained is None:
        return unconstrained
    if unconstrained > _MAX_LISTED:
        return None
    return sum(1 for _ in configurations(space))


def configurations(space: SearchSpace) -> Iterator[dict[str, ParamValue]]:
    """Every configuration once, in a fixed order. Only for a space of which nothing is continuous."""
    if not space.constrained:
        yield from _all(space)
        return
    every = _all(space)
    while block := list(islice(every, _BLOCK)):
        legal = space.rules.legal(space.layout.read(block))
        yield from (params for params, fine in zip(block, legal.tolist(), strict=True) if fine)


def _count_all(space: SearchSpace) -> int | None:
    """The count without constraints.

    Forward over the parameters, counting the ways to each combination of those values that later
    conditions look at. A value is kept by its index among the named ones (True == 1 in Python).
    """
    named = _named_values(space)
    last_reader = {parent: i for i, p in enumerate(space.parents_first) for parent, _ in p.when}
    states: dict[frozenset[tuple[str, int]], int] = {frozenset(): 1}
    for i, p in enumerate(space.parents_first):
        following: dict[frozenset[tuple[str, int]], int] = {}
        for state, ways in states.items():
            outcomes: list[tuple[int | None, int]] = [(None, 1)]
            if is_active(p, {parent: named[parent][index] for parent, index in state}):
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


def _all(space: SearchSpace) -> Iterator[dict[str, ParamValue]]:
    """Every configuration, those that a constraint leaves out too."""

    def extend(i: int, active: dict[str, ParamValue]) -> Iterator[dict[str, ParamValue]]:
        if i == len(space.parents_first):
            yield {p.name: active[p.name] for p in space.parameters if p.name in active}
            return
        p = space.parents_first[i]
        if not is_active(p, active):
            yield from extend(i + 1, active)
            return
        for index in range(p.domain.size or 0):
            yield from extend(i + 1, {**active, p.name: value_at(p.domain, index)})

    return extend(0, {})


def _named_values(space: SearchSpace) -> dict[str, list[ParamValue]]:
    """For each parameter that conditions look at: the values they name, each once."""
    named: dict[str, list[ParamValue]] = {}
    for p in space.parameters:
        for parent, values in p.when:
            own = named.setdefault(parent, [])
            own.extend(value for value in values if not any(same(value, known) for known in own))
    return named
