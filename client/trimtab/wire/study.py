"""The study specification: what a study file says and ``POST /v1/studies`` takes."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from trimtab.wire import limits as largest
from trimtab.wire.base import FiniteFloat, Identifier, Name, Params, ParamValue, Step, Wire
from trimtab.wire.space import Combination, Constraint, Space

SUITE = "suite"
"""The trainer of cross-workload studies."""


class Direction(StrEnum):
    """Whether smaller or larger is better."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"


class LimitSpec(Wire):
    """What a metric must keep: a measurement that does not keep it does not count."""

    metric: Identifier
    at_most: FiniteFloat | None = None
    at_least: FiniteFloat | None = None

    @model_validator(mode="after")
    def _check(self) -> LimitSpec:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("say exactly one of at_most and at_least")
        return self

    @property
    def upper(self) -> bool:
        """Whether it is ``at_most``."""
        return self.at_most is not None

    @property
    def bound(self) -> float:
        """The number that it names."""
        bound = self.at_most if self.at_most is not None else self.at_least
        assert bound is not None, "the model holds one of both"
        return bound

    def __str__(self) -> str:
        return f"{self.metric} {'≤' if self.upper else '≥'} {self.bound:g}"

    def broken_by(self, value: float) -> str:
        """How ``value`` breaks it, as in ``latency_ms 31 > 20``; empty if it keeps it. NaN does not."""
        if value <= self.bound if self.upper else value >= self.bound:
            return ""
        if value != value:
            return f"{self.metric} is NaN, not {'at most' if self.upper else 'at least'} {self.bound:g}"
        return f"{self.metric} {value:.6g} {'>' if self.upper else '<'} {self.bound:.6g}"


class Workload(Wire):
    """One of the trainings that a suite makes of each configuration."""

    name: Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[A-Za-z_][A-Za-z0-9_.\-]*$")]
    """Stands before its metrics: ``NAME/val_loss``."""
    trainer: Identifier
    """A built-in trainer."""
    settings: dict[Identifier, ParamValue] = Field(default_factory=dict, max_length=largest.MAX_PARAMETERS)
    """Its own; they win over those of the suite."""
    target: LimitSpec
    """What a metric of its trainer must reach; the fewer steps it takes, the better."""
    steps: Annotated[int, Field(ge=1, le=largest.MAX_STEP)]
    """A full training of this workload."""


class TrainerSpec(Wire):
    """What trains a trial: a built-in trainer by name, the user's own script or module, or nobody.

    ``name: external`` means that the user runs the loop and talks to the service by ask and tell.
    """

    name: Identifier | None = None
    """A built-in trainer (``gpt``, ``digits``, ...; all are in ``catalogue.json``) or ``external``."""
    script: str | None = Field(default=None, max_length=largest.MAX_TEXT_CHARS)
    """Path of the user's own training script. One that is no ``.py`` file runs by itself, as its ``#!``
    line says, unless ``python`` names an interpreter."""
    module: str | None = Field(default=None, max_length=largest.MAX_NAME_CHARS)
    """The user's own module, run as ``python -m MODULE``."""
    settings: dict[Identifier, ParamValue] = Field(default_factory=dict, max_length=largest.MAX_PARAMETERS)
    """Fixed settings, the same for every trial."""
    python: str | None = Field(default=None, max_length=largest.MAX_TEXT_CHARS)
    """The interpreter of the script; the worker's own when absent."""
    folder: str | None = Field(default=None, max_length=largest.MAX_TEXT_CHARS)
    """The working folder of the script; the script's own folder when absent."""
    args: list[str] = Field(default_factory=list, max_length=100)
    """Further command-line arguments of the script."""
    workloads: list[Workload] = Field(default_factory=list, max_length=largest.MAX_WORKLOADS)
    """What the trainer ``suite`` trains each configuration on."""

    @model_validator(mode="after")
    def _check(self) -> TrainerSpec:
        if sum(part is not None for part in (self.name, self.script, self.module)) != 1:
            raise ValueError("say exactly one of name, script or module")
        if self.name is not None and (self.python or self.folder or self.args):
            raise ValueError("python, folder and args belong to a script or module, not to a name")
        if self.module is not None and self.folder is None:
            raise ValueError("a module needs the folder it is run in")
        if bool(self.workloads) != (self.name == SUITE):
            raise ValueError(f"workloads belong to the trainer {SUITE}, and it needs some")
        return self


