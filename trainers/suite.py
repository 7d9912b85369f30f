"""The ``suite`` trainer: one configuration on several workloads, scored by the time to a target on each.

After Dahl et al., "Benchmarking Neural Network Training Algorithms" (AlgoPerf, 2023, arXiv:2306.07179).

A step of a suite is a *round*: each workload is trained on by the same share of its own steps, so that
after round ``r`` of ``R`` a workload of ``n`` steps has made ``floor(n r / R)``. The workloads take turns,
rather than one being trained to its end before the next: so a configuration that is bad anywhere shows it
in the first rounds, and trials that were stopped at the same round can be compared. The price is that all
models are in memory at once.

A workload ends where its target is reached, or where its metric is no longer finite; the others go on.

Score
-----
Of a workload of ``n`` steps whose target ``c`` is reached after ``t`` steps: ``t / n``, in (0, 1]. While it
is not, with ``b`` the best value so far::

    1 + gap / (gap + |c|)      gap = |b - c|          (|c| = 1 if the target is 0)

in [1, 2): what misses its target costs more than the whole of its steps, and at most twice as much, as in
the penalised average runtime (PAR2) of algorithm configuration. Unlike there it falls while the metric
improves: search is led towards the targets before any of them is reached, and there is no leap where one
is. What has diverged costs 2. The score of the suite is the mean; where all have diverged, it is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trainers import checkpoint
from trainers.base import InvalidConfigurationError, Job, Measured, Trainer, Workload
from trainers.suite_config import SCORE, SECONDS, STEPS, SuiteConfig

MISSED = 2.0
"""The score of a workload that has diverged: twice its steps."""


class SuiteTrainer:
    """See :class:`trainers.base.Trainer`; a step is a round."""

    def __init__(self, job: Job, create: Callable[[str, Job], Trainer]) -> None:
        """
        :param create: makes the workloads' trainers (:func:`trainers.registry.create`)
        :raises InvalidConfigurationError: no workloads, or settings that one of them cannot use
        """
        if not job.workloads:
            raise InvalidConfigurationError("workloads: a suite needs at least one")
        self._job = job
        self._identity = checkpoint.identity("suite", job, job.config)
        self._identity["workloads"] = [asdict(each) for each in job.workloads]
        self._parts: list[_Part] = []
        mistakes: list[str] = []
        for workload in job.workloads:
            try:
                trainer = create(workload.trainer, _own_job(workload, job))
            except InvalidConfigurationError as error:
                mistakes += (f"{workload.name}: {line}" for line in str(error).splitlines())
            else:
                self._parts.append(_Part(workload, trainer))
        if mistakes:
            raise InvalidConfigurationError("\n".join(mistakes))
        self._round = 0

    @property
    def step(self) -> int:
        """Rounds made so far."""
        return self._round

    def train(self, until: int) -> Iterator[Measured]:
        """Make rounds up to ``until``; see :class:`trainers.base.Trainer`."""
        while self._round < until:
            self._round += 1
            for part in self._parts:
                part.train(part.workload.steps * self._round // self._job.max_step)
            if self._job.measured_at(self._round):
                yield Measured(self._round, self._metrics(), sum(part.seen.seconds for part in self._parts))

    def save(self, folder: Path) -> None:
        """Write the state into ``folder``, with a folder below for each workload that is still trained."""
        for part in self._parts:
            if part.trainer is not None:
                own = folder / part.workload.name
                own.mkdir()
                part.trainer.save(own)
        seen = {part.workload.name: asdict(part.seen) for part in self._parts}
        position = checkpoint.Position(self._round, sum(part.seen.seconds for part in self._parts))
        checkpoint.save(folder, self._identity, position, {"seen": seen})

    def load(self, folder: Path) -> None:
        """Take up the state in ``folder``; raises :class:`trainers.checkpoint.CheckpointError`."""
        import torch

        position = checkpoint.load(folder, self._identity, fork=SuiteConfig if self._job.forked else None)
        seen: dict[str, Any] = checkpoint.load_state(folder, torch.device("cpu"))["seen"]
        for part in self._parts:
            part.seen = _Seen(**seen[part.workload.name])
            if part.seen.over:
                part.trainer = None
            elif part.trainer is not None:
                part.trainer.load(folder / part.workload.name)
        self._round = position.step

    def _metrics(self) -> dict[str, float]:
        scores = [part.score() for part in self._parts]
        diverged = all(part.seen.diverged for part in self._parts)
        found = {
            SCORE: math.nan if diverged else sum(scores) / len(scores),
            "reached": sum(part.seen.reached_at is not None for part in self._parts) / len(scores),
        }
        for part, score in zip(self._parts, scores, strict=True):
            own = {**part.seen.metrics, SCORE: score}
            if part.seen.reached_at is not None:
                own |= {STEPS: float(part.seen.reached_at), SECONDS: part.seen.seconds}
            found |= {f"{part.workload.name}/{name}": value for name, value in own.items()}
        return found


@dataclass(slots=True)
class _Seen:
    """What is known of a workload's training."""

    metrics: dict[str, float] = field(default_factory=dict)
    """Of its last measurement."""
    best: float | None = None
    """Of the metric that its target is about."""
    reached_at: int | None = None
    """Its step when it reached the target."""
    diverged: bool = False
    seconds: float = 0.0

    @property
    def over(self) -> bool:
        """Whether there is nothing more to find out."""
        return self.diverged or self.reached_at is not None


