"""The parts of a study document that are sound by themselves, however many others are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from trimtab.wire import linear
from trimtab.wire.linear import Linear
from trimtab.wire.space import (
    Clause,
    Combination,
    Constraint,
    Parameter,
    PlainParameter,
    SimplexParameter,
    expanded,
)
from trimtab.wire.study import (
    BudgetSpec,
    CheckpointSpec,
    FidelitySpec,
    LimitSpec,
    MetricSpec,
    QueuedConfig,
    ResourceSpec,
    SeedSpec,
    StoppingRule,
    StrategySpec,
    TrainerSpec,
    WarmStart,
)

T = TypeVar("T")

_TRAINER: TypeAdapter[TrainerSpec] = TypeAdapter(TrainerSpec)
_PARAMETER: TypeAdapter[Parameter] = TypeAdapter(Parameter)
_CONSTRAINT: TypeAdapter[str] = TypeAdapter(Constraint)
_CLAUSE: TypeAdapter[Clause] = TypeAdapter(Clause)
_COMBINATION: TypeAdapter[Combination] = TypeAdapter(Combination)
_METRIC: TypeAdapter[MetricSpec] = TypeAdapter(MetricSpec)
_LIMIT: TypeAdapter[LimitSpec] = TypeAdapter(LimitSpec)
_FIDELITY: TypeAdapter[FidelitySpec] = TypeAdapter(FidelitySpec)
_BUDGET: TypeAdapter[BudgetSpec] = TypeAdapter(BudgetSpec)
_STRATEGY: TypeAdapter[StrategySpec] = TypeAdapter(StrategySpec)
_FLAG: TypeAdapter[bool] = TypeAdapter(bool)
_STOPPING: TypeAdapter[StoppingRule] = TypeAdapter(StoppingRule)
_RESOURCES: TypeAdapter[ResourceSpec] = TypeAdapter(ResourceSpec)
_CHECKPOINTS: TypeAdapter[CheckpointSpec] = TypeAdapter(CheckpointSpec)
_SEEDS: TypeAdapter[SeedSpec] = TypeAdapter(SeedSpec)
_WARM_START: TypeAdapter[WarmStart] = TypeAdapter(WarmStart)
_QUEUED: TypeAdapter[QueuedConfig] = TypeAdapter(QueuedConfig)


@dataclass(frozen=True)
class Draft:
    """What can be said about a document, right or wrong. None: missing or not sound."""

    trainer: TrainerSpec | None
    names: tuple[str, ...]
    """Every name under ``space``."""
    space: Mapping[str, Parameter]
    """The sound parameters, as they are written."""
    parameters: Mapping[str, PlainParameter]
    """The sound parameters as configurations name them: each simplex as its shares."""
    constraints: Mapping[int, Linear]
    """The sound constraints by their place in the list."""
    clauses: Mapping[int, Mapping[str, Clause]]
    """The sound clauses of each forbidden combination by its place in the list."""
    forbid: Mapping[int, Combination]
    """The sound combinations by their place in the list."""
    metric: MetricSpec | None
    objectives: Mapping[int, MetricSpec]
    """The sound further objectives by their place in the list."""
    limits: Mapping[int, LimitSpec]
    """The sound limits by their place in the list."""
    fidelity: FidelitySpec | None
    budget: BudgetSpec | None
    strategy: StrategySpec | None
    prune: bool
    stopping: Mapping[int, StoppingRule]
    """The sound rules by their place in the list."""
    resources: ResourceSpec | None
    checkpoints: CheckpointSpec | None
    seeds: SeedSpec | None
    enqueue: Mapping[int, QueuedConfig]
    warm_start: WarmStart | None

    @property
    def space_is_whole(self) -> bool:
        """Whether every parameter is sound."""
        return len(self.names) == len(self.space) > 0

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Every name that a configuration may have, of sound parameters and others."""
        groups = [name for name, parameter in self.space.items() if isinstance(parameter, SimplexParameter)]
        return (
            *(n for n in self.names if n not in groups),
            *(n for n in self.parameters if n not in self.names),
        )

    @property
    def written(self) -> Mapping[str, str]:
        """For each share, the name of its simplex."""
        return {
            f"{name}/{part}": name
            for name, parameter in self.space.items()
            if isinstance(parameter, SimplexParameter)
            for part in parameter.parts
        }

    def without(self, name: str) -> Draft:
        """The same with one name less."""
        return replace(self, names=tuple(other for other in self.names if other != name))

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Draft:
        space = document.get("space")
        named = {str(name): value for name, value in space.items()} if isinstance(space, Mapping) else {}
        sound = _sound_items(_PARAMETER, named)
        texts = _sound_items(_CONSTRAINT, _listed(document.get("constraints")))
        return cls(
            trainer=_sound(_TRAINER, document.get("trainer")),
            names=tuple(named),
            space=sound,
            parameters=expanded(sound),
            constraints={at: linear.parse(text) for at, text in texts.items()},
            clauses={
                at: _sound_items(_CLAUSE, {str(name): value for name, value in given.items()})
                for at, given in _listed(document.get("forbid")).items()
                if isinstance(given, Mapping)
            },
            forbid=_sound_items(_COMBINATION, _listed(document.get("forbid"))),
            metric=_sound(_METRIC, document.get("metric")),
            objectives=_sound_items(_METRIC, _listed(document.get("objectives"))),
            limits=_sound_items(_LIMIT, _listed(document.get("limits"))),
            fidelity=_sound(_FIDELITY, document.get("fidelity")),
            budget=_sound(_BUDGET, document.get("budget")),
            strategy=_sound(_STRATEGY, document.get("strategy", {})),
            prune=_sound(_FLAG, document.get("prune")) is True,
            stopping=_sound_items(_STOPPING, _listed(document.get("stopping"))),
            resources=_sound(_RESOURCES, document.get("resources", {})),
            checkpoints=_sound(_CHECKPOINTS, document.get("checkpoints", {})),
            seeds=_sound(_SEEDS, document.get("seeds", {})),
            enqueue=_sound_items(_QUEUED, _listed(document.get("enqueue"))),
            warm_start=_sound(_WARM_START, document.get("warm_start", {})),
        )


K = TypeVar("K")


def _sound(adapter: TypeAdapter[T], value: Any) -> T | None:
    try:
        return adapter.validate_python(value)
    except ValidationError:
        return None


def _sound_items(adapter: TypeAdapter[T], values: Mapping[K, Any]) -> dict[K, T]:
    checked = {key: _sound(adapter, value) for key, value in values.items()}
    return {key: value for key, value in checked.items() if value is not None}


def _listed(value: Any) -> dict[int, Any]:
    return dict(enumerate(value)) if isinstance(value, list) else {}
