"""What the built-in trainers understand, known without importing them.

``catalogue.json`` is printed by ``python -m trainers.catalogue`` from the trainers' own configuration
classes, so a study can be checked where no trainer (and no torch) is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from trimtab.wire.base import ParamValue
from trimtab.wire.study import SUITE, TrainerSpec, Workload

EXTERNAL = "external"
"""The trainer name of studies whose user runs the loop."""


class Setting(BaseModel):
    """One setting of a trainer: fixed for a study, or searched."""

    model_config = ConfigDict(frozen=True)

    name: str
    kind: Literal["float", "int", "bool", "choice", "text"]
    default: ParamValue | None = None
    """None: the optimizer decides."""
    low: float | None = None
    """The smallest value allowed; None: no bound."""
    high: float | None = None
    choices: tuple[str, ...] | None = None
    fork: bool = True
    """Whether a fork may change it: a checkpoint still fits."""
    doc: str = ""


class TrainerEntry(BaseModel):
    """One built-in trainer."""

    model_config = ConfigDict(frozen=True)

    doc: str = ""
    settings: tuple[Setting, ...]
    metrics: dict[str, str]
    """What it reports, and what that means."""
    partly: dict[str, tuple[str, ...]] = {}
    """Of a suite: settings that not all of its workloads have alike, with those that have them."""

    def setting(self, name: str) -> Setting | None:
        """The setting of this name; ``lr/sgd`` is ``lr`` while the optimizer is ``sgd``."""
        found = {setting.name: setting for setting in self.settings}
        plain, _, optimizer = name.partition("/")
        if optimizer and plain in found and found[plain].default is None:
            choice = found.get("optimizer")
            return found[plain] if choice and optimizer in (choice.choices or ()) else None
        return found.get(name)


@lru_cache(maxsize=1)
def trainers() -> dict[str, TrainerEntry]:
    """The built-in trainers by name."""
    text = resources.files("trimtab").joinpath("catalogue.json").read_text(encoding="utf-8")
    return TypeAdapter(dict[str, TrainerEntry]).validate_json(text)


def entry_of(trainer: TrainerSpec | None) -> TrainerEntry | None:
    """What a study's trainer understands; None for scripts, ``external`` and names that nobody knows.

    A suite has the settings that all of its workloads' trainers have, and their metrics as ``NAME/METRIC``.
    """
    name = None if trainer is None else trainer.name
    entry = None if name is None else trainers().get(name)
    if entry is None or trainer is None or name != SUITE:
        return entry
    inside = inside_of(trainer.workloads)
    names = dict.fromkeys(setting.name for each in inside.values() for setting in each.settings)
    found = {name: [_named(each.settings, name) for each in inside.values()] for name in names}
    shared = {name: _shared(each) for name, each in found.items()}
    metrics = {
        f"{workload}/{metric}": meaning
        for workload, each in inside.items()
        for metric, meaning in {**each.metrics, **SUITE_METRICS}.items()
    }
    return TrainerEntry(
        doc=entry.doc,
        settings=tuple(each for each in shared.values() if each is not None),
        metrics={**entry.metrics, **metrics},
        partly={
            name: tuple(w for w, known in zip(inside, found[name], strict=True) if known is not None)
            for name, each in shared.items()
            if each is None
        },
    )


SUITE_METRICS = {
    "score": "Its share of the suite's score.",
    "steps_to_target": "Steps after which its target was reached; not there before.",
    "seconds_to_target": "Training seconds after which its target was reached; not there before.",
}
"""What a suite reports of each workload, beside what the workload's trainer does."""


def inside_of(workloads: Sequence[Workload]) -> dict[str, TrainerEntry]:
    """The trainers of a suite's workloads, by the workloads' names, without those that are unknown."""
    found = {each.name: trainers().get(each.trainer) for each in workloads if each.trainer != SUITE}
    return {name: entry for name, entry in found.items() if entry is not None}


def _named(settings: Sequence[Setting], name: str) -> Setting | None:
    return next((setting for setting in settings if setting.name == name), None)


def _shared(settings: Sequence[Setting | None]) -> Setting | None:
    """What all of several settings of one name allow; None if one is missing or of another kind."""
    present = [setting for setting in settings if setting is not None]
    first = present[0]
    if len(present) < len(settings) or any(each.kind != first.kind for each in present):
        return None
    lows = [each.low for each in present if each.low is not None]
    highs = [each.high for each in present if each.high is not None]
    choices = first.choices
    if choices is not None:
        choices = tuple(each for each in choices if all(each in (other.choices or ()) for other in present))
    return first.model_copy(
        update={
            "low": max(lows, default=None),
            "high": min(highs, default=None),
            "choices": choices,
            "fork": all(each.fork for each in present),
        }
    )
