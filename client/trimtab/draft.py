"""The parts of a study document that are sound by themselves, however many others are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from trimtab.wire.space import Parameter
from trimtab.wire.study import (
    BudgetSpec,
    CheckpointSpec,
    FidelitySpec,
    MetricSpec,
    QueuedConfig,
    ResourceSpec,
    StoppingRule,
    StrategySpec,
    TrainerSpec,
)

T = TypeVar("T")

_TRAINER: TypeAdapter[TrainerSpec] = TypeAdapter(TrainerSpec)
_PARAMETER: TypeAdapter[Parameter] = TypeAdapter(Parameter)
_METRIC: TypeAdapter[MetricSpec] = TypeAdapter(MetricSpec)
_FIDELITY: TypeAdapter[FidelitySpec] = TypeAdapter(FidelitySpec)
_BUDGET: TypeAdapter[BudgetSpec] = TypeAdapter(BudgetSpec)
_STRATEGY: TypeAdapter[StrategySpec] = TypeAdapter(StrategySpec)
_STOPPING: TypeAdapter[StoppingRule] = TypeAdapter(StoppingRule)
_RESOURCES: TypeAdapter[ResourceSpec] = TypeAdapter(ResourceSpec)
_CHECKPOINTS: TypeAdapter[CheckpointSpec] = TypeAdapter(CheckpointSpec)
_QUEUED: TypeAdapter[QueuedConfig] = TypeAdapter(QueuedConfig)


@dataclass(frozen=True)
class Draft:
    """What can be said about a document, right or wrong. None: missing or not sound."""

    trainer: TrainerSpec | None
    names: tuple[str, ...]
    """Every name under ``space``."""
    space: Mapping[str, Parameter]
    """The sound parameters."""
    metric: MetricSpec | None
    fidelity: FidelitySpec | None
    budget: BudgetSpec | None
    strategy: StrategySpec | None
    stopping: Mapping[int, StoppingRule]
    """The sound rules by their place in the list."""
    resources: ResourceSpec | None
    checkpoints: CheckpointSpec | None
    enqueue: Mapping[int, QueuedConfig]

    @property
    def space_is_whole(self) -> bool:
        """Whether every parameter is sound."""
        return len(self.names) == len(self.space) > 0

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Draft:
        space = document.get("space")
        named = {str(name): value for name, value in space.items()} if isinstance(space, Mapping) else {}
        return cls(
            trainer=_sound(_TRAINER, document.get("trainer")),
            names=tuple(named),
            space=_sound_items(_PARAMETER, named),
            metric=_sound(_METRIC, document.get("metric")),
            fidelity=_sound(_FIDELITY, document.get("fidelity")),
            budget=_sound(_BUDGET, document.get("budget")),
            strategy=_sound(_STRATEGY, document.get("strategy", {})),
            stopping=_sound_items(_STOPPING, _listed(document.get("stopping"))),
            resources=_sound(_RESOURCES, document.get("resources", {})),
            checkpoints=_sound(_CHECKPOINTS, document.get("checkpoints", {})),
            enqueue=_sound_items(_QUEUED, _listed(document.get("enqueue"))),
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
