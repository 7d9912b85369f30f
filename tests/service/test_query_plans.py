"""Every statement of the life cycle finds its rows by an index, on both databases."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, event, select

from service.db import checkpoints, ends, events, leases, reports, runs
from service.db.engine import Database
from service.db.models import StudyRow, TrialRow
from trimtab.wire.states import Verdict
from trimtab.wire.work import (
    AskRequest,
    Capacity,
    EndRequest,
    LeaseRequest,
    RegisterRequest,
    ReportsRequest,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TABLES = "studies|trials|runs|attempts|measurements|checkpoints|events|processes|improvements"


@contextmanager
def recorded(database: Database) -> Iterator[dict[str, Any]]:
    """The statements executed meanwhile, each with one set of its parameters."""
    statements: dict[str, Any] = {}

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _x: Any, many: bool) -> None:
        if re.match(r"\s*(SELECT|UPDATE|DELETE)", statement):
            statements.setdefault(statement, parameters[0] if many else parameters)

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(database.engine, "before_cursor_execute", note)


def live(database: Database, make_study: Any) -> None:
    """Make every call of the life cycle once."""
    with database.write() as session:
        study = make_study(session, stopping=[{"rule": "median"}], checkpoints={"keep": "best"})
        asked = make_study(session, trainer={"name": "external"})
        for owner in (study, study, study, asked):
            runs.create_trial(
                session, owner, {"lr": 0.1}, target=3, origin="strategy", reason="a test", now=NOW
            )
        study_id, key, asked_key = study.id, study.key, asked.key
    with database.write() as session:
        leases.register(session, RegisterRequest(worker="w", incarnation="1"), NOW)
    later = NOW + timedelta(seconds=10)
    with database.write() as session:
        request = LeaseRequest(worker="w", incarnation="1", free=Capacity(cpus=9), max_runs=2)
        first, second = leases.lease(session, request, later).assignments
        leases.ask(session, asked_key, AskRequest(), later)
    for seq in (1, 2, 3):
        request_reports = ReportsRequest.model_validate(
            {
                "reports": [
                    {
                        "token": work.token,
                        "seq": seq,
                        "measurements": [{"step": seq, "metrics": {"loss": 9.0 / seq}}],
                        "checkpoint": {"step": seq, "uri": f"mem://{work.token}/{seq}"},
                    }
                    for work in (first, second)
                ]
            }
        )
        with database.write() as session:
            reports.record(session, request_reports, later + timedelta(seconds=10 * seq))
    with database.write() as session:
        ends.end(session, EndRequest(token=first.token, outcome="finished", step=3), later)
        ends.end(session, EndRequest(token=second.token, outcome="failed", step=3), later)
    with database.write() as session:
        row = session.get_one(StudyRow, study_id)
        trial = session.scalars(select(TrialRow).where(TrialRow.id == 1)).one()
        runs.queue_run(session, row, trial, target=9, reason="more", now=later)
        runs.wish(session, trial, Verdict.STOP, "enough", later)
        leases.register(session, RegisterRequest(worker="w", incarnation="2"), later)
        leases.expire(session, later + timedelta(days=1))
        checkpoints.release(session, row, later)
        checkpoints.done(session, [item.id for item in checkpoints.garbage(session)])
    with database.read() as session:
        events.read(session, after=3, study_key=key, limit=10)
        events.read(session, after=3, study_key=None, limit=10)
    with database.write() as session:
        checkpoints.abandon(session, session.get_one(StudyRow, study_id))


def sqlite_scans(connection: Connection, statement: str, parameters: Any) -> list[str]:
    plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
    return [row[3] for row in plan if re.match(rf"SCAN ({TABLES})(_\d+)?\b", row[3])]


def postgresql_scans(connection: Connection, statement: str, parameters: Any) -> list[str]:
    (plan,) = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalar_one()
    found: list[str] = []

    def walk(node: dict[str, Any]) -> None:
        name, relation = node["Node Type"], node.get("Relation Name") or node.get("Index Name", "")
        whole_table = name == "Seq Scan" and re.fullmatch(TABLES, relation)
        whole_index = "Index" in name and "Index Cond" not in node
        if whole_table or whole_index:
            found.append(f"{name} on {relation}")
        for child in node.get("Plans", ()):
            walk(child)

    walk(plan["Plan"])
    return found


def test_no_statement_reads_a_whole_table(database: Database, make_study: Any) -> None:
    with recorded(database) as statements:
        live(database, make_study)
    assert len(statements) > 25
    unindexed = "SELECT number FROM trials WHERE label = 'x'"
    scans: dict[str, list[str]] = {}
    with database.engine.connect() as connection:
        if not database.is_sqlite:  # tables this small would be read whole for good reasons
            connection.exec_driver_sql("SET enable_seqscan = off")
        look = sqlite_scans if database.is_sqlite else postgresql_scans
        assert look(connection, unindexed, ())  # the check itself can fail
        for statement, parameters in statements.items():
            if found := look(connection, statement, parameters):
                scans[statement] = found
    assert scans == {}
