"""Trimtab's strategies as engines: ``search.decide`` on views of the study, as the service calls it."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field

import numpy as np

from bench.search.problems import Params, Problem
from bench.search.protocol import EngineError, Job, Verdict
from search.decide import decide
from search.decision import Continue, Decision, Finish, Launch, Stop
from search.space import ParamValue, SearchSpace
from search.strategies import create
from search.view import Fidelity, Source, StudyView, TrialStatus, TrialView


@dataclass(slots=True)
class _Trial:
    number: int
    params: Params
    first_target: int
    target: int
    status: TrialStatus = "running"
    failure: str | None = None
    values: list[float] = field(default_factory=list)
    """After each epoch, from the first."""
    epoch_seconds: tuple[float, ...] = ()
    """Of a full training; empty: the engine is not told."""
    view: TrialView | None = None
    """What search sees; None after a change."""

    def seen(self) -> TrialView:
        if self.view is None:
            self.view = TrialView(
                number=self.number,
                params=dict(self.params),
                status=self.status,
                steps=tuple(range(1, len(self.values) + 1)),
                values=tuple(self.values),
                seconds=sum(self.epoch_seconds[: len(self.values)]),
                step=len(self.values),
                first_target=self.first_target,
                target=self.target,
                resumable=self.status in ("paused", "stopped", "completed"),
                failure=self.failure,
            )
        return self.view


def variant(name: str) -> tuple[str, dict[str, ParamValue]]:
    """Strategy and options of an engine's name: ``asha:eta=4`` is ``asha`` with the option ``eta``."""
    strategy, *given = name.split(":")
    options: dict[str, ParamValue] = {}
    for option in given:
        key, _, value = option.partition("=")
        try:
            options[key] = json.loads(value)
        except json.JSONDecodeError:
            options[key] = value
    return strategy, options


class TrimtabEngine:
    """One of our strategies, by name, with its default options or those of :func:`variant`.

    It counts epochs, as the benchmark's budget does, unless it is ``timed``: then it is told the seconds
    that trainings took.
    """

    def __init__(
        self,
        strategy: str,
        problem: Problem,
        workers: int,
        seed: int,
        sources: tuple[Source, ...] = (),
        timed: bool = False,
    ) -> None:
        """Raises :class:`~search.errors.SearchError` if there is no such strategy."""
        self.sources = sources
        self.curve = problem.curve if timed else None
        self.space = SearchSpace.from_json(problem.space)
        self.fidelity = Fidelity(1, problem.max_epochs, 1, "epochs")
        self.strategy, self.options = variant(strategy)
        create(self.strategy, self.options, self.space, self.fidelity)
        self.maximize = problem.maximize
        self.workers = workers
        self.seed = seed
        self.decided = 0
        self.trials: list[_Trial] = []

    def ask(self) -> Job | None:
        while True:
            seed = int(np.random.SeedSequence([self.seed, self.decided]).generate_state(1)[0])
            self.decided += 1
            decisions = decide(self.view(), 1, seed).decisions
            jobs = [job for job in map(self.apply, decisions) if job is not None]
            if jobs or not decisions:
                return jobs[0] if jobs else None

    def processor_seconds(self) -> float:
        return time.process_time()

    def view(self) -> StudyView:
        """The study as search sees it now."""
        return StudyView(
            self.space,
            self.fidelity,
            self.maximize,
            self.strategy,
            self.options,
            trials=tuple(trial.seen() for trial in self.trials),
            parallelism=self.workers,
            seed=self.seed,
            sources=self.sources,
        )

    def apply(self, decision: Decision) -> Job | None:
        """Act on a decision; the job it makes, if any."""
        if isinstance(decision, Finish):
            raise EngineError(f"{self.strategy} finishes: {decision.reason}")
        if isinstance(decision, Launch):
            params = {name: v for name, v in decision.params.items() if isinstance(v, int | float)}
            trial = _Trial(len(self.trials) + 1, params, decision.target, decision.target)
            if self.curve is not None:
                trial.epoch_seconds = self.curve(params).seconds
            self.trials.append(trial)
        elif isinstance(decision, Stop | Continue):
            trial = self.trials[decision.trial - 1]
            trial.view = None
            if isinstance(decision, Stop):
                trial.status = "stopped"
                return None
            trial.target, trial.status = decision.target, "running"
        else:
            raise EngineError(f"{self.strategy} answers with what a table has not: {decision}")
        return Job(trial.number, trial.params, trial.target)

    def report(self, trial: int, epoch: int, value: float) -> Verdict:
        told = self.trials[trial - 1]
        told.values.append(value)
        told.view = None
        if told.status != "running":
            return "stop"  # it was stopped by a decision while this epoch was trained
        if not math.isfinite(value):
            told.status, told.failure = "failed", "diverged"
            return "stop"
        if epoch == self.fidelity.max:
            told.status = "completed"
        elif epoch == told.target:
            told.status = "paused"
        return "continue"
