"""How well the surrogates of ``curve-bo`` foresee ends: of paused trials, and of new configurations.

``python -m bench surrogates --problems taskset --epochs 150,400``: a study of ``curve-bo`` is run for so
many epochs. Each surrogate is fitted to what it knows of the curves then, just as ``curve-bo`` would, and
asked where its paused trials and 300 random configurations (of a table: recorded ones) would end. Ends that
diverge are left out. Printed for each: mean log density of the scaled end, at least -5 for a point;
Spearman's rank correlation; the share within the 90 % interval; the share of the best twentieth of the
random configurations that is among the tenth with the best predicted ends (0.1 is chance).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from bench.search.command import engine_of
from bench.search.ours import TrimtabEngine
from bench.search.problems import NoDataError, Params, Problem, problems
from bench.search.protocol import run_study
from search.errors import SearchError
from search.features import Features
from search.sampling import candidate_table
from search.surrogates.history import LossScale, Points, Progress, best_loss, most_telling, points_of
from search.surrogates.registry import load, names
from search.threads import one_thread
from search.view import StudyView

Array = npt.NDArray[np.float64]

_RANDOM = 300
_MODEL_POINTS = 300
_LEAST_SPREAD = 0.3
_WORST = -5.0


@dataclass(frozen=True, slots=True)
class Scores:
    """Of one surrogate on one study."""

    density: float
    rank: float
    within: float
    top: float
    """NaN where it is not asked."""
    seconds: float


def main(arguments: Sequence[str], console: Console) -> int:
    """Run and print. Exits with code 2 for bad arguments."""
    parser = argparse.ArgumentParser(prog="python -m bench surrogates", description=__doc__)
    add = parser.add_argument
    add("--problems", default="", help="lcbench, taskset, or names of problems, by commas")
    add("--surrogates", default="", help="names, by commas; by default all")
    add("--epochs", default="150,400", help="when to ask, by commas")
    add("--seeds", type=int, default=1)
    given = parser.parse_args(arguments)
    wanted = [name for name in given.surrogates.split(",") if name] or list(names())
    try:
        asked = problems([name for name in given.problems.split(",") if name])
        epochs = [int(number) for number in given.epochs.split(",")]
        for name in wanted:
            load(name)
    except (NoDataError, SearchError, ValueError) as error:
        parser.error(str(error))
    for family in ("lcbench", "taskset"):
        own = [problem for problem in asked if problem.family == family]
        for at in epochs if own else ():
            found = [
                scores
                for problem in own
                for seed in range(given.seeds)
                for scores in measure(problem, at, seed, wanted)
            ]
            console.print(_printed(f"{family}, after {at} epochs, {len(own) * given.seeds} studies", found))
    return 0


def measure(
    problem: Problem, epochs: int, seed: int, surrogates: Sequence[str]
) -> Iterator[tuple[str, str, Scores]]:
    """Surrogate, "paused" or "new", and its scores."""
    with engine_of("curve-bo", problem, 1, seed) as engine:
        assert isinstance(engine, TrimtabEngine)
        run_study(problem, engine, 1, epochs)
        view = engine.view()
    rng = np.random.default_rng(seed)
    paused = [place for place, trial in enumerate(view.trials) if trial.status == "paused"]
    fresh = _fresh(problem, view, rng)
    columns = Features.of(view.space)
    features = columns.encode([trial.params for trial in view.trials])
    bests = np.array([best_loss(view, trial) for trial in view.trials])
    scale = LossScale.of(bests.tolist(), [view.loss(v) for trial in view.trials for v in trial.values])
    every = points_of(view, features, scale, Progress.of(view.fidelity))
    chosen = most_telling(every, bests, _MODEL_POINTS, rng)
    spread = max(float(chosen.values.std()), _LEAST_SPREAD)
    told = Points(chosen.features, chosen.progress, chosen.owner, chosen.values / spread)
    asked = []
    for kind, places, params in (
        ("paused", paused, [_numbers(view.trials[place].params) for place in paused]),
        ("new", [-1] * len(fresh), fresh),
    ):
        ends = np.array([view.loss(problem.curve(each).values[-1]) for each in params])
        finite = np.flatnonzero(np.isfinite(ends))
        owner = np.array(places, dtype=np.intp)[finite]
        asked.append((kind, columns.encode(params)[finite], owner, scale.scale(ends[finite]) / spread))
    for name in surrogates:
        with one_thread():
            begin = time.process_time()
            model = load(name)(told, np.random.default_rng(seed))
            outlooks = [model.outlook(rows, owner) for _, rows, owner, _ in asked]
            seconds = time.process_time() - begin
        for (kind, _, _, truth), outlook in zip(asked, outlooks, strict=True):
            sd = np.sqrt(outlook.sd**2 + model.noise)
            yield name, kind, _scores(truth, outlook.mean, sd, kind == "new", seconds)


def _fresh(problem: Problem, view: StudyView, rng: np.random.Generator) -> list[Params]:
    if problem.recorded:
        places = rng.choice(len(problem.recorded), min(_RANDOM, len(problem.recorded)), replace=False)
        return [problem.recorded[place] for place in places.tolist()]
    table = candidate_table(view.space, _RANDOM, rng)
    return [_numbers(params) for params in view.space.layout.write(table)]


def _numbers(params: Mapping[str, object]) -> Params:
    return {name: value for name, value in params.items() if isinstance(value, int | float)}


def _scores(truth: Array, mean: Array, sd: Array, many: bool, seconds: float) -> Scores:
    error = (truth - mean) / sd
    density = np.maximum(-0.5 * error**2 - np.log(sd) - 0.5 * np.log(2 * np.pi), _WORST)
    rank = float(spearmanr(truth, mean).statistic) if len(truth) > 2 else float("nan")
    top = float("nan")
    if many:
        best = np.argsort(truth, kind="stable")[: len(truth) // 20]
        top = float(np.isin(best, np.argsort(mean, kind="stable")[: len(truth) // 10]).mean())
    return Scores(float(density.mean()), rank, float(np.mean(np.abs(error) <= 1.645)), top, seconds)


def _printed(title: str, found: Sequence[tuple[str, str, Scores]]) -> Table:
    """Means over studies."""
    table = Table(title=title)
    for heading in (
        "surrogate",
        "asked",
        "log density",
        "rank correlation",
        "within 90 %",
        "best found",
        "s",
    ):
        table.add_column(heading, justify="left" if heading in ("surrogate", "asked") else "right")
    for kind in ("paused", "new"):
        for name in dict.fromkeys(name for name, _, _ in found):
            own = [scores for each, asked, scores in found if (each, asked) == (name, kind)]
            means = [
                np.nanmean([getattr(scores, field) for scores in own])
                if kind == "new" or field != "top"
                else None
                for field in ("density", "rank", "within", "top", "seconds")
            ]
            table.add_row(name, kind, *("" if mean is None else f"{mean:.2f}" for mean in means))
    return table
