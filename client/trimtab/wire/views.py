"""What the service shows: studies, trials, curves, decisions, events."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from trimtab.wire import limits
from trimtab.wire.base import MetricValue, Params, ParamValue, Step, Wire
from trimtab.wire.importances import Pruning
from trimtab.wire.laws import ScalingProgress
from trimtab.wire.states import (
    AttemptState,
    FailureKind,
    RunState,
    StudyState,
    TrialState,
)
from trimtab.wire.study import Direction, LimitSpec, MetricSpec, StudySpec


class TrialCounts(Wire):
    queued: int = 0
    running: int = 0
    paused: int = 0
    completed: int = 0
    stopped: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        return self.queued + self.running + self.paused + self.completed + self.stopped + self.failed


class SeedValue(Wire):
    """The training of a configuration with one seed."""

    seed: int
    trial: int
    """Its number; of the first tuning seed, the trial's own."""
    state: TrialState
    value: MetricValue | None
    """The metric at the step that counts; None: not measured there (yet), or not finite."""
    steps: list[Step] = Field(default_factory=list)
    values: list[MetricValue] = Field(default_factory=list)
    """Its curve of the tuned metric, thinned; where one trial is shown."""


class FinalScore(Wire):
    """What a finalist comes to on the test seeds."""

    trial: int
    label: str | None = None
    params: dict[str, ParamValue]
    """As they are searched."""
    step: Step
    """Where it is judged: where its mean on the tuning seeds is best."""
    tuning: MetricValue
    """Its mean there on the tuning seeds: what it was chosen by, and better than it is."""
    mean: MetricValue | None
    """On the test seeds measured so far."""
    low: MetricValue | None
    high: MetricValue | None
    """The ends of the 95 % interval of the mean (Student's t); None with fewer than two seeds."""
    seeds: list[SeedValue]


class Finals(Wire):
    """The end of a study with test seeds."""

    scores: list[FinalScore]
    """The best first; those that lack a seed come last."""
    winner: int | None
    """The trial that is best on the test seeds; None while they are being trained, or if none was
    measured."""
    planned: int
    """Units of fidelity that the test runs cost, beside the budget."""
    trained: int
    """Units of them trained so far."""

    @property
    def best(self) -> FinalScore | None:
        """The winner's score."""
        return next((score for score in self.scores if score.trial == self.winner), None)


class BestTrial(Wire):
    number: int
    value: MetricValue
    """Of a study with several tuning seeds, the mean over them."""
    step: Step
    """The step at which the value was seen."""
    seeds: int = 1
    """Tuning seeds that ``value`` is the mean over."""
    spread: float | None = None
    """Standard deviation between them."""
    final: FinalScore | None = None
    """Its score on test seeds, of the winner of a study that was tested. ``value`` is what it was chosen
    by, and better than it is."""
    params: dict[str, ParamValue]
    """As they are searched."""
    scaled: dict[str, ParamValue] = Field(default_factory=dict)
    """What the trainer was handed instead, for the parameters that are tied to another one."""
    label: str | None = None
    parent: int | None = None
    """The trial that it was forked from, whose configuration it was trained with up to ``forked_at``."""
    forked_at: Step = 0
    front: str | None = None
    """Of a study with several objectives, of which this is the best by the first: the path of its Pareto
    front."""


class BudgetUse(Wire):
    """One limit of the budget: what is used of what is allowed."""

    name: Literal["trials", "fidelity", "gpu_hours", "wall_clock_seconds", "target"]
    used: float | None
    limit: float
    fraction: float
    """In [0, 1]."""


class Savings(Wire):
    """What not training every trial to the end saved."""

    trained: int
    """Units of fidelity trained so far, over all trials."""
    full: int
    """Units had every started trial been trained to the full fidelity, with each of the tuning seeds."""
    fraction_saved: float
    useful: int | None = None
    """Of a study whose strategy forks: the units in the line of its best trial; all others were the
    search's. Nothing is saved there, since nobody would train every fork to the end. None: it does not
    fork."""


