"""How much each parameter of a study matters."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from trimtab.wire.base import FiniteFloat, ParamValue, Wire


class ImportanceMethod(StrEnum):
    """How importance is measured.

    `ped-anova`: what tells the best trials from all. `fanova`: shares of the variance over the whole space,
    by a random forest. `sobol`: the same by a Gaussian process, alone and with interactions.
    """

    PED_ANOVA = "ped-anova"
    FANOVA = "fanova"
    SOBOL = "sobol"


class Importance(Wire):
    parameter: str
    """A share of a simplex is a parameter of its own: `mix/web`."""
    importance: FiniteFloat = Field(ge=0, le=1)
    """Of `ped-anova` and `fanova` they sum to 1; of `sobol` (first-order indices) to 1 at most."""
    total: FiniteFloat | None = Field(default=None, ge=0, le=1)
    """Of `sobol`: the total index, with all interactions."""


class Ranking(Wire):
    """What one method says."""

    method: ImportanceMethod
    importances: list[Importance]
    """The most important first; of `sobol` by `total`. Parameters with one value only are not named."""
    explained: FiniteFloat | None = Field(default=None, ge=0, le=1)
    """Of `sobol`: the share of the differences between trials that the model predicts from other trials."""
    notes: list[str]
    """What to know before believing it."""


class ImportanceBasis(Wire):
    """How many trials count as what."""

    measured: int
    """Trained to the end: their best measurement that keeps the limits."""
    predicted: int
    """Stopped, paused or still under way: where a model of all curves predicts them to end."""
    worst: int
    """Diverged, out of memory, or ended without keeping the limits: the worst of the others."""
    left_out: int
    """Without a result."""


class Pruning(Wire):
    """What of a space is searched, in a study that says `prune: true`."""

    results: int
    """So many results it was made from."""
    frozen: dict[str, ParamValue]
    """Parameters that do not matter, with the value they keep."""
    ranges: dict[str, tuple[ParamValue, ParamValue]]
    """The first and the last value of parameters that were narrowed."""
    reasons: dict[str, str]
    """In words, by parameter; for those that cannot be pruned, too."""


class ImportancesResponse(Wire):
    study: str
    basis: ImportanceBasis
    rankings: list[Ranking]
    computed_at: datetime
