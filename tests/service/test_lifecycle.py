"""One run from lease to result, on both databases: every way an attempt can end."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from search.decide import decide
from service.db import (
    checkpoints,
    completion,
    decisions,
    ends,
    events,
    imports,
    leases,
    reports,
    runs,
    studies,
    trials,
    views,
)
from service.db.engine import Database
from service.db.models import (
    AttemptRow,
    CheckpointRow,
    ImprovementRow,
    MeasurementRow,
    RunRow,
    StudyRow,
    TrialRow,
)
from service.errors import ConflictError, InvalidError, NotFoundError
from tests.service.conftest import study_spec
from trimtab.wire.states import TrialState, Verdict
from trimtab.wire.views import ContinueRequest, EnqueueRequest, ExtendRequest
from trimtab.wire.work import (
    AskRequest,
    Assignment,
    Capacity,
    EndRequest,
    ImportRequest,
    LeaseRequest,
    RegisterRequest,
    Report,
    ReportsRequest,
    UploadedFolder,
)

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


@pytest.fixture
def bench(database: Database, make_study: Any) -> Iterator[Bench]:
    return Bench(database, make_study)


def saved(step: int, uri: str | None = None) -> dict[str, Any]:
    return {"step": step, "uri": uri or f"mem://step-{step}", "bytes": 7}


def test_a_new_trial_waits_with_one_queued_run(database: Database, make_study: Any) -> None:
    with database.write() as session:
        study = make_study(session)
        key = study.key
        first = runs.create_trial(
            session, study, {"lr": 0.1}, target=3, origin="strategy", reason="why", now=START
        )
        second = runs.create_trial(
            session, study, {"lr": 0.2}, target=3, origin="strategy", reason="why", now=START
        )
        assert (first.number, second.number, study.next_trial, study.version) == (1, 2, 3, 3)
    with database.read() as session:
        run = session.scalars(select(RunRow).order_by(RunRow.id)).first()
        assert run is not None
        assert (run.state, run.start_step, run.target_step, run.number) == ("queued", 0, 3, 1)
        kinds = [(e.kind, e.trial) for e in events.read(session, after=0, study_key=key, limit=10)]
        assert kinds == [("trial.queued", 1), ("trial.queued", 2)]


def test_locking_a_study_keeps_what_was_changed_before(database: Database, make_study: Any) -> None:
    with database.write() as session:
        study = make_study(session)
        study.state_reason = "changed"
        runs.lock(session, study)
        assert study.state_reason == "changed"


def test_a_run_from_lease_to_completed(bench: Bench) -> None:
    study = bench.study(parallelism=1)
    (work,) = bench.lease()
    assert (work.trial, work.run, work.start_step, work.target_step, work.max_step) == (1, 1, 0, 10, 10)
    assert (work.metric, work.params, work.checkpoint) == ("loss", {"lr": 0.1}, None)
    bench.now += timedelta(seconds=3)
    assert bench.report(work.token, 1, (1, 3.0), (2, 2.0)) == ("continue", "")
    assert bench.report(work.token, 2, (10, 2.5)) == ("continue", "")
    bench.now += timedelta(seconds=3)
    assert bench.end(work.token, "finished", 10, checkpoint=saved(10)) == (True, "completed")
    trial = bench.get(TrialRow)
    assert (trial.step, trial.value, trial.best_value, trial.best_step) == (10, 2.5, 2.0, 2)
    assert (trial.since_best, trial.points, trial.first_value) == (1, 3, 3.0)
    assert (trial.trained, trial.seconds) == (10, 6.0)
    row = bench.get(StudyRow, id=study)
    assert (row.best_value, row.best_trial_id) == (2.0, trial.id)
    improvements = bench.all(ImprovementRow)
    assert [(i.step, i.value, i.fidelity, i.seconds) for i in improvements] == [(2, 2.0, 2, 3.0)]
    assert bench.get(RunRow).end_step == 10
    assert bench.kinds() == [
        "trial.queued",
        "trial.running",
        "measurements",
        "study.best",
        "measurements",
        "checkpoint.saved",
        "trial.completed",
    ]


def test_a_target_below_the_full_fidelity_pauses_and_goes_on_from_its_checkpoint(bench: Bench) -> None:
    study = bench.study(target=3)
    (work,) = bench.lease()
    bench.report(work.token, 1, (3, 1.0))
    assert bench.end(work.token, "finished", 3, checkpoint=saved(3)) == (True, "paused")
    assert bench.get(CheckpointRow).refs == 1
    with bench.database.write() as session:
        row = session.get_one(StudyRow, study)
        trial = session.scalars(select(TrialRow)).one()
        with pytest.raises(ConflictError, match="trained to step 3"):
            runs.queue_run(session, row, trial, target=3, reason="again", now=bench.now)
        runs.queue_run(session, row, trial, target=20, reason="promoted", now=bench.now)
        with pytest.raises(ConflictError, match="trial 1 is queued: wait for its run"):
            runs.queue_run(session, row, trial, target=30, reason="promoted", now=bench.now)
    assert bench.get(CheckpointRow).refs == 2
    (more,) = bench.lease()
    assert (more.run, more.start_step, more.target_step, more.max_step) == (2, 3, 20, 10)
    assert more.checkpoint is not None
    assert more.checkpoint.uri == "mem://step-3"
    bench.report(more.token, 1, (20, 0.5), checkpoint=saved(20))
    first, second = sorted(bench.all(CheckpointRow), key=lambda c: c.step)
    assert (first.state, second.state, second.refs) == ("garbage", "ready", 2)
    assert bench.end(more.token, "finished", 20) == (True, "completed")
    assert bench.curve(1) == [(3, 1.0), (20, 0.5)]
    assert bench.get(TrialRow).trained == 20


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


def test_a_lease_that_runs_out_is_retried_from_the_newest_checkpoint(bench: Bench) -> None:
    bench.study(retries={"lost": 1})
    (work,) = bench.lease()
    bench.report(work.token, 1, (1, 5.0), (2, 4.0), checkpoint=saved(2))
    bench.report(work.token, 2, (3, 3.0))
    bench.now += timedelta(seconds=29)
    with bench.database.write() as session:
        assert leases.expire(session, bench.now) == 0
    bench.now += timedelta(seconds=2)
    with bench.database.write() as session:
        assert leases.expire(session, bench.now) == 1
    assert bench.report(work.token, 3, (4, 0.0))[0] == "lost"  # a zombie
    (again,) = bench.lease()
    assert (again.run, again.start_step, again.token > work.token) == (1, 2, True)
    bench.report(again.token, 1, (3, 99.0), (4, 2.0))
    assert bench.curve(1) == [(1, 5.0), (2, 4.0), (3, 3.0), (4, 2.0)]
    trial = bench.get(TrialRow)
    assert (trial.trained, trial.retries, trial.failures) == (5, 1, {"lost": 1})
    bench.now += timedelta(seconds=60)
    with bench.database.write() as session:
        assert leases.expire(session, bench.now) == 1
    trial = bench.get(TrialRow)
    assert (trial.state, trial.failure_kind) == ("failed", "lost")
    assert bench.get(CheckpointRow).state == "garbage"


def test_a_dispatcher_that_starts_again_loses_its_attempts_at_once(bench: Bench) -> None:
    bench.study(trials=2)
    (mine,) = bench.lease()
    (other,) = bench.lease(worker="other")
    request = RegisterRequest(worker="w", incarnation="2")
    with bench.database.write() as session:
        leases.register(session, request, bench.now)
    assert bench.report(mine.token, 1)[0] == "lost"
    assert bench.report(other.token, 1)[0] == "continue"
    with pytest.raises(ConflictError, match="another process has registered"):
        bench.lease()
    (again,) = bench.lease(incarnation="2")
    assert again.trial == mine.trial
    with bench.database.write() as session:
        leases.register(session, request, bench.now)  # saying hello twice loses nothing
    assert bench.report(again.token, 1)[0] == "continue"


@pytest.mark.parametrize(
    ("kind", "allowed"), [("crash", 1), ("out_of_memory", 2), ("hang", 0), ("diverged", 0), ("invalid", 0)]
)
def test_failures_are_retried_by_kind(bench: Bench, kind: str, allowed: int) -> None:
    bench.study(retries={"crash": 1, "out_of_memory": 2, "hang": 0})
    for _ in range(allowed):
        (work,) = bench.lease()
        assert bench.fail(work.token, kind) == (True, "queued")
    (work,) = bench.lease()
    assert bench.fail(work.token, kind) == (True, "failed")
    trial = bench.get(TrialRow)
    assert (trial.failure_kind, trial.failure_message) == (kind, f"it was {kind}")
    assert (trial.failure_output, trial.retries) == ("last words", allowed)
    assert trial.failures == {kind: allowed + 1}
    assert bench.get(RunRow).state == "failed"
    assert bench.lease() == []


def test_a_released_run_is_queued_again_at_no_cost(bench: Bench) -> None:
    bench.study(retries={"lost": 0, "crash": 0})
    for _ in range(3):
        (work,) = bench.lease()
        assert bench.end(work.token, "released", 0) == (True, "queued")
    trial = bench.get(TrialRow)
    assert (trial.retries, trial.failures) == (0, {})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_metric_that_is_not_finite_is_a_divergence(bench: Bench, value: float) -> None:
    study = bench.study()
    (work,) = bench.lease()
    bench.report(work.token, 1, (1, 1.0))
    verdict, reason = bench.report(work.token, 2, (2, value))
    assert verdict == "stop"
    assert "diverged" in reason
    assert bench.end(work.token, "finished", 2) == (True, "failed")
    trial = bench.get(TrialRow)
    assert (trial.failure_kind, trial.best_value, trial.value) == ("diverged", 1.0, None)
    point = bench.get(MeasurementRow, step=2)
    assert (point.value, point.best) == (None, 1.0)
    assert float(point.metrics["loss"]) == value or value != value
    assert isinstance(point.metrics["loss"], str)
    assert bench.get(StudyRow, id=study).best_value == 1.0


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


@pytest.mark.parametrize(
    ("rule", "values", "state"),
    [
        ({"rule": "patience", "reports": 2}, [1.0, 2.0, 3.0], "stopped"),
        ({"rule": "divergence", "factor": 2}, [1.0, 2.5], "failed"),
        ({"rule": "divergence", "bound": 9}, [1.0, 9.5], "failed"),
        ({"rule": "target", "value": 0.5}, [1.0, 0.5], "completed"),
    ],
)
def test_local_rules_end_a_trial(
    bench: Bench, rule: dict[str, Any], values: list[float], state: str
) -> None:
    bench.study(stopping=[rule])
    (work,) = bench.lease()
    verdicts = [bench.report(work.token, i, (i, v))[0] for i, v in enumerate(values, start=1)]
    assert verdicts == ["continue"] * (len(values) - 1) + ["stop"]
    assert bench.end(work.token, "finished", len(values)) == (True, state)


def test_the_budgets_target_completes_a_trial(bench: Bench) -> None:
    bench.study(budget={"target": 0.5}, metric={"name": "loss", "direction": "maximize"})
    (work,) = bench.lease()
    assert bench.report(work.token, 1, (1, 0.4))[0] == "continue"
    assert bench.report(work.token, 2, (2, 0.6))[0] == "stop"
    assert bench.fail(work.token, "crash", 2) == (True, "completed")  # whatever happened after


def test_the_median_rule_compares_the_same_step(bench: Bench) -> None:
    bench.study(trials=4, parallelism=4, stopping=[{"rule": "median", "min_trials": 2, "grace": 2}])
    works = bench.lease(4)
    for work, value in zip(works, (1.0, 2.0, 3.0), strict=False):
        for step in (1, 2):
            assert bench.report(work.token, step, (step, value))[0] == "continue" or value == 3.0
    worst = works[3]
    assert bench.report(worst.token, 1, (1, 50.0))[0] == "continue"  # within the grace
    assert bench.report(worst.token, 2, (2, 50.0))[0] == "stop"
    assert bench.report(works[0].token, 3, (3, 60.0))[0] == "continue"  # its best is still the best


def test_a_person_stops_trials_in_every_state(bench: Bench) -> None:
    bench.study(trials=3, target=3, parallelism=2)
    running, paused = bench.lease(2)
    bench.report(paused.token, 1, (3, 1.0))
    bench.end(paused.token, "finished", 3, checkpoint=saved(3))
    for number in (1, 2, 3):
        bench.wish(number, Verdict.STOP)
    assert [t.state for t in bench.all(TrialRow)] == ["running", "stopped", "stopped"]
    assert bench.get(CheckpointRow).state == "garbage"
    assert bench.report(running.token, 1, (1, 1.0)) == ("stop", "a person")
    assert bench.end(running.token, "finished", 1) == (True, "stopped")
    with pytest.raises(ConflictError, match="trial 1 is stopped"):
        bench.wish(1, Verdict.STOP)
    assert [r.state for r in bench.all(RunRow)] == ["cancelled", "finished", "cancelled"]


def test_a_paused_run_queues_what_is_left(bench: Bench) -> None:
    bench.study(trials=2, parallelism=1)
    (work,) = bench.lease()
    bench.wish(1, Verdict.PAUSE)
    bench.wish(2, Verdict.PAUSE)  # it waits already
    assert bench.report(work.token, 1, (4, 1.0)) == ("pause", "a person")
    assert bench.end(work.token, "finished", 4, checkpoint=saved(4)) == (True, "queued")
    (rest,) = [r for r in bench.all(RunRow, trial_id=1) if r.state == "queued"]
    assert (rest.number, rest.start_step, rest.target_step) == (2, 4, 10)
    assert bench.get(CheckpointRow).refs == 2


def test_training_that_ends_by_itself_is_complete(bench: Bench) -> None:
    bench.study()
    (work,) = bench.lease()
    bench.report(work.token, 1, (4, 1.0))
    assert bench.end(work.token, "finished", 4) == (True, "completed")
    assert "by itself at step 4 of 10" in bench.get(TrialRow).state_reason


def test_the_end_may_bring_the_last_points(bench: Bench) -> None:
    bench.study()
    (work,) = bench.lease()
    last = [{"step": 10, "metrics": {"loss": 0.5}}]
    bench.end(work.token, "finished", 10, seq=1, measurements=last, checkpoint=saved(10))
    assert bench.curve(1) == [(10, 0.5)]
    assert bench.get(CheckpointRow).step == 10


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


def test_ask_and_tell(bench: Bench) -> None:
    study = bench.study(trials=2, trainer={"name": "external"}, parallelism=1)
    key = bench.get(StudyRow, id=study).key
    assert bench.lease() == []  # not for dispatchers

    def ask() -> Any:
        with bench.database.write() as session:
            return leases.ask(session, key, AskRequest(), bench.now)

    work = ask().assignment
    assert (work.trial, work.lease_seconds) == (1, None)
    nothing = ask()
    assert (nothing.assignment, nothing.reason) == (None, "all 1 slots of the study are taken")
    bench.report(work.token, 1, (5, 1.0))
    with pytest.raises(InvalidError) as refused:
        bench.report(work.token, 2, (6, 1.0), (6, 1.0))
    assert refused.value.errors[0].pointer == "/reports/0/measurements/1/step"
    late = [{"step": 5, "metrics": {"loss": 1.0}}]
    with pytest.raises(InvalidError) as refused:
        bench.end(work.token, "finished", 10, measurements=late)
    assert refused.value.errors[0].pointer == "/measurements/0/step"
    assert bench.report(work.token, 2, (6, 1.0))[0] == "continue"
    bench.now += timedelta(days=365)
    with bench.database.write() as session:
        assert leases.expire(session, bench.now) == 0
    assert bench.end(work.token, "finished", 10) == (True, "completed")
    assert ask().assignment.trial == 2
    with bench.database.write() as session:
        session.get_one(StudyRow, study).state = "paused"
    assert ask().reason == "the study is paused"
    with pytest.raises(NotFoundError), bench.database.write() as session:
        leases.ask(session, "nothing", AskRequest(), bench.now)


def test_a_study_whose_every_trial_fails_stops_itself(bench: Bench) -> None:
    study = bench.study(trials=8, parallelism=2, retries={"crash": 0})
    for _ in range(4):
        (work,) = bench.lease()
        bench.fail(work.token, "crash")
    fifth, sixth = bench.lease(2)
    bench.fail(fifth.token, "invalid")
    row = bench.get(StudyRow, id=study)
    assert row.state == "failed"
    assert "5 trials failed and none has measured anything" in row.state_reason
    assert bench.report(sixth.token, 1)[0] == "pause"
    assert bench.end(sixth.token, "finished", 0) == (True, "queued")
    assert bench.lease() == []


def test_one_measurement_gives_a_study_hope(bench: Bench) -> None:
    study = bench.study(trials=8, parallelism=1, retries={"crash": 0})
    for number in range(8):
        (work,) = bench.lease()
        if number == 0:
            bench.report(work.token, 1, (1, 1.0))
        bench.fail(work.token, "crash")
    assert bench.get(StudyRow, id=study).state == "running"


def test_leases_are_fair_and_fit(bench: Bench) -> None:
    wide = bench.study(trials=8, parallelism=8)
    narrow = bench.study(trials=4, parallelism=2, resources={"cpus": 1, "gpus": 0.5})
    keys = {bench.get(StudyRow, id=wide).key: "wide", bench.get(StudyRow, id=narrow).key: "narrow"}
    given = [keys[a.study] for a in bench.lease(20, gpus=1)]
    assert given[:3] == ["wide", "narrow", "wide"]  # the oldest first, then the smaller share
    assert (given.count("wide"), given.count("narrow")) == (8, 2)
    assert bench.lease(20, gpus=1) == []


def test_leases_fit_into_what_is_free(bench: Bench) -> None:
    bench.study(trials=8, parallelism=8, resources={"cpus": 0.1, "gpus": 0.25, "custom": {"disk": 2.0}})
    assert bench.lease(8, gpus=1) == []
    assert len(bench.lease(8, gpus=1, custom={"disk": 5.0})) == 2
    assert len(bench.lease(8, cpus=0.3, gpus=1, custom={"disk": 50.0})) == 3


def test_deleting_a_study_leaves_its_checkpoints_to_be_deleted(bench: Bench) -> None:
    study = bench.study(target=3)
    (work,) = bench.lease()
    bench.report(work.token, 1, (3, 1.0), checkpoint=saved(3))
    with bench.database.write() as session:
        row = session.get_one(StudyRow, study)
        checkpoints.abandon(session, row)
        session.delete(row)
    assert bench.all(TrialRow) == bench.all(MeasurementRow) == []
    with bench.database.write() as session:
        (item,) = checkpoints.garbage(session)
        assert item.uri == "mem://step-3"
        checkpoints.done(session, [item.id])
        checkpoints.done(session, [item.id])
        assert checkpoints.garbage(session) == []
    assert bench.get(CheckpointRow).state == "deleted"
    assert bench.report(work.token, 2, (4, 1.0))[0] == "lost"


def test_the_checkpoints_of_a_users_own_loop_are_never_anybodys_to_delete(bench: Bench) -> None:
    study = bench.study(trials=2, target=3, trainer={"name": "external"}, checkpoints={"keep": "best"})
    for number in (1, 2):
        with bench.database.write() as session:
            key = session.get_one(StudyRow, study).key
            asked = leases.ask(session, key, AskRequest(), bench.now).assignment
        assert asked is not None
        bench.report(asked.token, 1, (1, 2.0), checkpoint=saved(1, f"s3://mine/{number}/1"))
        bench.end(asked.token, "finished", 3, checkpoint=saved(3, f"s3://mine/{number}/3"))
    with bench.database.write() as session:
        row = session.get_one(StudyRow, study)
        checkpoints.release(session, row, bench.now)
        checkpoints.abandon(session, row)
        assert checkpoints.garbage(session) == []
    assert {row.state for row in bench.all(CheckpointRow)} == {"deleted"}


@pytest.mark.parametrize(("keep", "kept"), [("best", ["mem://1"]), ("resumable", ["mem://1", "mem://2"])])
def test_the_policy_frees_checkpoints_at_the_end(bench: Bench, keep: str, kept: list[str]) -> None:
    study = bench.study(trials=2, target=3, checkpoints={"keep": keep})
    for number, work in enumerate(bench.lease(2), start=1):
        bench.report(work.token, 1, (3, float(number)))
        bench.end(work.token, "finished", 3, checkpoint=saved(3, f"mem://{number}"))
    with bench.database.write() as session:
        checkpoints.release(session, session.get_one(StudyRow, study), bench.now)
    assert [c.uri for c in bench.all(CheckpointRow) if c.state == "ready"] == kept


def test_a_failed_trial_gets_a_new_chance_from_a_person(bench: Bench) -> None:
    study = bench.study(retries={"crash": 0})
    (work,) = bench.lease()
    assert bench.fail(work.token, "crash") == (True, "failed")
    with bench.database.write() as session:
        trial = session.scalars(select(TrialRow)).one()
        row = session.get_one(StudyRow, study)
        runs.queue_run(session, row, trial, target=10, reason="a person", now=bench.now)
        assert (trial.state, trial.failure_kind, trial.ended_at) == (TrialState.QUEUED, None, None)
    (work,) = bench.lease()
    bench.report(work.token, 1, (10, 1.0))
    assert bench.end(work.token, "finished", 10) == (True, "completed")


def test_a_worker_that_must_start_from_nothing_repeats_the_steps_behind_it(bench: Bench) -> None:
    """Its checkpoint is damaged: the steps it repeats keep their first measurement, and are paid for."""
    bench.study()
    (work,) = bench.lease()
    bench.report(work.token, 1, (1, 5.0), (2, 4.0), (3, 3.0), checkpoint=saved(3))
    bench.end(work.token, "released", 3)
    (again,) = bench.lease()
    assert again.start_step == 3
    assert bench.report(again.token, 1, (1, 9.0), (2, 9.0)) == ("continue", "")
    assert bench.get(TrialRow).trained == 3 + 2
    assert bench.report(again.token, 2, (3, 9.0), (4, 2.0)) == ("continue", "")
    assert bench.curve(1) == [(1, 5.0), (2, 4.0), (3, 3.0), (4, 2.0)]
    assert bench.get(TrialRow).trained == 3 + 4
    # From then on steps must grow again.
    assert bench.report(again.token, 3, (2, 9.0))[0] == "stop"


def test_an_attempt_that_started_from_nothing_and_measured_nothing_is_paid_for(bench: Bench) -> None:
    bench.study()
    (work,) = bench.lease()
    bench.report(work.token, 1, (4, 3.0), checkpoint=saved(4))
    bench.end(work.token, "released", 4)
    (again,) = bench.lease()
    assert bench.end(again.token, "released", 3) == (True, "queued")
    assert bench.get(TrialRow).trained == 4 + 3


def test_a_completed_trial_is_trained_on_beyond_the_full_fidelity_again_and_again(bench: Bench) -> None:
    study = bench.study(parallelism=1)
    with bench.database.read() as session:
        key = session.get_one(StudyRow, study).key
    start = 0
    for target in (10, 14, 25):
        if start:
            with bench.database.write() as session:
                trials.train_on(session, key, 1, ContinueRequest(target_step=target), bench.now)
        (work,) = bench.lease()
        assert (work.start_step, work.target_step, work.max_step) == (start, target, 10)
        bench.report(work.token, 1, (target, 1.0))
        assert bench.end(work.token, "finished", target, checkpoint=saved(target)) == (True, "completed")
        start = target
    assert [step for step, _ in bench.curve(1)] == [10, 14, 25]
    assert bench.get(TrialRow).trained == 25


SPENT = {"wall_clock_seconds": 60}


def interrupt_all(bench: Bench, study: int) -> None:
    """The budget is spent, and whoever trains is told so."""
    bench.now += timedelta(seconds=60)
    with bench.database.write() as session:
        completion.wind_up(session, study, bench.now)


def test_a_trial_keeps_its_state_when_the_budget_is_spent_and_goes_on_if_it_is_extended(
    bench: Bench,
) -> None:
    study = bench.study(trials=2, parallelism=1, budget=SPENT)
    key = bench.get(StudyRow).key
    (work,) = bench.lease()
    bench.report(work.token, 1, (4, 1.0))
    interrupt_all(bench, study)
    assert bench.report(work.token, 2) == ("pause", "budget spent: 60 seconds of wall clock")
    assert bench.end(work.token, "finished", 5, checkpoint=saved(5)) == (True, "paused")
    with bench.database.write() as session:
        assert completion.wind_up(session, study, bench.now)
    assert bench.get(StudyRow).state == "completed"
    assert [(t.state, t.step, t.target_step) for t in bench.all(TrialRow)] == [
        ("paused", 4, 10),
        ("paused", 0, 10),
    ]
    assert bench.get(CheckpointRow).state == "ready"

    with bench.database.write() as session:
        studies.extend(session, key, ExtendRequest(wall_clock_seconds=120), bench.now)
        view = views.build(session, session.get_one(StudyRow, study))
        assert [(t.interrupted, t.resumable) for t in view.trials] == [(True, True), (True, True)]
        answer = decide(view, 1, 0)
        assert [(d.trial, d.target) for d in answer.decisions] == [(1, 10)]
        question = decisions.Question(study, session.get_one(StudyRow, study).version, 0, view, 1, 0)
        assert decisions.apply(session, question, answer, seconds=0.0, now=bench.now)
    (more,) = bench.lease()
    assert (more.trial, more.start_step, more.target_step) == (1, 5, 10)


def test_a_budget_extended_before_a_trial_has_obeyed_lets_it_go_on(bench: Bench) -> None:
    study = bench.study(budget=SPENT)
    (work,) = bench.lease()
    bench.report(work.token, 1, (4, 1.0))
    interrupt_all(bench, study)
    with bench.database.write() as session:
        studies.extend(
            session, session.get_one(StudyRow, study).key, ExtendRequest(wall_clock_seconds=120), bench.now
        )
    assert bench.end(work.token, "finished", 4, checkpoint=saved(4)) == (True, "queued")


def test_a_trial_that_is_lost_when_the_budget_is_spent_is_paused_too(bench: Bench) -> None:
    study = bench.study(budget=SPENT)
    (work,) = bench.lease()
    bench.report(work.token, 1, (4, 1.0), checkpoint=saved(3))
    interrupt_all(bench, study)
    with bench.database.write() as session:
        leases.expire(session, bench.now)
        assert completion.wind_up(session, study, bench.now)
        view = views.build(session, session.get_one(StudyRow, study))
    assert (bench.get(TrialRow).state, view.trials[0].resumable) == ("paused", True)


def test_a_trial_is_interrupted_without_a_single_measurement(bench: Bench) -> None:
    study = bench.study(budget=SPENT)
    (work,) = bench.lease()
    interrupt_all(bench, study)
    assert bench.end(work.token, "finished", 2, checkpoint=saved(2)) == (True, "paused")


@pytest.mark.parametrize("to_end", [True, False])
def test_a_trial_to_be_trained_to_the_end_is_stopped_by_no_rule_but_the_safe_ones(
    bench: Bench, to_end: bool
) -> None:
    rules = [
        {"rule": "patience", "reports": 1},
        {"rule": "median", "min_trials": 2},
        {"rule": "divergence", "bound": 50.0},
    ]
    with bench.database.write() as session:
        study = bench.make_study(session, stopping=rules, parallelism=3)
        for place in range(3):
            runs.create_trial(
                session, study, {"lr": 0.1}, target=10, origin="enqueued", to_end=to_end and place == 2,
                reason="a test", now=bench.now,
            )  # fmt: skip
    first, second, third = bench.lease(3)
    bench.report(first.token, 1, (1, 1.0))
    bench.report(second.token, 1, (1, 1.0))
    if to_end:
        assert bench.report(third.token, 1, (1, 9.0))[0] == "continue"
        assert bench.report(third.token, 2, (2, 9.0), (3, 9.0))[0] == "continue"
        assert bench.report(third.token, 3, (4, 51.0))[0] == "stop"
        assert bench.end(third.token, "finished", 4) == (True, "failed")
    else:
        assert bench.report(third.token, 1, (1, 9.0))[0] == "stop"


def test_both_ways_to_enqueue_a_trial_to_its_end_say_so(bench: Bench) -> None:
    spec = study_spec(enqueue=[{"params": {"lr": 0.1}, "to_end": True}, {"params": {"lr": 0.2}}])
    with bench.database.write() as session:
        studies.create(session, spec, key="s", now=bench.now)
        for to_end in (True, False):
            trials.enqueue(session, "s", EnqueueRequest(params={"lr": 0.3}, to_end=to_end), bench.now)
    assert [trial.to_end for trial in bench.all(TrialRow)] == [True, False, True, False]


def orphans(bench: Bench, *places: tuple[int, int], study: str | None = None) -> list[tuple[int, int]]:
    key = study or bench.get(StudyRow).key
    folders = [UploadedFolder(study=key, token=token, step=step) for token, step in places]
    with bench.database.read() as session:
        return [(f.token, f.step) for f in checkpoints.orphans(session, folders)]


def test_only_uploads_that_can_never_become_a_checkpoint_are_orphans(bench: Bench) -> None:
    bench.study(target=5)
    (work,) = bench.lease()
    lost = work.token
    found = (lost, 2), (lost, 3)
    assert orphans(bench, *found) == []  # it is active: it may register both yet
    bench.report(lost, 1, (2, 1.0), checkpoint=saved(2))
    assert orphans(bench, *found) == []
    bench.now += timedelta(seconds=31)
    with bench.database.write() as session:
        leases.expire(session, bench.now)
    # The folder that was listed before its attempt registered it is not taken away from it.
    assert orphans(bench, *found) == [(lost, 3)]
    bench.report(lost, 2, (3, 1.0), checkpoint=saved(3))  # a zombie: what it says is not stored
    assert orphans(bench, *found) == [(lost, 3)]
    (again,) = bench.lease()
    bench.end(again.token, "finished", 5, measurements=[], checkpoint=saved(5))
    assert bench.all(CheckpointRow)[0].state == "garbage"
    assert orphans(bench, *found, (again.token, 5)) == [(lost, 3)]  # garbage is deleted as garbage
    assert orphans(bench, (lost, 3), study="another") == []
    assert orphans(bench, (999, 3)) == []
