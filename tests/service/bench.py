"""A worker that does what a test says, on a real database with a clock of the test's own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from service.db import ends, events, leases, reports, runs
from service.db.engine import Database
from service.db.models import MeasurementRow, TrialRow
from trimtab.wire.states import Verdict
from trimtab.wire.work import Assignment, Capacity, EndRequest, LeaseRequest, Report, ReportsRequest

START = datetime(2026, 1, 1, tzinfo=UTC)


class Bench:
    """A database, a clock, and a worker that does what a test says."""

    def __init__(self, database: Database, make_study: Any) -> None:
        self.database = database
        self.make_study = make_study
        self.now = START

    def study(self, *, trials: int = 1, target: int = 10, **changes: Any) -> int:
        with self.database.write() as session:
            study = self.make_study(session, **changes)
            for number in range(trials):
                runs.create_trial(
                    session,
                    study,
                    {"lr": 0.1 + number / 1000},
                    target=target,
                    origin="strategy",
                    reason="a test",
                    now=self.now,
                )
            return int(study.id)

    def lease(
        self, most: int = 1, *, worker: str = "w", incarnation: str = "1", **free: Any
    ) -> list[Assignment]:
        request = LeaseRequest(
            worker=worker,
            incarnation=incarnation,
            free=Capacity(**({"cpus": 100} | free)),
            max_runs=most,
        )
        with self.database.write() as session:
            return leases.lease(session, request, self.now).assignments

    def report(self, token: int, seq: int, *points: tuple[int, float], **more: Any) -> tuple[str, str]:
        measurements = [{"step": step, "metrics": {"loss": value}} for step, value in points]
        report = Report.model_validate({"token": token, "seq": seq, "measurements": measurements} | more)
        with self.database.write() as session:
            (reply,) = reports.record(session, ReportsRequest(reports=[report]), self.now).replies
        return reply.verdict.value, reply.reason

    def end(self, token: int, outcome: str, step: int, **more: Any) -> tuple[bool, str]:
        request = EndRequest.model_validate({"token": token, "outcome": outcome, "step": step} | more)
        with self.database.write() as session:
            response = ends.end(session, request, self.now)
        return response.accepted, response.trial_state

    def fail(self, token: int, kind: str, step: int = 0) -> tuple[bool, str]:
        failure = {"kind": kind, "message": f"it was {kind}", "output_tail": "last words"}
        return self.end(token, "failed", step, failure=failure)

    def wish(self, trial: int, verdict: Verdict) -> None:
        with self.database.write() as session:
            runs.wish(session, session.get_one(TrialRow, trial), verdict, "a person", self.now)

    def get(self, kind: Any, **where: Any) -> Any:
        (row,) = self.all(kind, **where)
        return row

    def all(self, kind: Any, **where: Any) -> list[Any]:
        with self.database.read() as session:
            key = kind.__table__.primary_key.columns
            rows = list(session.scalars(select(kind).filter_by(**where).order_by(*key)))
            session.expunge_all()
            return rows

    def curve(self, trial: int) -> list[tuple[int, float | None]]:
        with self.database.read() as session:
            rows = session.execute(
                select(MeasurementRow.step, MeasurementRow.value)
                .where(MeasurementRow.trial_id == trial)
                .order_by(MeasurementRow.step)
            )
            return [(row.step, row.value) for row in rows]

    def kinds(self) -> list[str]:
        with self.database.read() as session:
            return [e.kind for e in events.read(session, after=0, study_key=None, limit=500)]


def saved(step: int, uri: str | None = None) -> dict[str, Any]:
    return {"step": step, "uri": uri or f"mem://step-{step}", "bytes": 7}
