"""Syne Tune 0.13: asynchronous successive halving, and the model-based searchers built on it.

ASHA of both types, BOHB (kernel densities), MOBSTER (one Gaussian process over configurations and rungs)
and Hyper-Tune (a process for each rung, and a learned distribution over brackets). The model-based ones
are of the promotion type, as in Syne Tune's own benchmarks of them. Hyper-Tune runs twice: with the 4
brackets that it is made for, and with the scheduler's default of one (``hypertune-1``). Everything else is
as Syne Tune has it by default. Values are told epoch by epoch; it reads those at its rungs.
"""

from __future__ import annotations

import datetime
import logging
from typing import Any

from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import lograndint, loguniform, randint, uniform
from syne_tune.optimizer.baselines import ASHA, BOHB, MOBSTER, HyperTune
from wire import Setup, serve

METHODS: dict[str, tuple[Any, dict[str, Any]]] = {
    "asha": (ASHA, {"type": "promotion"}),
    "asha-stopping": (ASHA, {"type": "stopping"}),
    "bohb": (BOHB, {"type": "promotion"}),
    "mobster": (MOBSTER, {"type": "promotion"}),
    "hypertune": (HyperTune, {"type": "promotion", "brackets": 4}),
    "hypertune-1": (HyperTune, {"type": "promotion"}),
}
EPOCHS = "epochs"


class Syne:
    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        space = {d["name"]: _domain(d) for d in setup.dimensions} | {EPOCHS: setup.max_epochs}
        scheduler, options = METHODS[setup.method]
        self.scheduler = scheduler(
            space,
            metric="value",
            mode="max" if setup.maximize else "min",
            resource_attr="epoch",
            max_resource_attr=EPOCHS,
            grace_period=1,
            reduction_factor=3,
            random_seed=setup.seed,
            search_options={"debug_log": False},
            **options,
        )
        self.trials: dict[int, Trial] = {}

    def ask(self) -> tuple[int, dict[str, Any], int] | None:
        suggestion = self.scheduler.suggest(trial_id=len(self.trials))
        if suggestion is None:
            return None
        if suggestion.spawn_new_trial_id:
            number, config = len(self.trials), suggestion.config
            now = datetime.datetime.now()
            self.trials[number] = Trial(trial_id=number, config=config, creation_time=now)
            self.scheduler.on_trial_add(self.trials[number])
        else:
            number = int(suggestion.checkpoint_trial_id)
            config = suggestion.config or self.trials[number].config
        params = {d["name"]: config[d["name"]] for d in self.setup.dimensions}
        return number, params, int(config[EPOCHS])

    def report(self, trial: int, epoch: int, value: float) -> str:
        told = self.trials[trial]
        decision = self.scheduler.on_trial_result(told, {"value": value, "epoch": epoch})
        if decision != "CONTINUE":
            self.scheduler.on_trial_remove(told)
        return str(decision).lower()


def _domain(d: dict[str, Any]) -> Any:
    if d["whole"]:
        return (lograndint if d["log"] else randint)(d["low"], d["high"])
    return (loguniform if d["log"] else uniform)(d["low"], d["high"])


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    serve(Syne)
