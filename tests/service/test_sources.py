"""Earlier studies: how search is told of them, and what cannot be named."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from search.decide import decide
from search.decision import Launch
from search.view import Fidelity
from service import specs
from service.db import decisions, reads, sources, studies, views
from service.db.engine import Database
from service.db.models import DecisionRow, StudyRow, TrialRow
from service.errors import InvalidError
from tests.service.bench import Bench
from tests.service.conftest import study_spec

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def add_results(session: Session, study: StudyRow, *results: dict[str, Any]) -> None:
    rows = [
        {
            "study_id": study.id,
            "number": number,
            "state": "completed",
            "params": {"lr": 0.01 * number},
            "origin": "strategy",
            "first_target": 10,
            "target_step": 10,
            "step": 10,
            "runs": 1,
            "failures": {},
            "created_at": NOW,
            "best_value": float(number),
            "failure_kind": None,
            **result,
        }
        for number, result in enumerate(results, start=1)
    ]
    session.execute(insert(TrialRow), rows)
    study.best_value = 1.0
    session.flush()


def source_with(database: Database, make_study: Any, *results: dict[str, Any], **changes: Any) -> str:
    with database.write() as session:
        study = make_study(session, **{"name": "old"} | changes)
        add_results(session, study, *results)
        return str(study.key)


def create(database: Database, *named: str, **changes: Any) -> str:
    spec = study_spec(**changes, warm_start={"studies": list(named)})
    with database.write() as session:
        return studies.create(session, spec, key=f"new{len(named)}", now=NOW).key


def refused(database: Database, *named: str, **changes: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidError) as error:
        create(database, *named, **changes)
    return [(problem.pointer, problem.message) for problem in error.value.errors]


def test_search_sees_what_sources_came_to(database: Database, make_study: Any) -> None:
    key = source_with(
        database,
        make_study,
        {},
        {"state": "paused", "step": 3},
        {"state": "failed", "failure_kind": "diverged"},
        {"state": "failed", "failure_kind": "out_of_memory", "best_value": None},
        {"state": "failed", "failure_kind": "crash"},
        {"state": "failed", "failure_kind": "crash", "best_value": None},
        {"state": "queued", "best_value": None, "step": 0},
        metric={"name": "accuracy", "direction": "maximize"},
        fidelity={"unit": "epochs", "min": 2, "max": 30},
    )
    other = source_with(database, make_study, {}, name="another")
    create(database, other, key)
    with database.read() as session:
        study = session.scalars(select(StudyRow).where(StudyRow.key == "new2")).one()
        second, first = views.build(session, study).sources
    assert (first.name, first.fidelity, first.maximize) == ("old", Fidelity(2, 30, 1, "epochs"), True)
    assert [(t.params["lr"], t.step) for t in first.trials] == [
        (0.01, 10),
        (0.02, 3),
        (0.03, 10),
        (0.04, 10),
        (0.05, 10),
    ]
    values = [trial.value for trial in first.trials]
    assert (values[0], values[1], values[4]) == (1.0, 2.0, 5.0)
    assert math.isnan(values[2])
    assert math.isnan(values[3])
    assert (second.name, second.maximize) == ("another", False)


@pytest.mark.parametrize(("direction", "best"), [("minimize", [11, 12]), ("maximize", [19, 20])])
def test_of_a_large_source_the_first_and_the_best_are_read(
    database: Database, make_study: Any, monkeypatch: pytest.MonkeyPatch, direction: str, best: list[int]
) -> None:
    monkeypatch.setattr(sources, "MOST_TRIALS", 2)
    many = [{"best_value": float(n) if n > 10 else 15.0} for n in range(1, 21)]
    metric = {"name": "score", "direction": direction}
    key = source_with(database, make_study, *many, metric=metric)
    with database.read() as session:
        (source,) = sources.read(session, study_spec(warm_start={"studies": [key]}))
    assert [round(float(trial.params["lr"]) * 100) for trial in source.trials] == [1, 2, *best]


def test_what_broke_the_limits_of_a_source_is_not_tried(bench: Bench) -> None:
    """The best loss of the source was too slow: what is tried first is the best that was not."""
    limits = [{"metric": "ms", "at_most": 20}]
    source = bench.study(trials=3, parallelism=3, limits=limits, strategy={"name": "random"})
    for assignment, ms in zip(bench.lease(3), (31, 5, 6), strict=True):
        metrics = {"loss": float(assignment.params["lr"]), "ms": ms}
        bench.report(assignment.token, 1, measurements=[{"step": 10, "metrics": metrics}])
        bench.end(assignment.token, "finished", 10)
    create(bench.database, bench.get(StudyRow, id=source).key)
    with bench.database.read() as session:
        study = session.scalars(select(StudyRow).where(StudyRow.key == "new1")).one()
        (told,) = views.build(session, study).sources
        answer = decide(views.build(session, study), 2, 0)
    assert [trial.params["lr"] for trial in told.trials] == pytest.approx([0.101, 0.102])
    tried = [d.params["lr"] for d in answer.decisions if isinstance(d, Launch)]
    assert tried == pytest.approx([0.101, 0.102])


def test_a_deleted_source_teaches_nothing_more(database: Database, make_study: Any) -> None:
    key = source_with(database, make_study, {})
    create(database, key)
    with database.read() as session:
        (shown,) = reads.study_detail(session, "new1", NOW).sources
        assert (shown.id, shown.name) == (key, "old")
    with database.write() as session:
        studies.delete(session, key)
    with database.read() as session:
        study = session.scalars(select(StudyRow)).one()
        assert views.build(session, study).sources == ()
        (shown,) = reads.study_detail(session, "new1", NOW).sources
        assert (shown.id, shown.name) == (key, None)


def test_what_cannot_be_learned_from_is_named(database: Database, make_study: Any) -> None:
    good = source_with(database, make_study, {})
    turned = source_with(database, make_study, {}, metric={"name": "loss", "direction": "maximize"})
    width = {"width": {"type": "int", "low": 1, "high": 9}}
    foreign = source_with(database, make_study, {}, space=width)
    beyond = {"lr": {"type": "float", "low": 2.0, "high": 3.0}}
    outside = source_with(database, make_study, {}, space=beyond)
    with database.write() as session:
        empty = make_study(session, name="empty").key
    found = refused(database, good, "nobody", turned, foreign, outside, empty)
    assert [pointer for pointer, _ in found] == [f"/warm_start/studies/{at}" for at in range(1, 6)]
    words = ["no study with the id nobody", "maximizes loss", "shares no parameter", "shares no parameter"]
    for (_, message), expected in zip(found, [*words, "no finite measurement"], strict=True):
        assert expected in message
    with database.read() as session:
        assert session.scalars(select(StudyRow).where(StudyRow.name == "test")).all() == []


def test_another_metric_may_have_another_direction(database: Database, make_study: Any) -> None:
    key = source_with(database, make_study, {}, metric={"name": "accuracy", "direction": "maximize"})
    create(database, key)
    with database.read() as session:
        assert reads.study_detail(session, "new1", NOW).sources[0].id == key


def test_the_same_key_gives_the_same_study_when_its_source_is_gone(
    database: Database, make_study: Any
) -> None:
    source = source_with(database, make_study, {})
    spec = study_spec(warm_start={"studies": [source]})
    with database.write() as session:
        studies.create(session, spec, key="one", idempotency_key="k", now=NOW)
    with database.write() as session:
        studies.delete(session, source)
    with database.write() as session:
        again = studies.create(session, spec, key="two", idempotency_key="k", now=NOW)
    assert (again.key, again.new) == ("one", False)


def test_the_service_runs_no_warm_starter() -> None:
    with pytest.raises(InvalidError) as error:
        specs.check(study_spec(warm_start={"function": "mine:first"}))
    (problem,) = error.value.errors
    assert problem.pointer == "/warm_start/function"
    assert "trimtab submit" in problem.suggestion


def test_the_best_of_a_source_are_the_first_trials(database: Database, make_study: Any) -> None:
    results = [{"best_value": abs(n - 7.0)} for n in range(1, 13)]
    key = source_with(database, make_study, *results)
    create(database, key, strategy={"name": "curve-bo"})
    with database.read() as session:
        study = session.scalars(select(StudyRow).where(StudyRow.key == "new1")).one()
        question = decisions.question(session, study.id, curves=views.Curves(), attempt=0, now=NOW)
    assert question is not None
    answer = decide(question.view, question.slots, question.seed)
    with database.write() as session:
        assert decisions.apply(session, question, answer, seconds=0.1, now=NOW)
    with database.read() as session:
        reasons = session.scalars(select(DecisionRow.reason).order_by(DecisionRow.id)).all()
        mine = select(TrialRow.params).join(StudyRow, StudyRow.id == TrialRow.study_id)
        first = session.scalars(mine.where(StudyRow.key == "new1").order_by(TrialRow.number)).first()
    assert len(reasons) == 2
    assert all("the study 'old'" in reason for reason in reasons)
    assert first is not None
    assert first["lr"] == pytest.approx(0.07, rel=0.3)
