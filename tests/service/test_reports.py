"""What attempts report: what is stored, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from service.db import imports, reports, runs
from service.db.models import AttemptRow, StudyRow, TrialRow
from tests.service.bench import Bench
from trimtab.wire.work import ImportRequest, ReportsRequest


def test_reports_are_stored_once_and_stale_tokens_change_nothing(bench: Bench) -> None:
    bench.study()
    (work,) = bench.lease()
    assert bench.report(work.token, 1, (1, 1.0))[0] == "continue"
    assert bench.report(work.token, 1, (1, 9.0))[0] == "continue"  # the answer was lost: sent again
    assert bench.report(work.token, 1, (2, 9.0))[0] == "continue"  # an old number says nothing new
    assert bench.curve(1) == [(1, 1.0)]
    bench.end(work.token, "finished", 10)
    before = bench.get(TrialRow), bench.get(AttemptRow), bench.kinds()
    assert bench.report(work.token, 2, (5, 0.1))[0] == "lost"
    assert bench.end(work.token, "failed", 5) == (False, "completed")
    assert bench.report(999, 1, (5, 0.1))[0] == "lost"
    assert bench.end(999, "finished", 5) == (False, "")
    after = bench.get(TrialRow), bench.get(AttemptRow), bench.kinds()
    assert [vars_of(row) for row in before[:2]] == [vars_of(row) for row in after[:2]]
    assert before[2] == after[2]


def vars_of(row: Any) -> dict[str, Any]:
    return {column.name: getattr(row, column.name) for column in row.__table__.columns}


def test_a_metric_may_come_at_the_end_only_but_it_must_come(bench: Bench) -> None:
    bench.study(trials=2, parallelism=2)
    first, second = bench.lease(2)
    other = [{"step": 1, "metrics": {"accuracy": 0.5}}]
    assert bench.report(first.token, 1, measurements=other) == ("continue", "")
    assert bench.curve(1) == [(1, None)]
    bench.report(first.token, 2, (10, 1.0))
    assert bench.end(first.token, "finished", 10) == (True, "completed")
    bench.report(second.token, 1, measurements=other)
    assert bench.end(second.token, "finished", 10) == (True, "failed")
    trial = bench.get(TrialRow, number=2)
    assert trial.failure_kind == "invalid"
    assert "'loss' was never reported" in trial.failure_message


def test_a_bad_report_in_a_batch_harms_its_own_trial_only(bench: Bench) -> None:
    bench.study(trials=2, parallelism=2)
    first, second = bench.lease(2)
    batch = ReportsRequest.model_validate(
        {
            "reports": [
                {
                    "token": first.token,
                    "seq": 1,
                    "measurements": [
                        {"step": 2, "metrics": {"loss": 1.0}},
                        {"step": 2, "metrics": {"loss": 1.0}},
                    ],
                },
                {"token": second.token, "seq": 1, "measurements": [{"step": 1, "metrics": {"loss": 1.0}}]},
                {"token": 999, "seq": 1},
            ]
        }
    )
    with bench.database.write() as session:
        replies = reports.record(session, batch, bench.now).replies
    assert [r.verdict for r in replies] == ["stop", "continue", "lost"]
    assert "step 2 follows step 2" in replies[0].reason
    assert (bench.curve(1), bench.curve(2)) == ([], [(1, 1.0)])
    assert bench.end(first.token, "finished", 2) == (True, "failed")
    assert bench.get(TrialRow, number=1).failure_kind == "invalid"


def test_a_curve_has_an_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trimtab.wire.limits.MAX_CURVE_POINTS", 3)
    bench.study(fidelity={"max": 3})
    (work,) = bench.lease()
    assert bench.report(work.token, 1, (1, 1.0), (2, 1.0), (3, 1.0))[0] == "continue"
    verdict, reason = bench.report(work.token, 2, (4, 1.0))
    assert (verdict, "more than 3 points" in reason) == ("stop", True)


@pytest.mark.parametrize(
    ("limit", "value", "reason"), [(3, 1.0, "more than 3 points"), (100, 9.0, "diverged")]
)
def test_an_imported_curve_counts_when_its_trial_is_trained_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, limit: int, value: float, reason: str
) -> None:
    monkeypatch.setattr("trimtab.wire.limits.MAX_CURVE_POINTS", limit)
    study = bench.study(
        trials=0, fidelity={"max": 10, "report_every": 5}, stopping=[{"rule": "divergence", "factor": 4}]
    )
    curve = [{"step": 1, "metrics": {"loss": 2.0}}, {"step": 2, "metrics": {"loss": 3.0}}]
    imported = ImportRequest.model_validate({"trials": [{"params": {"lr": 0.1}, "curve": curve}]})
    with bench.database.write() as session:
        row = session.get_one(StudyRow, study)
        imports.import_trials(session, row.key, imported, bench.now)
        trial = session.scalars(select(TrialRow)).one()
        assert (trial.points, trial.first_value) == (2, 2.0)
        runs.queue_run(session, row, trial, target=5, reason="a test", now=bench.now)
    (work,) = bench.lease()
    assert bench.report(work.token, 1, (3, 3.0))[0] == "continue"
    verdict, why = bench.report(work.token, 2, (4, value))
    assert (verdict, reason in why) == ("stop", True)


def test_an_imported_curve_counts_its_improvements_as_a_reported_one(bench: Bench) -> None:
    rules = [{"rule": "patience", "reports": 9, "min_delta": 0.1}]
    study = bench.study(stopping=rules)
    values = [1.0, 0.95, 0.5, float("nan")]
    (work,) = bench.lease()
    bench.report(work.token, 1, *enumerate(values, start=1))
    points = [{"step": step, "metrics": {"loss": value}} for step, value in enumerate(values[:2], start=1)]
    points += [{"step": 3, "metrics": {"loss": 0.45}}]
    rows = [{"params": {"lr": 0.1}, "curve": points[:2]}, {"params": {"lr": 0.1}, "curve": points}]
    with bench.database.write() as session:
        request = ImportRequest.model_validate({"trials": rows})
        imports.import_trials(session, session.get_one(StudyRow, study).key, request, bench.now)
    reported, short, long = bench.all(TrialRow)
    assert (reported.since_best, reported.best_value, reported.value) == (1, 0.5, None)
    assert (short.since_best, short.best_value) == (1, 0.95)
    assert (long.since_best, long.best_value) == (0, 0.45)
