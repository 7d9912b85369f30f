"""Many workers at once, on real threads and both databases."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, select

from service.db import checkpoints, ends, leases, reports, runs
from service.db.engine import Database
from service.db.models import AttemptRow, MeasurementRow, RunRow, StudyRow, TrialRow
from service.errors import ConflictError
from trimtab.wire.states import Verdict
from trimtab.wire.work import (
    Assignment,
    Capacity,
    EndRequest,
    LeaseRequest,
    RegisterRequest,
    Report,
    ReportsRequest,
    SavedCheckpoint,
    UploadedFolder,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def at_once(actions: list[Callable[[], None]]) -> None:
    """Run all actions in threads of their own, begun together; the first error is raised."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(len(actions))

    def act(action: Callable[[], None]) -> None:
        barrier.wait()
        try:
            action()
        except BaseException as error:  # handed to the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=act, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def make(database: Database, make_study: Any, trials: int, **changes: Any) -> int:
    with database.write() as session:
        study = make_study(session, **changes)
        for _ in range(trials):
            runs.create_trial(
                session, study, {"lr": 0.1}, target=10, origin="strategy", reason="a test", now=NOW
            )
        return int(study.id)


def lease(database: Database, worker: str, most: int) -> list[Assignment]:
    request = LeaseRequest(worker=worker, incarnation="1", free=Capacity(cpus=100), max_runs=most)
    with database.write() as session:
        return leases.lease(session, request, NOW).assignments


def test_leases_at_once_never_share_a_run_nor_exceed_parallelism(
    database: Database, make_study: Any
) -> None:
    studies = [make(database, make_study, 12, parallelism=limit) for limit in (5, 7)]
    given: list[Assignment] = []

    def worker(name: str) -> Callable[[], None]:
        def act() -> None:
            for _ in range(4):
                given.extend(lease(database, name, 2))

        return act

    at_once([worker(f"w{number}") for number in range(6)])
    assert len({(a.study, a.trial) for a in given}) == len(given) == 12
    with database.read() as session:
        for study, limit in zip(studies, (5, 7), strict=True):
            running = session.scalar(
                select(func.count())
                .select_from(RunRow)
                .where(RunRow.study_id == study, RunRow.state == "running")
            )
            assert running == limit


def test_reports_at_once_keep_every_point_and_the_best(database: Database, make_study: Any) -> None:
    study = make(database, make_study, 6, parallelism=6, fidelity={"max": 1000})
    given = lease(database, "w", 6)

    def reporter(place: int, work: Assignment) -> Callable[[], None]:
        def act() -> None:
            for step in range(1, 31):
                value = 1000.0 - step * (place + 1)
                report = Report.model_validate(
                    {
                        "token": work.token,
                        "seq": step,
                        "measurements": [{"step": step, "metrics": {"loss": value}}],
                    }
                )
                for _ in range(2):  # everything is sent twice
                    with database.write() as session:
                        reports.record(session, ReportsRequest(reports=[report]), NOW)

        return act

    at_once([reporter(place, work) for place, work in enumerate(given)])
    with database.read() as session:
        counts = session.execute(
            select(MeasurementRow.trial_id, func.count()).group_by(MeasurementRow.trial_id)
        )
        assert [count for _, count in counts] == [30] * 6
        assert session.get_one(StudyRow, study).best_value == 1000.0 - 30 * 6


def test_a_token_that_ends_twice_at_once_ends_once(database: Database, make_study: Any) -> None:
    make(database, make_study, 1)
    (work,) = lease(database, "w", 1)
    answers: list[bool] = []

    def end() -> None:
        request = EndRequest.model_validate(
            {
                "token": work.token,
                "outcome": "finished",
                "step": 10,
                "measurements": [{"step": 10, "metrics": {"loss": 1.0}}],
            }
        )
        with database.write() as session:
            answers.append(ends.end(session, request, NOW).accepted)

    at_once([end] * 5)
    assert Counter(answers) == {True: 1, False: 4}


