"""Does a learning rate tuned on a narrow GPT hold on a wide one: standard parametrization against muP.

Byte-level GPTs of several widths are trained over the same grid of learning rates, in both
parametrizations. At muP's base width both are the same model. Each table has a row per width: the best
rate, and what the rate that is best at the narrowest width costs there.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from bench.rate_grid import Grid, Line, Point, table
from trainers.base import ParamValue

SETTINGS: Mapping[str, ParamValue] = {
    "depth": 2, "heads": 4, "context": 64, "batch_size": 8, "max_bytes": 2_000_000, "eval_batches": 8,
    "optimizer": "adamw", "weight_decay": 0.0, "device": "cpu",
}  # fmt: skip
RATES = tuple(2.0**-k for k in range(11, 2, -1))


def main(arguments: Sequence[str], console: Console) -> int:
    """Measure, and print a table for each parametrization."""
    parser = argparse.ArgumentParser(prog="python -m bench mup", description=__doc__)
    add = parser.add_argument
    add("--widths", type=lambda text: [int(part) for part in text.split(",")], default=[32, 64, 128, 256])
    add("--base", type=int, default=128, help="muP's base width")
    add("--steps", type=int, default=120)
    add("--seeds", type=int, default=1)
    add("--rows", type=Path, default=Path("mup.jsonl"), help="trainings done so far; others are added")
    given = parser.parse_args(arguments)
    grid = Grid(given.rows, console)
    for name, mup in (("standard parametrization", False), ("muP", True)):
        lines: dict[int, list[Point]] = {}
        for width in given.widths:
            config: dict[str, ParamValue] = {**SETTINGS, "width": width}
            if mup and width != given.base:
                config["mup_base_width"] = given.base
            line = Line(f"{name}, {width}", "gpt", partial(_with_rate, config), given.steps)
            lines[width] = grid.measure(line, RATES, given.seeds)
        console.print(table(name, "width", lines))
    return 0


def _with_rate(config: Mapping[str, ParamValue], rate: float) -> Mapping[str, ParamValue]:
    return {**config, "lr": rate}
