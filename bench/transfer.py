"""Warm start from an earlier study: what a good source brings, and what a misleading one costs.

``python -m bench transfer --seeds 3``

The source is a study of one LCBench data set, the target another one of the same space. The misleading
source is the same study with its values negated: what was best is reported as worst. In an unrelated one
they are shuffled. There is one source for each data set, and seeds are those of the target. All studies are
``curve-bo``'s, with one worker. Cost is measured as the epochs that studies need to come to the mean regret
that studies without a source have after 250 and 500 epochs; the goal is at most 10 % more. They run to 600
epochs, so that this can be seen.
"""

from __future__ import annotations

import argparse
import json
import statistics
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from bench.search.children import CACHE
from bench.search.ours import TrimtabEngine
from bench.search.problems import NoDataError, Problem, problems
from bench.search.protocol import run_study
from bench.search.results import Row, Rows, mean_and_error
from search.transfer import OPENERS
from search.view import Fidelity, PastTrial, Source

Kind = Literal["none", "good", "misleading", "unrelated"]
KINDS: tuple[Kind, ...] = get_args(Kind)

PAIRS = (
    ("34539", "126029"),
    ("126029", "167181"),
    ("167181", "189862"),
    ("189862", "189905"),
    ("189905", "167152"),
    ("126029", "146212"),
)
"""Source and target: targets on which random search leaves much to be found, each with a source on which
4,000 random full trainings come in a similar order (rank correlation 0.6 to 0.8)."""
SOURCE_EPOCHS, TARGET_EPOCHS, EVERY = 500, 600, 5
SHOWN = (125, 250, 500)
"""Epochs whose regret is printed."""
COMPARED = (250, 500)
"""Epochs of a study without a source whose regret the others are to reach."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Earlier studies, kept in a folder so that none is run twice."""

    folder: Path

    def of(self, problem: Problem) -> Source:
        """The study of ``problem``."""
        path = self.folder / f"{problem.name}.json"
        if not path.is_file():
            engine = TrimtabEngine("curve-bo", problem, 1, _seed(problem, 1_000))
            run_study(problem, engine, 1, SOURCE_EPOCHS)
            self.folder.mkdir(parents=True, exist_ok=True)
            path.write_text(
                json.dumps(
                    [
                        {"params": t.params, "step": t.step, "value": max(t.values, default=np.nan)}
                        for t in engine.view().trials
                    ]
                )
            )
        fidelity = Fidelity(1, problem.max_epochs, 1, "epochs")
        trials = tuple(PastTrial(**row) for row in json.loads(path.read_text()))
        return Source(problem.name, fidelity, problem.maximize, trials)


def negated(source: Source) -> Source:
    """The same study with its values negated."""
    return replace(source, trials=tuple(replace(trial, value=-trial.value) for trial in source.trials))


def shuffled(source: Source, seed: int) -> Source:
    """The same study with its values at other trials."""
    values = np.random.default_rng(seed).permutation([trial.value for trial in source.trials]).tolist()
    trials = zip(source.trials, values, strict=True)
    return replace(source, trials=tuple(replace(trial, value=value) for trial, value in trials))


