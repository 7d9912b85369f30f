"""Pareto fronts: the points that no other one dominates."""

from __future__ import annotations

from collections.abc import Sequence


def front(points: Sequence[Sequence[float]]) -> list[int]:
    """The places of the points on the front of ``points``, in ascending order of their coordinates.

    ``points`` has shape (n, k), finite, lower is better. One dominates another if it is nowhere worse and
    somewhere better; of equal points none does, so all of them are on the front or none.

    In lexicographic order a point is dominated by none behind it, so that comparing it with the front so
    far is enough (Kung, Luccio, Preparata, "On finding the maxima of a set of vectors", 1975).
    """
    found: list[int] = []
    for place in sorted(range(len(points)), key=lambda place: tuple(points[place])):
        point = points[place]
        if not any(_dominates(points[other], point) for other in found):
            found.append(place)
    return found


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)
