"""Optuna: TPE with the Hyperband pruner, and its Gaussian process sampler on full trainings.

With several workers TPE takes the running trials into account (``constant_liar``), as its documentation
says for that case. A finished trial is told with its best value, a pruned one with the values it reported.
"""

from __future__ import annotations

import warnings
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial, TrialState
from wire import Setup, serve


class Optuna:
    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        if setup.method == "tpe-hyperband":
            sampler = optuna.samplers.TPESampler(seed=setup.seed, constant_liar=setup.workers > 1)
            pruner = optuna.pruners.HyperbandPruner(
                min_resource=1, max_resource=setup.max_epochs, reduction_factor=3
            )
        else:
            sampler = optuna.samplers.GPSampler(seed=setup.seed)
            pruner = optuna.pruners.NopPruner()
        self.study = optuna.create_study(
            # A fixed name: the Hyperband pruner draws a trial's bracket from it.
            study_name=f"study-{setup.seed}",
            direction="maximize" if setup.maximize else "minimize",
            sampler=sampler,
            pruner=pruner,
        )
        self.space: dict[str, BaseDistribution] = {
            d["name"]: (IntDistribution if d["whole"] else FloatDistribution)(
                d["low"], d["high"], log=d["log"]
            )
            for d in setup.dimensions
        }
        self.trials: dict[int, Trial] = {}
        self.best: dict[int, float] = {}

    def ask(self) -> tuple[int, dict[str, Any], int]:
        trial = self.study.ask(self.space)
        self.trials[trial.number] = trial
        return trial.number, trial.params, self.setup.max_epochs

    def report(self, trial: int, epoch: int, value: float) -> str:
        told = self.trials[trial]
        pick = max if self.setup.maximize else min
        self.best[trial] = pick(value, self.best.get(trial, value))
        told.report(value, epoch)
        if epoch == self.setup.max_epochs:
            self.study.tell(told, self.best[trial])
        elif told.should_prune():
            self.study.tell(told, state=TrialState.PRUNED)
            return "stop"
        return "continue"


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    serve(Optuna)
