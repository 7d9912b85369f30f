"""What the built-in trainers understand, known without importing them.

``catalogue.json`` is printed by ``python -m trainers.catalogue`` from the trainers' own configuration
classes, so a study can be checked where no trainer (and no torch) is installed.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from trimtab.wire.base import ParamValue

EXTERNAL = "external"
"""The trainer name of studies whose user runs the loop."""


class Setting(BaseModel):
    """One setting of a trainer: fixed for a study, or searched."""

    model_config = ConfigDict(frozen=True)

    name: str
    kind: Literal["float", "int", "bool", "choice", "text"]
    default: ParamValue
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

    def setting(self, name: str) -> Setting | None:
        return next((setting for setting in self.settings if setting.name == name), None)


@lru_cache(maxsize=1)
def trainers() -> dict[str, TrainerEntry]:
    """The built-in trainers by name."""
    text = resources.files("trimtab").joinpath("catalogue.json").read_text(encoding="utf-8")
    return TypeAdapter(dict[str, TrainerEntry]).validate_json(text)
