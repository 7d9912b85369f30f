"""A worker that trains by formula, and whole studies driven with it round by round."""

from __future__ import annotations

import math
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from search.view import StudyView
from service.db import ends, leases, reports
from service.db.engine import Database
from service.db.models import MeasurementRow, StudyRow, TrialRow
from service.loops.deciders import Decided, timed_decide
from service.loops.suggest import Suggest
from service.loops.upkeep import Complete
from trimtab.wire.states import Verdict
from trimtab.wire.work import (
    Assignment,
    Capacity,
    EndRequest,
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

    def value(self, assignment: Assignment, step: int) -> float:
        """What it measures at ``step``."""
        lr = assignment.params["lr"]
        assert isinstance(lr, float)
        return loss(lr, step)

    def metrics(self, assignment: Assignment, step: int) -> dict[str, float]:
        """All that it measures at ``step``."""
        return {assignment.metric: self.value(assignment, step)}

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
        measurement = Measurement(step=step, metrics=self.metrics(assignment, step))
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


class SeededWorker(FakeWorker):
    """What it measures depends on the seed; test seeds are 10 worse, so that they are told apart."""

    def value(self, assignment: Assignment, step: int) -> float:
        lr, seed = assignment.params["lr"], assignment.training_seed
        assert isinstance(lr, float)
        return loss(lr, step) + 0.01 * math.sin(seed + 7 * lr) + (10 if seed >= 100 else 0)


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
