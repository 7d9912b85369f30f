"""Does a learning rate tuned at one batch size hold at others, with a scaling rule and without.

A net is trained on the same number of samples with several batch sizes, over one grid of learning rates.
With the rule the grid is of rates at the reference batch, and a study's ties make of them what the trainer
is handed; without, the rate is handed over as it is. AdamW trains a byte-level GPT, SGD a convolutional net
on digits.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.rate_grid import Grid, Line, Point, table
from trainers.base import ParamValue
from trimtab import check
from trimtab.wire.space import FixedParameter, Space, scaled

REFERENCE = 16


@dataclass(frozen=True)
class Task:
    """What is trained, and by which rule its rates are scaled."""

    trainer: str
    rule: str
    settings: Mapping[str, ParamValue]
    rates: tuple[float, ...]
    """At the reference batch."""
    steps: int
    """At the reference batch."""


TASKS = {
    "adamw": Task(
        "gpt",
        "adam",
        {"width": 64, "depth": 2, "heads": 4, "context": 32, "max_bytes": 2_000_000, "eval_batches": 8},
        tuple(2.0**-k for k in range(10, 3, -1)),
        128,
    ),
    "sgd": Task(
        "digits", "linear", {"channels": 8, "clip": 0.0}, tuple(2.0**-k for k in range(9, 1, -1)), 512
    ),
}
"""By optimizer; of SGD the momentum is the trainer's own, 0.9."""


def main(arguments: Sequence[str], console: Console) -> int:
    """Measure, and print a table without a rule and one for each rule."""
    parser = argparse.ArgumentParser(prog="python -m bench ties", description=__doc__)
    add = parser.add_argument
    add("--optimizer", choices=tuple(TASKS), default="adamw")
    add("--batches", type=lambda text: [int(part) for part in text.split(",")], default=[8, 16, 64])
    add("--seeds", type=int, default=1)
    add("--rows", type=Path, default=Path("ties.jsonl"), help="trainings done so far; others are added")
    given = parser.parse_args(arguments)
    grid = Grid(given.rows, console)
    task = TASKS[given.optimizer]
    for name, ruled in (("no rule", False), (f"the rule {task.rule}", True)):
        lines: dict[int, list[Point]] = {}
        for batch in given.batches:
            config = partial(handed, given.optimizer, ruled and batch != REFERENCE, batch)
            line = Line(f"{name}, {batch}", task.trainer, config, task.steps * REFERENCE // batch)
            lines[batch] = grid.measure(line, task.rates, given.seeds)
        console.print(table(f"{given.optimizer}, {name}", "batch", lines, REFERENCE))
    return 0


def handed(optimizer: str, ruled: bool, batch: int, rate: float) -> Mapping[str, ParamValue]:
    """What the trainer gets of a learning rate at the reference batch, by the task's rule if ``ruled``."""
    task = TASKS[optimizer]
    settings = {**task.settings, "optimizer": optimizer, "weight_decay": 0.0, "device": "cpu"}
    plain = {**settings, "batch_size": batch, "lr": rate}
    if not ruled:
        return plain
    space = _space(task, settings, batch)
    fixed = {name: each.value for name, each in space.items() if isinstance(each, FixedParameter)}
    params = {**fixed, "batch_size": batch, "lr": rate}
    return {**plain, **scaled(space, params)}


def _space(task: Task, settings: Mapping[str, ParamValue], batch: int) -> Space:
    tie = {"to": "batch_size", "at": REFERENCE, "rule": task.rule}
    document: dict[str, Any] = {
        "name": "ties",
        "trainer": {"name": task.trainer, "settings": settings},
        "space": {
            "lr": {"type": "float", "low": 1e-5, "high": 10.0, "log": True, "tie": tie},
            "batch_size": {"type": "ordered", "values": [min(batch, REFERENCE), max(batch, REFERENCE)]},
        },
        "metric": {"name": "val_loss"},
        "fidelity": {"max": 1},
        "budget": {"trials": 1},
    }
    return check.study(document).space
