"""Rungs: the steps at which trials are compared, and who goes on from there.

The rule is that of asynchronous successive halving (Li et al., "A System for Massively Parallel
Hyperparameter Tuning", 2020, algorithm 2): of the trials that have come to a rung, the best ``1/eta`` go
on to the next, as soon as they are among the best.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from search.decision import Continue
from search.view import Fidelity, StudyView, TrialView


@dataclass(frozen=True, slots=True)
class Standing:
    """A trial at a rung."""

    trial: TrialView
    loss: float
    """Infinite for a trial that failed or diverged there: the worst."""


def rung_levels(fidelity: Fidelity, eta: float) -> tuple[int, ...]:
    """The rungs min, min*eta, min*eta^2, ... below max, and max; strictly increasing.

    Each is rounded up to a step at which there is a measurement (a multiple of ``report_every``).
    """
    levels: list[int] = []
    exact: float = fidelity.min
    while True:
        level = math.ceil(math.floor(exact) / fidelity.report_every) * fidelity.report_every
        if level >= fidelity.max:
            return (*levels, fidelity.max)
        if not levels or level > levels[-1]:
            levels.append(level)
        exact *= eta


def loss_at(view: StudyView, trial: TrialView, levels: Sequence[int], rung: int) -> float | None:
    """A trial's loss at ``levels[rung]``; None if it does not count there (yet).

    It is the loss of the first measurement at or after the rung; of the last one before it, if training
    has come so far without another measurement. A trial that failed on its way to a rung counts there as
    the worst. One that was ended on purpose on its way counts with the last value it had, which is
    seldom better than what it would have come to.
    """
    level = levels[rung]
    place = bisect_left(trial.steps, level)
    if place < len(trial.steps):
        return view.loss(trial.values[place])
    last = view.loss(trial.values[-1]) if trial.values else math.inf
    if trial.step >= level:
        return last
    if trial.active or trial.status == "paused":
        return None
    passed = max(trial.step, trial.steps[-1] if trial.steps else 0)
    if rung > 0 and passed < levels[rung - 1]:
        return None  # It ended on the way to an earlier rung and counts there.
    return math.inf if trial.status == "failed" else last


Ladder = list[list[Standing]]
"""Who counts at each rung, best first."""


def ladder(view: StudyView, trials: Sequence[TrialView], levels: Sequence[int]) -> Ladder:
    """Who counts at each rung, best first; the older trial first among equals."""
    rungs: Ladder = [[] for _ in levels]
    for trial in trials:
        for rung in range(len(levels)):
            loss = loss_at(view, trial, levels, rung)
            if loss is None:
                break
            rungs[rung].append(Standing(trial, loss))
    for ranked in rungs:
        ranked.sort(key=lambda standing: (standing.loss, standing.trial.number))
    return rungs


def promotions(ladder: Ladder, levels: Sequence[int], eta: float, unit: str) -> Iterator[Continue]:
    """Who goes on, the highest rung first and the best of each first."""
    for rung in range(len(levels) - 2, -1, -1):
        ranked = ladder[rung]
        for rank, standing in enumerate(ranked[: math.floor(len(ranked) / eta)], start=1):
            if waits_at(standing, levels, rung):
                yield Continue(
                    standing.trial.number,
                    levels[rung + 1],
                    f"rung {levels[rung]}: {ordinal(rank)} of {len(ranked)}, in the best {share(eta)}, "
                    f"goes on to {levels[rung + 1]} {unit}",
                )


def last_climb(view: StudyView, levels: Sequence[int]) -> Iterator[Continue]:
    """Who may go on once no new trial can come, best first; nobody if one was trained to the end.

    The rungs' shares are rounded down, so that a small study would end with nothing trained fully. Its
    best trial of the highest rung goes on instead.
    """
    reached = [
        max((k for k in range(len(levels)) if trial.step >= levels[k]), default=-1)
        for trial in view.trials
        if trial.values and math.isfinite(view.loss(trial.values[-1]))
    ]
    if max(reached, default=-1) == len(levels) - 1:
        return
    rungs = ladder(view, view.trials, levels)
    for rung in range(len(levels) - 2, -1, -1):
        ranked = rungs[rung]
        for rank, standing in enumerate(ranked, start=1):
            if waits_at(standing, levels, rung):
                yield Continue(
                    standing.trial.number,
                    levels[rung + 1],
                    f"rung {levels[rung]}: {ordinal(rank)} of {len(ranked)} and the best that can go on; "
                    f"no new trial will come and none was trained to the end, "
                    f"so it goes on to {levels[rung + 1]} {view.fidelity.unit}",
                )


def waits_at(standing: Standing, levels: Sequence[int], rung: int) -> bool:
    """Whether the trial is paused at this rung, can be taken up from a checkpoint, and has not diverged."""
    trial = standing.trial
    return (
        trial.status == "paused"
        and trial.resumable
        and levels[rung] <= trial.step < levels[rung + 1]
        and math.isfinite(standing.loss)
    )


def populations(view: StudyView, ladder: Ladder, levels: Sequence[int]) -> list[dict[str, Any]]:
    """For diagnostics: how many trials count at each rung, and the best value there."""
    rows: list[dict[str, Any]] = []
    for level, ranked in zip(levels, ladder, strict=True):
        best = ranked[0].loss if ranked and math.isfinite(ranked[0].loss) else None
        value = None if best is None else -best if view.maximize else best
        rows.append({"rung": level, "trials": len(ranked), "best": value})
    return rows


def ordinal(n: int) -> str:
    """1st, 2nd, 3rd, ..."""
    suffix = "th" if 10 <= n % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{suffix}"


def share(eta: float) -> str:
    """The part of a rung that goes on, in words."""
    names: dict[float, str] = {2: "half", 3: "third", 4: "quarter", 5: "fifth"}
    return names.get(eta, f"1/{eta:g}")
