"""A study along a parameter: only what is trained at its highest value can be the best."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select

from service import specs
from service.db import completion, imports, reads, runs, views
from service.db.models import ImprovementRow, StudyRow, TrialRow
from service.errors import InvalidError
from tests.service.bench import Bench
from tests.service.conftest import study_spec
from trimtab.wire.work import ImportRequest

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SIZED: dict[str, Any] = {
    "space": {
        "lr": {"type": "float", "low": 0.001, "high": 1.0, "log": True},
        "width": {"type": "int", "low": 64, "high": 256, "log": True},
    },
    "strategy": {"name": "mf-bo", "options": {"along": "width"}},
}


@pytest.fixture
def sized(bench: Bench) -> tuple[Bench, StudyRow]:
    """Trial 1 is a proxy, trial 2 is trained at the target."""
    with bench.database.write() as session:
        study = bench.make_study(session, **SIZED)
        for width in (64, 256):
            runs.create_trial(
                session,
                study,
                {"lr": 0.1, "width": width},
                target=10,
                origin="strategy",
                reason="a test",
                now=NOW,
            )
    return bench, bench.get(StudyRow)


def test_a_proxy_never_becomes_the_best(sized: tuple[Bench, StudyRow]) -> None:
    bench, study = sized
    small, large = bench.lease(2)
    bench.report(small.token, 1, (5, 0.1))
    assert bench.get(StudyRow).best_value is None
    bench.report(large.token, 1, (5, 0.7))
    bench.report(small.token, 2, (10, 0.05))
    bench.report(large.token, 2, (10, 0.6))
    (found,) = bench.all(StudyRow)
    assert found.best_value == 0.6
    assert [row.value for row in bench.all(ImprovementRow)] == [0.7, 0.6]
    with bench.database.read() as session:
        best = reads.best(session, study.key)
    assert best is not None
    assert best.number == 2
    assert best.params["width"] == 256


def test_imported_proxies_do_not_either(sized: tuple[Bench, StudyRow]) -> None:
    bench, study = sized
    rows = [
        {"params": {"lr": 0.2, "width": width}, "curve": [{"step": 10, "metrics": {"loss": loss}}]}
        for width, loss in ((64, 0.1), (256, 0.5), (128, 0.2))
    ]
    with bench.database.write() as session:
        imports.import_trials(session, study.key, ImportRequest.model_validate({"trials": rows}), NOW)
    assert bench.get(StudyRow).best_value == 0.5


def test_proxies_are_measurements_all_the_same(sized: tuple[Bench, StudyRow]) -> None:
    """A study whose trials at the target have all failed has not measured nothing."""
    bench, study = sized
    with bench.database.read() as session:
        assert not completion.measured(session, session.get_one(StudyRow, study.id))
    small, _ = bench.lease(2)
    bench.report(small.token, 1, (5, 0.1))
    with bench.database.read() as session:
        assert completion.measured(session, session.get_one(StudyRow, study.id))


def test_search_is_told_the_seconds_that_the_workers_measured(sized: tuple[Bench, StudyRow]) -> None:
    bench, study = sized
    curves = views.Curves()

    def seconds() -> list[float]:
        with bench.database.read() as session:
            found = views.build(session, session.get_one(StudyRow, study.id), curves)
            fresh = views.build(session, session.get_one(StudyRow, study.id))
        assert found == fresh
        return [trial.seconds for trial in found.trials]

    small, large = bench.lease(2)
    assert seconds() == [0.0, 0.0]
    for seq, step in enumerate((4, 8), start=1):
        point = {"step": step, "metrics": {"loss": 1.0}}
        bench.report(small.token, seq, measurements=[point | {"seconds": 2.5 * step}])
        bench.report(large.token, seq, measurements=[point])
        assert seconds() == [2.5 * step, 0.0]
    # One that times nothing is taken for what it held its resources, once it has ended.
    with bench.database.write() as session:
        trial = session.scalars(select(TrialRow).where(TrialRow.number == 2)).one()
        trial.seconds = 90.0
    assert seconds() == [20.0, 0.0]
    with bench.database.write() as session:
        trial = session.scalars(select(TrialRow).where(TrialRow.number == 2)).one()
        trial.state = "paused"
    assert seconds() == [20.0, 90.0]


@pytest.mark.parametrize("rule", [{"rule": "median"}, {"rule": "predicted"}])
def test_rules_that_compare_curves_are_refused(rule: dict[str, Any]) -> None:
    patience = {"rule": "patience", "reports": 3}
    with pytest.raises(InvalidError) as caught:
        specs.check(study_spec(**SIZED, stopping=[patience, rule]))
    (problem,) = caught.value.errors
    assert problem.pointer == "/stopping/1"
    assert "different values of width" in problem.message
    specs.check(study_spec(**SIZED, stopping=[patience]))


def test_constraints_must_leave_something_at_the_value_that_counts() -> None:
    layers = {"type": "int", "low": 1, "high": 9}
    sized = {
        "space": {**SIZED["space"], "layers": layers, "width": {"type": "int", "low": 1, "high": 9}},
        "strategy": SIZED["strategy"],
    }
    with pytest.raises(InvalidError) as caught:
        specs.check(study_spec(**sized, constraints=["width + layers <= 9"]))
    (problem,) = caught.value.errors
    assert problem.pointer == "/strategy/options/along"
    assert "no legal configuration has width 9" in problem.message
    specs.check(study_spec(**sized, constraints=["width + layers <= 10"]))
