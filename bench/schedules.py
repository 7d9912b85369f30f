"""Schedule search against proxy-tuned schedules: test loss at the same number of steps.

Everybody chooses by the validation loss and is scored once, on the test part. A tuned family gets six
trainings of a sixth of the length, one for each of six peaks, and one full training with the best of them.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.schedule_runs import Found, Lines, search
from bench.schedule_tasks import Task, tasks
from search.decision import Schedule
from search.schedules import constant, decay, joined
from search.simulator import Segment

PROXIES = 6
"""Trainings of so many times less steps choose the peak."""
GRID = 10
"""Peaks of the full grid."""
SEEDS = (0, 1, 2)
ROWS = Path(__file__).parent / "schedules.jsonl"


def cosine(peak: float, steps: int) -> Schedule:
    """A tenth of warm-up, then half a cosine to zero."""
    warmup = steps // 10
    return joined(constant(peak, warmup), warmup, decay(peak, warmup, steps, "cosine"))


def stable_decay(peak: float, steps: int) -> Schedule:
    """A twentieth of warm-up, constant, in the last fifth a straight line to zero."""
    start = steps - steps // 5
    return joined(constant(peak, steps // 20), start, decay(peak, start, steps))


FAMILIES: dict[str, Callable[[float, int], Schedule]] = {
    "cosine": cosine,
    "warm-up-stable-decay": stable_decay,
}


@dataclass(frozen=True, slots=True)
class Row:
    """One engine on one task with one seed."""

    task: str
    seed: int
    engine: str
    validation: float
    test: float
    cost: float
    """In full trainings."""
    seconds: float
    what: str
    """The schedule in words."""


def _trained(lines: Lines, schedule: Schedule, steps: int) -> tuple[float, float]:
    """Validation and test loss; a training that diverged has an infinite one."""
    line = (Segment(0, {}, schedule),)
    validation, test = lines.loss(line, steps), lines.test(line, steps)
    return (validation, test) if math.isfinite(validation) else (math.inf, math.inf)


def _peaks(task: Task, many: int) -> list[float]:
    return [float(peak) for peak in np.geomspace(task.low, task.high, many)]


def tuned(task: Task, seed: int, family: str) -> tuple[Found, str]:
    """The family with the peak that is best at a sixth of the length."""
    make, short = FAMILIES[family], task.steps // PROXIES
    probes = []
    for peak in _peaks(task, PROXIES):
        validation, _ = _trained(Lines(task, seed), make(peak, short), short)
        probes.append((validation, peak))
    _, peak = min(probes)
    schedule = make(peak, task.steps)
    found = _trained(Lines(task, seed), schedule, task.steps)
    return Found(*found, PROXIES * short + task.steps, schedule), f"peak {peak:.3g}"


def best_constant(task: Task, seed: int) -> tuple[Found, str]:
    """The best of six constant rates, with the warm-up that the others have."""
    return _best_of(task, seed, [(p, constant(p, task.steps // 20)) for p in _peaks(task, PROXIES)])


def full_grid(task: Task, seed: int) -> tuple[Found, str]:
    """Ten peaks for each family, all trained to the end: 20 times the steps of one training."""
    every = [(peak, make(peak, task.steps)) for peak in _peaks(task, GRID) for make in FAMILIES.values()]
    return _best_of(task, seed, every)


def _best_of(task: Task, seed: int, schedules: Iterable[tuple[float, Schedule]]) -> tuple[Found, str]:
    ends = [
        (*_trained(Lines(task, seed), schedule, task.steps), peak, schedule) for peak, schedule in schedules
    ]
    validation, test, peak, schedule = min(ends)
    return Found(validation, test, len(ends) * task.steps, schedule), f"peak {peak:.3g}"


def searched(task: Task, seed: int, strategy: str) -> tuple[Found, str]:
    """What a strategy finds. The published one needs more measurements than ours, and trains to the end."""
    published = strategy == "autolrs"
    found = search(task, seed, strategy, reports=300 if published else 60, to_the_end=published)
    peak = max((rate for _, rate in found.schedule), default=math.nan)
    end = found.schedule[-1][0] if found.schedule else 0
    return found, f"peak {peak:.3g}, {len(found.schedule)} points, ends at {end}"


ENGINES: dict[str, Callable[[Task, int], tuple[Found, str]]] = {
    "lr-schedule": lambda task, seed: searched(task, seed, "lr-schedule"),
    "cosine, tuned": lambda task, seed: tuned(task, seed, "cosine"),
    "warm-up-stable-decay, tuned": lambda task, seed: tuned(task, seed, "warm-up-stable-decay"),
    "autolrs": lambda task, seed: searched(task, seed, "autolrs"),
    "best constant": best_constant,
    "full grid": full_grid,
}


def read(path: Path) -> list[Row]:
    """The rows of earlier runs."""
    return [Row(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def table(rows: list[Row], task: str) -> Table:
    """Test losses of one task: a row for each seed, a column for each engine, with what it cost."""
    own = {(row.engine, row.seed): row for row in rows if row.task == task}
    seeds = sorted({seed for _, seed in own})
    out = Table("seed", title=f"{task}: test loss (steps in trainings)", title_justify="left")
    engines = [engine for engine in ENGINES if any(known == engine for known, _ in own)]
    for engine in engines:
        cost = fmean(row.cost for (known, _), row in own.items() if known == engine)
        out.add_column(f"{engine} ({cost:.2f})", justify="right")
    for seed in seeds:
        found = [own.get((engine, seed)) for engine in engines]
        out.add_row(str(seed), *(f"{row.test:.4f}" if row else "-" for row in found))
    means = [[own[engine, seed].test for seed in seeds if (engine, seed) in own] for engine in engines]
    out.add_row("mean", *(f"{fmean(m):.4f}" if len(m) == len(seeds) else "-" for m in means))
    return out


def main(arguments: list[str], console: Console) -> int:
    """The command; rows that are known already are not made again."""
    parser = argparse.ArgumentParser(prog="python -m bench schedules", description=__doc__)
    every = {task.name: task for longer in (1, 3) for task in tasks(longer)}
    parser.add_argument("--tasks", default=",".join(every), help="of %(default)s")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--engines", default=None, help=f"separated by ';', of {'; '.join(ENGINES)}")
    parser.add_argument("--rows", type=Path, default=ROWS, help="where results are kept")
    given = parser.parse_args(arguments)
    engines = list(ENGINES) if given.engines is None else [e.strip() for e in given.engines.split(";")]
    names = given.tasks.split(",")
    unknown = [name for name in names if name not in every] + [e for e in engines if e not in ENGINES]
    if unknown:
        console.print(
            f"there is no {unknown[0]!r}; tasks: {', '.join(every)}; engines: {'; '.join(ENGINES)}"
        )
        return 2
    for name in names:
        for engine in engines:
            for seed in map(int, given.seeds.split(",")):
                if any((r.task, r.seed, r.engine) == (name, seed, engine) for r in read(given.rows)):
                    continue
                began = time.perf_counter()
                found, what = ENGINES[engine](every[name], seed)
                seconds = time.perf_counter() - began
                cost = found.units / every[name].steps
                row = Row(name, seed, engine, found.validation, found.test, cost, round(seconds, 1), what)
                with given.rows.open("a") as file:
                    file.write(json.dumps({field: getattr(row, field) for field in Row.__slots__}) + "\n")
                console.print(f"{name} seed {seed}, {engine}: {found.test:.4f} ({what})", style="dim")
    for name in names:
        console.print(table(read(given.rows), name))
    return 0
