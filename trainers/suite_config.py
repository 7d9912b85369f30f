"""Settings and metrics of the ``suite`` trainer."""

from __future__ import annotations

from dataclasses import dataclass

from trainers.settings import Config

METRICS = {
    "score": "Mean over the workloads of the time to the target, as a share of the workload's steps; "
    "1 to 2 while it is not reached.",
    "reached": "Share of the workloads whose target is reached.",
}
"""What a suite reports of itself. Of each workload it reports all metrics as ``NAME/METRIC``, too."""

SCORE = "score"
STEPS, SECONDS = "steps_to_target", "seconds_to_target"
"""Further metrics of each workload: its part of the score, and when its target was reached."""


@dataclass(frozen=True)
class SuiteConfig(Config):
    """Trains each configuration on several workloads; its settings are those that all of them know."""
