"""Whole studies: real search, real databases, a fake worker."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import select

from search.space import SearchSpace
from search.view import Fidelity, StudyView, TrialView
from service.db import ends, events, leases, reports, studies
from service.db.engine import Database
from service.db.models import AttemptRow, DecisionRow, MeasurementRow, ProcessRow, StudyRow, TrialRow
from service.loops.deciders import Decided, DeciderProcesses, timed_decide
from service.loops.suggest import Suggest
from service.loops.upkeep import Complete, Reap
from trimtab.wire.states import FailureKind, Verdict
from trimtab.wire.views import ExtendRequest
from trimtab.wire.work import (
    Assignment,
    Capacity,
    EndRequest,
    Failure,
    LeaseRequest,
    Measurement,
    Report,
    ReportsRequest,
    SavedCheckpoint,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
ROUND = timedelta(seconds=1)
ENDED = {"completed", "stopped", "paused", "failed"}


def loss(lr: float, step: int) -> float:
    """A curve that falls towards a floor that is lowest at lr = 0.01."""
    return (math.log10(lr) + 2) ** 2 + 1 / step


class FakeWorker:
    """Trains every run it can get, one reporting interval per round."""

    def __init__(self, database: Database, name: str = "worker", slots: int = 8) -> None:
        self._database = database
        self._name = name
        self._slots = slots
        self._work: dict[int, tuple[Assignment, int, int]] = {}
        """By token: the assignment, the step it stands at, the last report's number."""
        self.started: list[Assignment] = []

    def round(self, now: datetime) -> None:
        """Lease what fits, then train everything to its next measurement."""
        if len(self._work) < self._slots:
            self._lease(now)
        for token in list(self._work):
            self._train(token, now)

    def _lease(self, now: datetime) -> None:
        free = self._slots - len(self._work)
        request = LeaseRequest(
            worker=self._name,
            incarnation="1",
            free=Capacity(cpus=free, gpus=free),
            max_runs=free,
            lease_seconds=30,
        )
        with self._database.write() as session:
            assignments = leases.lease(session, request, now).assignments
        for assignment in assignments:
            self._work[assignment.token] = (assignment, assignment.start_step, 0)
            self.started.append(assignment)

    def _train(self, token: int, now: datetime) -> None:
        assignment, step, seq = self._work[token]
        step = min(step + assignment.report_every, assignment.target_step)
        lr = assignment.params["lr"]
        assert isinstance(lr, float)
        measurement = Measurement(step=step, metrics={assignment.metric: loss(lr, step)})
        report = Report(token=token, seq=seq + 1, measurements=[measurement])
        self._work[token] = (assignment, step, seq + 1)
        with self._database.write() as session:
            reply = reports.record(session, ReportsRequest(reports=[report]), now).replies[0]
        if reply.verdict is Verdict.LOST:
            del self._work[token]
        elif reply.verdict is not Verdict.CONTINUE or step == assignment.target_step:
            uri = f"memory:///{assignment.trial}/{token}"
            request = EndRequest(
                token=token, outcome="finished", step=step, checkpoint=SavedCheckpoint(step=step, uri=uri)
            )
            with self._database.write() as session:
                ends.end(session, request, now)
            del self._work[token]


class Inline:
    """Decides at once, in this process."""

    def submit(self, view: StudyView, slots: int, seed: int) -> Future[Decided]:
        future: Future[Decided] = Future()
        future.set_result(timed_decide(view, slots, seed))
        return future


def drive(database: Database, worker: FakeWorker, *schedulers: Suggest, rounds: int = 2_000) -> datetime:
    """Run until every study is complete; the moment it was."""
    complete = Complete(database)
    now = START
    for _ in range(rounds):
        now += ROUND
        for scheduler in schedulers:
            scheduler.tick(now)
        worker.round(now)
        complete.tick(now)
        with database.read() as session:
            if set(session.scalars(select(StudyRow.state))) == {"completed"}:
                return now
    raise AssertionError("the study does not end")


def trials_of(database: Database) -> list[TrialRow]:
    with database.read() as session:
        trials = list(session.scalars(select(TrialRow).order_by(TrialRow.number)))
        session.expunge_all()
    return trials


