"""A study of 2,000 trials x 100 points: how quickly it opens, and what the service weighs with it."""

from __future__ import annotations

import statistics
import time

import httpx
from rich.table import Table

from bench.stack import Stack, stack

TRIALS = 2_000
POINTS = 100
CHUNK = 100
REPEATS = 9


def fill(running: Stack) -> str:
    """Import the trials through the API; the id of the study."""
    spec = {
        "name": "big",
        "trainer": {"name": "external"},
        "space": {
            "lr": {"type": "float", "low": 1e-5, "high": 1.0, "log": True},
            "width": {"type": "int", "low": 1, "high": 4096},
        },
        "metric": {"name": "loss"},
        "fidelity": {"min": 1, "max": POINTS, "report_every": 1},
        "budget": {"trials": 2 * TRIALS},
        "parallelism": 4,
        "strategy": {"name": "asha"},
    }
    with httpx.Client(base_url=running.url, timeout=120) as http:
        study = str(http.post("/v1/studies", json=spec).raise_for_status().json()["id"])
        for begin in range(0, TRIALS, CHUNK):
            trials = [
                {
                    "params": {"lr": 1e-5 * 1.005**number, "width": 1 + number},
                    "curve": [
                        {"step": step, "metrics": {"loss": 2.0 + (number % 97) / 97 + 3.0 / step}}
                        for step in range(1, POINTS + 1)
                    ],
                }
                for number in range(begin, begin + CHUNK)
            ]
            http.post(f"/v1/studies/{study}/import", json={"trials": trials}).raise_for_status()
    return study


def run() -> tuple[Table, Table]:
    """Median seconds of each read, and resident memory before and after."""
    with stack(programs=("service.api", "service.scheduler")) as running:
        time.sleep(2.0)
        idle = {name: running.memory_mb(name) for name in running.programs}
        study = fill(running)
        reads = {
            "list studies": "/v1/studies",
            "open": f"/v1/studies/{study}",
            "summarise": f"/v1/studies/{study}/summary",
            "list 100 trials": f"/v1/studies/{study}/trials?limit=100",
            "list 100 trials, best first": f"/v1/studies/{study}/trials?limit=100&sort=best_value",
            "one trial with curve": f"/v1/studies/{study}/trials/1000",
            "curves, 200 lines": f"/v1/studies/{study}/curves?max_points=50&max_lines=200",
            "study page": f"/studies/{study}",
        }
        times = Table(title=f"Reads with {TRIALS:,} trials x {POINTS} points (SQLite)")
        times.add_column("read")
        times.add_column("median ms", justify="right")
        times.add_column("KiB", justify="right")
        with httpx.Client(base_url=running.url, timeout=60) as http:
            for what, path in reads.items():
                seconds, size = [], 0
                for _ in range(REPEATS):
                    begin = time.perf_counter()
                    size = len(http.get(path).raise_for_status().content)
                    seconds.append(time.perf_counter() - begin)
                times.add_row(what, f"{1e3 * statistics.median(seconds):.1f}", f"{size / 1024:.0f}")
        memory = Table(title="Memory of the service, MiB (unique set size, children included)")
        for heading in ("program", "idle", f"with {TRIALS:,} trials"):
            memory.add_column(heading, justify="left" if heading == "program" else "right")
        for name in running.programs:
            memory.add_row(name, f"{idle[name]:.0f}", f"{running.memory_mb(name):.0f}")
    return times, memory
