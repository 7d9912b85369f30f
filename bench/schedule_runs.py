"""A strategy that searches a schedule, on a training in memory, with virtual workers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.schedule_tasks import Task
from search.decision import Schedule
from search.schedules import lineage
from search.simulator import Budget, History, Segment, simulate
from search.space import ParamValue, SearchSpace
from search.view import Fidelity

PARAMETER = "lr"


@dataclass(frozen=True, slots=True)
class Found:
    """What a schedule comes to."""

    validation: float
    test: float
    units: int
    """Steps trained in all, search included."""
    schedule: Schedule
    history: History | None = None
    """Of a search."""


class Lines:
    """The validation loss of trainings that are forked from one another; every step is trained once."""

    def __init__(self, task: Task, seed: int) -> None:
        self._training = task.start(seed)
        self._states: dict[tuple[tuple[int, Schedule], ...], dict[int, Any]] = {
            (): {0: self._training.snapshot()}
        }
        self._here: tuple[tuple[tuple[int, Schedule], ...], int] = ((), 0)

    def loss(self, line: Sequence[Segment], step: int) -> float:
        """On the validation part after ``step`` steps; states at the steps asked for are kept."""
        key = tuple((part.start, part.schedule) for part in line)
        self._go(key, step)
        return self._training.validation()

    def test(self, line: Sequence[Segment], step: int) -> float:
        """On the test part."""
        self._go(tuple((part.start, part.schedule) for part in line), step)
        return self._training.test()

    def _go(self, key: tuple[tuple[int, Schedule], ...], step: int) -> None:
        start, schedule = key[-1]
        if key not in self._states:
            parent = key[:-1]
            if start not in self._states[parent]:
                self._go(parent, start)
            self._states[key] = {start: self._states[parent][start]}
        states = self._states[key]
        if self._here[0] != key or self._here[1] > step:
            nearest = max(known for known in states if known <= step)
            self._training.restore(states[nearest])
        self._training.advance(step, schedule)
        self._here = (key, step)
        if step not in states:
            states[step] = self._training.snapshot()


def search(
    task: Task,
    seed: int,
    strategy: str,
    options: Mapping[str, ParamValue] | None = None,
    *,
    reports: int = 60,
    slots: int = 1,
    to_the_end: bool = False,
) -> Found:
    """Let a strategy find the schedule: that of the training which ends with the lowest validation loss.

    ``reports``: measurements in a full training; ``to_the_end``: only full trainings count.
    """
    space = SearchSpace.from_json(
        {PARAMETER: {"type": "float", "low": task.low, "high": task.high, "log": True}}
    )
    every = max(1, task.steps // reports)
    lines = Lines(task, seed)
    history = simulate(
        space,
        Fidelity(every, task.steps, every),
        lambda params, step: math.nan,
        Budget(),
        strategy=strategy,
        options=options,
        workers=slots,
        seed=seed,
        line_curve=lines.loss,
    )
    ended = [
        (trial.values[-1], trial.number)
        for trial in history.trials
        if trial.values and math.isfinite(trial.values[-1]) and (trial.step == task.steps or not to_the_end)
    ]
    if not ended:
        return Found(math.inf, math.inf, history.units, (), history)
    validation, number = min(ended)
    schedule = lineage(history.trials, number)
    test = lines.test(_line(history, number), history.trials[number - 1].step)
    return Found(validation, test, history.units, schedule, history)


def _line(history: History, number: int) -> tuple[Segment, ...]:
    trial = history.trials[number - 1]
    own = Segment(trial.forked_at, trial.params, trial.schedule)
    if trial.parent is None:
        return (own,)
    before = (part for part in _line(history, trial.parent) if part.start < trial.forked_at)
    return (*before, own)