def check_curves(database: Database) -> None:
    """Every trial was measured at each step up to its own, once."""
    with database.read() as session:
        for trial in session.scalars(select(TrialRow)):
            steps = session.scalars(
                select(MeasurementRow.step)
                .where(MeasurementRow.trial_id == trial.id)
                .order_by(MeasurementRow.step)
            ).all()
            assert list(steps) == list(range(1, trial.step + 1))


def test_sobol_trains_every_trial_to_the_end(database: Database, make_study: Any) -> None:
    with database.write() as session:
        make_study(session, strategy={"name": "sobol"}, budget={"trials": 9})
    drive(database, FakeWorker(database), Suggest(database, Inline()))
    trials = trials_of(database)
    assert [trial.state for trial in trials] == ["completed"] * 9
    assert len({trial.params["lr"] for trial in trials}) == 9
    check_curves(database)
    with database.read() as session:
        study = session.scalars(select(StudyRow)).one()
        assert study.state_reason == "the budget of trials is spent"
        best = session.get_one(TrialRow, study.best_trial_id)
        assert best.best_value == min(trial.best_value for trial in trials if trial.best_value is not None)
        kinds = session.scalars(select(DecisionRow.kind).order_by(DecisionRow.id)).all()
        assert kinds == ["launch"] * 9 + ["finish"]


@pytest.mark.parametrize("strategy", ["asha", "hyperband"])
def test_early_stopping_pauses_promotes_and_ends(
    database: Database, make_study: Any, strategy: str
) -> None:
    with database.write() as session:
        make_study(
            session,
            strategy={"name": strategy},
            fidelity={"min": 1, "max": 9},
            budget={"trials": 18},
            parallelism=4,
        )
    worker = FakeWorker(database)
    drive(database, worker, Suggest(database, Inline()))
    trials = trials_of(database)
    assert len(trials) == 18
    assert {trial.state for trial in trials} <= ENDED
    assert any(trial.state == "completed" for trial in trials)
    assert sum(trial.trained for trial in trials) < 18 * 9, "something was stopped early"
    check_curves(database)
    resumed = [a for a in worker.started if a.run > 1]
    assert resumed
    assert all(a.checkpoint is not None and a.checkpoint.step == a.start_step > 0 for a in resumed)
    with database.read() as session:
        decided = session.scalars(select(DecisionRow)).all()
        assert {row.kind for row in decided} >= {"launch", "continue", "finish"}
        assert all(row.reason for row in decided)


def test_the_same_history_gives_the_same_decisions(databases: Any, make_study: Any) -> None:
    seen = []
    for _ in range(2):
        database = Database(databases.url("sqlite"))
        with database.write() as session:
            make_study(session, strategy={"name": "asha"}, budget={"trials": 8}, seeds={"search": 5})
        drive(database, FakeWorker(database), Suggest(database, Inline()))
        with database.read() as session:
            columns = (DecisionRow.kind, DecisionRow.seed, DecisionRow.reason, DecisionRow.version)
            decided = [tuple(row) for row in session.execute(select(*columns).order_by(DecisionRow.id))]
        seen.append((decided, [trial.params for trial in trials_of(database)]))
        database.dispose()
    assert seen[0] == seen[1]


@pytest.mark.parametrize("strategy", ["sobol", "asha"])
def test_two_schedulers_start_no_trial_twice(database: Database, make_study: Any, strategy: str) -> None:
    with database.write() as session:
        make_study(session, strategy={"name": strategy}, budget={"trials": 12}, parallelism=3)
    worker = FakeWorker(database)
    drive(database, worker, Suggest(database, Inline()), Suggest(database, Inline()))
    trials = trials_of(database)
    assert [trial.number for trial in trials] == list(range(1, 13))
    check_curves(database)
    with database.read() as session:
        launched = session.scalars(select(DecisionRow.trial_id).where(DecisionRow.kind == "launch")).all()
    assert sorted(launched) == [trial.id for trial in trials]


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"fidelity": 35}, None),
        ({"wall_clock_seconds": 15}, "budget spent: 15 seconds of wall clock"),
        ({"gpu_hours": 20 / 3600}, "budget spent"),
        ({"target": 0.3}, "target 0.3 reached"),
    ],
)
def test_a_budget_ends_the_study(
    database: Database, make_study: Any, limits: dict[str, float], reason: str | None
) -> None:
    with database.write() as session:
        make_study(session, strategy={"name": "sobol"}, budget=limits, resources={"cpus": 1, "gpus": 1})
    worker = FakeWorker(database)
    drive(database, worker, Suggest(database, Inline()))
    trials = trials_of(database)
    assert {trial.state for trial in trials} <= ENDED
    check_curves(database)
    with database.read() as session:
        study = session.scalars(select(StudyRow)).one()
        assert study.active_since is None
        if reason is None:
            assert sum(trial.trained for trial in trials) == 30, "a fourth trial needs more than is left"
        else:
            assert study.state_reason.startswith(reason)


