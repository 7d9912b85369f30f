"""Trainings over a grid of learning rates, kept in a file so that they can be gone on with."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from trainers.base import Job, ParamValue
from trainers.registry import create

LAST = 0.1
"""Losses are means over the validation at the end and at this share of a training before it."""


@dataclass(frozen=True)
class Line:
    """One curve of the loss against the learning rate."""

    name: str
    trainer: str
    config: Callable[[float], Mapping[str, ParamValue]]
    """What the trainer is handed at a learning rate."""
    steps: int


@dataclass(frozen=True)
class Point:
    """A line at one learning rate."""

    rate: float
    losses: tuple[float, ...]
    """One per seed; infinite where training diverged."""

    @property
    def loss(self) -> float:
        return float(np.mean(self.losses))


class Grid:
    """Trains what a file does not hold yet."""

    def __init__(self, rows: Path, console: Console) -> None:
        self._path, self._console = rows, console
        lines = rows.read_text().splitlines() if rows.exists() else []
        self._known = {row["key"]: float(row["loss"]) for row in map(json.loads, lines)}

    def measure(self, line: Line, rates: Sequence[float], seeds: int) -> list[Point]:
        """The line at each rate, over the seeds 0, 1, ..."""
        points = [
            Point(rate, tuple(self._loss(line, rate, seed) for seed in range(seeds))) for rate in rates
        ]
        told = " ".join(f"{point.loss:.3f}" for point in points)
        self._console.print(f"{line.name}: {told}", style="dim")
        return points

    def _loss(self, line: Line, rate: float, seed: int) -> float:
        config = line.config(rate)
        key = json.dumps([line.trainer, config, line.steps, seed], sort_keys=True)
        if key not in self._known:
            loss = _train(line.trainer, config, line.steps, seed)
            self._known[key] = loss
            with self._path.open("a") as file:
                file.write(json.dumps({"line": line.name, "key": key, "loss": loss}) + "\n")
        return self._known[key]


def _train(trainer: str, config: Mapping[str, ParamValue], steps: int, seed: int) -> float:
    torch.set_num_threads(1)
    training = create(trainer, Job(config, seed, max_step=steps, report_every=max(1, round(LAST * steps))))
    measured = [point.metrics["val_loss"] for point in training.train(steps)]
    loss = float(np.mean(measured[-2:]))
    return loss if math.isfinite(loss) else math.inf


def best_rate(points: Sequence[Point]) -> float:
    """The rate with the least loss: the parabola in log(rate) through the best point and its neighbours."""
    losses = [point.loss for point in points]
    at = int(np.argmin(losses))
    if at in (0, len(points) - 1) or not np.isfinite(losses[at - 1 : at + 2]).all():
        return points[at].rate
    x = np.log([point.rate for point in points[at - 1 : at + 2]])
    second, first, _ = np.polyfit(x, losses[at - 1 : at + 2], 2)
    return float(np.exp(-first / (2 * second)))


def loss_at(points: Sequence[Point], rate: float) -> float:
    """The loss at a rate, on straight lines between the points in log(rate)."""
    x = np.log([point.rate for point in points])
    return float(np.interp(math.log(rate), x, [point.loss for point in points]))


def table(
    title: str, what: str, lines: Mapping[int, Sequence[Point]], tuned_at: int | None = None
) -> Table:
    """A row per line: losses, the best rate, and the price of the rate that is best on one of them.

    :param tuned_at: that line; None: the first
    """
    shown = Table(title=title)
    shown.add_column(what, justify="right")
    tuned_at = next(iter(lines)) if tuned_at is None else tuned_at
    for point in lines[tuned_at]:
        shown.add_column(f"{point.rate:.2g}", justify="right")
    for column in ("best rate", f"/ that at {tuned_at}", "loss there", f"with that at {tuned_at}"):
        shown.add_column(column, justify="right")
    tuned = best_rate(lines[tuned_at])
    for name, points in lines.items():
        rate = best_rate(points)
        shown.add_row(
            str(name),
            *(f"{point.loss:.3f}" for point in points),
            f"{rate:.4f}",
            f"{rate / tuned:.2f}",
            f"{loss_at(points, rate):.3f}",
            f"{loss_at(points, tuned):.3f}",
        )
    return shown