def test_everything_at_once_ends_without_a_deadlock(database: Database, make_study: Any) -> None:
    """Dispatchers train, one of them starts again and again, leases run out, a person stops trials."""
    studies = [make(database, make_study, 10, parallelism=3, retries={"lost": 1000}) for _ in range(2)]

    def dispatcher(name: str) -> Callable[[], None]:
        def act() -> None:
            for _ in range(6):
                batch = lease(database, name, 3)
                if not batch:
                    continue
                for step in (1, 5, 10):
                    request = ReportsRequest.model_validate(
                        {
                            "reports": [
                                {
                                    "token": work.token,
                                    "seq": step,
                                    "measurements": [
                                        {"step": step, "metrics": {"loss": 100.0 - step - work.trial}}
                                    ],
                                    "checkpoint": {"step": step, "uri": f"mem://{work.token}/{step}"},
                                }
                                for work in batch
                            ]
                        }
                    )
                    with database.write() as session:
                        reports.record(session, request, NOW)
                for work in batch:
                    request_end = EndRequest(token=work.token, outcome="finished", step=10)
                    with database.write() as session:
                        ends.end(session, request_end, NOW)

        return act

    def restarter() -> None:
        for _ in range(8):
            with database.write() as session:
                leases.register(session, RegisterRequest(worker="w0", incarnation="1"), NOW)
                for attempt in session.scalars(
                    select(AttemptRow)
                    .where(AttemptRow.worker == "w0", AttemptRow.state == "active")
                    .order_by(AttemptRow.token)
                    .with_for_update(key_share=True)
                ):
                    attempt.incarnation = "0"  # as if an earlier process had leased it
                session.flush()
                leases.register(session, RegisterRequest(worker="w0", incarnation="1"), NOW)

    def reaper() -> None:
        for _ in range(8):
            with database.write() as session:
                leases.expire(session, NOW + timedelta(days=1))

    def person() -> None:
        for number in range(1, 7):
            for study in studies:
                with database.write() as session:
                    trial = session.scalars(
                        select(TrialRow).where(TrialRow.study_id == study, TrialRow.number == number)
                    ).one()
                    if trial.state in ("queued", "running"):
                        try:
                            runs.wish(session, trial, Verdict.STOP, "a person", NOW)
                        except ConflictError:
                            continue

    at_once([dispatcher("w0"), dispatcher("w1"), dispatcher("w2"), restarter, reaper, person])
    with database.read() as session:
        for run in session.scalars(select(RunRow)):
            active = session.scalars(
                select(AttemptRow).where(AttemptRow.run_id == run.id, AttemptRow.state == "active")
            ).all()
            assert len(active) == (1 if run.state == "running" else 0)


def test_no_live_checkpoint_is_ever_taken_for_an_orphan(database: Database, make_study: Any) -> None:
    """Workers register checkpoints and end while a dispatcher asks again and again what nobody needs."""
    make(database, make_study, 12, parallelism=12)
    works = lease(database, "w", 12)
    over = threading.Event()
    taken: set[tuple[int, int]] = set()

    def work(own: list[Assignment]) -> None:
        for assignment in own:
            token = assignment.token
            saved = SavedCheckpoint(step=4, uri=f"mem://{token}/4")
            with database.write() as session:
                ends.end(
                    session, EndRequest(token=token, outcome="released", step=4, checkpoint=saved), NOW
                )

    def sweep() -> None:
        with database.read() as session:
            key = session.scalars(select(StudyRow.key)).one()
        found = [UploadedFolder(study=key, token=w.token, step=step) for w in works for step in (4, 5)]
        last = False
        while not last:
            last = over.is_set()
            with database.read() as session:
                taken.update((f.token, f.step) for f in checkpoints.orphans(session, found))

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        at_once([lambda own=works[n::3]: work(own) for n in range(3)])  # type: ignore[misc]
    finally:
        over.set()
        sweeper.join()
    assert taken == {(work.token, 5) for work in works}
