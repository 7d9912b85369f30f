"""``python -m bench search``: run the studies that are not in the cache yet, and print the tables."""

from __future__ import annotations

import argparse
import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import numpy as np
from rich.console import Console

from bench.search.children import CACHE, PEERS, PeerEngine, PeerError
from bench.search.ours import TrimtabEngine, variant
from bench.search.problems import NoDataError, Problem, problems
from bench.search.protocol import BUDGETS, Engine, EngineError, run_study
from bench.search.results import Row, Rows, common, table
from search.errors import SearchError
from search.strategies import names

OURS = ("random", "asha", "hyperband", "bo", "curve-bo")
"""Our strategies in the table, unless others are named: any strategy can be."""


@contextmanager
def engine_of(name: str, problem: Problem, workers: int, seed: int) -> Iterator[Engine]:
    """A peer, or one of our strategies, by name."""
    # Of its own for each problem: else chance would favour an engine on all problems of a seed together.
    seed = int(np.random.SeedSequence([seed, zlib.crc32(problem.name.encode())]).generate_state(1)[0] >> 1)
    if name in PEERS:
        with PeerEngine(name, problem, workers, seed) as peer:
            yield peer
    else:
        yield TrimtabEngine(name, problem, workers, seed)


def main(arguments: Sequence[str], console: Console) -> int:
    """Run what is asked for. Exit code 2 for bad arguments, 1 if an engine broke down."""
    given = parse(arguments)
    rows = Rows(given.rows)
    broken = set() if given.table else run_missing(given, rows, console)
    for family in ("lcbench", "taskset"):
        problems_of_family = {problem.name for problem in given.problems if problem.family == family}
        for workers in given.workers:
            own = [
                row
                for row in rows.by_key.values()
                if row.engine in given.engines
                and row.workers == workers
                and row.problem in problems_of_family
            ]
            if given.common:
                own = common(own)
            if own:
                who = "1 worker" if workers == 1 else f"{workers} asynchronous workers"
                console.print(table(f"{family}, {who}: regret after epochs", own))
    return 1 if broken else 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments, checked: names are known, problems are :class:`Problem`. Exits if they are not."""
    ours = [name for name in OURS if name in names()]
    parser = argparse.ArgumentParser(prog="python -m bench search", description=__doc__)
    add = parser.add_argument
    add(
        "--engines",
        type=_split,
        default=[*ours, *PEERS],
        help="names, by commas; ours as in asha:eta=4 too",
    )
    add("--problems", type=_split, default=[], help="lcbench, taskset, or names of problems, by commas")
    add("--seeds", type=int, default=5, help="how many, from --first-seed")
    add("--first-seed", type=int, default=0)
    add("--workers", type=_split, default=["1", "4"], help="numbers, by commas")
    add("--epochs", type=int, default=BUDGETS[-1], help="what a study may spend")
    add("--limit", type=float, default=math.inf, help="processor seconds an engine may take for a study")
    add("--rows", type=Path, default=CACHE / "search.jsonl", help="where rows are kept")
    add("--fresh", action="store_true", help="run again what is in the cache")
    add("--table", action="store_true", help="run nothing, print what is in the cache")
    add("--common", action="store_true", help="print only the studies that all of the engines have")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.engines if name not in PEERS and variant(name)[0] not in names()]
    if unknown:
        parser.error(f"no engine {unknown[0]!r}; there are: {', '.join((*names(), *PEERS))}")
    try:
        given.problems = problems(given.problems)
        given.workers = [int(number) for number in given.workers]
    except (NoDataError, ValueError) as error:
        parser.error(str(error))
    return given


def run_missing(given: argparse.Namespace, rows: Rows, console: Console) -> set[str]:
    """Run the studies that have no row yet. The engines that broke down: the rest of theirs is left out.

    Seed by seed, so that a run that is cut short has measured every engine on every problem.
    """
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    broken: set[str] = set()
    for workers, seed, name, problem in product(given.workers, seeds, given.engines, given.problems):
        done = rows.get((problem.name, name, workers, seed))
        finished = done is not None and (done.epochs >= given.epochs or done.seconds >= given.limit)
        if name in broken or (finished and not given.fresh):
            continue
        try:
            with engine_of(name, problem, workers, seed) as engine:
                outcome = run_study(problem, engine, workers, given.epochs, limit_seconds=given.limit)
        except (PeerError, EngineError, SearchError) as error:
            console.print(f"{name} is left out: {error}", style="red", markup=False)
            broken.add(name)
            continue
        row = Row.of(problem, name, workers, seed, outcome)
        rows.add(row)
        console.print(describe(row), style="dim")
    return broken


def _split(names_by_comma: str) -> list[str]:
    return [name for name in names_by_comma.split(",") if name]


def describe(row: Row) -> str:
    """A row in one line."""
    regrets = " / ".join(f"{regret:.3f}" for regret in row.regrets.values())
    study = f"{row.problem} {row.engine} x{row.workers} seed {row.seed}"
    return f"{study}: {regrets}, {row.trials} trials, {row.seconds:.1f} s"