class MetricSpec(Wire):
    """A metric that is tuned."""

    name: Identifier
    direction: Direction = Direction.MINIMIZE


class FidelitySpec(Wire):
    """What a trial is paid in along its curve."""

    unit: Name = "steps"
    min: Annotated[int, Field(ge=1, le=largest.MAX_STEP)] = 1
    """The shortest training that says anything about a configuration."""
    max: Annotated[int, Field(ge=1, le=largest.MAX_STEP)]
    """A full training."""
    report_every: Annotated[int, Field(ge=1, le=largest.MAX_STEP)] = 1
    """A measurement is made at each multiple of this many units."""

    @model_validator(mode="after")
    def _check(self) -> FidelitySpec:
        if self.min > self.max:
            raise ValueError(f"min ({self.min}) must not exceed max ({self.max})")
        if self.report_every > self.max:
            raise ValueError(f"report_every ({self.report_every}) must not exceed max ({self.max})")
        if self.max // self.report_every > largest.MAX_CURVE_POINTS:
            raise ValueError(
                f"max / report_every gives more than {largest.MAX_CURVE_POINTS} points per curve; "
                f"report less often"
            )
        return self


class BudgetSpec(Wire):
    """When the study is over: as soon as any of these is reached. At least one is named."""

    trials: Annotated[int, Field(ge=1, le=largest.MAX_TRIALS_PER_STUDY)] | None = None
    """Configurations tried."""
    fidelity: Annotated[int, Field(ge=1)] | None = None
    """Units of fidelity trained, over all trials; training that was lost in a crash counts too."""
    gpu_hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Hours times GPUs held by runs."""
    wall_clock_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Seconds since the study started, without pauses and times in which no scheduler was running."""
    target: FiniteFloat | None = None
    """A value of the metric that is good enough."""

    @model_validator(mode="after")
    def _check(self) -> BudgetSpec:
        if all(getattr(self, name) is None for name in type(self).model_fields):
            raise ValueError("name at least one of trials, fidelity, gpu_hours, wall_clock_seconds, target")
        return self


class StrategySpec(Wire):
    """How configurations are chosen and how long each is trained."""

    name: Identifier = "curve-bo"
    options: dict[Identifier, ParamValue] = Field(default_factory=dict, max_length=64)


class MedianRule(Wire):
    """Stop a trial whose best value so far is worse than the median of the others at its step."""

    rule: Literal["median"]
    min_trials: Annotated[int, Field(ge=2)] = 5
    """Curves that must have reached the step before anything is stopped."""
    grace: Step = 0
    """No trial is stopped before this step."""


class PatienceRule(Wire):
    """Stop a trial that has not improved for ``reports`` measurements."""

    rule: Literal["patience"]
    reports: Annotated[int, Field(ge=1)]
    min_delta: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


class DivergenceRule(Wire):
    """Fail a trial whose metric is worse than ``bound`` or than ``factor`` times its first value.

    A non-finite metric is a divergence whether or not this rule is named.
    """

    rule: Literal["divergence"]
    bound: FiniteFloat | None = None
    factor: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _check(self) -> DivergenceRule:
        if self.bound is None and self.factor is None:
            raise ValueError("say bound, factor, or both")
        return self


class TargetRule(Wire):
    """End a trial successfully as soon as its metric reaches ``value``."""

    rule: Literal["target"]
    value: FiniteFloat


