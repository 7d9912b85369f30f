"""Trials and runs outside of any worker: create, continue, stop."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import select

from service.db import events, runs
from service.db.engine import Database
from service.db.models import RunRow

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_new_trial_waits_with_one_queued_run(database: Database, make_study) -> None:
    with database.write() as session:
        study = make_study(session)
        key = study.key
        first = runs.create_trial(
            session, study, {"lr": 0.1}, target=3, origin="strategy", reason="why", now=NOW
        )
        second = runs.create_trial(
            session, study, {"lr": 0.2}, target=3, origin="strategy", reason="why", now=NOW
        )
        assert (first.number, second.number, study.next_trial, study.version) == (1, 2, 3, 3)
    with database.read() as session:
        run = session.scalars(select(RunRow).order_by(RunRow.id)).first()
        assert run is not None
        assert (run.state, run.start_step, run.target_step, run.number) == ("queued", 0, 3, 1)
        kinds = [(e.kind, e.trial) for e in events.read(session, after=0, study_key=key, limit=10)]
        assert kinds == [("trial.queued", 1), ("trial.queued", 2)]


def test_locking_a_study_keeps_what_was_changed_before(database: Database, make_study) -> None:
    with database.write() as session:
        study = make_study(session)
        study.state_reason = "changed"
        runs.lock(session, study)
        assert study.state_reason == "changed"
