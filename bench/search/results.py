"""The rows of the search benchmark: kept in a file, so that no study is computed twice, and their table."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.table import Table
from scipy.stats import rankdata

from bench.search.problems import Problem
from bench.search.protocol import BUDGETS, Outcome

Key = tuple[str, str, int, int]


@dataclass(frozen=True, slots=True)
class Row:
    """One study: what was run, and what came of it."""

    problem: str
    engine: str
    workers: int
    seed: int
    epochs: int
    """Epochs paid; fewer than asked for if the engine took too long."""
    regrets: Mapping[str, float]
    """By budget, as far as it came."""
    trials: int
    duplicates: int
    decisions: int
    seconds: float
    """Processor time of the engine."""

    @classmethod
    def of(cls, problem: Problem, engine: str, workers: int, seed: int, outcome: Outcome) -> Row:
        return cls(
            problem.name,
            engine,
            workers,
            seed,
            outcome.epochs,
            {str(budget): regret for budget, regret in outcome.regrets.items()},
            outcome.trials,
            outcome.duplicates,
            outcome.decisions,
            outcome.seconds,
        )

    @property
    def key(self) -> Key:
        return self.problem, self.engine, self.workers, self.seed


class Rows:
    """The rows in a file of JSON lines; of several with one key the last counts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.by_key: dict[Key, Row] = {}
        if path.is_file():
            for line in path.read_text().splitlines():
                row = Row(**json.loads(line))
                self.by_key[row.key] = row

    def get(self, key: Key) -> Row | None:
        return self.by_key.get(key)

    def add(self, row: Row) -> None:
        self.by_key[row.key] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")


def table(title: str, rows: Sequence[Row], budgets: Sequence[int] = BUDGETS) -> Table:
    """Mean regret and its standard error over problems and seeds, mean rank, and time, for each engine.

    The mean rank is over the studies and budgets that all engines have come to. A number in brackets says
    how many studies came to a budget, where not all did. The best mean of a column is bold.
    """
    engines = sorted({row.engine for row in rows})
    means = {
        (engine, budget): mean_and_error(
            row.regrets[str(budget)] for row in rows if row.engine == engine and str(budget) in row.regrets
        )
        for engine in engines
        for budget in budgets
    }
    ranks = mean_ranks(rows, budgets)
    printed = Table(title=title)
    printed.add_column("engine")
    for heading in (*(f"{budget:,}" for budget in budgets), "rank", "studies", "ms/decision", "s/study"):
        printed.add_column(heading, justify="right")
    best = {
        budget: min((means[engine, budget][0] for engine in engines), default=math.nan)
        for budget in budgets
    }
    last = budgets[-1]
    for engine in sorted(engines, key=lambda e: [means[e, b][0] for b in budgets] or [math.inf]):
        own = [row for row in rows if row.engine == engine]
        cells = []
        for budget in budgets:
            mean, error, count = means[engine, budget]
            text = "" if not count else f"{mean:.3f} ± {error:.3f}"
            if 0 < count < len(own):
                text += f" ({count})"
            cells.append(f"[bold]{text}[/bold]" if count and mean <= best[budget] else text)
        complete = sum(str(last) in row.regrets for row in own)
        printed.add_row(
            engine,
            *cells,
            f"{ranks[engine]:.2f}" if engine in ranks else "",
            f"{len(own)}" if complete == len(own) else f"{len(own)} ({complete} whole)",
            f"{1e3 * sum(r.seconds for r in own) / max(1, sum(r.decisions for r in own)):.1f}",
            f"{statistics.fmean(r.seconds for r in own):.0f}",
        )
    return printed


def common(rows: Sequence[Row]) -> list[Row]:
    """The rows of those problems and seeds that every engine has been run on."""
    engines = {row.engine for row in rows}
    ran: dict[tuple[str, int], set[str]] = {}
    for row in rows:
        ran.setdefault((row.problem, row.seed), set()).add(row.engine)
    return [row for row in rows if ran[row.problem, row.seed] == engines]


def mean_and_error(values: Iterable[float]) -> tuple[float, float, int]:
    """Mean, standard error of the mean, and count; infinity and NaN where they are not defined."""
    known = list(values)
    if not known:
        return math.inf, math.nan, 0
    error = statistics.stdev(known) / math.sqrt(len(known)) if len(known) > 1 else math.nan
    return statistics.fmean(known), error, len(known)


def mean_ranks(rows: Sequence[Row], budgets: Sequence[int] = BUDGETS) -> dict[str, float]:
    """The mean rank of each engine, 1 is the best; empty if there is nothing to compare all of them on.

    Engines are ranked by regret, ties shared, at each budget of each problem and seed, but only where every
    engine has come to: a rank among fewer would flatter.
    """
    engines = sorted({row.engine for row in rows})
    by_key = {(row.problem, row.seed, row.engine): row.regrets for row in rows}
    places: list[list[float]] = []
    for problem, seed in sorted({(row.problem, row.seed) for row in rows}):
        for budget in map(str, budgets):
            regrets = [by_key.get((problem, seed, engine), {}).get(budget) for engine in engines]
            if None not in regrets:
                places.append(rankdata(regrets).tolist())
    return dict(zip(engines, np.mean(places, axis=0).tolist(), strict=True)) if places else {}