class PredictedRule(Wire):
    """Stop a trial that will hardly end better than the best value known.

    Where it will end is predicted from its hyperparameters and its curve by a regression on those trials of
    the study that were trained to the end. Trials are judged at some steps, at about equal ratios.
    """

    rule: Literal["predicted"]
    risk: Annotated[float, Field(gt=0, le=0.5)] = 0.01
    """Chance of stopping the best trial of all that the rule is calibrated to."""
    min_trials: Annotated[int, Field(ge=5)] = 7
    """Trials that must have been trained to the end before any is stopped."""
    protect: Annotated[int, Field(ge=0)] = 5
    """A trial among so many best at its step is not stopped."""
    grace: Step | None = None
    """No trial is stopped before this step; by default before 11 % of the full fidelity."""


StoppingRule = Annotated[
    MedianRule | PatienceRule | DivergenceRule | TargetRule | PredictedRule, Field(discriminator="rule")
]


class ResourceSpec(Wire):
    """What one running trial holds."""

    cpus: Annotated[float, Field(ge=0, le=4096, allow_inf_nan=False)] = 1.0
    gpus: Annotated[float, Field(ge=0, le=4096, allow_inf_nan=False)] = 0.0
    """Fractions share a GPU; more than 1 must be whole."""
    custom: dict[Identifier, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        default_factory=dict, max_length=16
    )

    @model_validator(mode="after")
    def _check(self) -> ResourceSpec:
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus above 1 must be whole, not {self.gpus:g}")
        if self.cpus == 0 and self.gpus == 0 and not self.custom:
            raise ValueError("a trial must hold something: cpus, gpus or a custom resource")
        return self


class RetrySpec(Wire):
    """How often a failed run is tried again, from its trial's newest checkpoint."""

    crash: Annotated[int, Field(ge=0, le=100)] = 1
    out_of_memory: Annotated[int, Field(ge=0, le=100)] = 0
    hang: Annotated[int, Field(ge=0, le=100)] = 1
    lost: Annotated[int, Field(ge=0, le=1000)] = 10
    """The worker vanished: not the configuration's fault."""


class CheckpointSpec(Wire):
    """When training states are saved and which are kept."""

    every: Annotated[int, Field(ge=1, le=largest.MAX_STEP)] | None = None
    """Save each so many units, beside the save at the end of every run. None: at the end only."""
    keep: Literal["resumable", "best"] = "resumable"
    """After the study has ended: the newest checkpoint of every trial that could be continued, or of
    the best trial alone (with several objectives: of the Pareto front). While it runs, whatever a run may
    start from is kept."""


Seed = Annotated[int, Field(ge=0, lt=2**63)]


class SeedSpec(Wire):
    """Seeds: what is random is repeatable.

    With several ``tuning`` seeds a configuration counts with its mean over them; with ``test`` seeds the
    best few are trained anew on those when the search is over, and only that score is final.
    """

    search: Seed = 0
    training: Seed = 0
    """What every trial is trained with, unless ``tuning`` names seeds."""
    tuning: list[Seed] = Field(default_factory=list, max_length=largest.MAX_SEEDS)
    """Every configuration is trained with the first; those that are not clearly beaten with the others,
    too, one after another."""
    test: list[Seed] = Field(default_factory=list, max_length=largest.MAX_SEEDS)
    """None of the tuning seeds. What is measured with them is never shown to search."""
    finalists: Annotated[int, Field(ge=1, le=largest.MAX_FINALISTS)] = 3
    """So many trials, the best on the tuning seeds, are trained with each of the test seeds."""

    @property
    def first(self) -> int:
        """What a new trial is trained with."""
        return self.tuning[0] if self.tuning else self.training

    @property
    def several(self) -> bool:
        """Whether a trial counts with its mean over several seeds."""
        return len(self.tuning) > 1

    @property
    def test_runs(self) -> int:
        """Full trainings that the final scores cost at most, beside the budget."""
        return len(self.test) * self.finalists


