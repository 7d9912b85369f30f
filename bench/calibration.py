"""``python -m bench calibration``: whether nine tenths of ends lie in the 90 % intervals people are told.

Two kinds of history are put before the model of ``curve-bo``:

- *own*: studies of ``curve-bo``, after some numbers of epochs. What is unfinished there did not look good.
- *neutral*: random configurations, each trained for a random length (log-uniform), as nobody chose them.

Asked is where every unfinished trial would end, and so many random configurations that were not tried; the
benchmark's data knows. An end that diverges is left out and counted: an interval speaks of those that
train. Widths and scores are in units of normalised regret, both ends of an interval drawn in to [0, 1].
"""

from __future__ import annotations

import argparse
import math
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.search.ours import TrimtabEngine
from bench.search.problems import NoDataError, Params, Problem, problems
from bench.search.protocol import Job, run_study
from search.sampling import candidates
from search.space import SearchSpace
from search.strategies.curve_bo import predict
from search.strategies.telling import Prediction
from search.surrogates.history import Progress, best_loss
from search.view import Fidelity, StudyView, TrialView

MOMENTS = (40, 80, 160, 320, 480)
"""Epochs after which a study of its own is looked at."""
SIZES = (20, 60, 150)
"""Trials of a neutral history."""
UNTRIED = 40
SHORT, LONG = 0.35, 0.7
"""Progress that parts curves into three: of 52 epochs, at 4 and 16."""
MISSED = 2 / 0.1
"""What it costs in the interval score to miss by a unit."""


@dataclass(frozen=True, slots=True)
class Case:
    """A history with the ends of its problem."""

    problem: Problem
    kind: str
    view: StudyView


@dataclass(frozen=True, slots=True)
class Asked:
    """An end, and what was said of it."""

    family: str
    kind: str
    moment: int
    """Trials in the history."""
    progress: float | None
    """How far the trial had come, from 0 to 1; None if it was not tried."""
    covered: bool
    width: float
    score: float
    """Gneiting, Raftery, "Strictly Proper Scoring Rules, Prediction, and Estimation", 2007, equation 43:
    the width, and 20 times the distance by which the end was missed. The less, the better."""
    chance: float
    """Said to beat the best measurement of the study."""
    beaten: bool

    @property
    def stage(self) -> str:
        if self.progress is None:
            return "untried"
        return "short" if self.progress < SHORT else "middle" if self.progress < LONG else "long"


class _Watched(TrimtabEngine):
    """``curve-bo``, which keeps what it saw at certain moments."""

    def __init__(self, problem: Problem, seed: int) -> None:
        super().__init__("curve-bo", problem, 1, seed)
        self.moments = list(MOMENTS)
        self.kept: list[StudyView] = []

    def ask(self) -> Job | None:
        paid = sum(len(trial.values) for trial in self.trials)
        if self.moments and paid >= self.moments[0]:
            self.moments.pop(0)
            self.kept.append(self.view())
        return super().ask()


def own(problem: Problem, seed: int) -> Iterator[Case]:
    """A study of ``curve-bo`` at several moments."""
    state = np.random.SeedSequence([seed, zlib.crc32(problem.name.encode())]).generate_state(1)
    engine = _Watched(problem, int(state[0] >> 1))
    run_study(problem, engine, 1, MOMENTS[-1] + problem.max_epochs)
    yield from (Case(problem, "own", view) for view in engine.kept)


def neutral(problem: Problem, seed: int) -> Iterator[Case]:
    """Random configurations, trained for random lengths; about one in eight to the end."""
    space = SearchSpace.from_json(problem.space)
    last = problem.max_epochs
    for size in SIZES:
        rng = np.random.default_rng([seed, size, zlib.crc32(problem.name.encode())])
        trials = []
        for number, params in enumerate(_random(problem, space, size, rng), start=1):
            length = min(last, max(1, round(math.exp(rng.uniform(0.0, math.log(1.3 * last))))))
            values = problem.curve(params).values[:length]
            alive = next((i + 1 for i, value in enumerate(values) if not math.isfinite(value)), None)
            trials.append(
                TrialView(
                    number,
                    params,
                    "failed" if alive else "completed" if length == last else "paused",
                    tuple(range(1, (alive or length) + 1)),
                    values[: alive or length],
                    step=alive or length,
                    first_target=1,
                    target=length,
                    resumable=not alive and length < last,
                    failure="diverged" if alive else None,
                )
            )
        fidelity = Fidelity(1, last, 1, "epochs")
        view = StudyView(space, fidelity, problem.maximize, "curve-bo", {}, tuple(trials))
        if sum(math.isfinite(best_loss(view, trial)) for trial in trials) >= 2:
            yield Case(problem, "neutral", view)


