"""Learning curves as they are stored: what a trial keeps of its curve, and the row of each point."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from search import stopping
from service.db.facts import Facts
from trimtab.wire.work import Measurement


@dataclass(slots=True, kw_only=True)
class Curve:
    """Where a trial's curve stands: the numbers that its row keeps, so that no point is read again."""

    study_id: int
    step: int = 0
    value: float | None = None
    """Of the last point; None if the metric was missing or not finite."""
    best_value: float | None = None
    """Of the points that keep the study's limits."""
    best_step: int | None = None
    first_value: float | None = None
    since_best: int = 0
    """Points since the last one that improved by the study's ``min_delta``."""
    points: int = 0
    outcomes: dict[str, Any] | None = None
    """The metrics that objectives and limits name, or that the strategy reads, at the newest point that was
    added, as JSON; None where there are none."""

    def add(self, point: Measurement, about: Facts, token: int | None, now: datetime) -> dict[str, Any]:
        """Take in a point of a step above the last one's, measured by the attempt with this token; its row
        in ``measurements``, but for the trial's id.
        """
        self.step = point.step
        self.points += 1
        value = point.metrics.get(about.spec.metric.name)
        self.value = value if value is not None and math.isfinite(value) else None
        if value is not None:
            self._compare(value, about, about.counts(point.metrics))
        if about.watched:
            self.outcomes = {
                name: _jsonable(point.metrics[name]) for name in about.watched if name in point.metrics
            }
        return {
            "step": point.step,
            "study_id": self.study_id,
            "token": token,
            "value": self.value,
            "best": self.best_value,
            "metrics": {name: _jsonable(number) for name, number in point.metrics.items()},
            "seconds": point.seconds,
            "tokens": point.tokens,
            "at": now,
        }

    def _compare(self, value: float, about: Facts, counts: bool) -> None:
        """``counts``: it keeps the study's limits. Until a first point does, nothing is waited for."""
        if counts and stopping.improves(value, self.best_value, about.maximize, about.min_delta):
            self.since_best = 0
        elif counts or self.best_value is not None:
            self.since_best += 1
        if counts and stopping.improves(value, self.best_value, about.maximize):
            self.best_value, self.best_step = value, self.step
        if self.first_value is None and math.isfinite(value):
            self.first_value = value


def _jsonable(number: float) -> float | Literal["NaN", "Infinity", "-Infinity"]:
    """A metric as JSON can hold it: a number that is not finite becomes the string of its name."""
    if math.isfinite(number):
        return number
    if math.isnan(number):
        return "NaN"
    return "Infinity" if number > 0 else "-Infinity"
