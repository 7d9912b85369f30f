"""How engines are compared: one study on a virtual clock, paid in epochs.

A free worker asks the engine what to train next; after each epoch the engine is told the value and says
whether the trial goes on. Every epoch is paid once: a trial that was paused and goes on pays only its new
epochs, whatever the engine thinks it costs. The incumbent is the best value observed so far, at any epoch
of any trial. Each epoch takes the problem's own seconds, and deciding takes none: with several workers,
results come in the order in which they would. A study ends when its epochs are spent; engines are not told
how many there will be.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from bench.search.problems import Curve, Params, Problem

BUDGETS = (250, 500, 1_000, 2_000)
"""Epochs at which regret is read."""

Verdict = Literal["continue", "stop", "pause"]


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker trains: a trial, from where it stands to ``target`` epochs."""

    trial: int
    params: Params
    """The same in every job of a trial."""
    target: int


class Engine(Protocol):
    """What is measured. Nothing else is asked of it."""

    def ask(self) -> Job | None:
        """What a free worker trains next; None: wait until a running trial has ended."""
        ...

    def report(self, trial: int, epoch: int, value: float) -> Verdict:
        """Take one result. A trial ends at its target and after a non-finite value in any case."""
        ...

    def processor_seconds(self) -> float:
        """Processor time used so far, by whichever process does the thinking."""
        ...


class EngineError(Exception):
    """An engine broke the rules of the comparison."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a study."""

    epochs: int
    """Epochs paid."""
    regrets: Mapping[int, float]
    """Normalised regret after so many epochs, for each budget that was reached."""
    trials: int
    duplicates: int
    """Trials with the configuration of an earlier one."""
    decisions: int
    """Times that the engine was asked."""
    seconds: float
    """Processor time of the engine, asking it and telling it results: waiting for a core does not count."""
    clock: float
    """The virtual time at the end, seconds."""


@dataclass(slots=True)
class _Trial:
    number: int
    params: Params
    curve: Curve
    target: int
    epoch: int = 0
    running: bool = True


@dataclass(slots=True)
class _Study:
    problem: Problem
    engine: Engine
    workers: int
    trials: dict[int, _Trial] = field(default_factory=dict)
    clock: list[tuple[float, int, _Trial]] = field(default_factory=list)
    """(when its next epoch ends, order of scheduling, trial)"""
    now: float = 0.0
    scheduled: int = 0
    decisions: int = 0
    seconds: float = 0.0

    def fill(self) -> None:
        """Give every free worker something to do, unless the engine wants to wait."""
        while len(self.clock) < self.workers:
            begin = self.engine.processor_seconds()
            job = self.engine.ask()
            self.seconds += self.engine.processor_seconds() - begin
            self.decisions += 1
            if job is None:
                if not self.clock:
                    raise EngineError("waits, but nothing is running that could end")
                return
            self.start(job)

    def start(self, job: Job) -> None:
        trial = self.trials.get(job.trial)
        if trial is None:
            curve = self.problem.curve(job.params)
            trial = self.trials[job.trial] = _Trial(job.trial, dict(job.params), curve, job.target)
        elif trial.running or trial.params != job.params:
            raise EngineError(f"trial {job.trial} is running, or came back with another configuration")
        if not trial.epoch < job.target <= self.problem.max_epochs:
            raise EngineError(f"trial {job.trial} stands at {trial.epoch}, its target is {job.target}")
        trial.target, trial.running = job.target, True
        self.schedule(trial)

    def schedule(self, trial: _Trial) -> None:
        """Put the end of the trial's next epoch on the clock; among equals the first scheduled is first."""
        self.scheduled += 1
        heapq.heappush(self.clock, (self.now + trial.curve.seconds[trial.epoch], self.scheduled, trial))

    def advance(self) -> tuple[float, bool]:
        """Let the next epoch end, and tell the engine. Its value, and whether a job has ended with it."""
        self.now, _, trial = heapq.heappop(self.clock)
        trial.epoch += 1
        value = trial.curve.values[trial.epoch - 1]
        begin = self.engine.processor_seconds()
        verdict = self.engine.report(trial.number, trial.epoch, value)
        self.seconds += self.engine.processor_seconds() - begin
        trial.running = verdict == "continue" and trial.epoch < trial.target and math.isfinite(value)
        if trial.running:
            self.schedule(trial)
        return value, not trial.running


def run_study(
    problem: Problem,
    engine: Engine,
    workers: int,
    epochs: int,
    budgets: Sequence[int] = BUDGETS,
    limit_seconds: float = math.inf,
) -> Outcome:
    """Run one study until ``epochs`` are paid or the engine has taken ``limit_seconds`` of processor time.

    Raises :class:`EngineError` if the engine breaks the rules.
    """
    study = _Study(problem, engine, workers)
    incumbent: float | None = None
    regrets: dict[int, float] = {}
    paid, ended = 0, True
    while paid < epochs and study.seconds < limit_seconds:
        if ended:
            study.fill()
        value, ended = study.advance()
        paid += 1
        if problem.better(value, incumbent):
            incumbent = value
        if paid in budgets:
            regrets[paid] = problem.regret(incumbent)
    different = {tuple(sorted(trial.params.items())) for trial in study.trials.values()}
    return Outcome(
        paid,
        regrets,
        len(study.trials),
        len(study.trials) - len(different),
        study.decisions,
        study.seconds,
        study.now,
    )
