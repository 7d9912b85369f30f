"""HEBO, on full trainings, with its defaults."""

from __future__ import annotations

import random
import warnings
from typing import Any

import numpy as np
import pandas as pd
import torch
from hebo.design_space.design_space import DesignSpace
from hebo.optimizers.hebo import HEBO
from wire import FullTrainings, Setup, serve

KINDS = {(False, False): "num", (False, True): "pow", (True, False): "int", (True, True): "pow_int"}
"""HEBO's types of parameter, by (whole, log)."""


class Hebo(FullTrainings):
    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        random.seed(setup.seed)
        np.random.seed(setup.seed)
        torch.manual_seed(setup.seed)
        space = DesignSpace().parse(
            [
                {"name": d["name"], "type": KINDS[d["whole"], d["log"]], "lb": d["low"], "ub": d["high"]}
                for d in setup.dimensions
            ]
        )
        self.hebo = HEBO(space, scramble_seed=setup.seed)
        self.suggested: list[pd.DataFrame] = []

    def suggest(self) -> tuple[int, dict[str, Any]]:
        self.suggested.append(self.hebo.suggest(n_suggestions=1))
        return len(self.suggested) - 1, self.suggested[-1].to_dict("records")[0]

    def complete(self, trial: int, value: float) -> None:
        loss = -value if self.setup.maximize else value
        self.hebo.observe(self.suggested[trial], np.array([[loss]]))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    serve(Hebo)
