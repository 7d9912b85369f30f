"""What a model is told about a study of fully trained trials.

A trial that has ended counts with the best value of its curve, one that was stopped early too (which is no
better than what it would have come to). A trial that diverged or ran out of memory counts as the worst
value seen, since its configuration is to blame (``bo`` has a model of failure instead); after another
failure nothing is known, and the trial is marked failed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from search.view import StudyView, TrialView

BLAMED = frozenset({"diverged", "out_of_memory"})
"""Failures for which the configuration is to blame."""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """A study as the model is told it."""

    observed: tuple[TrialView, ...]
    losses: tuple[float, ...]
    """Of ``observed``; finite."""
    pending: tuple[TrialView, ...]
    failed: tuple[TrialView, ...]
    blamed: int
    """How many of ``observed`` failed and count as the worst."""

    @classmethod
    def of(cls, view: StudyView) -> Knowledge:
        groups: dict[Literal["seen", "blamed", "pending", "failed"], list[TrialView]]
        groups = {"seen": [], "blamed": [], "pending": [], "failed": []}
        losses: list[float] = []
        for trial in view.trials:
            best = min((view.loss(value) for value in trial.values), default=math.inf)
            if trial.active:
                groups["pending"].append(trial)
            elif trial.status != "failed" and math.isfinite(best):
                groups["seen"].append(trial)
                losses.append(best)
            elif trial.status != "failed" or trial.failure in BLAMED:
                groups["blamed"].append(trial)
            else:
                groups["failed"].append(trial)
        # With nothing to compare with, there is no worst value to give.
        blamed = groups["blamed"] if losses else []
        failed = groups["failed"] if losses else [*groups["failed"], *groups["blamed"]]
        return cls(
            (*groups["seen"], *blamed),
            (*losses, *([max(losses)] * len(blamed) if losses else [])),
            tuple(groups["pending"]),
            tuple(failed),
            len(blamed),
        )

    def by_age(self) -> list[tuple[TrialView, float]]:
        """The trials observed, each with its loss, the oldest first."""
        return sorted(zip(self.observed, self.losses, strict=True), key=lambda result: result[0].number)

    def diagnostics(self) -> dict[str, Any]:
        return {
            "observations": len(self.observed),
            "blamed": self.blamed,
            "pending": len(self.pending),
            "failed": len(self.failed),
        }
