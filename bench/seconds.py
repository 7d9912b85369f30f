"""Does it pay to know what trainings cost? ``curve-bo`` on LCBench, with and without seconds.

``python -m bench seconds --seeds 1``

The same studies twice, one worker: once the strategy is told how long each training took, once not.
Regret is read on the virtual clock, in units of the mean time of an epoch over the space (1,000 random
configurations).
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.search.children import CACHE
from bench.search.ours import TrimtabEngine
from bench.search.problems import NoDataError, Problem, problems
from bench.search.results import mean_and_error
from search.space import SearchSpace

UNITS = (100, 250, 500)
"""Times at which regret is read, in mean epochs."""
KINDS = ("epochs", "seconds")
"""What the strategy counts."""


def main(arguments: Sequence[str], console: Console) -> int:
    """Run the studies that have no row yet, and print the table. Exit code 2 for bad arguments."""
    parser = argparse.ArgumentParser(prog="python -m bench seconds", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rows", type=Path, default=CACHE / "seconds.jsonl", help="where rows are kept")
    parser.add_argument("--only", default="lcbench", help="problems by commas")
    given = parser.parse_args(arguments)
    try:
        wanted = problems(given.only.split(","))
    except (NoDataError, ValueError) as error:
        parser.error(str(error))
    rows = (
        [json.loads(line) for line in given.rows.read_text().splitlines()] if given.rows.is_file() else []
    )
    have = {(row["problem"], row["kind"], row["seed"]) for row in rows}
    given.rows.parent.mkdir(parents=True, exist_ok=True)
    for seed, problem, kind in product(range(given.seeds), wanted, KINDS):
        if (problem.name, kind, seed) in have:
            continue
        row = {"problem": problem.name, "kind": kind, "seed": seed, **study(problem, kind, seed)}
        rows.append(row)
        with given.rows.open("a") as file:
            file.write(json.dumps(row) + "\n")
        console.print(str(row), style="dim")
    console.print(table(rows))
    return 0


def study(problem: Problem, kind: str, seed: int) -> dict[str, Any]:
    """Regrets at the times of ``UNITS``, and the epochs that were trained by the last one."""
    own = int(np.random.SeedSequence([seed, zlib.crc32(problem.name.encode())]).generate_state(1)[0] >> 1)
    engine = TrimtabEngine("curve-bo", problem, 1, own, timed=kind == "seconds")
    unit = mean_epoch(problem)
    now, epochs, incumbent = 0.0, 0, None
    regrets: dict[int, float] = {}
    while len(regrets) < len(UNITS):
        job = engine.ask()
        assert job is not None  # one worker: nothing else is running
        curve = problem.curve(job.params)
        trial = engine.trials[job.trial - 1]
        for epoch in range(len(trial.values), job.target):
            now += curve.seconds[epoch]
            for at in UNITS:
                if now > at * unit and at not in regrets:
                    regrets[at] = problem.regret(incumbent)
            value, epochs = curve.values[epoch], epochs + 1
            if problem.better(value, incumbent):
                incumbent = value
            if engine.report(job.trial, epoch + 1, value) == "stop":
                break
    return {"regrets": regrets, "epochs": epochs, "trials": len(engine.trials)}


def mean_epoch(problem: Problem) -> float:
    """Seconds of an epoch, the mean over the space."""
    space, rng = SearchSpace.from_json(problem.space), np.random.default_rng(0)
    points = rng.random((1_000, len(space.dimensions)))
    curves = [
        problem.curve({name: float(v) for name, v in space.decode(point).items()}) for point in points
    ]
    return float(np.mean([sum(curve.seconds) / len(curve.seconds) for curve in curves]))


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """Mean regret by what was counted, on the studies that were run both ways."""
    both = {(row["problem"], row["seed"]) for row in rows if row["kind"] == "epochs"} & {
        (row["problem"], row["seed"]) for row in rows if row["kind"] == "seconds"
    }
    printed = Table(title=f"curve-bo by the clock, {len(both)} studies of LCBench")
    for heading in ("counts", *(f"after {at} mean epochs" for at in UNITS), "epochs trained", "trials"):
        printed.add_column(heading)
    for kind in KINDS:
        own = [row for row in rows if row["kind"] == kind and (row["problem"], row["seed"]) in both]
        cells = []
        for at in UNITS:
            mean, error, _ = mean_and_error([_regret(row, at) for row in own])
            cells.append(f"{mean:.4f} ± {error:.4f}")
        counts = [f"{np.mean([row[name] for row in own]):.0f}" for name in ("epochs", "trials")]
        printed.add_row(kind, *cells, *counts)
    return printed


def _regret(row: dict[str, Any], at: int) -> float:
    return {int(key): float(value) for key, value in row["regrets"].items()}[at]