class QueuedConfig(Wire):
    """A configuration of the user's own, tried before the strategy's."""

    params: Params
    """Parameters of the space; those left out are refused, inactive ones are not named."""
    label: str | None = Field(default=None, max_length=largest.MAX_NAME_CHARS)
    to_end: bool = False
    """Train it to the full fidelity, whatever the strategy and all rules but divergence and target say."""


def _check_function(name: str) -> str:
    module, _, function = name.partition(":")
    if module.endswith(".py"):
        raise ValueError(
            f"say {module.removesuffix('.py')}:{function}: MODULE:FUNCTION, not the file's name"
        )
    if not all(part.isidentifier() for part in (*module.split("."), function)):
        raise ValueError("say MODULE:FUNCTION, such as first:configurations for first.py beside the file")
    return name


Function = Annotated[str, Field(max_length=largest.MAX_NAME_CHARS), AfterValidator(_check_function)]
"""A Python function, as ``MODULE:FUNCTION``."""


class WarmStart(Wire):
    """What is known before the first trial: earlier studies, and a function of the user's own."""

    studies: list[Name] = Field(default_factory=list, max_length=largest.MAX_SOURCES)
    """Earlier studies of the same server, by id; the client takes a name that only one study has, too. The
    best two configurations of each are tried first, and it is followed if they do well."""
    function: Function | None = None
    """Names configurations to be tried first; its module stands beside the study file, or is installed. The
    client runs it when the study is submitted, and sends what it names under ``enqueue``."""


class StudySpec(Wire):
    """One tuning problem, whole. The same model reads a YAML file and a request."""

    name: Name
    trainer: TrainerSpec
    space: Space
    constraints: list[Constraint] = Field(default_factory=list, max_length=largest.MAX_CONSTRAINTS)
    """What the numbers of a configuration must hold."""
    forbid: list[Combination] = Field(default_factory=list, max_length=largest.MAX_CONSTRAINTS)
    """Combinations of values that are left out."""
    metric: MetricSpec
    objectives: list[MetricSpec] = Field(default_factory=list, max_length=largest.MAX_OBJECTIVES)
    """Further metrics that are tuned, beside ``metric``, the first objective. With any, there is no single
    best trial, but the Pareto front of those that no other dominates."""
    limits: list[LimitSpec] = Field(default_factory=list, max_length=largest.MAX_METRIC_LIMITS)
    """What metrics must keep. A measurement that breaks a limit, or does not have its metric, does not
    count for the best value."""
    fidelity: FidelitySpec
    budget: BudgetSpec
    parallelism: Annotated[int, Field(ge=1, le=largest.MAX_PARALLELISM)] = 1
    """Trials that train at the same time."""
    strategy: StrategySpec = StrategySpec()
    prune: bool = False
    """Whether parts of the space may be left out while the study runs: parameters that do not matter are
    frozen, ranges narrowed to the good region. One in five configurations comes from the whole space."""
    stopping: list[StoppingRule] = Field(default_factory=list, max_length=16)
    resources: ResourceSpec = ResourceSpec()
    retries: RetrySpec = RetrySpec()
    hang_after_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 600.0
    """A run that reports nothing for so long is killed as hung."""
    checkpoints: CheckpointSpec = CheckpointSpec()
    seeds: SeedSpec = SeedSpec()
    enqueue: list[QueuedConfig] = Field(default_factory=list, max_length=largest.MAX_ENQUEUED)
    warm_start: WarmStart = WarmStart()
    tags: list[Name] = Field(default_factory=list, max_length=largest.MAX_TAGS)
    notes: str = Field(default="", max_length=largest.MAX_TEXT_CHARS)

    @property
    def goals(self) -> list[MetricSpec]:
        """All objectives, ``metric`` first."""
        return [self.metric, *self.objectives]

    @property
    def watched(self) -> list[str]:
        """The metrics that further objectives and limits name, each once."""
        named = [*(goal.name for goal in self.objectives), *(limit.metric for limit in self.limits)]
        return list(dict.fromkeys(named))
