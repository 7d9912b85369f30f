"""Performance profiles: how often a configuration is among the fastest, over several workloads.

Dolan, Moré, "Benchmarking optimization software with performance profiles" (Mathematical Programming 91,
2002). With ``t[c, w]`` the time that configuration ``c`` takes to reach the target of workload ``w``
(infinite where it does not), its ratio and its profile are ::

    r[c, w]   = t[c, w] / min over c of t[c, w]
    rho_c(tau) = share of the workloads with r[c, w] <= tau            tau >= 1

``rho_c(1)`` is the share of workloads on which it is the fastest, ``rho_c`` for large ``tau`` the share
that it solves at all. AlgoPerf (Dahl et al. 2023, arXiv:2306.07179) takes the area below as the score::

    B_c = 1 / (tau_max - 1)  *  integral of rho_c from 1 to tau_max      in [0, 1], higher is better

Both depend on what a configuration is compared with: they rank the trials of one study, no more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

TAU_MAX = 4.0
"""As AlgoPerf has it: what takes more than four times as long as the fastest counts as not solved."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The profile of one configuration up to :data:`TAU_MAX`."""

    ratios: tuple[float, ...]
    """Its time relative to the fastest, workload by workload; infinite where it missed the target."""
    points: tuple[tuple[float, float], ...]
    """(tau, share) where the share rises, the first at tau = 1: a step function, constant in between."""
    score: float


def profiles(times: Sequence[Sequence[float]], tau_max: float = TAU_MAX) -> list[Profile]:
    """The profile of each configuration.

    :param times: shape (configurations, workloads), positive; infinite where the target was not reached. A
        workload that nobody solves counts against everybody alike
    :param tau_max: above 1
    :raises ValueError: no target was reached at all, so there is nothing to compare
    """
    fastest = [min(column) for column in zip(*times, strict=True)]
    if not any(math.isfinite(best) for best in fastest):
        raise ValueError("no target was reached by any configuration")
    return [_profile(row, fastest, tau_max) for row in times]


def _profile(row: Sequence[float], fastest: Sequence[float], tau_max: float) -> Profile:
    ratios = tuple(
        time / best if math.isfinite(time) else math.inf for time, best in zip(row, fastest, strict=True)
    )
    counted = sorted(ratio for ratio in ratios if ratio <= tau_max)
    rising = sorted({1.0, *counted})
    points = tuple((tau, sum(ratio <= tau for ratio in counted) / len(ratios)) for tau in rising)
    area = sum(tau_max - ratio for ratio in counted) / (tau_max - 1) / len(ratios)
    return Profile(ratios, points, area)
