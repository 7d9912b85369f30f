"""What search sees: an immutable snapshot of a study.

All values are in the study's own metric and direction; :meth:`StudyView.loss` turns them into a loss to
be minimised. A non-finite value is kept as NaN or infinity: it is the mark of a diverged training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from search.space import ParamValue, SearchSpace

if TYPE_CHECKING:
    from search.decision import Schedule
    from search.pruning import Pruning

TrialStatus = Literal["queued", "running", "paused", "completed", "stopped", "failed"]
ACTIVE: frozenset[TrialStatus] = frozenset({"queued", "running"})


@dataclass(frozen=True, slots=True)
class Fidelity:
    """What a trial is paid in along its curve: whole units from ``min`` to ``max``."""

    min: int
    max: int
    report_every: int
    unit: str = "steps"


@dataclass(frozen=True, slots=True)
class Objective:
    """A metric that is to be good beside the study's own."""

    metric: str
    maximize: bool


@dataclass(frozen=True, slots=True)
class Limit:
    """What a metric must keep, or the result does not count."""

    metric: str
    bound: float
    upper: bool
    """The metric must be at most ``bound``; otherwise at least."""

    def kept(self, value: float) -> bool:
        """Whether ``value`` keeps it; NaN does not."""
        return value <= self.bound if self.upper else value >= self.bound


@dataclass(frozen=True, slots=True)
class TrialView:
    """A trial as search sees it."""

    number: int
    """Its number in the study, from 1, in order of creation."""
    params: Mapping[str, ParamValue]
    """Active parameters only."""
    status: TrialStatus
    steps: tuple[int, ...] = ()
    """Strictly increasing."""
    values: tuple[float, ...] = ()
    """The metric at ``steps``."""
    step: int = 0
    """How far it has been trained."""
    first_target: int = 0
    """The target of its first run."""
    target: int = 0
    """The target of its newest run."""
    resumable: bool = False
    """Whether a run can go on: from a checkpoint at ``step`` (of an interrupted trial: near it), or from
    nothing at step 0."""
    failure: str | None = None
    origin: Literal["strategy", "enqueued", "imported"] = "strategy"
    outcomes: Mapping[str, float] = field(default_factory=dict)
    """The metrics that objectives and limits name, or that the strategy reads, at its last measurement; NaN
    where not finite. Those that were not measured there are missing."""
    seconds: float = 0.0
    """Time its training took so far, as the workers measured it, a parent's up to the fork included; of a
    training that does not say, how long its runs held their resources, once they have ended. 0: unknown."""
    parent: int | None = None
    """The trial it was forked from; None: it started from nothing."""
    forked_at: int = 0
    """The step of the parent's checkpoint that it started from. Its own curve lies behind it."""
    checkpoints: tuple[int, ...] = ()
    """Steps of its checkpoints that a fork may start from, increasing."""
    schedule: Schedule = ()
    """The learning rate that it was given for every step; empty: as its configuration says."""
    bests: tuple[float, ...] = ()
    """At each of ``steps`` the best value so far of those that keep the study's limits, NaN before there is
    one. Empty in a study without limits."""
    seed: int | None = None
    """What it is trained with, if not with the study's seed."""
    replica_of: int | None = None
    """The trial whose configuration it repeats with another tuning seed; None: a trial of its own."""
    replicas: tuple[TrialView, ...] = ()
    """Its configuration with other tuning seeds, in order of number. Strategies see none of them, but means
    (:func:`search.replicas.told`)."""
    spared: bool = False
    """Whether its other tuning seeds are left out, since it is clearly beaten."""

    @property
    def active(self) -> bool:
        """Whether it trains now or waits for a worker."""
        return self.status in ACTIVE

    @property
    def interrupted(self) -> bool:
        """Whether it was paused on its way to its target, because the study's budget was spent."""
        return self.status == "paused" and self.step < self.target


@dataclass(frozen=True, slots=True)
class PastTrial:
    """A trial of an earlier study."""

    params: Mapping[str, ParamValue]
    """Active parameters of that study's space."""
    step: int
    """How far it was trained, in that study's units."""
    value: float
    """The best value of its curve; NaN if its configuration made the training fail."""