class _Part:
    """One workload, and how its training goes."""

    def __init__(self, workload: Workload, trainer: Trainer) -> None:
        self.workload = workload
        self.trainer: Trainer | None = trainer
        """None once its training is over."""
        self.seen = _Seen()

    def train(self, until: int) -> None:
        """Train to its own step ``until``, unless its target is reached before, or it diverges."""
        if self.trainer is None:
            return
        for measured in self.trainer.train(until):
            self._note(measured)
            if self.seen.over:
                self.trainer = None  # its memory is free for the others
                return

    def score(self) -> float:
        """See the module."""
        seen, target = self.seen, self.workload.target
        if seen.reached_at is not None:
            return seen.reached_at / self.workload.steps
        if seen.diverged or seen.best is None:
            return MISSED
        gap = abs(seen.best - target)
        return 1 + gap / (gap + (abs(target) or 1.0))

    def _note(self, measured: Measured) -> None:
        seen, workload = self.seen, self.workload
        seen.metrics, seen.seconds = dict(measured.metrics), measured.seconds
        value = seen.metrics[workload.metric]
        if not math.isfinite(value):
            seen.diverged = True
            return
        better = max if workload.maximize else min
        seen.best = value if seen.best is None else better(seen.best, value)
        if better(seen.best, workload.target) == seen.best:
            seen.reached_at = measured.step


@dataclass(frozen=True, slots=True)
class _OwnJob(Job):
    """The job of one workload: it is measured in the rounds in which the suite is."""

    suite: Job | None = None

    def measured_at(self, step: int) -> bool:
        """Whether a round that is measured ends after ``step`` of the workload's steps."""
        assert self.suite is not None
        rounds = self.suite.max_step
        first, behind = -(-step * rounds // self.max_step), -(-(step + 1) * rounds // self.max_step)
        return any(self.suite.measured_at(each) for each in range(first, behind))

    def planned_lr(self, step: float) -> float | None:
        """The rate of the suite's schedule, which is laid out over rounds."""
        assert self.suite is not None
        return self.suite.planned_lr(step * self.suite.max_step / self.max_step)


def _own_job(workload: Workload, job: Job) -> Job:
    return _OwnJob(
        config={**job.config, **workload.settings},
        seed=job.seed,
        max_step=workload.steps,
        report_every=job.report_every,
        schedule=job.schedule,
        forked=job.forked,
        suite=job,
    )