def main(arguments: Sequence[str], console: Console) -> int:
    """Run the studies that have no row yet, and print the tables. Exit code 2 for bad arguments."""
    parser = argparse.ArgumentParser(prog="python -m bench transfer", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kinds", default=",".join(KINDS), help="by commas")
    parser.add_argument("--rows", type=Path, default=CACHE / "transfer.jsonl", help="where rows are kept")
    parser.add_argument("--table", action="store_true", help="run nothing, print what is in the cache")
    given = parser.parse_args(arguments)
    try:
        by_name = {problem.name: problem for problem in problems(["lcbench"])}
    except NoDataError as error:
        parser.error(str(error))
    rows, sources = Rows(given.rows), Sources(CACHE / "transfer-sources")
    kinds = [kind for kind in KINDS if kind in given.kinds.split(",")]
    if not given.table:
        for seed, (first, second), kind in product(range(given.seeds), PAIRS, kinds):
            pair = by_name[f"lcbench-{first}"], by_name[f"lcbench-{second}"]
            run(*pair, kind, seed, rows, sources, console)
    console.print(*tables([row for row in rows.by_key.values() if row.seed < given.seeds]))
    return 0


def run(
    first: Problem, second: Problem, kind: Kind, seed: int, rows: Rows, sources: Sources, console: Console
) -> None:
    """One study of the problem ``second``, after one of ``first``; kept in ``rows``."""
    if rows.get((second.name, kind, 1, seed)) is not None:
        return
    source: tuple[Source, ...] = ()
    if kind != "none":
        told = sources.of(first)
        source = ({"good": told, "misleading": negated(told), "unrelated": shuffled(told, seed)}[kind],)
    engine = TrimtabEngine("curve-bo", second, 1, _seed(second, seed), source)
    # The decisions that are not about sources get the same seeds in studies of every kind.
    engine.decided = 0 if source else OPENERS
    outcome = run_study(second, engine, 1, TARGET_EPOCHS, range(EVERY, TARGET_EPOCHS + 1, EVERY))
    row = Row.of(second, kind, 1, seed, outcome)
    rows.add(row)
    regrets = " / ".join(f"{row.regrets[str(epochs)]:.4f}" for epochs in SHOWN)
    console.print(f"{second.name} {kind} seed {seed}: {regrets}, {row.seconds:.1f} s", style="dim")


def tables(rows: Sequence[Row]) -> list[Table]:
    """Regret by kind, and the epochs needed to come as far as without a source."""
    whole = [(row.problem, row.seed) for row in rows]
    common = {key for key in whole if whole.count(key) == len({row.engine for row in rows})}
    curves = {
        kind: np.array(
            [
                [row.regrets[str(e)] for e in range(EVERY, TARGET_EPOCHS + 1, EVERY)]
                for row in rows
                if row.engine == kind and (row.problem, row.seed) in common
            ]
        )
        for kind in KINDS
    }
    printed = Table(title=f"curve-bo after an earlier study, {len(common)} studies of each kind")
    printed.add_column("source")
    for heading in (*SHOWN, *(f"epochs to the regret without, at {e}" for e in COMPARED)):
        printed.add_column(str(heading), justify="right")
    without = curves["none"].mean(axis=0) if len(curves["none"]) else np.array([])
    for kind, found in curves.items():
        if not len(found):
            continue
        cells = []
        for epochs in SHOWN:
            mean, error, _ = mean_and_error(found[:, epochs // EVERY - 1].tolist())
            cells.append(f"{mean:.4f} ± {error:.4f}")
        for epochs in COMPARED if len(without) else ():
            goal = without[epochs // EVERY - 1]
            reached = np.flatnonzero(found.mean(axis=0) <= goal)
            if len(reached):
                needed = EVERY * (int(reached[0]) + 1)
                cells.append(f"{needed} ({needed / epochs - 1:+.0%})")
            else:
                cells.append(f"over {TARGET_EPOCHS}")
        printed.add_row(kind, *cells)
    ratios = Table(title="ratio of regrets with a source to those without, geometric mean")
    ratios.add_column("source")
    for epochs in SHOWN:
        ratios.add_column(str(epochs), justify="right")
    for kind in KINDS[1:]:
        if len(curves[kind]) and len(curves["none"]):
            ratios.add_row(kind, *(f"{_ratio(curves, kind, e // EVERY - 1):.2f}" for e in SHOWN))
    return [printed, ratios]


def _ratio(curves: Mapping[Kind, npt.NDArray[np.float64]], kind: Kind, at: int) -> float:
    logs = [
        np.log(max(one, 1e-4) / max(other, 1e-4))
        for one, other in zip(curves[kind][:, at], curves["none"][:, at], strict=True)
    ]
    return float(np.exp(statistics.fmean(logs)))


def _seed(problem: Problem, seed: int) -> int:
    """Of its own for each problem, as in ``bench.search.command``."""
    return int(np.random.SeedSequence([seed, zlib.crc32(problem.name.encode())]).generate_state(1)[0] >> 1)