@dataclass(frozen=True, slots=True)
class Source:
    """An earlier study that this one may learn from: another task, perhaps another space and metric."""

    name: str
    fidelity: Fidelity
    maximize: bool
    trials: tuple[PastTrial, ...]


@dataclass(frozen=True, slots=True)
class BudgetLeft:
    """What may still be started. None: no such limit."""

    trials: int | None = None
    fidelity: int | None = None
    """Units that are neither trained nor promised to an unfinished run."""
    seconds: float | None = None
    """Of training, one run's added to another's, for runs under way and new ones together: what is left of
    GPU-hours, over the GPUs that a run holds."""
    clock: float | None = None
    """Seconds until whatever is running then is told to pause."""


@dataclass(frozen=True, slots=True)
class StudyView:
    """A study as search sees it."""

    space: SearchSpace
    fidelity: Fidelity
    maximize: bool
    strategy: str
    options: Mapping[str, ParamValue] = field(default_factory=dict)
    trials: tuple[TrialView, ...] = ()
    """In order of number, without replicas."""
    budget: BudgetLeft = BudgetLeft()
    parallelism: int = 1
    seed: int = 0
    """The study's own seed, the same for all its decisions: it scrambles sequences that outlast one."""
    sources: tuple[Source, ...] = ()
    """Earlier studies to learn from; see :mod:`search.transfer`."""
    prune: bool = False
    """Whether parts of the space may be left out (:mod:`search.pruning`)."""
    pruning: Pruning | None = None
    """What was left out so far."""
    objectives: tuple[Objective, ...] = ()
    """Further objectives; with any, the study looks for a Pareto front instead of one best trial."""
    limits: tuple[Limit, ...] = ()
    """On other metrics than the study's own, or on it."""
    inherited: frozenset[str] = frozenset()
    """Parameters that a fork cannot change, since a checkpoint would not fit any more: a width, a depth."""
    tuning_seeds: tuple[int, ...] = ()
    """With several, a trial counts with its mean over them; every trial is trained with the first."""
    finalists: int = 0
    """So many of the best are trained on test seeds in the end; 0: none. Search never sees what comes of
    it."""

    @property
    def everything(self) -> tuple[TrialView, ...]:
        """Trials and replicas, in order of number."""
        return tuple(
            sorted(
                (each for trial in self.trials for each in (trial, *trial.replicas)),
                key=lambda each: each.number,
            )
        )

    def loss(self, value: float) -> float:
        """``value`` as a loss (lower is better); NaN and both infinities become +infinity."""
        if not math.isfinite(value):
            return math.inf
        return -value if self.maximize else value

    def counted(self) -> StudyView:
        """The study with results that count alone: as its best value has them, those that keep the limits.

        Curves lose the points that do not count, but for those that are no better than what counts before
        them and so change nothing. A trial that has come to its end without any counts as one that was
        measured, and never finite; what comes of one that was interrupted or crashed is not known, and it
        is left without a measurement. Other studies than those with limits are as they are.
        """
        if not self.limits:
            return self
        return replace(self, trials=tuple(self._counted(trial) for trial in self.trials))

    def _counted(self, trial: TrialView) -> TrialView:
        points = zip(trial.steps, trial.values, trial.bests, strict=True)
        kept = [
            (step, value, best)
            for step, value, best in points
            if math.isfinite(best) and self.loss(value) >= self.loss(best)
        ]
        if not kept and trial.steps and trial.status in ("completed", "stopped"):
            kept = [(trial.steps[-1], math.nan, math.nan)]
        steps, values, bests = zip(*kept, strict=True) if kept else ((), (), ())
        return replace(trial, steps=steps, values=values, bests=bests)


def unforked(view: StudyView) -> StudyView:
    """The study without forked trials: what its configurations come to when trained from the start.

    What a forked trial reaches is owed to its parent as much as to its own configuration, and its curve
    begins late: who knows nothing of forks would learn from it what is not so. A person may fork in any
    study.
    """
    if all(trial.parent is None for trial in view.trials):
        return view
    return replace(view, trials=tuple(trial for trial in view.trials if trial.parent is None))
