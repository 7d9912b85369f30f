"""How an answer of search becomes trials and runs, and when it comes too late."""

from __future__ import annotations

from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from search.decision import Answer, Continue, Finish, Launch, Stop
from search.view import StudyView
from service.db import decisions, events, runs
from service.db.engine import Database
from service.db.models import DecisionRow, RunRow, StudyRow, TrialRow
from service.db.views import Curves
from service.errors import ConflictError
from service.loops.deciders import Decided, timed_decide
from service.loops.suggest import Pace, Suggest

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def ask(database: Database, attempt: int = 0) -> decisions.Question:
    with database.read() as session:
        study = session.scalars(select(StudyRow)).one()
        question = decisions.question(session, study.id, curves=Curves(), attempt=attempt, now=NOW)
    assert question is not None
    return question


def apply(database: Database, question: decisions.Question, *answer: Any, diagnostics: Any = None) -> bool:
    with database.write() as session:
        return decisions.apply(session, question, Answer(answer, diagnostics or {}), seconds=0.5, now=NOW)


def launch(target: int = 10) -> Launch:
    return Launch({"lr": 0.1}, target, "because")


@pytest.mark.parametrize(
    ("strategy", "load", "slots"),
    [
        ("asha", 0.0, 4),
        ("asha", 0.03, 4),
        ("asha", 0.2, 5),
        ("asha", 1.2, 7),
        ("asha", 50.0, 8),
        ("sobol", 0.0, 8),
    ],
)
def test_some_slots_are_filled_ahead_where_workers_would_wait_for_decisions(
    database: Database, make_study: Any, strategy: str, load: float, slots: int
) -> None:
    make(database, make_study, strategy={"name": strategy}, parallelism=4)
    with database.read() as session:
        study = session.scalars(select(StudyRow)).one()
        asked = decisions.question(session, study.id, curves=Curves(), attempt=0, now=NOW, load=load)
    assert asked is not None
    assert asked.slots == slots


def test_the_pace_of_a_study_says_how_much_of_the_time_it_is_decided() -> None:
    pace = Pace()
    for number in range(40):
        assert pace.load == 0.0 or number >= 2
        pace.ask(NOW + timedelta(seconds=2 * number))
        pace.decide(0.3)
    assert pace.load == pytest.approx(0.15)


def make(database: Database, make_study: Any, **changes: Any) -> str:
    with database.write() as session:
        return str(make_study(session, **changes).key)


def end_trial(database: Database, number: int, state: str = "paused") -> None:
    """What the end of an attempt does, without a worker."""
    with database.write() as session:
        study = session.scalars(select(StudyRow)).one()
        trial = session.scalars(select(TrialRow).where(TrialRow.number == number)).one()
        run = session.scalars(
            select(RunRow).where(RunRow.trial_id == trial.id).order_by(RunRow.id.desc())
        ).first()
        assert run is not None
        run.state, trial.state = "finished", state
        study.version += 1


def test_an_answer_is_carried_out_and_recorded(database: Database, make_study: Any) -> None:
    key = make(database, make_study, parallelism=4, strategy={"name": "sobol"})
    question = ask(database)
    assert (question.version, question.slots) == (1, 8)  # as many again ahead of time
    assert apply(database, question, launch(5), launch(5), diagnostics={"rung": 1})
    end_trial(database, 1)
    question = ask(database)
    assert question.slots == 7
    assert apply(database, question, Continue(1, 9, "good"), Stop(2, "bad"))

    with database.read() as session:
        study = session.scalars(select(StudyRow)).one()
        assert study.decided_version == question.version < study.version
        trials = session.scalars(select(TrialRow).order_by(TrialRow.number)).all()
        assert [(t.state, t.state_reason, t.target_step) for t in trials] == [
            ("queued", "good", 9),
            ("stopped", "bad", 5),
        ]
        rows = session.scalars(select(DecisionRow).order_by(DecisionRow.id)).all()
        assert [(r.kind, r.trial_id, r.target_step, r.reason, r.version) for r in rows] == [
            ("launch", trials[0].id, 5, "because", 1),
            ("launch", trials[1].id, 5, "because", 1),
            ("continue", trials[0].id, 9, "good", question.version),
            ("stop", trials[1].id, None, "bad", question.version),
        ]
        assert rows[0].diagnostics == {"rung": 1}
        assert (rows[0].seconds, rows[0].strategy, rows[0].at) == (0.5, "sobol", NOW)
        assert [r.seed for r in rows] == [rows[0].seed] * 2 + [question.seed] * 2
        assert rows[0].seed != question.seed
        kinds = [e.kind for e in events.read(session, after=0, study_key=key, limit=100)]
        assert kinds.count("decision") == 4


