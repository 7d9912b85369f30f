"""What search prunes is kept, said in an event, shown to search again, and taken back by a person."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from search.decision import Answer, Launch
from search.pruning import Pruning
from service.db import decisions, events, reads, studies, views
from service.db.engine import Database
from service.db.models import StudyRow
from tests.service.conftest import NOW

FIRST = Pruning(40, {"depth": 3}, {"lr": (0.01, 0.1)}, {"depth": "frozen: 0.1%", "lr": "narrowed to 33%"})
SPACE = {
    "lr": {"type": "float", "low": 0.001, "high": 1.0, "log": True},
    "depth": {"type": "int", "low": 1, "high": 9},
}


class Pruned:
    """A study that may be pruned, and what is done to it."""

    def __init__(self, database: Database, make_study: Any, **changes: Any) -> None:
        self.database = database
        with database.write() as session:
            study = make_study(session, space=SPACE, parallelism=50, **changes)
            self.key, self.study_id = study.key, study.id

    def ask(self) -> decisions.Question:
        with self.database.read() as session:
            question = decisions.question(session, self.study_id, curves=views.Curves(), attempt=0, now=NOW)
        assert question is not None
        return question

    def answer(self, question: decisions.Question, pruning: Pruning | None) -> bool:
        launch = Launch({"lr": 0.05, "depth": 3}, 10, "a reason")
        with self.database.write() as session:
            return decisions.apply(
                session, question, Answer((launch,), pruning=pruning), seconds=0.1, now=NOW
            )

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        with self.database.read() as session:
            found = events.read(session, after=0, study_key=self.key, limit=100)
        return [(event.kind, event.data) for event in found if "prun" in event.kind]

    def row(self) -> StudyRow:
        with self.database.read() as session:
            session.expire_on_commit = False
            row = session.scalars(select(StudyRow).where(StudyRow.id == self.study_id)).one()
            session.expunge(row)
        return row


def test_what_is_pruned_is_kept_and_said_once(database: Database, make_study: Any) -> None:
    study = Pruned(database, make_study, prune=True)
    question = study.ask()
    assert (question.view.prune, question.view.pruning) == (True, None)
    assert study.answer(question, FIRST)
    question = study.ask()
    assert question.view.pruning == FIRST
    later = Pruning(50, FIRST.frozen, FIRST.ranges, FIRST.reasons)
    assert study.answer(question, later)  # as before: no news
    question = study.ask()
    assert question.view.pruning == later
    assert study.answer(question, None)
    assert study.ask().view.pruning == later
    assert study.events() == [("study.pruned", FIRST.to_json())]
    with database.read() as session:
        shown = reads.study_detail(session, study.key, NOW).pruning
    assert shown is not None
    assert (shown.frozen, shown.ranges) == ({"depth": 3}, {"lr": (0.01, 0.1)})


def test_a_person_takes_it_back(database: Database, make_study: Any) -> None:
    study = Pruned(database, make_study, prune=True)
    assert study.answer(study.ask(), FIRST)
    late = study.ask()
    with database.write() as session:
        studies.unprune(session, study.key, NOW)
        studies.unprune(session, study.key, NOW)  # changes nothing
    row = study.row()
    assert (row.pruning, row.spec["prune"]) == (None, False)
    assert study.answer(late, Pruning(60, {"depth": 4}))  # its trial is good, its pruning is not wanted
    view = study.ask().view
    assert (view.prune, view.pruning, len(view.trials)) == (False, None, 2)
    with database.write() as session:
        studies.prune(session, study.key, NOW)
    view = study.ask().view
    assert (view.prune, view.pruning) == (True, None)
    assert [kind for kind, _ in study.events()] == ["study.pruned", "study.unpruned", "study.prune_allowed"]
