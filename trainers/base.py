"""The contract of a trainer.

A trainer trains one trial and can be interrupted at any step: saved, loaded in another process and
trained on, it gives bit for bit the curve and weights of the uninterrupted run on the same hardware.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

ParamValue = bool | int | float | str
Schedule = tuple[tuple[int, float], ...]
"""A learning rate over a training: (step, rate) points, steps strictly increasing.

Step number k (from 0) is made with the rate on the straight lines between the points at k; before the first
point the first rate holds, beyond the last the last.
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """One point of a learning curve."""

    step: int
    metrics: Mapping[str, float]
    seconds: float
    """Training seconds since the trial's start, over all its runs; a parent's up to a fork included."""
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """One of the trainings that a suite makes of each configuration."""

    name: str
    """Stands before the names of its metrics."""
    trainer: str
    settings: Mapping[str, ParamValue]
    """Its own; they win over those of the suite."""
    steps: int
    """A full training."""
    metric: str
    """What its target is about."""
    target: float
    maximize: bool
    """Whether the target is reached from below."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a trainer is set up for."""

    config: Mapping[str, ParamValue]
    """Fixed settings and the trial's parameters together; parameters win."""
    seed: int
    max_step: int
    """A full training: schedules are laid out over this many steps, and keep their final value beyond."""
    report_every: int
    """A measurement is made at each multiple of this many steps, at ``max_step`` and at ``target_step``."""
    target_step: int | None = None
    """The last step of this run, which may lie beyond ``max_step``. It is no part of what the training is:
    a checkpoint of a run to one target is gone on from to any other."""

    schedule: Schedule = ()
    """The learning rate at every step, whatever the configuration says; empty: as that says."""
    forked: bool = False
    """It is to go on from a checkpoint of another trial: what a fork may change (see
    :func:`trainers.settings.setting`), the schedule and the seed may differ from what was saved."""
    workloads: tuple[Workload, ...] = ()
    """What a suite trains; empty for every other trainer."""

    def planned_lr(self, step: float) -> float | None:
        """The learning rate of step number ``step`` (from 0) by the job's schedule; None if it has none.

        A trainer that makes several updates in a step asks for parts of steps.
        """
        if not self.schedule:
            return None
        later = bisect_right(self.schedule, step, key=lambda point: point[0])
        if later in (0, len(self.schedule)):
            return self.schedule[max(0, later - 1)][1]
        (start, low), (end, high) = self.schedule[later - 1], self.schedule[later]
        return low + (high - low) * (step - start) / (end - start)

    def measured_at(self, step: int) -> bool:
        """Whether a measurement is made after ``step`` steps."""
        return step % self.report_every == 0 or step in (self.max_step, self.target_step)


class InvalidConfigurationError(ValueError):
    """The configuration names an unknown setting or a value the trainer cannot use."""


class Trainer(Protocol):
    """One training in progress. Made by ``trainers.registry.create(name, job)``."""

    @property
    def step(self) -> int:
        """Steps trained so far."""
        ...

    def train(self, until: int) -> Iterator[Measured]:
        """Train to step ``until``, yielding measurements as they are made.

        The caller may stop iterating after any yield; the state is then that of the yielded step.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write the whole training state into an existing, empty folder."""
        ...

    def load(self, folder: Path) -> None:
        """Take up the state that :meth:`save` wrote, for the same job; if this one is forked, for another.

        Raises :class:`InvalidConfigurationError` if the job is forked and the state does not fit it.
        """
        ...
