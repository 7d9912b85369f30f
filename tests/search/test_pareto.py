"""Pareto fronts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from search.pareto import front


def dominates(one: list[int], other: list[int]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


@given(st.integers(1, 4).flatmap(lambda k: st.lists(st.lists(st.integers(0, 4), min_size=k, max_size=k))))
def test_on_the_front_is_what_nothing_dominates(points: list[list[int]]) -> None:
    found = front(points)
    wanted = [i for i, one in enumerate(points) if not any(dominates(other, one) for other in points)]
    assert sorted(found) == wanted
    assert [points[i] for i in found] == sorted(points[i] for i in found)
