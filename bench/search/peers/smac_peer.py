"""SMAC3's multi-fidelity facade: Hyperband with a random forest, through ask and tell.

The number of trials, from which it sizes its initial design, is what Hyperband needs for 2,000 epochs, by
SMAC's own function. Its budgets are rounded to whole epochs; a configuration at a higher budget goes on
where it was paused, and is told with its best value so far.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

from ConfigSpace import ConfigurationSpace, Float, Integer
from smac import MultiFidelityFacade, Scenario
from smac.intensifier.hyperband_utils import get_n_trials_for_hyperband_multifidelity
from smac.runhistory.dataclasses import TrialInfo, TrialValue
from wire import Setup, serve

TOTAL_EPOCHS = 2_000
ETA = 3


class Smac:
    def __init__(self, setup: Setup, folder: Path) -> None:
        self.setup = setup
        space = ConfigurationSpace(seed=setup.seed)
        for d in setup.dimensions:
            kind = Integer if d["whole"] else Float
            space.add(kind(d["name"], (d["low"], d["high"]), log=d["log"]))
        scenario = Scenario(
            space,
            deterministic=True,
            n_trials=get_n_trials_for_hyperband_multifidelity(
                total_budget=TOTAL_EPOCHS, min_budget=1, max_budget=setup.max_epochs, eta=ETA
            ),
            min_budget=1,
            max_budget=setup.max_epochs,
            seed=setup.seed,
            output_directory=folder,
        )
        self.smac = MultiFidelityFacade(
            scenario,
            target_function=lambda config, seed=0, budget=0: 0.0,  # never called: we ask and tell
            intensifier=MultiFidelityFacade.get_intensifier(scenario, eta=ETA),
            overwrite=True,
            logging_level=False,
        )
        self.numbers: dict[tuple[Any, ...], int] = {}
        self.running: dict[int, TrialInfo] = {}
        self.target: dict[int, int] = {}
        self.best: dict[int, float] = {}

    def ask(self) -> tuple[int, dict[str, Any], int]:
        info = self.smac.ask()
        params = dict(info.config)
        number = self.numbers.setdefault(tuple(sorted(params.items())), len(self.numbers))
        self.running[number] = info
        self.target[number] = max(1, round(info.budget))
        return number, params, self.target[number]

    def report(self, trial: int, epoch: int, value: float) -> str:
        cost = -value if self.setup.maximize else value
        self.best[trial] = min(cost, self.best.get(trial, cost))
        if epoch == self.target[trial]:
            self.smac.tell(self.running.pop(trial), TrialValue(cost=self.best[trial]), save=False)
        return "continue"


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        serve(lambda setup: Smac(setup, Path(folder)))
