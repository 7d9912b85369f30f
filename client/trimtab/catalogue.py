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
    default: ParamValue | None = None
    """None: the optimizer decides."""
    low: float | None = None
    """The smallest value allowed; None: no bound."""
    high: float | None = None
    choices: tuple[str, ...] | None = None
    doc: str = ""


class TrainerEntry(BaseModel):
    """One built-in trainer."""

    model_config = ConfigDict(frozen=True)

    doc: str = ""
    settings: tuple[Setting, ...]
    metrics: dict[str, str]
    """What it reports, and what that means."""

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