class StudyItem(Wire):
    """A row of the list of studies."""

    id: str
    name: str
    state: StudyState
    state_reason: str
    strategy: str
    trainer: str
    metric: str
    direction: Direction
    trials: TrialCounts
    best_value: MetricValue | None
    best_trial: int | None
    final_value: MetricValue | None = None
    """The best trial's mean on test seeds, once they are trained."""
    budget_fraction: float
    """In [0, 1]: how much of the tightest limit is used."""
    tags: list[str]
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class SourceItem(Wire):
    """An earlier study that one learns from."""

    id: str
    name: str | None
    """None: it has been deleted, and nothing is learned from it any more."""


class StudyDetail(StudyItem):
    """A study, whole."""

    spec: StudySpec
    sources: list[SourceItem] = Field(default_factory=list)
    """The earlier studies of its warm start."""
    budget: list[BudgetUse]
    best: BestTrial | None
    savings: Savings
    eta_seconds: float | None
    """A guess of the seconds left, from the pace so far; None before there is one."""
    elapsed_seconds: float
    decide_error: str | None
    """Why search could not decide lately; None when all is well."""
    pruning: Pruning | None = None
    """What of the space is searched now; None: all of it."""
    finals: Finals | None = None
    """Of a study with test seeds, once search is over."""
    scaling: ScalingProgress | None = None
    """Of a study with the strategy ``scaling``."""
    waiting_for: str | None = None
    """What keeps a running study from being trained: no dispatcher, or none that is large enough."""


class StudyPage(Wire):
    items: list[StudyItem]
    next_cursor: str | None


class BestPoint(Wire):
    """A point of best-so-far over budget."""

    fidelity: int
    """Units trained over all trials when it was seen."""
    seconds: float
    """Seconds since the study started."""
    value: MetricValue
    trial: int


class StudySummary(Wire):
    """Numbers of a study as it stands."""

    study: StudyDetail
    best_so_far: list[BestPoint]
    default: BestTrial | None
    """The labelled ``default`` configuration, where one was enqueued."""


class FailureView(Wire):
    kind: FailureKind
    message: str
    output_tail: str


class TrialItem(Wire):
    """A row of the list of trials."""

    number: int
    state: TrialState
    state_reason: str
    params: dict[str, ParamValue]
    """As they are searched."""
    scaled: dict[str, ParamValue] = Field(default_factory=dict)
    """What the trainer is handed instead, for the parameters that are tied to another one."""
    label: str | None
    origin: Literal["strategy", "enqueued", "imported"]
    parent: int | None = None
    """The trial that it was forked from; None: it started from nothing."""
    forked_at: Step = 0
    """The step of the parent's checkpoint that it started from: its own curve lies behind it."""
    schedule: list[tuple[Step, float]] | None = None
    """The learning rate that it was given for every step; None: as its parameters say."""
    seed: int | None = None
    """What it is trained with, if not with the study's seed."""
    replica_of: int | None = None
    """The trial whose configuration it repeats with another seed; None: a trial of its own."""
    test: bool = False
    """A replica with a test seed, for the final score alone: search never sees it."""
    seeds_measured: int | None = None
    """Tuning seeds that its configuration was trained to the end with; `best_value` is the mean over them.
    None in a study with one seed, and of a replica."""
    spread: float | None = None
    """Standard deviation between them."""
    spared: str | None = None
    """Why its other tuning seeds are not trained."""
    step: Step
    """The last step measured; of a fork without a measurement, where it starts."""
    target_step: Step
    value: MetricValue | None
    """The metric's latest value."""
    outcomes: dict[str, MetricValue] = Field(default_factory=dict)
    """The other metrics that objectives and limits name, or that the strategy reads, at the last
    measurement."""
    over_limits: list[str] = Field(default_factory=list)
    """The limits that it breaks, as in `latency_ms 31 > 20`: at its last measurement, if there are several
    objectives or if none of its measurements keeps all limits. A failed trial breaks none."""
    best_value: MetricValue | None
    """Of the measurements that keep the study's limits."""
    best_step: Step | None
    seconds: float
    runs: int
    retries: int
    failure_kind: FailureKind | None
    created_at: datetime
    ended_at: datetime | None


