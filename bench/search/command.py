"""``python -m bench search``: run the studies that are not in the cache yet, and print the tables."""

from __future__ import annotations

import argparse
import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.console import Console

from bench.search.children import CACHE, PEERS, PeerEngine, PeerError
from bench.search.ours import TrimtabEngine
from bench.search.problems import NoDataError, Problem, problems
from bench.search.protocol import BUDGETS, Engine, run_study
from bench.search.results import Row, Rows, table
from search.errors import SearchError
from search.strategies import names


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
    """Run what is asked for. Exit code 2 for bad arguments, 1 if a peer broke down."""
    parser = argparse.ArgumentParser(prog="python -m bench search", description=__doc__)
    ours = ("random", "asha", "hyperband", "bo", *(["curve-bo"] if "curve-bo" in names() else []))
    parser.add_argument("--engines", default=",".join((*ours, *PEERS)), help="names, by commas")
    parser.add_argument("--problems", default="", help="lcbench, taskset, or names of problems, by commas")
    parser.add_argument("--seeds", type=int, default=5, help="how many, from --first-seed")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--workers", default="1,4", help="numbers, by commas")
    parser.add_argument("--epochs", type=int, default=BUDGETS[-1], help="what a study may spend")
    parser.add_argument(
        "--limit",
        type=float,
        default=math.inf,
        help="seconds an engine may take; the rest of its study is left out",
    )
    parser.add_argument("--rows", type=Path, default=CACHE / "search.jsonl", help="where rows are kept")
    parser.add_argument("--fresh", action="store_true", help="run again what is in the cache")
    parser.add_argument("--table", action="store_true", help="run nothing, print what is in the cache")
    given = parser.parse_args(arguments)
    engines = [name for name in given.engines.split(",") if name]
    unknown = [name for name in engines if name not in PEERS and name not in names()]
    if unknown:
        parser.error(f"no engine {unknown[0]!r}; there are: {', '.join((*names(), *PEERS))}")
    try:
        chosen = problems([name for name in given.problems.split(",") if name])
    except (NoDataError, ValueError) as error:
        parser.error(str(error))
    workers = [int(number) for number in given.workers.split(",")]
    rows = Rows(given.rows)
    broken: set[str] = set()
    if not given.table:
        seeds = range(given.first_seed, given.first_seed + given.seeds)
        # Seed by seed, so that a run that is cut short has measured every engine on every problem.
        for number in workers:
            for seed in seeds:
                for name in engines:
                    for problem in chosen:
                        key = (problem.name, name, number, seed)
                        done = rows.get(key)
                        finished = done is not None and (
                            done.epochs >= given.epochs or done.seconds >= given.limit
                        )
                        if name in broken or (finished and not given.fresh):
                            continue
                        try:
                            with engine_of(name, problem, number, seed) as engine:
                                outcome = run_study(
                                    problem, engine, number, given.epochs, limit_seconds=given.limit
                                )
                        except (PeerError, SearchError) as error:
                            console.print(f"{name} is left out: {error}", style="red", markup=False)
                            broken.add(name)
                            continue
                        row = Row.of(problem, name, number, seed, outcome)
                        rows.add(row)
                        console.print(describe(row), style="dim")
    for family in ("lcbench", "taskset"):
        for number in workers:
            own = [
                row
                for row in rows.by_key.values()
                if row.engine in engines
                and row.workers == number
                and row.problem in {p.name for p in chosen if p.family == family}
            ]
            if own:
                plural = "worker" if number == 1 else "asynchronous workers"
                console.print(table(f"{family}, {number} {plural}: regret after epochs", own))
    return 1 if broken else 0


def describe(row: Row) -> str:
    """A row in one line."""
    regrets = " / ".join(f"{regret:.3f}" for regret in row.regrets.values())
    return f"{row.problem} {row.engine} x{row.workers} seed {row.seed}: {regrets}, {row.trials} trials, {row.seconds:.1f} s"
