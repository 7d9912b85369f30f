"""The scheduler's own processes: killed, replaced, kept out of each other's way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import select

from search.space import SearchSpace
from search.view import Fidelity, StudyView, TrialView
from service.db.engine import Database
from service.db.models import ProcessRow, StudyRow
from service.loops.deciders import DeciderProcesses
from service.loops.suggest import Suggest
from tests.service.fake_worker import ENDED, ROUND, START, FakeWorker, check_curves, trials_of


@pytest.fixture
def processes() -> Iterator[DeciderProcesses]:
    deciders = DeciderProcesses()
    yield deciders
    deciders.close()


def test_decisions_of_a_real_process_survive_its_death(
    databases: Any, make_study: Any, processes: DeciderProcesses
) -> None:
    database = Database(databases.url("sqlite"))
    with database.write() as session:
        make_study(session, strategy={"name": "asha"}, budget={"trials": 12})
    suggest, worker = Suggest(database, processes), FakeWorker(database)
    now, killed, errors = START, False, set()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        now += ROUND
        suggest.tick(now)
        if suggest.deciding:
            suggest.wait(1.0)
        worker.round(now)
        with database.read() as session:
            study = session.scalars(select(StudyRow)).one()
            errors.add(study.decide_error)
            if study.state == "completed":
                break
        if not killed and len(trials_of(database)) >= 4:
            killed = True
            for child in psutil.Process().children():
                if "spawn_main" in " ".join(child.cmdline()):
                    child.kill()
                    child.wait(10)
    assert killed
    assert [trial.number for trial in trials_of(database)] == list(range(1, 13))
    assert all(error is None or error.startswith("BrokenProcessPool") for error in errors)
    check_curves(database)
    database.dispose()


def test_a_slow_strategy_does_not_hold_up_a_quick_one(processes: DeciderProcesses) -> None:
    """They decide in processes of their own: bo's imports alone take seconds."""
    sobol = StudyView(
        space=SearchSpace.from_json({"lr": {"type": "float", "low": 0.0, "high": 1.0}}),
        fidelity=Fidelity(min=1, max=9, report_every=1),
        maximize=False,
        strategy="sobol",
    )
    measured = tuple(
        TrialView(number, {"lr": number / 10}, "completed", (9,), (float(number),), 9, 9, 9)
        for number in range(1, 10)
    )
    assert processes.submit(sobol, 1, 0).result(60).answer.decisions  # its process is up
    slow = processes.submit(replace(sobol, strategy="bo", trials=measured), 1, 0)
    quick = processes.submit(sobol, 1, 0)
    assert quick.result(30).answer.decisions
    assert not slow.done()


class SchedulerProcess:
    """The real scheduler on a database."""

    def __init__(self, url: str, home: Path) -> None:
        root = Path(__file__).parents[2]
        environ = os.environ | {
            "TRIMTAB_DATABASE_URL": url,
            "TRIMTAB_HOME": str(home),
            "PYTHONPATH": f"{root}{os.pathsep}{root / 'client'}",
        }
        self.process = subprocess.Popen([sys.executable, "-m", "service.scheduler"], env=environ, cwd=home)

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, number: signal.Signals) -> float:
        """Send a signal; the seconds until the process and all it started were gone."""
        family = self.children()
        start = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(30)
        _, alive = psutil.wait_procs(family, timeout=10)
        assert not alive, "a process outlives the scheduler"
        return time.monotonic() - start


def test_a_killed_scheduler_is_replaced_in_the_middle_of_a_study(
    databases: Any, make_study: Any, tmp_path: Path
) -> None:
    url = databases.url("sqlite")
    database = Database(url)
    with database.write() as session:
        make_study(session, strategy={"name": "asha"}, budget={"trials": 20}, parallelism=4)
    worker = FakeWorker(database)

    def work_until(done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not done():
            assert time.monotonic() < deadline
            worker.round(datetime.now(UTC))
            time.sleep(0.005)

    def completed() -> bool:
        with database.read() as session:
            return session.scalars(select(StudyRow.state)).one() == "completed"

    first = SchedulerProcess(url, tmp_path)
    try:
        work_until(lambda: len(trials_of(database)) >= 6)
    finally:
        first.end(signal.SIGKILL)
    assert not completed()
    second = SchedulerProcess(url, tmp_path)
    try:
        work_until(completed)
        with database.read() as session:
            heartbeat = session.scalars(select(ProcessRow).where(ProcessRow.kind == "scheduler")).one()
            assert heartbeat.detail == {"pid": second.process.pid}
    finally:
        seconds = second.end(signal.SIGTERM)
    assert second.process.returncode == 0
    assert seconds < 10, "a signal ends it at once, on a busy machine too"
    trials = trials_of(database)
    assert [trial.number for trial in trials] == list(range(1, 21))
    assert {trial.state for trial in trials} <= ENDED
    check_curves(database)
    database.dispose()