def test_an_extended_study_goes_on(database: Database, make_study: Any) -> None:
    with database.write() as session:
        make_study(session, strategy={"name": "asha"}, budget={"trials": 4})
    worker, suggest = FakeWorker(database), Suggest(database, Inline())
    drive(database, worker, suggest)
    with database.write() as session:
        study = session.scalars(select(StudyRow)).one()
        study.spec = study.spec | {"budget": {"trials": 7}}
        study.state, study.version, study.active_since = "running", study.version + 1, START
    drive(database, worker, suggest)
    assert len(trials_of(database)) == 7
    check_curves(database)


def test_a_study_that_measured_nothing_has_failed(database: Database, make_study: Any) -> None:
    with database.write() as session:
        make_study(session, strategy={"name": "sobol"}, budget={"trials": 2})
    suggest, complete = Suggest(database, Inline()), Complete(database)
    failure = Failure(kind=FailureKind.INVALID, message="there is no such script")
    lease = LeaseRequest(worker="worker", incarnation="1", free=Capacity(cpus=8, gpus=8), max_runs=8)
    for _ in range(4):
        suggest.tick(START)
        suggest.tick(START)
        with database.write() as session:
            for run in leases.lease(session, lease, START).assignments:
                request = EndRequest(token=run.token, outcome="failed", step=0, failure=failure)
                ends.end(session, request, START)
        complete.tick(START)
    with database.read() as session:
        study = session.scalars(select(StudyRow)).one()
        assert study.state == "failed"
        assert "nothing was measured; the last trial to fail: invalid, there is no such script" in (
            study.state_reason
        )
        assert events.read(session, after=0, study_key=study.key, limit=100)[-1].kind == "study.failed"


@pytest.mark.parametrize("strategy", ["asha", "hyperband", "sobol"])
def test_what_a_spent_budget_interrupts_is_finished_first_when_it_is_extended(
    database: Database, make_study: Any, strategy: str
) -> None:
    with database.write() as session:
        make_study(
            session,
            strategy={"name": strategy},
            budget={"wall_clock_seconds": 17, "trials": 9},
            fidelity={"min": 3, "max": 27},
            parallelism=3,
        )
    worker, suggest = FakeWorker(database), Suggest(database, Inline())
    drive(database, worker, suggest)
    cut = {trial.number: trial for trial in trials_of(database) if trial.step < trial.target_step}
    assert cut
    assert {trial.state for trial in cut.values()} == {"paused"}
    begun = len(worker.started)
    with database.write() as session:
        study = session.scalars(select(StudyRow)).one()
        now = START + timedelta(seconds=1)
        studies.extend(session, study.key, ExtendRequest(wall_clock_seconds=10_000), now)
    drive(database, worker, suggest)
    resumed = worker.started[begun : begun + len(cut)]
    assert {run.trial: run.target_step for run in resumed} == {n: t.target_step for n, t in cut.items()}
    assert all(run.start_step == cut[run.trial].step for run in resumed)
    assert not [trial for trial in trials_of(database) if trial.step < trial.target_step]
    check_curves(database)


def test_a_silent_workers_runs_are_trained_again(database: Database, make_study: Any) -> None:
    with database.write() as session:
        make_study(session, strategy={"name": "sobol"}, budget={"trials": 4})
    suggest = Suggest(database, Inline())
    silent = FakeWorker(database, "silent")
    for _ in range(3):
        suggest.tick(START)
        silent.round(START)
    Reap(database).tick(START + timedelta(seconds=31))
    with database.read() as session:
        assert set(session.scalars(select(AttemptRow.state))) == {"lost"}
    drive(database, FakeWorker(database), suggest)
    assert [trial.state for trial in trials_of(database)] == ["completed"] * 4
    check_curves(database)


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
