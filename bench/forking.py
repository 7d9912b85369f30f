"""What forking and probing cost: how much of a schedule search's time on two slots is training.

The study is the example of ``lr-schedule``. A training's own clock counts its steps and measurements; the
rest of an attempt is starting, loading the checkpoint it was forked from, and saving. The second slot has
nothing to do while one trunk alone goes on, which is the method's and not the price of forking; it is shown
apart.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import yaml
from rich.table import Table

from bench.idle import Span, shares
from bench.stack import stack

SLOTS = 2
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "lr-schedule.yaml"


@dataclass(frozen=True, slots=True)
class Attempted:
    """One attempt."""

    span: Span
    trained: float
    """Seconds by the training's own clock."""

    @property
    def share(self) -> float:
        """Of the attempt's time that is training, in [0, 1]."""
        _, started, ended = self.span
        return min(1.0, self.trained / max((ended - started).total_seconds(), 1e-9))


def wall_share(attempts: Sequence[Attempted]) -> float:
    """The share of the time from the first start to the last end in which something trains, in [0, 1].

    Where within an attempt its training lies is not known: while several run, the one with the largest
    share counts, as if the others' training fell into it.
    """
    moments = sorted({moment for attempt in attempts for moment in attempt.span[1:]})
    trained = 0.0
    for moment, until in pairwise(moments):
        running = [a.share for a in attempts if a.span[1] <= moment < a.span[2]]
        trained += (until - moment).total_seconds() * max(running, default=0.0)
    return trained / (moments[-1] - moments[0]).total_seconds()


def _attempts(database: sqlite3.Connection) -> list[Attempted]:
    """Of the only study in the database."""
    at = datetime.fromisoformat
    seconds: dict[tuple[int, int], float] = {
        (trial, step): spent
        for trial, step, spent in database.execute("SELECT trial_id, step, seconds FROM measurements")
    }
    parents = dict(
        database.execute(
            "SELECT child.id, parent.id FROM trials AS child JOIN trials AS parent "
            "ON parent.study_id = child.study_id AND parent.number = child.parent"
        )
    )
    found = []
    for trial, start, last, *times in database.execute(
        "SELECT attempts.trial_id, attempts.start_step, attempts.last_step, "
        "runs.queued_at, attempts.started_at, attempts.ended_at "
        "FROM attempts JOIN runs ON attempts.run_id = runs.id"
    ):
        before = 0.0
        owner: int | None = trial
        while start > 0 and owner is not None:
            if (owner, start) in seconds:
                before = seconds[owner, start]
                break
            owner = parents.get(owner)
        queued, started, ended = map(at, times)
        found.append(Attempted((queued, started, ended), seconds.get((trial, last), before) - before))
    return found


def study() -> dict[str, Any]:
    """The example's study."""
    spec: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    return spec


def run() -> Table:
    """Run the study, and say where its time went."""
    programs = ("service.api", "service.scheduler", "workers.dispatcher")
    with stack(programs=programs) as running, httpx.Client(base_url=running.url, timeout=30) as http:
        made = http.post("/v1/studies", json=study()).raise_for_status().json()["id"]
        while http.get(f"/v1/studies/{made}").raise_for_status().json()["state"] == "running":
            time.sleep(1)
        with sqlite3.connect(running.home / "trimtab.db") as database:
            attempts = _attempts(database)
    spans = [attempt.span for attempt in attempts]
    slots = shares(spans, SLOTS)
    busy = sum((ended - started).total_seconds() for _, started, ended in spans)
    wall = (max(span[2] for span in spans) - min(span[1] for span in spans)).total_seconds()
    table = Table(title=f"A search for a learning-rate schedule on {SLOTS} slots")
    table.add_column("of")
    table.add_column("is")
    table.add_column("share", justify="right")
    table.add_row("the search's wall time", "training, in at least one slot", f"{wall_share(attempts):.1%}")
    table.add_row("the attempts' time", "training", f"{sum(a.trained for a in attempts) / busy:.1%}")
    table.add_row("the slots' time until the last run was queued", "an attempt's", f"{slots.training:.1%}")
    table.add_row("", "waiting: no run to be had", f"{slots.deciding:.1%}")
    table.add_row("", "waiting for dispatch", f"{slots.dispatch:.1%}")
    table.caption = f"{wall:.0f} s, {len(attempts)} runs"
    return table
