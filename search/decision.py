"""What search answers: what to start, continue or stop, each with a reason a person can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from search.space import ParamValue

if TYPE_CHECKING:
    from search.pruning import Pruning


Schedule = tuple[tuple[int, float], ...]
"""A learning rate over a training: (step, rate) points, steps strictly increasing, rates positive or 0.

Step number k (from 0) is made with the rate on the straight lines between the points at k; before the first
point the first rate holds, beyond the last the last. A jump is two points one step apart.
"""


@dataclass(frozen=True, slots=True)
class Launch:
    """Start a new trial and train it to ``target``."""

    params: Mapping[str, ParamValue]
    target: int
    reason: str
    schedule: Schedule = ()
    """The learning rate at every step, in place of what the configuration says; empty: as that says."""


@dataclass(frozen=True, slots=True)
class Fork:
    """Start a new trial from a checkpoint of another, with a changed configuration, trained to ``target``.

    Its curve begins behind ``step``; it sees the same data in the same order as its parent would have.
    """

    parent: int
    """Number of the trial whose checkpoint it starts from."""
    step: int
    """Of that checkpoint: one of the parent's ``checkpoints``."""
    params: Mapping[str, ParamValue]
    target: int
    reason: str
    schedule: Schedule = ()
    """As :attr:`Launch.schedule`; steps count from the beginning of the training, not from the fork."""


@dataclass(frozen=True, slots=True)
class Continue:
    """Train a paused trial on, from its checkpoint to ``target``."""

    trial: int
    target: int
    reason: str


@dataclass(frozen=True, slots=True)
class Stop:
    """End a trial that is paused, queued or running."""

    trial: int
    reason: str


@dataclass(frozen=True, slots=True)
class Repeat:
    """Train the configuration of a completed trial from nothing with its next tuning seed, to
    ``target``."""

    trial: int
    seed: int
    target: int
    reason: str


@dataclass(frozen=True, slots=True)
class Spare:
    """Leave a trial's other tuning seeds out: it is clearly beaten."""

    trial: int
    reason: str


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing is left to decide: once the running trials have ended, the study is complete."""

    reason: str


Decision = Launch | Fork | Continue | Stop | Repeat | Spare | Finish


@dataclass(frozen=True, slots=True)
class Answer:
    """Decisions with the numbers behind them. No decisions: wait for results."""

    decisions: tuple[Decision, ...]
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able: fit quality, rung populations, what the strategy knew."""
    pruning: Pruning | None = None
    """What of the space is searched from now on; None: no change."""
