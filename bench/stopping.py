"""``python -m bench stopping``: what early stopping saves, and how often it stops the best.

The protocol of Baker, Gupta, Raskar and Naik, "Accelerating Neural Architecture Search using Performance
Prediction" (2017): so many random configurations of a problem are trained one after another, each until it
is stopped or has come to the end. The saving is the epochs of training all of them to the end, divided by
the epochs that were trained. The best was lost if the best value of all full trainings was not seen. All
that is learned is paid for: the first trainings of each repeat, which nobody can judge yet, count.
"""

from __future__ import annotations

import argparse
import math
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from bench.search.problems import NoDataError, Params, Problem, problems
from bench.stopping_gp import ProcessRule
from search.features import Features
from search.prediction import Curves, Predictor, checks, due
from search.sampling import candidates
from search.space import SearchSpace
from search.stopping import Median, Point, Predicted, judge
from search.view import Fidelity

Array = npt.NDArray[np.float64]

DEFAULT = Predicted()
MEDIAN = Median()
POOL = 1_000
"""Configurations of each problem that repeats draw from; of a table all that were recorded."""


@dataclass(frozen=True)
class Pool:
    """The curves of a problem's configurations, as losses."""

    problem: Problem
    features: Array
    """Shape (n, width)."""
    values: Array
    """Shape (n, epochs); NaN once a training has diverged."""
    best: Array
    """Shape (n, epochs): the lowest so far; NaN once a training has diverged."""

    @property
    def lives(self) -> npt.NDArray[np.int64]:
        """Shape (n,): epochs that each is trained if nobody stops it; with the one in which it diverges."""
        alive = np.isfinite(self.values).sum(axis=1)
        lives: npt.NDArray[np.int64] = np.minimum(alive + 1, self.values.shape[1])
        return lives


class Rule(Protocol):
    """Says whether a trial is stopped. Trials are named by their place in the pool."""

    def stops(self, trial: int, epoch: int, incumbent: float) -> bool:
        """Whether the trial is stopped after ``epoch``; ``incumbent`` is the least loss of the others."""
        ...

    def ended(self, trial: int, epochs: int) -> None:
        """The trial was trained for so many epochs and is over."""
        ...


@dataclass
class Predicting:
    """The service's rule; ``threshold`` replaces the chances under which it stops by one for all checks."""

    pool: Pool
    rule: Predicted = DEFAULT
    threshold: float | None = None
    hyperparameters: bool = True
    finished: list[int] = field(default_factory=list)
    learned_from: int = 0
    predictor: Predictor | None = None

    def __post_init__(self) -> None:
        epochs = self.pool.values.shape[1]
        self.fidelity = Fidelity(1, epochs, 1, "epochs")
        self.checks = np.array(checks(self.fidelity, self.rule))

    def stops(self, trial: int, epoch: int, incumbent: float) -> bool:
        if self.predictor is None or epoch not in self.predictor.models:
            return False
        passed = self.checks[self.checks <= epoch]
        curve = {
            int(step): (float(self.pool.best[trial, step - 1]), float(self.pool.values[trial, step - 1]))
            for step in passed
        }
        seen = self.predictor.forecast(self.features[trial], curve, epoch, incumbent)
        return seen is not None and seen.hopeless

    def ended(self, trial: int, epochs: int) -> None:
        if epochs < self.fidelity.max or not math.isfinite(self.pool.values[trial, -1]):
            return
        self.finished.append(trial)
        if due(self.rule, len(self.finished), self.learned_from):
            at = np.ix_(np.array(self.finished), self.checks - 1)
            curves = Curves(self.features[self.finished], self.pool.best[at], self.pool.values[at])
            self.predictor = Predictor.fit(curves, self.fidelity, False, self.rule)
            self.learned_from = len(self.finished)
            if self.predictor is not None and self.threshold is not None:
                models = {
                    step: replace(model, threshold=self.threshold)
                    for step, model in self.predictor.models.items()
                }
                self.predictor = replace(self.predictor, models=models)

    @property
    def features(self) -> Array:
        return self.pool.features if self.hyperparameters else self.pool.features[:, :0]