def _random(problem: Problem, space: SearchSpace, count: int, rng: np.random.Generator) -> list[Params]:
    drawn = candidates(space, count, rng)
    return [{d.name: float(params[d.name]) for d in problem.dimensions} for params in drawn]


def asked(case: Case) -> tuple[list[Asked], int]:
    """What is said of every unfinished trial and of untried configurations; and how many ends diverge."""
    view, problem = case.view, case.problem
    untried = _random(problem, view.space, UNTRIED, np.random.default_rng(1))
    said = predict(view, untried, np.random.default_rng(0))
    progress = Progress.of(view.fidelity)
    rows: list[tuple[Params, float | None, Prediction]] = [
        (
            {d.name: float(trial.params[d.name]) for d in problem.dimensions},
            float(progress(trial.step)),
            told,
        )
        for trial, told in zip(view.trials, said, strict=False)
        if trial.status == "paused"
    ]
    rows += [(params, None, told) for params, told in zip(untried, said[len(view.trials) :], strict=True)]
    found, diverged = [], 0
    for params, place, told in rows:
        end = problem.curve(params).values[-1]
        if not math.isfinite(end):
            diverged += 1
            continue
        at = problem.regret(end)
        low, high = sorted(problem.regret(bound) for bound in (told.low, told.high))
        found.append(
            Asked(
                problem.family,
                case.kind,
                len(view.trials),
                place,
                told.low <= end <= told.high,
                high - low,
                high - low + MISSED * max(low - at, at - high, 0.0),
                told.chance,
                problem.better(end, told.best),
            )
        )
    return found, diverged


def main(arguments: Sequence[str], console: Console) -> int:
    """Measure, and print the tables. Exits with code 2 for bad arguments."""
    parser = argparse.ArgumentParser(prog="python -m bench calibration", description=__doc__)
    add = parser.add_argument
    add("--seeds", type=int, default=2, help="of each problem and kind")
    add("--first-seed", type=int, default=0)
    add("--problems", type=lambda text: text.split(","), default=[], help="lcbench, taskset, or names")
    given = parser.parse_args(arguments)
    try:
        chosen = problems(given.problems)
    except (NoDataError, ValueError) as error:
        parser.error(str(error))
    every: list[Asked] = []
    diverged = 0
    for problem in chosen:
        begin = time.perf_counter()
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            for case in (*own(problem, seed), *neutral(problem, seed)):
                found, lost = asked(case)
                every += found
                diverged += lost
        console.print(f"{problem.name}: {time.perf_counter() - begin:.0f} s", style="dim")
    console.print(_table("ends within the 90 % intervals", every))
    console.print(f"{len(every)} ends; {diverged} that diverge are left out")
    return 0


def _table(title: str, every: Sequence[Asked]) -> Table:
    table = Table(title=title)
    columns = ("history", "of", "ends", "within", "width", "interval score", "chance said", "came true")
    for name in columns:
        table.add_column(name, justify="left" if name in columns[:2] else "right")
    for kind in ("own", "neutral"):
        for family in ("lcbench", "taskset"):
            of_both = [a for a in every if a.kind == kind and a.family == family]
            groups = {"all": of_both}
            groups |= {
                stage: [a for a in of_both if a.stage == stage]
                for stage in ("untried", "short", "middle", "long")
            }
            groups["under 50 trials"] = [a for a in of_both if a.moment < 50]
            for stage, group in groups.items():
                if group:
                    table.add_row(f"{kind}, {family}" if stage == "all" else "", stage, *_figures(group))
    return table


def _figures(group: Sequence[Asked]) -> tuple[str, ...]:
    return (
        str(len(group)),
        f"{100 * np.mean([a.covered for a in group]):.1f} %",
        f"{np.mean([a.width for a in group]):.3f}",
        f"{np.mean([a.score for a in group]):.3f}",
        f"{100 * np.mean([a.chance for a in group]):.1f} %",
        f"{100 * np.mean([a.beaten for a in group]):.1f} %",
    )
