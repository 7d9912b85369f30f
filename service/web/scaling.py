"""The rounds of a scaling study as rows of bars: how the intervals at its target shrank."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trimtab.wire.laws import Range, ScalingProgress, ScalingRound

MOST = 30.0
"""Bars reach this factor from the newest value at most: the first intervals may span decades."""


@dataclass(frozen=True, slots=True)
class Bar:
    """An interval on a logarithmic axis from 0 to 100, in whose middle the newest value is."""

    low: float
    value: float
    high: float


@dataclass(frozen=True, slots=True)
class RoundRow:
    """A round, with its intervals."""

    told: ScalingRound
    lr: Bar
    batch: Bar


def rows(progress: ScalingProgress) -> tuple[RoundRow, ...]:
    """In order of round."""
    lr, batch = ([getattr(each, name) for each in progress.rounds] for name in ("lr", "batch"))
    return tuple(RoundRow(*row) for row in zip(progress.rounds, _bars(lr), _bars(batch), strict=True))


def _bars(ranges: Sequence[Range]) -> list[Bar]:
    if not ranges:
        return []
    middle = ranges[-1].value
    reach = max(max(each.high / middle, middle / each.low) for each in ranges)
    log_reach = math.log(min(MOST, max(reach, 1.01)))
    return [
        Bar(*(_place(x / middle, log_reach) for x in (each.low, each.value, each.high))) for each in ranges
    ]


def _place(factor: float, log_reach: float) -> float:
    return round(min(100.0, max(0.0, 50 + 50 * math.log(factor) / log_reach)), 2)
