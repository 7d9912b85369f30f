"""How long workers stand idle while ``curve-bo`` decides: 100 real trainings on Ray, two at a time.

The study is the demo's, a small GPT on real text, with ``curve-bo``. A slot is free from the end of one
attempt to the start of the next: *waiting for a decision* while no run is queued, *dispatch* while one is.
The clock runs from the first attempt's start until the last run is queued (after that there is nothing to
wait for).
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import yaml
from rich.table import Table

from bench.stack import stack

SLOTS = 2
TRIALS = 100
STEPS = 12_000
"""Trained in all, at most: 33 full trainings."""
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "gpt-lr.yaml"

Span = tuple[datetime, datetime, datetime]
"""Of an attempt: its run was queued, it started, it ended."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Of the slots' time, in [0, 1]."""

    training: float
    deciding: float
    dispatch: float
    seconds: float
    """Of the clock."""


def shares(spans: list[Span], slots: int) -> Shares:
    """What the slots' time was spent on, from the first start until the last run was queued."""
    begin, end = min(started for _, started, _ in spans), max(queued for queued, _, _ in spans)
    moments = sorted({begin, end, *(m for span in spans for m in span if begin < m < end)})
    spent = {"training": 0.0, "deciding": 0.0, "dispatch": 0.0}
    for moment, until in pairwise(moments):
        seconds = (until - moment).total_seconds()
        running = sum(started <= moment < ended for _, started, ended in spans)
        waiting = sum(queued <= moment < started for queued, started, _ in spans)
        free = max(0, slots - running)
        spent["training"] += seconds * min(running, slots)
        spent["dispatch"] += seconds * min(free, waiting)
        spent["deciding"] += seconds * max(0, free - waiting)
    seconds = (end - begin).total_seconds()
    return Shares(**{name: amount / (slots * seconds) for name, amount in spent.items()}, seconds=seconds)


def study() -> dict[str, Any]:
    """The demo's study with ``curve-bo``."""
    spec: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    spec["strategy"] = {"name": "curve-bo"}
    spec["budget"] = {"trials": TRIALS, "fidelity": STEPS}
    spec["parallelism"] = SLOTS
    return spec


def run() -> Table:
    """Run the study, and say where the slots' time went."""
    programs = ("service.api", "service.scheduler", "workers.dispatcher")
    with stack(programs=programs) as running, httpx.Client(base_url=running.url, timeout=30) as http:
        made = http.post("/v1/studies", json=study()).raise_for_status().json()["id"]
        while (detail := http.get(f"/v1/studies/{made}").raise_for_status().json())["state"] == "running":
            time.sleep(1)
        with sqlite3.connect(running.home / "trimtab.db") as database:
            rows = database.execute(
                "SELECT runs.queued_at, attempts.started_at, attempts.ended_at "
                "FROM attempts JOIN runs ON attempts.run_id = runs.id"
            ).fetchall()
            (decisions,) = database.execute("SELECT count(*) FROM decisions").fetchone()
    at = datetime.fromisoformat
    spans = [(at(queued), at(started), at(ended)) for queued, started, ended in rows]
    found = shares(spans, SLOTS)
    table = Table(
        title=f"{sum(detail['trials'].values())} trainings of a GPT with curve-bo on {SLOTS} slots"
    )
    table.add_column("the slots' time")
    table.add_column("share", justify="right")
    for name, share in (
        ("training", found.training),
        ("idle, waiting for a decision", found.deciding),
        ("idle, dispatch of what was decided", found.dispatch),
    ):
        table.add_row(name, f"{share:.1%}")
    table.caption = (
        f"{found.seconds:.0f} s, {len(spans)} runs, {decisions} decisions, best {detail['best_value']:.3f}"
    )
    return table
