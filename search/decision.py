"""What search answers: what to start, continue or stop, each with a reason a person can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from search.space import ParamValue

if TYPE_CHECKING:
    from search.pruning import Pruning


@dataclass(frozen=True, slots=True)
class Launch:
    """Start a new trial and train it to ``target``."""

    params: Mapping[str, ParamValue]
    target: int
    reason: str


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
class Finish:
    """Nothing is left to decide: once the running trials have ended, the study is complete."""

    reason: str


Decision = Launch | Continue | Stop | Finish


@dataclass(frozen=True, slots=True)
class Answer:
    """Decisions with the numbers behind them. No decisions: wait for results."""

    decisions: tuple[Decision, ...]
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able: fit quality, rung populations, what the strategy knew."""
    pruning: Pruning | None = None
    """What of the space is searched from now on; None: no change."""