def test_the_seed_is_a_function_of_the_history(database: Database, make_study: Any) -> None:
    make(database, make_study, seeds={"search": 3})
    first = ask(database)
    assert first.seed == ask(database).seed
    assert ask(database, attempt=1).seed != first.seed
    assert 0 <= first.seed < 2**63
    apply(database, first, launch())
    assert ask(database).seed != first.seed


def test_an_answer_that_two_schedulers_give_is_carried_out_once(
    database: Database, make_study: Any
) -> None:
    make(database, make_study)
    one, other = ask(database), ask(database)
    assert apply(database, one, launch())
    assert not apply(database, other, launch())
    with database.read() as session:
        assert len(session.scalars(select(TrialRow)).all()) == 1
        assert len(session.scalars(select(DecisionRow)).all()) == 1


def test_launches_outlive_the_end_of_a_trial_but_nothing_else_does(
    database: Database, make_study: Any
) -> None:
    make(database, make_study, parallelism=4, budget={"trials": 4})
    assert apply(database, ask(database), launch(1), launch(1))
    question = ask(database)
    end_trial(database, 1)
    assert not apply(database, question, Stop(1, "too bad"))
    assert not apply(database, question, Finish("done"))
    assert not apply(database, question)
    assert not apply(database, question, *[launch()] * 3), "one trial above the budget"
    assert apply(database, question, launch(), launch())
    with database.read() as session:
        assert len(session.scalars(select(TrialRow)).all()) == 4


def test_launches_do_not_outlive_their_slots(database: Database, make_study: Any) -> None:
    make(database, make_study, parallelism=2)
    question = ask(database)
    with database.write() as session:
        study = session.scalars(select(StudyRow)).one()
        runs.create_trial(
            session, study, {"lr": 0.5}, target=10, origin="enqueued", reason="a person's", now=NOW
        )
    assert not apply(database, question, launch(), launch())
    assert apply(database, question, launch())


@pytest.mark.parametrize("state", ["paused", "cancelled"])
def test_nothing_is_started_in_a_study_that_does_not_run(
    database: Database, make_study: Any, state: str
) -> None:
    make(database, make_study)
    question = ask(database)
    with database.write() as session:
        session.scalars(select(StudyRow)).one().state = state
    assert not apply(database, question, launch())
    with database.read() as session:
        study = session.scalars(select(StudyRow)).one()
        assert session.scalars(select(TrialRow)).all() == []
        assert decisions.question(session, study.id, curves=Curves(), attempt=0, now=NOW) is None


def test_a_deleted_study_takes_no_answer(database: Database, make_study: Any) -> None:
    make(database, make_study)
    question = ask(database)
    with database.write() as session:
        session.delete(session.scalars(select(StudyRow)).one())
    assert not apply(database, question, launch())


def test_a_decision_that_the_state_forbids_writes_nothing(database: Database, make_study: Any) -> None:
    make(database, make_study)
    assert apply(database, ask(database), launch(5))
    for wrong in (Continue(1, 9, "not paused"), Stop(7, "no such trial")):
        with pytest.raises(ConflictError):
            apply(database, ask(database), launch(), wrong)
    with database.read() as session:
        assert len(session.scalars(select(TrialRow)).all()) == 1
        assert len(session.scalars(select(DecisionRow)).all()) == 1