@dataclass
class MedianRule:
    """The median rule as the service has it."""

    pool: Pool
    rule: Median = MEDIAN
    trained: list[tuple[int, int]] = field(default_factory=list)
    """Trials and how far they came."""

    def stops(self, trial: int, epoch: int, incumbent: float) -> bool:
        best = float(self.pool.best[trial, epoch - 1])
        peers = [float(self.pool.best[t, epoch - 1]) for t, epochs in self.trained if epochs >= epoch]
        point = Point(epoch, float(self.pool.values[trial, epoch - 1]), best, best, 0)
        return judge([self.rule], point, False, lambda: peers).action == "stop"

    def ended(self, trial: int, epochs: int) -> None:
        self.trained.append((trial, epochs))


@dataclass
class Halving:
    """Successive halving of the stopping kind (Li et al., "A System for Massively Parallel Hyperparameter
    Tuning", 2020): at each rung a trial goes on if it is in the best part of those that were there."""

    pool: Pool
    eta: int = 3
    rungs: dict[int, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        epochs = self.pool.values.shape[1]
        self.rungs = {self.eta**i: [] for i in range(1, 10) if self.eta**i < epochs}

    def stops(self, trial: int, epoch: int, incumbent: float) -> bool:
        if epoch not in self.rungs:
            return False
        there = self.rungs[epoch]
        best = float(self.pool.best[trial, epoch - 1])
        there.append(best)
        return sum(other < best for other in there) >= max(1, len(there) // self.eta)

    def ended(self, trial: int, epochs: int) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one repeat."""

    trained: int
    """Epochs."""
    full: int
    """Epochs of training all of them to the end."""
    lost: bool
    """Whether the best value of all full trainings was not seen."""
    regret: float
    """By how much of the problem's range the best value seen is worse than that; 0 if it was seen."""


def train(pool: Pool, trials: Sequence[int], rule: Rule) -> Outcome:
    """Train these trials one after another under a rule."""
    lives = pool.lives[list(trials)]
    incumbent, trained = math.inf, 0
    for trial, life in zip(trials, lives.tolist(), strict=True):
        epochs = 0
        best = math.inf
        while epochs < life:
            epochs += 1
            value = float(pool.values[trial, epochs - 1])
            best = min(best, value) if math.isfinite(value) else best
            if epochs < life and rule.stops(trial, epochs, incumbent):
                break
        rule.ended(trial, epochs)
        trained += epochs
        incumbent = min(incumbent, best)
    there = pool.best[list(trials)]
    truth = float(np.nanmin(there))
    regret = (incumbent - truth) / abs(pool.problem.best - pool.problem.worst)
    return Outcome(trained, int(lives.sum()), incumbent > truth, regret)


GRACES = (1, 3, 5, 7, 14, 20)
"""Epochs before which nothing is stopped, beside the default."""
RISKS = (0.1, 0.001)


THRESHOLDS = (0.0003, 0.003, 0.03, 0.1, 0.3)
"""Chances of beating the incumbent under which everything is stopped, with a grace of 3 epochs."""


def _with(rule: Predicted, threshold: float | None = None) -> Callable[[Pool], Rule]:
    return lambda pool: Predicting(pool, rule, threshold)


RULES: dict[str, Callable[[Pool], Rule]] = {
    "predicted": Predicting,
    **{f"risk {risk:g}": _with(Predicted(risk=risk)) for risk in RISKS},
    **{f"grace {grace}": _with(Predicted(grace=grace)) for grace in GRACES},
    **{f"chance {chance:g}": _with(Predicted(grace=3), chance) for chance in THRESHOLDS},
    "no hyperparameters": lambda pool: Predicting(pool, hyperparameters=False),
    "gaussian process": lambda pool: ProcessRule(pool.features, pool.values, pool.best, DEFAULT),
    "median": MedianRule,
    "successive halving": Halving,
}


def build(problem: Problem) -> Pool:
    """The problem's pool, the same in every run."""
    space = SearchSpace.from_json(problem.space)
    rng = np.random.default_rng(zlib.crc32(problem.name.encode()))
    settings: list[Params] = list(problem.recorded)
    if not settings:
        drawn = candidates(space, POOL, rng)
        settings = [{d.name: float(params[d.name]) for d in problem.dimensions} for params in drawn]
    sign = -1.0 if problem.maximize else 1.0
    values = sign * np.array([problem.curve(params).values for params in settings])
    alive = np.logical_and.accumulate(np.isfinite(values), axis=1)
    values = np.where(alive, values, np.nan)
    best = np.where(alive, np.minimum.accumulate(np.where(alive, values, np.inf), axis=1), np.nan)
    return Pool(problem, Features.of(space).encode(settings), values, best)


def main(arguments: Sequence[str], console: Console) -> int:
    """Measure, and print the tables. Exits with code 2 for bad arguments."""
    parser = argparse.ArgumentParser(prog="python -m bench stopping", description=__doc__)
    add = parser.add_argument
    add("--trials", type=int, default=200, help="configurations of a repeat")
    add("--repeats", type=int, default=30, help="of each problem")
    add("--rules", type=lambda text: text.split(","), default=list(RULES), help=", ".join(RULES))
    add("--problems", type=lambda text: text.split(","), default=[], help="lcbench, taskset, or names")
    given = parser.parse_args(arguments)
    if unknown := set(given.rules) - set(RULES):
        parser.error(f"no rule {sorted(unknown)[0]!r}; there are: {', '.join(RULES)}")
    try:
        chosen = problems(given.problems)
    except (NoDataError, ValueError) as error:
        parser.error(str(error))
    outcomes: dict[tuple[str, str], list[Outcome]] = {}
    for problem in chosen:
        begin = time.perf_counter()
        pool = build(problem)
        for name in given.rules:
            rng = np.random.default_rng([zlib.crc32(problem.name.encode()), given.trials])
            outcomes[problem.name, name] = [
                train(
                    pool,
                    rng.choice(len(pool.values), given.trials, replace=False).tolist(),
                    RULES[name](pool),
                )
                for _ in range(given.repeats)
            ]
        console.print(f"{problem.name}: {time.perf_counter() - begin:.0f} s", style="dim")
    families = [f for f in ("lcbench", "taskset") if any(p.family == f for p in chosen)]
    table = Table(title=f"{given.trials} random trainings, {given.repeats} repeats of each problem")
    table.add_column("rule")
    for family in families:
        table.add_column(f"{family}: saving", justify="right")
        table.add_column("best lost", justify="right")
        table.add_column("regret", justify="right")
    for name in given.rules:
        row = [name]
        for family in families:
            of_family = [outcomes[p.name, name] for p in chosen if p.family == family]
            row += [*_figures([each for one in of_family for each in one])]
        table.add_row(*row)
    console.print(table)
    table = Table(title=f"{given.rules[0]}, by problem")
    for column in ("problem", "saving", "best lost", "regret"):
        table.add_column(column, justify="left" if column == "problem" else "right")
    for problem in chosen:
        table.add_row(problem.name, *_figures(outcomes[problem.name, given.rules[0]]))
    console.print(table)
    return 0


def _figures(outcomes: Sequence[Outcome]) -> tuple[str, str, str]:
    """Saving, share of repeats that lost the best with its standard error, and mean regret."""
    saving = sum(o.full for o in outcomes) / sum(o.trained for o in outcomes)
    lost = sum(o.lost for o in outcomes) / len(outcomes)
    error = math.sqrt(lost * (1 - lost) / len(outcomes))
    return (
        f"{saving:.2f}x",
        f"{100 * lost:.1f} ± {100 * error:.1f} %",
        f"{np.mean([o.regret for o in outcomes]):.4f}",
    )
