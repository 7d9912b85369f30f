"""Does a learning rate tuned at one batch size hold at others, with a scaling rule and without.

A byte-level GPT is trained on the same number of bytes with several batch sizes, over one grid of learning
rates. With the rule the grid is of rates at the reference batch, and a study's ties make of them what the
trainer is handed; the other two lines hand over the rate as it is, and the rate alone scaled.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.rate_grid import Grid, Line, Point, table
from trainers.base import ParamValue
from trimtab import check
from trimtab.wire.space import FixedParameter, Space, scaled

SETTINGS: Mapping[str, ParamValue] = {
    "width": 64, "depth": 2, "heads": 4, "context": 32, "max_bytes": 2_000_000, "eval_batches": 8,
    "weight_decay": 0.0, "device": "cpu",
}  # fmt: skip
REFERENCE = 16
GRIDS = {"adamw": range(10, 3, -1), "sgd": range(6, -1, -1)}
"""Rates are 2^-k at the reference."""
RULES = {
    "adamw": {"the rule adam": "adam", "sqrt, the rate alone": "sqrt"},
    "sgd": {"the rule linear": "linear"},
}


def main(arguments: Sequence[str], console: Console) -> int:
    """Measure, and print a table without a rule and one for each rule."""
    parser = argparse.ArgumentParser(prog="python -m bench ties", description=__doc__)
    add = parser.add_argument
    add("--optimizer", choices=tuple(GRIDS), default="adamw")
    add("--steps", type=int, default=128, help="at the reference batch of 16 windows")
    add("--batches", type=lambda text: [int(part) for part in text.split(",")], default=[8, 16, 64])
    add("--seeds", type=int, default=1)
    add("--rows", type=Path, default=Path("ties.jsonl"), help="trainings done so far; others are added")
    given = parser.parse_args(arguments)
    grid = Grid(given.rows, console)
    rates = [2.0**-k for k in GRIDS[given.optimizer]]
    for name, rule in {"no rule": None, **RULES[given.optimizer]}.items():
        lines: dict[int, list[Point]] = {}
        for batch in given.batches:
            config = partial(handed, given.optimizer, None if batch == REFERENCE else rule, batch)
            line = Line(f"{name}, {batch}", config, given.steps * REFERENCE // batch)
            lines[batch] = grid.measure(line, rates, given.seeds)
        console.print(table(f"{given.optimizer}, {name}", "batch", lines, REFERENCE))
    return 0


def handed(optimizer: str, rule: str | None, batch: int, rate: float) -> Mapping[str, ParamValue]:
    """What the trainer gets of a learning rate at the reference batch, under a rule."""
    plain = {**SETTINGS, "optimizer": optimizer, "batch_size": batch, "lr": rate}
    if rule is None:
        return plain
    space = _space(optimizer, rule, batch)
    fixed = {name: each.value for name, each in space.items() if isinstance(each, FixedParameter)}
    params = {**fixed, "batch_size": batch, "lr": rate}
    return {**plain, **scaled(space, params)}


def _space(optimizer: str, rule: str, batch: int) -> Space:
    tie = {"to": "batch_size", "at": REFERENCE, "rule": rule}
    document: dict[str, Any] = {
        "name": "ties",
        "trainer": {"name": "gpt", "settings": {**SETTINGS, "optimizer": optimizer}},
        "space": {
            "lr": {"type": "float", "low": 1e-5, "high": 10.0, "log": True, "tie": tie},
            "batch_size": {"type": "ordered", "values": [min(batch, REFERENCE), max(batch, REFERENCE)]},
        },
        "metric": {"name": "val_loss"},
        "fidelity": {"max": 1},
        "budget": {"trials": 1},
    }
    return check.study(document).space
