"""Learning-rate schedules as tables of (step, rate): made, joined, stretched, handed on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from search.decision import Schedule

_POINTS = 24
"""Of a bent decay; between them the rate is on straight lines."""

SHAPES: Mapping[str, Callable[[float], float]] = {
    "linear": lambda p: 1 - p,
    "cosine": lambda p: (1 + math.cos(math.pi * p)) / 2,
    "sqrt": lambda p: 1 - math.sqrt(p),
}
"""Share of the rate that is left after a share ``p`` of a decay to zero. 1 - sqrt: Hägele et al. (2024)."""


def constant(peak: float, warmup: int) -> Schedule:
    """``peak`` from the end of a linear warm-up of so many steps on."""
    return ((0, peak),) if warmup <= 1 else ((0, peak / warmup), (warmup - 1, peak))


def decay(peak: float, start: int, end: int, shape: str = "linear") -> Schedule:
    """From ``peak`` at step ``start`` down to zero at ``end``: the last step is made just before zero."""
    if shape == "linear":
        return ((start, peak), (end, 0.0))
    many = min(_POINTS, end - start)
    points = {}
    for i in range(many + 1):
        # Points crowd where 1 - sqrt is steep.
        step = start + round((end - start) * (i / many) ** 2)
        points[step] = peak * max(0.0, SHAPES[shape]((step - start) / (end - start)))
    return tuple(points.items())


def rates(schedule: Schedule, first: int, until: int) -> list[float]:
    """The rates of steps ``first`` to ``until`` - 1."""
    steps, values = zip(*schedule, strict=True)
    out: list[float] = np.interp(np.arange(first, until), steps, values).tolist()
    return out


def joined(before: Schedule, at: int, after: Schedule) -> Schedule:
    """``before`` up to the step ahead of ``at``, from ``at`` on ``after``: the same rates at every step."""
    head = _between(before, 0, at) if at > 0 else ()
    return (*head, *_between(after, at, max(after[-1][0], at) + 1))


def _between(schedule: Schedule, first: int, until: int) -> Schedule:
    """The part of it from ``first`` to ``until`` - 1, with points of its own at both."""
    ends = {first, until - 1}
    inside = {step: rate for step, rate in schedule if first < step < until - 1}
    for step in ends:
        inside[step] = rates(schedule, step, step + 1)[0]
    return tuple(sorted(inside.items()))


class Link(Protocol):
    """What :func:`lineage` reads of a trial; a :class:`~search.view.TrialView` is one."""

    @property
    def number(self) -> int: ...
    @property
    def parent(self) -> int | None: ...
    @property
    def forked_at(self) -> int: ...
    @property
    def schedule(self) -> Schedule: ...


def lineage(trials: Sequence[Link], number: int) -> Schedule:
    """The whole schedule of a trial: its ancestors' up to where each was forked, then its own.

    Raises ValueError if the trial, or one of its ancestors, was trained without a schedule.
    """
    by_number = {trial.number: trial for trial in trials}
    trial = by_number[number]
    if not trial.schedule:
        raise ValueError(f"trial {number} was trained without a schedule")
    if trial.parent is None:
        return trial.schedule
    return joined(lineage(trials, trial.parent), trial.forked_at, trial.schedule)


def warmup(schedule: Schedule) -> int:
    """How many steps pass before the rate has risen to its first peak; 0 if it does not rise at first."""
    peak = 0
    while peak + 1 < len(schedule) and schedule[peak + 1][1] > schedule[peak][1]:
        peak += 1
    return schedule[peak][0] + 1 if peak else 0


def stretched(schedule: Schedule, steps: int, horizon: int, warmup: int = 0) -> Schedule:
    """The schedule of a training of ``steps``, laid out over ``horizon`` steps.

    The first ``warmup`` steps stay as they are; what follows is stretched, or squeezed, in proportion.
    Raises ValueError if the new horizon leaves nothing behind the warm-up.
    """
    if not 0 <= warmup < min(steps, horizon):
        raise ValueError(f"a horizon of {horizon} has no room behind {warmup} steps of warm-up")
    factor = (horizon - warmup) / (steps - warmup)
    points: dict[int, float] = {}
    for step, rate in schedule:
        points[step if step <= warmup else warmup + round((step - warmup) * factor)] = rate
    return tuple(sorted(points.items()))


def torch_source(schedule: Schedule) -> str:
    """A Python file that makes a torch scheduler of the schedule; it needs nothing but torch."""
    rows = "\n".join(f"    ({step}, {rate!r})," for step, rate in schedule)
    return f'''"""A learning-rate schedule found by Trimtab."""

from bisect import bisect_right

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

# (step, rate): straight lines between, the first and last rates hold beyond. Steps count from 0.
TABLE = [
{rows}
]


def rate(step: int) -> float:
    """The learning rate of step number `step`."""
    place = bisect_right(TABLE, step, key=lambda point: point[0])
    if place == 0:
        return TABLE[0][1]
    if place == len(TABLE):
        return TABLE[-1][1]
    (left, low), (right, high) = TABLE[place - 1], TABLE[place]
    return low + (high - low) * (step - left) / (right - left)


def scheduler(optimizer: Optimizer) -> LambdaLR:
    """Call its `step()` after every step of the optimizer. All parameter groups get the same rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] = 1.0
    return LambdaLR(optimizer, rate)
'''
