"""The cursor of live views: nothing is missed and nothing is seen twice, whoever commits when."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select, text

from service.db import events
from service.db.engine import Database
from service.db.models import EventRow, StudyRow
from trimtab.wire.views import Event

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def follow(
    database: Database, after: int = 0, study_key: str | None = None, limit: int = 100
) -> list[Event]:
    with database.read() as session:
        return events.read(session, after=after, study_key=study_key, limit=limit)


def test_events_are_read_in_order_by_study_and_page(database: Database, make_study: Any) -> None:
    with database.write() as session:
        studies = [make_study(session), make_study(session)]
        keys = [study.key for study in studies]
        for number in range(4):
            events.append(
                session, studies[number % 2], "study.note", trial=number, data={"n": number}, now=NOW
            )
    assert [event.data["n"] for event in follow(database)] == [0, 1, 2, 3]
    mine = follow(database, study_key=keys[1])
    assert [(event.study, event.trial, event.kind) for event in mine] == [
        (keys[1], 1, "study.note"),
        (keys[1], 3, "study.note"),
    ]
    assert [event.trial for event in follow(database, after=mine[0].id, study_key=keys[1])] == [3]
    assert [event.trial for event in follow(database, limit=2)] == [0, 1]
    assert follow(database, study_key="nothing") == []


def test_a_late_commit_is_not_passed(database: Database, make_study: Any) -> None:
    """A transaction that got its id first commits last, while one that began before it has ended."""
    with database.write() as session:
        study_id = make_study(session).id
    if database.is_sqlite:
        return  # one writer at a time: nothing can commit between an append and its commit
    with database.write() as early:
        early.execute(text("SELECT pg_current_xact_id()"))  # begins first, appends second
        with database.write() as late:
            study = late.get_one(StudyRow, study_id)
            events.append(late, study, "study.note", data={"n": 1}, now=NOW)
            events.append(early, early.get_one(StudyRow, study_id), "study.note", data={"n": 2}, now=NOW)
            early.commit()
            assert follow(database) == []  # 2 is committed, but 1 is still to come
        assert [event.data["n"] for event in follow(database)] == [1, 2]


def test_an_event_that_never_comes_does_not_hold_up_the_others(database: Database, make_study: Any) -> None:
    with database.write() as session:
        study_id = make_study(session).id
    with database.write() as session:
        events.append(session, session.get_one(StudyRow, study_id), "study.note", data={"n": 1}, now=NOW)
        session.rollback()
    with database.write() as session:
        events.append(session, session.get_one(StudyRow, study_id), "study.note", data={"n": 2}, now=NOW)
    assert [event.data["n"] for event in follow(database)] == [2]


def test_a_reader_that_follows_busy_writers_misses_nothing(database: Database, make_study: Any) -> None:
    with database.write() as session:
        study_id = make_study(session).id
    writers = 4
    rounds = 40

    def write(writer: int) -> None:
        for number in range(rounds):
            with database.write() as session:
                study = session.get_one(StudyRow, study_id)
                for part in range(2):
                    events.append(session, study, "study.note", data={"n": [writer, number, part]}, now=NOW)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(writers)]
    for thread in threads:
        thread.start()
    seen: list[int] = []
    while any(thread.is_alive() for thread in threads):
        seen += [event.id for event in follow(database, after=seen[-1] if seen else 0)]
        time.sleep(0.002)  # or it holds the interpreter's lock against the writers
    while more := follow(database, after=seen[-1] if seen else 0):
        seen += [event.id for event in more]
    with database.read() as session:
        assert seen == list(session.scalars(select(EventRow.id).order_by(EventRow.id)))
    assert len(seen) == writers * rounds * 2
