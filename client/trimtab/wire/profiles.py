"""What a cross-workload study shows: times to targets, and the performance profile of its trials."""

from __future__ import annotations

from typing import Literal

from trimtab.wire.base import Wire
from trimtab.wire.states import TrialState
from trimtab.wire.study import LimitSpec

ProfileBy = Literal["steps", "seconds"]
"""How times to targets are counted. Seconds depend on the machine that trained."""


class ProfiledWorkload(Wire):
    """A workload, and how fast its target was reached."""

    name: str
    trainer: str
    target: LimitSpec
    steps: int
    """A full training of it."""
    reached: int
    """Trials that reached its target."""
    fastest: float | None
    """The least time of any trial; None: none reached it."""
    fastest_trial: int | None


class ProfiledTrial(Wire):
    """The performance profile of one trial."""

    number: int
    label: str | None
    state: TrialState
    score: float
    """The area below its profile, in [0, 1]; higher is better."""
    reached: int
    """Workloads whose target it reached."""
    times: dict[str, float]
    """Its time to the target of each workload that it reached."""
    points: list[tuple[float, float]]
    """(tau, share): on that share of the workloads it took at most tau times as long as the fastest. The
    share stays until the next point, and from the last to ``tau_max``."""


class ProfileResponse(Wire):
    """The trials of a cross-workload study, compared by their times to the targets (Dolan, Moré 2002)."""

    study: str
    by: ProfileBy
    tau_max: float
    """What takes longer than so many times the fastest counts as not reached."""
    workloads: list[ProfiledWorkload]
    trials: list[ProfiledTrial]
    """Every trial that was measured, the best first. One that was stopped early has missed what it had not
    reached by then."""
