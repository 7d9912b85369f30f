"""A whole study on a virtual clock: what the service and its workers do, in milliseconds.

Training is a function of a configuration and a step. Workers run asynchronously; each unit of fidelity
takes its time on the clock; stopping rules, budgets, pauses at rungs and failures act as in the service:
search is asked again whenever a trial or run has ended. The same arguments give the same history.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from search.along import Along
from search.decide import decide
from search.decision import Continue, Decision, Fork, Launch, Schedule, Stop
from search.features import Features
from search.prediction import Curves, Predictor, checks, due
from search.prediction import Point as CurvePoint
from search.space import Key, ParamValue, SearchSpace
from search.stopping import GO_ON, Forecast, Judgement, Patience, Point, Predicted, Rule, improves, judge
from search.strategies import create, forks
from search.view import ACTIVE, BudgetLeft, Fidelity, StudyView, TrialStatus, TrialView

Params = Mapping[str, ParamValue]
Curve = Callable[[Params, int], float]
"""The metric of a configuration at a step; it may be non-finite, and may raise TrainingFailedError."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a training: from ``start`` on, up to where the next part begins."""

    start: int
    params: Params
    schedule: Schedule = ()


LineCurve = Callable[[Sequence[Segment], int], float]
"""The metric, at a step, of a training that was forked on its way: its parts in order, the first from 0."""


class TrainingFailedError(Exception):
    """Raised by a curve: the training crashes at this step. The message is the kind of failure."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of a simulated study; None: no limit."""

    trials: int | None = None
    fidelity: int | None = None
    seconds: float | None = None
    """On the virtual clock."""