def test_finish_waits_for_what_is_active(database: Database, make_study: Any) -> None:
    key = make(database, make_study)
    apply(database, ask(database), launch())
    assert apply(database, ask(database), Finish("all done"))
    with database.read() as session:
        study = session.scalars(select(StudyRow)).one()
        assert study.state == "running"
        assert study.decided_version == study.version
    end_trial(database, 1, "completed")
    assert apply(database, ask(database), Finish("all done"))
    with database.read() as session:
        study = session.scalars(select(StudyRow)).one()
        assert (study.state, study.state_reason, study.ended_at) == ("completed", "all done", NOW)
        rows = session.scalars(select(DecisionRow).where(DecisionRow.kind == "finish")).all()
        assert [row.reason for row in rows] == ["all done"]
        assert events.read(session, after=0, study_key=key, limit=100)[-1].kind == "study.completed"


class Inline:
    """Decides at once, in this process; raises the errors it was given first."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.seeds: list[int] = []

    def submit(self, view: StudyView, slots: int, seed: int) -> Future[Decided]:
        future: Future[Decided] = Future()
        self.seeds.append(seed)
        if self.errors:
            future.set_exception(self.errors.pop(0))
        else:
            future.set_result(timed_decide(view, slots, seed))
        return future


def test_a_strategy_that_raises_is_shown_and_asked_again_ever_later(
    database: Database, make_study: Any
) -> None:
    key = make(database, make_study, strategy={"name": "sobol"})
    deciders = Inline(ValueError("no fit"), ValueError("no fit"), ValueError("still no fit"))
    suggest = Suggest(database, deciders)
    asked = []
    for decisecond in range(100):
        suggest.tick(NOW + timedelta(seconds=decisecond / 10))
        asked.append(len(deciders.seeds))
    # Asked at 0 s; an error is seen a tick later, and from then on it waits for 1 s, 2 s and 4 s.
    assert [asked.index(n) for n in (1, 2, 3, 4)] == [0, 11, 32, 73]
    assert len(set(deciders.seeds[:4])) == 4, "another seed for every try"
    with database.read() as session:
        study = session.scalars(select(StudyRow)).one()
        assert study.decide_error is None, "cleared by the decision that worked"
        assert len(session.scalars(select(TrialRow)).all()) == 4
        told = [
            e.data["message"]
            for e in events.read(session, after=0, study_key=key, limit=100)
            if e.kind == "study.decide_error"
        ]
        assert told == ["ValueError: no fit", "ValueError: still no fit"]


def test_the_error_stands_until_a_decision_works(database: Database, make_study: Any) -> None:
    make(database, make_study)
    suggest = Suggest(database, Inline(RuntimeError("boom")))
    suggest.tick(NOW)
    suggest.tick(NOW)
    with database.read() as session:
        assert session.scalars(select(StudyRow)).one().decide_error == "RuntimeError: boom"


def test_a_study_that_search_cannot_read_does_not_hold_up_the_others(
    database: Database, make_study: Any
) -> None:
    with database.write() as session:
        broken = make_study(session)
        broken.spec = broken.spec | {"strategy": {"name": "sobel"}}
        good = make_study(session, strategy={"name": "sobol"})
        broken_id, good_id = broken.id, good.id
    suggest = Suggest(database, Inline())
    suggest.tick(NOW)
    suggest.tick(NOW)
    with database.read() as session:
        error = session.get_one(StudyRow, broken_id).decide_error
        assert error is not None
        assert "sobel" in error
        assert len(session.scalars(select(TrialRow).where(TrialRow.study_id == good_id)).all()) == 4


def test_a_full_study_is_not_asked_about(database: Database, make_study: Any) -> None:
    make(database, make_study, strategy={"name": "sobol"}, parallelism=1)
    deciders = Inline()
    suggest = Suggest(database, deciders)
    for _ in range(5):
        suggest.tick(NOW)
    assert len(deciders.seeds) == 1
    end_trial(database, 1, "completed")
    for _ in range(5):
        suggest.tick(NOW)
    assert len(deciders.seeds) == 2