class TrialPage(Wire):
    items: list[TrialItem]
    next_cursor: str | None


class CurvePoint(Wire):
    step: Step
    metrics: dict[str, MetricValue]
    seconds: float | None
    at: datetime


class AttemptView(Wire):
    token: int
    state: AttemptState
    worker: str
    started_at: datetime
    ended_at: datetime | None
    failure: FailureView | None


class RunView(Wire):
    number: int
    state: RunState
    start_step: Step
    target_step: Step
    end_step: Step | None
    reason: str
    attempts: list[AttemptView]


class DecisionView(Wire):
    id: int
    kind: Literal["launch", "fork", "continue", "stop", "repeat", "spare", "finish"]
    trial: int | None
    target_step: Step | None
    reason: str
    strategy: str
    seed: int
    seconds: float
    diagnostics: dict[str, Any]
    at: datetime


class DecisionPage(Wire):
    items: list[DecisionView]
    next_cursor: str | None


class CheckpointView(Wire):
    id: int
    step: Step
    uri: str
    bytes: int | None
    state: str
    at: datetime


class Child(Wire):
    """A trial that was forked from another."""

    number: int
    forked_at: Step
    state: TrialState
    best_value: MetricValue | None


class TrialDetail(TrialItem):
    """A trial, whole."""

    study: str
    curve: list[CurvePoint]
    runs_detail: list[RunView]
    decisions: list[DecisionView]
    checkpoints: list[CheckpointView]
    failure: FailureView | None
    can_continue: bool
    """Whether it has a checkpoint from which more steps can be trained."""
    can_fork: list[Step] = Field(default_factory=list)
    """The steps of its checkpoints that a fork can start from, increasing."""
    children: list[Child] = Field(default_factory=list)
    """The trials that were forked from it."""
    tuning_seeds: list[SeedValue] = Field(default_factory=list)
    """Its configuration with the tuning seeds, in the order of the study; empty in a study with one
    seed."""
    test_seeds: list[SeedValue] = Field(default_factory=list)
    """Its configuration with the test seeds, if it was a finalist."""


class FrontTrial(Wire):
    """A trial of a study with several objectives, as it ended."""

    number: int
    outcomes: dict[str, MetricValue]
    """At its last measurement: the objectives, and the metrics that limits name."""
    over_limits: list[str] = Field(default_factory=list)
    """The limits that it breaks. On the front, none does."""
    step: Step
    params: dict[str, ParamValue]
    """As they are searched."""
    scaled: dict[str, ParamValue] = Field(default_factory=dict)
    """What the trainer was handed instead, for the parameters that are tied to another one."""
    label: str | None


class FrontResponse(Wire):
    """The Pareto front of a study: the trials that no other dominates, by being worse in no objective and
    better in one.

    Trials that were completed are compared, by their last measurement, if they keep all limits.
    """

    study: str
    objectives: list[MetricSpec]
    """The study's metric first."""
    limits: list[LimitSpec]
    trials: list[FrontTrial]
    """The best by the first objective first. With one objective: the best by their last measurement."""
    others: list[FrontTrial] = Field(default_factory=list)
    """The newest of the completed trials that are not on the front, as many as were asked for."""
    dominated: int
    """Trials that another one dominates."""
    over_limits: int
    """Trials that break a limit."""


class Stop(Wire):
    """A trial that was stopped early, seen again with all that is known now."""

    trial: int
    step: Step
    """Where it was stopped."""
    reason: str
    """Why, as it was said then."""
    best_value: MetricValue | None
    saved: int
    """Units of fidelity that were not trained for it."""
    predicted: MetricValue | None
    """The best value that it would have ended with; None if nothing can be said."""
    low: MetricValue | None
    high: MetricValue | None
    """The ends of the 90 % interval of ``predicted``."""
    chance: float | None
    """That it would have beaten the best value of the study."""