EventKind = Literal[
    "launch", "fork", "continue", "stop", "measured", "paused", "completed", "stopped", "failed"
]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, in order."""

    seconds: float
    kind: EventKind
    trial: int
    step: int
    value: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Improvement:
    """A new best value of the study."""

    seconds: float
    units: int
    """Units of fidelity trained by then, over all trials."""
    value: float
    trial: int
    step: int


@dataclass(frozen=True, slots=True)
class History:
    """What became of a simulated study."""

    trials: tuple[TrialView, ...]
    events: tuple[Event, ...]
    best: tuple[Improvement, ...]
    seconds: float
    units: int
    reason: str
    """Why it ended."""

    def best_by_units(self, units: int) -> float | None:
        """The best value when ``units`` were trained; None before the first finite one."""
        reached = [point.value for point in self.best if point.units <= units]
        return reached[-1] if reached else None

    def best_by_seconds(self, seconds: float) -> float | None:
        """The best value at a time of the virtual clock; None before the first finite one."""
        reached = [point.value for point in self.best if point.seconds <= seconds]
        return reached[-1] if reached else None


def table_curve(space: SearchSpace, rows: Iterable[tuple[Params, Mapping[int, float]]]) -> Curve:
    """A curve looked up in a table of configurations, each with its values by step.

    Raises KeyError for a configuration or step that the table does not have.
    """
    table: dict[Key, Mapping[int, float]] = {space.key(params): values for params, values in rows}
    return lambda params, step: table[space.key(params)][step]


def simulate(
    space: SearchSpace,
    fidelity: Fidelity,
    curve: Curve,
    budget: Budget,
    *,
    strategy: str,
    options: Mapping[str, ParamValue] | None = None,
    maximize: bool = False,
    workers: int = 1,
    rules: Sequence[Rule] = (),
    enqueue: Sequence[Params] = (),
    seconds_per_unit: Callable[[Params], float] = lambda params: 1.0,
    seed: int = 0,
    prune: bool = False,
    line_curve: LineCurve | None = None,
    inherited: frozenset[str] = frozenset(),
    outcomes: Callable[[Params, int], Mapping[str, float]] = lambda params, step: {},
) -> History:
    """Run a study until its strategy finishes or its budget of time is spent.

    ``outcomes``: the other metrics of a configuration at a step, as far as search is shown them.

    ``line_curve`` is asked instead of ``curve`` where it matters how a training came to where it is: what
    forked trials and schedules are about. Without it a forked trial follows the curve of its configuration.
    """
    options = options or {}
    study = _Study(
        StudyView(
            space,
            fidelity,
            maximize,
            strategy,
            options,
            parallelism=workers,
            seed=seed,
            prune=prune,
            inherited=inherited,
        ),
        line_curve or (lambda line, step: curve(line[-1].params, step)),
        budget,
        tuple(rules),
        seconds_per_unit,
        outcomes,
    )
    first_target = create(strategy, options, space, fidelity).first_target(fidelity)
    for params in enqueue:
        study.launch(Launch(params, first_target, "enqueued"), "enqueued")
    return study.run(workers, seed)


@dataclass(slots=True)
class _Trial:
    """A trial in motion."""

    number: int
    params: Params
    origin: Literal["strategy", "enqueued"]
    first_target: int
    target: int
    status: TrialStatus = "queued"
    step: int = 0
    seconds: float = 0.0
    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    bests: list[float] = field(default_factory=list)
    """The best value up to each step."""
    outcomes: dict[str, float] = field(default_factory=dict)
    """Of its last measurement."""
    counted: float | None = None
    """The last value that was an improvement in the eyes of the patience rule."""
    since_best: int = 0
    failure: str | None = None
    parent: int | None = None
    forked_at: int = 0
    line: tuple[Segment, ...] = ()
    checkpoints: tuple[int, ...] = ()
    """Of the ends of its runs: of all of them if the strategy forks, else of the last."""
    view: TrialView | None = None
    """What search sees; None after a change."""

    @property
    def active(self) -> bool:
        return self.status in ACTIVE


class _Study:
    """The state of a simulated study and the acts that change it."""

    def __init__(
        self,
        view: StudyView,
        curve: LineCurve,
        budget: Budget,
        rules: tuple[Rule, ...],
        seconds_per_unit: Callable[[Params], float],
        outcomes: Callable[[Params, int], Mapping[str, float]],
    ) -> None:
        self.frame = view
        self.curve = curve
        self.budget = budget
        self.rules = rules
        self.seconds_per_unit = seconds_per_unit
        self.outcomes = outcomes
        self.keeps_all = forks(view.strategy)
        self.predicted = next((rule for rule in rules if isinstance(rule, Predicted)), None)
        self.features = Features.of(view.space)
        self.along = Along.read(view.options, view.space)
        self.predictor: Predictor | None = None
        self.learned_from = 0
        """Finished trials when the predictor was last fitted."""
        self.min_delta = max((r.min_delta for r in rules if isinstance(r, Patience)), default=0.0)
        self.trials: list[_Trial] = []
        self.events: list[Event] = []
        self.best: list[Improvement] = []
        self.now = 0.0
        self.units = 0
        self.decided = 0
        """Decisions asked for so far."""
        self.reason = ""
        self.clock: list[tuple[float, int, _Trial]] = []  # (time, trial number, trial): next event of each

    def run(self, workers: int, seed: int) -> History:
        """Go on until nothing can happen any more, or time is up."""
        self._ask(workers, seed)
        while self.clock:
            if self.budget.seconds is not None and self.clock[0][0] > self.budget.seconds:
                self.now = self.budget.seconds
                self.reason = f"the budget of {self.budget.seconds:g} seconds is spent"
                break
            if self._advance():
                self._ask(workers, seed)
        trials = tuple(_seen(trial) for trial in self.trials)
        return History(trials, tuple(self.events), tuple(self.best), self.now, self.units, self.reason)

    def _ask(self, workers: int, seed: int) -> None:
        """Let search decide until the workers are busy or it has nothing to start."""
        while True:
            self._start_queued(workers)
            free = workers - sum(trial.active for trial in self.trials)
            if free <= 0:
                return
            answer = decide(self._view(), free, _decision_seed(seed, self.decided))
            self.decided += 1
            if answer.pruning is not None:
                self.frame = replace(self.frame, pruning=answer.pruning)
            for decision in answer.decisions:
                self._apply(decision)
            if not any(isinstance(decision, Launch | Fork | Continue) for decision in answer.decisions):
                return

    def launch(self, decision: Launch, origin: Literal["strategy", "enqueued"] = "strategy") -> None:
        """Create a trial; it waits for a worker."""
        trial = _Trial(
            len(self.trials) + 1,
            dict(decision.params),
            origin,
            decision.target,
            decision.target,
            line=(Segment(0, decision.params, decision.schedule),),
        )
        self.trials.append(trial)
        self._note("launch", trial, reason=decision.reason)

    def fork(self, decision: Fork) -> None:
        """Create a trial that goes on from another one's checkpoint; it waits for a worker."""
        trial = _Trial(
            len(self.trials) + 1,
            dict(decision.params),
            "strategy",
            decision.target,
            decision.target,
            step=decision.step,
            parent=decision.parent,
            forked_at=decision.step,
            line=(
                *(part for part in self.trials[decision.parent - 1].line if part.start < decision.step),
                Segment(decision.step, decision.params, decision.schedule),
            ),
        )
        self.trials.append(trial)
        self._note("fork", trial, reason=decision.reason)

    def _apply(self, decision: Decision) -> None:
        if isinstance(decision, Launch):
            self.launch(decision)
        elif isinstance(decision, Fork):
            self.fork(decision)
        elif isinstance(decision, Continue):
            trial = self.trials[decision.trial - 1]
            trial.target, trial.status = decision.target, "queued"
            self._note("continue", trial, reason=decision.reason)
        elif isinstance(decision, Stop):
            trial = self.trials[decision.trial - 1]
            self.clock = [entry for entry in self.clock if entry[2] is not trial]
            heapq.heapify(self.clock)
            trial.status, trial.checkpoints = "stopped", ()
            self._note("stop", trial, reason=decision.reason)
        else:
            self.reason = decision.reason

    def _start_queued(self, workers: int) -> None:
        free = workers - sum(trial.status == "running" for trial in self.trials)
        for trial in [t for t in self.trials if t.status == "queued"][: max(0, free)]:
            trial.status, trial.view = "running", None
            self._schedule(trial)

    def _schedule(self, trial: _Trial) -> None:
        """Put the trial's next measurement, or the end of its run, on the clock."""
        due = self._next_step(trial)
        seconds = (due - trial.step) * self.seconds_per_unit(trial.params)
        heapq.heappush(self.clock, (self.now + seconds, trial.number, trial))

    def _next_step(self, trial: _Trial) -> int:
        every = self.frame.fidelity.report_every
        return min(trial.target, (trial.step // every + 1) * every)

    def _advance(self) -> bool:
        """Let the next thing happen. Whether a run has ended by it."""
        self.now, _, trial = heapq.heappop(self.clock)
        due = self._next_step(trial)
        self.units += due - trial.step
        trial.seconds += (due - trial.step) * self.seconds_per_unit(trial.params)
        trial.step, trial.view = due, None
        fidelity = self.frame.fidelity
        judgement = GO_ON
        if due % fidelity.report_every == 0 or due == fidelity.max:
            try:
                value = self.curve(trial.line, due)
            except TrainingFailedError as failure:
                trial.status, trial.failure, trial.checkpoints = "failed", str(failure), ()
                self._note("failed", trial, reason=str(failure))
                return True
            judgement = self._measure(trial, value)
        if judgement.action == "fail":
            trial.status, trial.failure, trial.checkpoints = "failed", "diverged", ()
            self._note("failed", trial, reason=judgement.reason)
        elif judgement.action == "stop":
            trial.status, trial.checkpoints = "stopped", ()
            self._note("stopped", trial, reason=judgement.reason)
        elif judgement.action == "complete" or due == fidelity.max:
            self._save(trial)
            trial.status = "completed"
            self._note("completed", trial, reason=judgement.reason)
        elif due == trial.target:
            self._save(trial)
            trial.status = "paused"
            self._note("paused", trial)
        else:
            self._schedule(trial)
            return False
        return True

    def _save(self, trial: _Trial) -> None:
        trial.checkpoints = (*(trial.checkpoints if self.keeps_all else ()), trial.step)

    def _measure(self, trial: _Trial, value: float) -> Judgement:
        """Store a value and ask the stopping rules."""
        maximize = self.frame.maximize
        before = trial.bests[-1] if trial.bests else None
        best = value if improves(value, before, maximize) or before is None else before
        trial.steps.append(trial.step)
        trial.values.append(value)
        trial.bests.append(best)
        trial.outcomes = dict(self.outcomes(trial.params, trial.step))
        self._note("measured", trial, value)
        if improves(value, trial.counted, maximize, self.min_delta):
            trial.counted, trial.since_best = value, 0
        else:
            trial.since_best += 1
        counts = self.along is None or self.along.counts(trial.params)
        if counts and improves(value, self.best[-1].value if self.best else None, maximize):
            self.best.append(Improvement(self.now, self.units, value, trial.number, trial.step))
        point = Point(trial.step, value, best, trial.values[0], trial.since_best)
        return judge(self.rules, point, maximize, lambda: self._peers(trial), lambda: self._forecast(trial))

    def _forecast(self, trial: _Trial) -> Forecast | None:
        """Where the trial will end, says a model that is fitted again when there is more to learn."""
        if trial.parent is not None:
            return None  # its curve is not what its configuration comes to from the start
        finished = [o for o in self.trials if o.status == "completed" and o.parent is None]
        if self.predicted is not None and due(self.predicted, len(finished), self.learned_from):
            self.learned_from = len(finished)
            steps = checks(self.frame.fidelity, self.predicted)
            points = [[_points(other).get(step, (None, None)) for step in steps] for other in finished]
            table = np.array(points, dtype=np.float64)  # None becomes NaN
            encoded = self.features.encode([other.params for other in finished])
            curves = Curves(encoded, table[:, :, 0], table[:, :, 1])
            self.predictor = Predictor.fit(curves, self.frame.fidelity, self.frame.maximize, self.predicted)
        if self.predictor is None or not self.best:
            return None
        (features,) = self.features.encode([trial.params])
        return self.predictor.forecast(features, _points(trial), trial.step, self.best[-1].value)

    def _peers(self, trial: _Trial) -> list[float]:
        """The best-so-far values of the other trials at the step this one stands at."""
        return [
            other.bests[other.steps.index(trial.step)]
            for other in self.trials
            if other is not trial and trial.step in other.steps
        ]

    def _view(self) -> StudyView:
        """The study as search sees it now."""
        promised = sum(t.target - t.step for t in self.trials if t.active)
        trials, fidelity = self.budget.trials, self.budget.fidelity
        return replace(
            self.frame,
            trials=tuple(_seen(trial) for trial in self.trials),
            budget=BudgetLeft(
                None if trials is None else max(0, trials - len(self.trials)),
                None if fidelity is None else max(0, fidelity - self.units - promised),
                clock=None if self.budget.seconds is None else self.budget.seconds - self.now,
            ),
        )

    def _note(
        self,
        kind: EventKind,
        trial: _Trial,
        value: float | None = None,
        reason: str = "",
    ) -> None:
        trial.view = None
        self.events.append(Event(self.now, kind, trial.number, trial.step, value, reason))


def _points(trial: _Trial) -> dict[int, CurvePoint]:
    """By step: the best value so far, and the value there."""
    return {
        step: (best, value)
        for step, best, value in zip(trial.steps, trial.bests, trial.values, strict=True)
    }


def _seen(trial: _Trial) -> TrialView:
    if trial.view is None:
        finite = all(math.isfinite(value) for value in trial.values[-1:])
        trial.view = TrialView(
            number=trial.number,
            params=trial.params,
            status=trial.status,
            steps=tuple(trial.steps),
            values=tuple(trial.values),
            seconds=trial.seconds,
            step=trial.step,
            first_target=trial.first_target,
            target=trial.target,
            resumable=trial.status in ("paused", "completed", "stopped") and finite,
            failure=trial.failure,
            origin=trial.origin,
            parent=trial.parent,
            forked_at=trial.forked_at,
            checkpoints=trial.checkpoints,
            outcomes=trial.outcomes,
            schedule=trial.line[-1].schedule,
        )
    return trial.view


def _decision_seed(seed: int, decision: int) -> int:
    """A seed of its own for each decision of the study."""
    return int(np.random.SeedSequence([seed, decision]).generate_state(1)[0])
