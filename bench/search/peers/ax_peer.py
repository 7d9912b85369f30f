"""Ax's client with its default generation strategy, on full trainings."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from ax import Client, RangeParameterConfig
from wire import FullTrainings, Setup, serve


class Ax(FullTrainings):
    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.client = Client(random_seed=setup.seed)
        self.client.configure_experiment(
            parameters=[
                RangeParameterConfig(
                    name=d["name"],
                    bounds=(d["low"], d["high"]),
                    parameter_type="int" if d["whole"] else "float",
                    scaling="log" if d["log"] else "linear",
                )
                for d in setup.dimensions
            ]
        )
        self.client.configure_optimization("value" if setup.maximize else "-value")

    def suggest(self) -> tuple[int, dict[str, Any]]:
        ((number, params),) = self.client.get_next_trials(max_trials=1).items()
        return number, dict(params)

    def complete(self, trial: int, value: float) -> None:
        self.client.complete_trial(trial_index=trial, raw_data={"value": value})


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    serve(Ax)