class StopsReplay(Wire):
    """Every early stop of a study, and what they saved and cost all together."""

    items: list[Stop]
    """In order of trials."""
    learned_from: int
    """Trials trained to the end that the predictions were learned from; 0: too few for any."""
    trained: int
    """Units of fidelity trained, over all trials."""
    saved: int
    """Units that the stopped trials would have been trained on."""
    factor: float | None
    """Training without these stops, as a multiple of what was trained; None before anything was."""
    expected_loss: float | None
    """How many of the stopped trials would have beaten the best value, on average; None: nobody knows."""
    unpredicted: int
    """Stops of which nothing can be said, left out of ``expected_loss``."""


class TriedSchedule(Wire):
    """What another trial was trained with, from where it began to where it ended."""

    trial: int
    points: list[tuple[int, float]]
    """(step, rate): straight lines between them."""


class ScheduleView(Wire):
    """The learning-rate schedule of a trial, with those of the trials that it was forked from."""

    trial: int
    line: list[int]
    """The trial and its ancestors, the first one first."""
    value: MetricValue | None
    """The trial's best value."""
    steps: int
    """How far the trial has been trained, or the horizon that was asked for."""
    points: list[tuple[int, float]]
    """(step, rate): straight lines between them; beyond the last the last rate holds."""
    useful: int
    """Units of fidelity in the line of trials."""
    search: int
    """Units of fidelity that the study has trained beside."""
    tried: list[TriedSchedule] = Field(default_factory=list)
    """The schedules of the other trials, none where the schedule is laid out over another horizon."""
    torch: str
    """A Python file that makes a torch scheduler of it."""


class CurveLine(Wire):
    """The tuned metric of one trial, thin enough to draw a thousand of."""

    number: int
    state: TrialState
    steps: list[Step]
    values: list[MetricValue]


class CurvesResponse(Wire):
    lines: list[CurveLine]


class Event(Wire):
    """One line of a study's history. Its id is the cursor of live views."""

    id: int
    study: str
    kind: str
    """study.*, trial.*, run.*, attempt.*, checkpoint.*, decision, measurements."""
    trial: int | None
    data: dict[str, Any]
    at: datetime


class EventPage(Wire):
    items: list[Event]
    next_cursor: str | None


SchedulePoint = tuple[
    Annotated[int, Field(ge=0, le=limits.MAX_STEP)], Annotated[float, Field(ge=0, allow_inf_nan=False)]
]
"""A step and the learning rate there."""


class EnqueueRequest(Wire):
    params: Params
    label: str | None = Field(default=None, max_length=limits.MAX_NAME_CHARS)
    to_end: bool = False
    """Train it to the full fidelity, whatever the strategy and all rules but divergence and target say."""


class ContinueRequest(Wire):
    """Train a finished or paused trial on."""

    target_step: Annotated[int, Field(ge=1, le=limits.MAX_STEP)]


class ForkRequest(Wire):
    """Start a new trial from a checkpoint of another one, with a changed configuration."""

    params: Params = Field(default_factory=dict)
    """What differs from the parent's configuration."""
    step: Annotated[int, Field(ge=1, le=limits.MAX_STEP)] | None = None
    """Of the checkpoint; None: the newest."""
    target_step: Annotated[int, Field(ge=1, le=limits.MAX_STEP)] | None = None
    """Train it to this step, counted from the beginning of the parent's training; None: a full training."""
    schedule: list[SchedulePoint] = Field(default_factory=list, max_length=limits.MAX_CURVE_POINTS)
    """The learning rate at every step, whatever the parameters say: (step, rate) points, steps growing and
    counted from the beginning of the parent's training, with straight lines between them. Empty: as the
    parameters say."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    """For data order and dropout; None: as the parent, so that both see the same data."""
    label: str | None = Field(default=None, max_length=limits.MAX_NAME_CHARS)


class ExtendRequest(Wire):
    """New, larger limits; those left out stay as they are."""

    trials: Annotated[int, Field(ge=1, le=limits.MAX_TRIALS_PER_STUDY)] | None = None
    fidelity: Annotated[int, Field(ge=1)] | None = None
    gpu_hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    wall_clock_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


class Health(Wire):
    status: Literal["ok"]
    version: str


class Component(Wire):
    name: str
    alive: bool
    detail: str


class Readiness(Wire):
    ready: bool
    components: list[Component]
