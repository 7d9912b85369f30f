"""Random lives of a study: leases, reports, ends, losses, restarts and people, with zombies among them."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import func, select

from service.db import checkpoints, ends, leases, reports, runs
from service.db.engine import Database
from service.db.models import (
    AttemptRow,
    Base,
    CheckpointRow,
    EventRow,
    MeasurementRow,
    RunRow,
    StudyRow,
    TrialRow,
)
from service.db.transitions import ENDED_TRIAL
from service.errors import ConflictError
from trimtab.wire.states import Verdict
from trimtab.wire.work import (
    Assignment,
    Capacity,
    EndRequest,
    LeaseRequest,
    RegisterRequest,
    ReportsRequest,
)

PARALLELISM = 2
FULL = 9
WORKERS = ("anna", "bert")


class Life(RuleBasedStateMachine):
    """A study, its dispatchers and the tokens they were ever given, dead ones included."""

    def __init__(self, database: Database, make_study: Any) -> None:
        super().__init__()
        self.database = database
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.incarnations = dict.fromkeys(WORKERS, 1)
        self.given: list[Assignment] = []
        self.seqs: dict[int, int] = {}
        self.steps: dict[int, int] = {}
        self.sent: dict[int, dict[str, Any]] = {}
        self.curves: dict[int, dict[int, float | None]] = {}
        self.forked_at: dict[int, int] = {}
        with database.write() as session:
            study = make_study(
                session,
                fidelity={"max": FULL},
                parallelism=PARALLELISM,
                retries={"lost": 2, "crash": 1},
                stopping=[{"rule": "patience", "reports": 6}],
            )
            self.study, self.key = study.id, study.key
            for number in range(3):
                self.create(session, study, 3 if number else FULL)
        for worker in WORKERS:
            self.register(worker, again=False)

    def create(self, session: Any, study: StudyRow, target: int) -> None:
        trial = runs.create_trial(
            session, study, {"lr": 0.1}, target=target, origin="strategy", reason="", now=self.now
        )
        self.curves[trial.number] = {}

    def reached(self, number: int) -> int:
        """The trial's last measured step; of a fork without one, where it starts."""
        return max(self.curves[number], default=self.forked_at.get(number, 0))

    def teardown(self) -> None:
        """Whatever has happened, willing workers bring every trial to an end."""
        with self.database.write() as session:
            study = session.get_one(StudyRow, self.study)
            study.state = "running"
        for _ in range(100):
            self.now += timedelta(days=1)
            with self.database.write() as session:
                leases.expire(session, self.now)
                session.get_one(StudyRow, self.study).state = "running"
            work = self.take("anna", 4)
            if not work:
                break
            for assignment in work:
                self.report(assignment, [0.5], far=True)
                self.finish(assignment.token, "finished", assignment.target_step)
        with self.database.write() as session:
            states = session.scalars(select(TrialRow.state).where(TrialRow.study_id == self.study)).all()
            assert not {"queued", "running"} & set(states)
            study = session.get_one(StudyRow, self.study)
            checkpoints.abandon(session, study)
            session.delete(study)
            session.flush()
            assert set(
                session.scalars(select(CheckpointRow.state).where(CheckpointRow.study_id == self.study))
            ) <= {"garbage", "deleted"}

    def take(self, worker: str, most: int) -> list[Assignment]:
        request = LeaseRequest(
            worker=worker,
            incarnation=str(self.incarnations[worker]),
            free=Capacity(cpus=100),
            max_runs=most,
        )
        with self.database.write() as session:
            work = leases.lease(session, request, self.now).assignments
        for assignment in work:
            assert assignment.token not in self.seqs
            self.given.append(assignment)
            self.seqs[assignment.token] = 0
            self.steps[assignment.token] = assignment.start_step
        return work

    def is_live(self, token: int) -> bool:
        with self.database.read() as session:
            return session.get_one(AttemptRow, token).state == "active"

    def report(
        self, assignment: Assignment, values: list[float], *, far: bool = False, save: bool = False
    ) -> None:
        token = assignment.token
        first = self.steps[token] + 1
        points = {first + place: value for place, value in enumerate(values)}
        if far:
            points = {max(assignment.target_step, first): values[0]}
        document: dict[str, Any] = {
            "token": token,
            "seq": self.seqs[token] + 1,
            "measurements": [{"step": s, "metrics": {"loss": v}} for s, v in points.items()],
        }
        if save:
            document["checkpoint"] = {"step": max(points), "uri": f"mem://{token}/{max(points)}"}
        live = self.is_live(token)
        verdict = self.send(document, live)
        if live:
            self.seqs[token] += 1
            self.steps[token] = max(points)
            self.sent[token] = document
            curve = self.curves[assignment.trial]
            reached = self.reached(assignment.trial)
            curve |= {s: v if math.isfinite(v) else None for s, v in points.items() if s > reached}
            assert verdict is not Verdict.LOST

    def send(self, document: dict[str, Any], live: bool) -> Verdict:
        before = self.picture()
        request = ReportsRequest.model_validate({"reports": [document]})
        with self.database.write() as session:
            (reply,) = reports.record(session, request, self.now).replies
        if not live:
            assert reply.verdict is Verdict.LOST
            assert self.picture() == before
        return reply.verdict

    def finish(self, token: int, outcome: str, step: int, **last: Any) -> None:
        live = self.is_live(token)
        before = self.picture()
        failure = {"kind": "crash", "message": "boom"} if outcome == "failed" else None
        request = EndRequest.model_validate(
            {"token": token, "outcome": outcome, "step": step, "failure": failure} | last
        )
        with self.database.write() as session:
            assert ends.end(session, request, self.now).accepted == live
        if not live:
            assert self.picture() == before

    def picture(self) -> list[Any]:
        """Everything that a stale token could change."""
        with self.database.read() as session:
            pictures: list[Any] = []
            for model in (StudyRow, TrialRow, RunRow, AttemptRow, CheckpointRow):
                table = Base.metadata.tables[model.__tablename__]
                rows = session.connection().execute(select(table)).all()
                pictures.append(sorted(map(repr, rows)))
            for model in (MeasurementRow, EventRow):
                pictures.append(session.scalar(select(func.count()).select_from(model)))
            return pictures

    @rule(worker=st.sampled_from(WORKERS), most=st.integers(1, 3))
    def lease(self, worker: str, most: int) -> None:
        self.take(worker, most)

    @precondition(lambda self: self.given)
    @rule(
        data=st.data(),
        values=st.lists(st.floats(0, 1) | st.just(math.nan), min_size=1, max_size=3),
        save=st.booleans(),
    )
    def train(self, data: st.DataObject, values: list[float], save: bool) -> None:
        self.report(self.some(data), values, save=save)

    @precondition(lambda self: self.given)
    @rule(data=st.data())
    def train_to_the_target(self, data: st.DataObject) -> None:
        assignment = self.some(data)
        self.report(assignment, [0.5], far=True, save=True)
        self.finish(assignment.token, "finished", self.steps[assignment.token])

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        token = data.draw(st.sampled_from(sorted(self.sent)))
        self.send(self.sent[token], self.is_live(token))

    @precondition(lambda self: self.given)
    @rule(data=st.data(), outcome=st.sampled_from(["finished", "failed", "released"]), last=st.booleans())
    def end(self, data: st.DataObject, outcome: str, last: bool) -> None:
        """An attempt ends, its last point and checkpoint with it or said before."""
        assignment = self.some(data)
        token, step = assignment.token, self.steps[assignment.token]
        if not last:
            self.finish(token, outcome, step)
            return
        step += 1
        if self.is_live(token) and step > self.reached(assignment.trial):
            self.curves[assignment.trial][step] = 0.5
        point = {"step": step, "metrics": {"loss": 0.5}}
        saved = {"step": step, "uri": f"mem://{token}/{step}"}
        self.finish(token, outcome, step, measurements=[point], checkpoint=saved)

    @rule(seconds=st.integers(1, 40))
    def expire(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        with self.database.write() as session:
            leases.expire(session, self.now)

    @rule(worker=st.sampled_from(WORKERS), again=st.booleans())
    def register(self, worker: str, again: bool) -> None:
        self.incarnations[worker] += not again
        request = RegisterRequest(worker=worker, incarnation=str(self.incarnations[worker]))
        with self.database.write() as session:
            leases.register(session, request, self.now)

    @rule(data=st.data(), verdict=st.sampled_from([Verdict.PAUSE, Verdict.STOP]))
    def wish(self, data: st.DataObject, verdict: Verdict) -> None:
        number = data.draw(st.sampled_from(sorted(self.curves)))
        with self.database.write() as session:
            trial = self.trial(session, number)
            if trial.state in ENDED_TRIAL:
                with pytest.raises(ConflictError):
                    runs.wish(session, trial, verdict, "a person", self.now)
            else:
                runs.wish(session, trial, verdict, "a person", self.now)

    @rule(data=st.data(), goal=st.integers(1, FULL + 3))
    def train_on(self, data: st.DataObject, goal: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.curves)))
        with self.database.write() as session:
            study, trial = session.get_one(StudyRow, self.study), self.trial(session, number)
            start = checkpoints.start_of(session, trial)
            gone = start is None and trial.parent is not None
            behind = start is not None and goal <= start.step
            if trial.state in ("queued", "running") or gone or behind:
                with pytest.raises(ConflictError):
                    runs.queue_run(session, study, trial, target=goal, reason="", now=self.now)
            else:
                runs.queue_run(session, study, trial, target=goal, reason="", now=self.now)

    @rule(data=st.data(), units=st.integers(1, 4))
    def fork(self, data: st.DataObject, units: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.curves)))
        with self.database.write() as session:
            study, parent = session.get_one(StudyRow, self.study), self.trial(session, number)
            steps = checkpoints.steps_of(session, parent)
            if not steps:
                return
            step = data.draw(st.sampled_from(steps))
            checkpoint = checkpoints.at(session, parent, step)
            assert checkpoint is not None
            trial = runs.create_trial(
                session,
                study,
                {"lr": 0.2},
                target=step + units,
                origin="strategy",
                reason="",
                now=self.now,
                fork=runs.Start(parent, checkpoint),
            )
            self.curves[trial.number] = {}
            self.forked_at[trial.number] = step

    def some(self, data: st.DataObject) -> Assignment:
        """Mostly a recent assignment, sometimes one of long ago."""
        return data.draw(st.sampled_from(self.given[-3:]) | st.sampled_from(self.given))

    def trial(self, session: Any, number: int) -> TrialRow:
        return session.scalars(  # type: ignore[no-any-return]
            select(TrialRow).where(TrialRow.study_id == self.study, TrialRow.number == number)
        ).one()

    @invariant()
    def states_agree(self) -> None:
        with self.database.read() as session:
            all_runs = session.scalars(select(RunRow).where(RunRow.study_id == self.study)).all()
            assert sum(run.state == "running" for run in all_runs) <= PARALLELISM
            for run in all_runs:
                active = session.scalars(
                    select(AttemptRow).where(AttemptRow.run_id == run.id, AttemptRow.state == "active")
                ).all()
                assert len(active) == (run.state == "running")
            for trial in session.scalars(select(TrialRow).where(TrialRow.study_id == self.study)):
                unfinished = [
                    run.state
                    for run in all_runs
                    if run.trial_id == trial.id and run.state in ("queued", "running")
                ]
                assert unfinished == ([trial.state] if trial.state in ("queued", "running") else [])
                assert (trial.ended_at is not None) == (trial.state in ENDED_TRIAL)
                failed = session.scalar(
                    select(func.count()).where(
                        AttemptRow.trial_id == trial.id, AttemptRow.state.in_(("failed", "lost"))
                    )
                )
                assert trial.retries <= failed
                assert sum(trial.failures.values()) <= failed

    @invariant()
    def curves_agree(self) -> None:
        with self.database.read() as session:
            for trial in session.scalars(select(TrialRow).where(TrialRow.study_id == self.study)):
                curve = self.curves[trial.number]
                rows = session.execute(
                    select(MeasurementRow.step, MeasurementRow.value)
                    .where(MeasurementRow.trial_id == trial.id)
                    .order_by(MeasurementRow.step)
                )
                assert [tuple(row) for row in rows] == sorted(curve.items())
                values = [value for value in curve.values() if value is not None]
                assert trial.best_value == min(values, default=None)
                assert (trial.points, trial.step) == (len(curve), self.reached(trial.number))
                assert trial.trained >= trial.step - trial.forked_at

    @invariant()
    def references_agree(self) -> None:
        with self.database.read() as session:
            starts = [
                run.checkpoint_id
                for run in session.scalars(
                    select(RunRow).where(
                        RunRow.study_id == self.study, RunRow.state.in_(("queued", "running"))
                    )
                )
            ]
            waiting = [
                (trial.parent, trial.forked_at)
                for trial in session.scalars(select(TrialRow).where(TrialRow.study_id == self.study))
                if trial.state not in ("stopped", "failed") and not checkpoints.steps_of(session, trial)
            ]
            for checkpoint in session.scalars(
                select(CheckpointRow).where(CheckpointRow.study_id == self.study)
            ):
                trial = session.get_one(TrialRow, checkpoint.trial_id)
                newest = checkpoints.newest(session, trial.id)
                kept = newest is checkpoint and trial.state not in ("stopped", "failed")
                wanted = starts.count(checkpoint.id) + kept
                if checkpoint.state == "ready":
                    wanted += waiting.count((trial.number, checkpoint.step))
                assert checkpoint.refs == wanted
                assert (checkpoint.state == "ready") == (wanted > 0)


def test_any_life_keeps_its_promises(database: Database, make_study: Any) -> None:
    run_state_machine_as_test(
        lambda: Life(database, make_study),
        settings=settings(
            max_examples=12 if database.is_sqlite else 4,
            stateful_step_count=25,
            phases=(Phase.generate,),  # a failing life is short enough to read as it is
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
