"""Dispatch overhead: 200 one-second jobs on 2 slots, against the ideal and against Ray Tune.

Both run on a warm local Ray with 2 CPUs; the clock runs from submission to the end of the last job.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import httpx
from rich.table import Table

from bench.stack import stack

JOBS = 200
SLOTS = 2
JOB_SECONDS = 1.0
IDEAL_SECONDS = JOBS * JOB_SECONDS / SLOTS

STUDY = {
    "name": "overhead",
    "trainer": {"name": "synthetic", "settings": {"seconds_per_step": JOB_SECONDS}},
    "space": {"lr": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True}},
    "metric": {"name": "loss"},
    "fidelity": {"min": 1, "max": 1, "report_every": 1},
    "budget": {"trials": JOBS},
    "parallelism": SLOTS,
    "strategy": {"name": "random"},
    "resources": {"cpus": 1},
}


def trimtab_seconds() -> tuple[float, float]:
    """Seconds from submission to the end of the study, and to its first measurement."""
    with (
        stack(programs=("service.api", "service.scheduler", "workers.dispatcher")) as running,
        httpx.Client(base_url=running.url, timeout=30) as http,
    ):
        begin = time.perf_counter()
        study = http.post("/v1/studies", json=STUDY).raise_for_status().json()["id"]
        first = None
        while True:
            detail = http.get(f"/v1/studies/{study}").raise_for_status().json()
            if first is None and detail["best_value"] is not None:
                first = time.perf_counter() - begin
            if detail["state"] != "running":
                break
            time.sleep(0.05 if first is None else 0.25)
        seconds = time.perf_counter() - begin
        if detail["trials"]["completed"] != JOBS:
            raise RuntimeError(f"only {detail['trials']} of {JOBS} jobs were completed")
        return seconds, first or float("nan")


def ray_tune_seconds() -> float:
    """Seconds of ``Tuner.fit`` on a Ray that is already up, in a process of its own."""
    output = subprocess.run(
        [sys.executable, "-m", "bench.ray_tune_jobs", str(JOBS), str(SLOTS), str(JOB_SECONDS)],
        env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    ).stdout.decode()
    return float(json.loads(output.strip().splitlines()[-1])["seconds"])


def run() -> tuple[Table, Table]:
    """The overhead table and the table of the time to the first measurement."""
    ours, first = trimtab_seconds()
    theirs = ray_tune_seconds()
    table = Table(title=f"{JOBS} jobs of {JOB_SECONDS:.0f} s on {SLOTS} slots")
    for heading in ("engine", "seconds", "over the ideal", "overhead per job"):
        table.add_column(heading, justify="left" if heading == "engine" else "right")
    for engine, seconds in (("ideal", IDEAL_SECONDS), ("trimtab", ours), ("ray tune", theirs)):
        over = seconds - IDEAL_SECONDS
        table.add_row(
            engine,
            f"{seconds:.2f}",
            f"{over / IDEAL_SECONDS:.1%}",
            f"{1e3 * over * SLOTS / JOBS:.0f} ms",
        )
    start = Table(title="From submission to the first stored measurement (warm server, cold actor)")
    start.add_column("what")
    start.add_column("seconds", justify="right")
    start.add_row("measured", f"{first:.2f}")
    start.add_row("less the job's own first step", f"{first - JOB_SECONDS:.2f}")
    return table, start
