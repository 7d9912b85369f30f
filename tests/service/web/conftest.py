"""A service on loopback with a study as it looks in the middle of its work, and a browser."""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import uvicorn
from sqlalchemy import select

from service.app import create_app
from service.db import events
from service.db.engine import Database
from service.db.models import (
    AttemptRow,
    CheckpointRow,
    DecisionRow,
    ImprovementRow,
    MeasurementRow,
    RunRow,
    StudyRow,
    TrialRow,
)
from service.settings import Settings
from trimtab.wire.study import StudySpec

RUNGS = (30, 90, 270, 810)
REPORT_EVERY = 10
OUTPUT = """step 20 loss 2.31 lr 9.1e-02
step 30 loss 1.1e+04 lr 9.1e-02
Traceback (most recent call last):
  File "train.py", line 88, in <module>
    loss.backward()
RuntimeError: <lambda> & "friends" ran out of memory"""


def spec(name: str = "GPT learning rate", **changes: Any) -> StudySpec:
    """A study's specification."""
    document = {
        "name": name,
        "trainer": {"name": "gpt", "settings": {"depth": 4, "context": 128}},
        "space": {
            "learning_rate": {
                "type": "float",
                "low": 1e-4,
                "high": 1e-1,
                "log": True,
                "doc": "peak, after warm-up",
            },
            "width": {"type": "int", "low": 64, "high": 256, "step": 64},
            "optimizer": {"type": "categorical", "choices": ["adamw", "sgd"]},
            "warmup": {"type": "float", "low": 0.0, "high": 0.2},
        },
        "metric": {"name": "validation_loss"},
        "fidelity": {"unit": "steps", "min": 30, "max": 810, "report_every": REPORT_EVERY},
        "budget": {"fidelity": 20_000, "wall_clock_seconds": 3600.0},
        "parallelism": 4,
        "strategy": {"name": "asha", "options": {"eta": 3}},
        "tags": ["demo", "gpt"],
    }
    return StudySpec.model_validate(document | changes)


@dataclass
class Seed:
    """Writes rows as the service would have by ``now``."""

    database: Database
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def study(self, key: str, wanted: StudySpec, **changes: Any) -> StudyRow:
        """A study with no trials, begun 20 minutes ago."""
        begun = self.now - timedelta(minutes=20)
        values: dict[str, Any] = {
            "key": key,
            "name": wanted.name,
            "spec": wanted.model_dump(mode="json", exclude_defaults=True),
            "state": "running",
            "metric": wanted.metric.name,
            "maximize": wanted.metric.direction == "maximize",
            "strategy": wanted.strategy.name,
            "trainer": wanted.trainer.name or "",
            "external": False,
            "parallelism": wanted.parallelism,
            "cpus": 1.0,
            "gpus": 0.0,
            "custom": {},
            "tags": wanted.tags,
            "created_at": begun,
            "started_at": begun,
            "active_since": begun,
        }
        row = StudyRow(**(values | changes))
        with self.database.write() as session:
            session.expire_on_commit = False
            session.add(row)
        return row

    def asha(self, key: str = "gptstudy", trials: int = 30, **changes: Any) -> None:
        """A study half done by ASHA, with trials in every state; ``changes`` are to its specification."""
        study = self.study(key, spec(**changes))
        luck = random.Random(7)
        begun = self.now - timedelta(minutes=20)
        trained, best = 0, math.inf
        with self.database.write() as session:
            for number in range(1, trials + 1):
                rate = 10 ** luck.uniform(-4, -1)
                params = {
                    "learning_rate": rate,
                    "width": luck.choice([64, 128, 192, 256]),
                    "optimizer": luck.choice(["adamw", "sgd"]),
                    "warmup": luck.uniform(0, 0.2),
                }
                quality = abs(math.log10(rate) + 2.5) * 0.55 + luck.uniform(0, 0.25)
                rung = (
                    0
                    if number in (9, 13, 21) or number > trials - 3 or quality > 0.6
                    else 1
                    if quality > 0.42
                    else 2
                    if quality > 0.28
                    else 3
                )
                diverged = number in (9, 21)
                crashed = number == 13
                running = number in (trials - 1, trials - 2)
                queued = number == trials
                end = 0 if queued else 20 if crashed else 60 if diverged else 40 if running else RUNGS[rung]
                state = (
                    "queued"
                    if queued
                    else "running"
                    if running
                    else "failed"
                    if diverged or crashed
                    else "completed"
                    if rung == 3
                    else "stopped"
                    if number % 11 == 0
                    else "paused"
                )
                trial = TrialRow(
                    study_id=study.id,
                    number=number,
                    state=state,
                    state_reason={
                        "paused": f"waits at rung {RUNGS[rung]}",
                        "stopped": "below the median at step 30",
                    }.get(state, ""),
                    params=params,
                    label="default" if number == 1 else None,
                    origin="enqueued" if number == 1 else "strategy",
                    first_target=RUNGS[0],
                    target_step=RUNGS[1] if running else max(end, RUNGS[0]),
                    step=end,
                    trained=end,
                    seconds=end * 0.21,
                    runs=rung + 1,
                    failure_kind="diverged" if diverged else "out_of_memory" if crashed else None,
                    failure_message="validation_loss is NaN at step 60"
                    if diverged
                    else "CUDA out of memory: tried to allocate 2 GiB"
                    if crashed
                    else None,
                    failure_output=OUTPUT if crashed else None,
                    created_at=begun + timedelta(seconds=30 * number),
                    ended_at=None
                    if state in ("queued", "running", "paused")
                    else begun + timedelta(seconds=30 * number + 200),
                )
                session.add(trial)
                session.flush()
                self._curve(session, study, trial, quality, diverged, luck)
                trained += end
                if trial.best_value is not None and trial.best_value < best:
                    best = trial.best_value
                    study.best_trial_id, study.best_value = trial.id, best
                    session.add(
                        ImprovementRow(
                            study_id=study.id,
                            trial_number=number,
                            step=trial.best_step or 0,
                            fidelity=trained,
                            seconds=30.0 * number,
                            value=best,
                        )
                    )
                self._runs(session, study, trial, rung, begun)
            row = session.get_one(StudyRow, study.id)
            row.best_trial_id, row.best_value, row.next_trial = (
                study.best_trial_id,
                study.best_value,
                trials + 1,
            )

    def _curve(
        self,
        session: Any,
        study: StudyRow,
        trial: TrialRow,
        quality: float,
        diverged: bool,
        luck: random.Random,
    ) -> None:
        lowest = math.inf
        for step in range(REPORT_EVERY, trial.step + 1, REPORT_EVERY):
            value = 1.35 + quality + 2.9 * math.exp(-((step / 60) ** 0.6)) + luck.gauss(0, 0.012)
            if diverged:
                value = 3 * math.exp(step / 25) if step < 60 else math.nan
            shown = value if math.isfinite(value) else None
            if shown is not None and shown < lowest:
                lowest, trial.best_value, trial.best_step = shown, shown, step
            trial.value = shown
            session.add(
                MeasurementRow(
                    trial_id=trial.id,
                    step=step,
                    study_id=study.id,
                    value=shown,
                    best=lowest if lowest < math.inf else None,
                    metrics={
                        study.metric: "NaN" if shown is None else shown,
                        "train_loss": "NaN" if shown is None else shown * 0.93,
                        "tokens_per_second": 41_000 + luck.gauss(0, 900),
                    },
                    seconds=step * 0.2,
                    at=trial.created_at + timedelta(seconds=step * 0.2),
                )
            )

    def _runs(self, session: Any, study: StudyRow, trial: TrialRow, rung: int, begun: datetime) -> None:
        start = 0
        for number in range(1, rung + 2):
            target = trial.target_step if number == rung + 1 else RUNGS[number - 1]
            last = number == rung + 1
            state = (
                {"queued": "queued", "running": "running", "failed": "failed"}.get(trial.state, "finished")
                if last
                else "finished"
            )
            why = (
                "a new configuration: fewer than a third of rung 30 is promotable"
                if number == 1
                else f"rung {start}: 1st of 9, in the best third, with {trial.best_value}"
            )
            run = RunRow(
                study_id=study.id,
                trial_id=trial.id,
                number=number,
                state=state,
                start_step=start,
                target_step=target,
                end_step=None if state in ("queued", "running") else min(trial.step, target),
                reason=why,
                queued_at=trial.created_at,
            )
            session.add(run)
            session.flush()
            at = trial.created_at + timedelta(seconds=40 * number)
            session.add(
                DecisionRow(
                    study_id=study.id,
                    trial_id=trial.id,
                    kind="launch" if number == 1 else "continue",
                    target_step=target,
                    reason=why,
                    strategy="asha",
                    seed=1_000 + trial.number,
                    version=1,
                    seconds=0.004,
                    diagnostics={"rung_sizes": [9, 3, 1], "promotable": 0.25},
                    at=at,
                )
            )
            if state != "queued":
                failed = state == "failed"
                session.add(
                    AttemptRow(
                        study_id=study.id,
                        trial_id=trial.id,
                        run_id=run.id,
                        state={"failed": "failed", "running": "active"}.get(state, "finished"),
                        worker="station-1",
                        incarnation="a",
                        start_step=start,
                        last_step=min(trial.step, target),
                        started_at=at,
                        ended_at=None if state == "running" else at + timedelta(seconds=21),
                        failure_kind=trial.failure_kind if failed else None,
                        failure_message=trial.failure_message if failed else None,
                        failure_output=trial.failure_output if failed else None,
                    )
                )
            if state == "finished":
                session.add(
                    CheckpointRow(
                        study_id=study.id,
                        trial_id=trial.id,
                        token=1,
                        step=target,
                        uri=f"file:///checkpoints/{study.key}/{trial.number}/{target}",
                        bytes=1_810_432,
                        state="ready" if last else "deleted",
                        refs=int(last),
                        at=at,
                    )
                )
            start = target

    def line(self, key: str) -> None:
        """Four trials of a schedule search: trial 3, the best, is forked from 1; 2 and 4 were given up."""
        peak, fall = [[0, 0.0], [80, 0.01]], [[400, 0.01], [810, 0.0]]
        trials = [(None, 0, 400, peak, 2.0), (None, 0, 400, [[0, 0.0], [80, 0.05]], 3.0),
                  (1, 400, 810, fall, 1.0), (1, 400, 670, [[400, 0.02], [810, 0.0]], 1.5)]  # fmt: skip
        with self.database.write() as session:
            study = session.scalars(select(StudyRow).where(StudyRow.key == key)).one()
            for number, (parent, start, step, schedule, value) in enumerate(trials, start=1):
                trial = TrialRow(
                    study_id=study.id, number=number, state="completed" if step == 810 else "paused",
                    params={"learning_rate": 0.01}, origin="strategy", first_target=400, target_step=step,
                    step=step, trained=step - start, parent=parent, forked_at=start, schedule=schedule,
                    value=value, best_value=value, best_step=step, created_at=self.now,
                )  # fmt: skip
                session.add(trial)
                session.flush()
                if number == 3:
                    study.best_trial_id, study.best_value = trial.id, value
                events.append(session, study, "trial.created", trial=number, now=self.now)

    def measure(self, key: str, number: int, step: int, value: float) -> None:
        """A measurement arrives, as a report would store it."""
        with self.database.write() as session:
            study = session.scalars(select(StudyRow).where(StudyRow.key == key)).one()
            trial = session.scalars(
                select(TrialRow).where(TrialRow.study_id == study.id, TrialRow.number == number)
            ).one()
            best = value if trial.best_value is None else min(value, trial.best_value)
            trial.step, trial.value, trial.best_value, trial.best_step = step, value, best, step
            session.add(
                MeasurementRow(
                    trial_id=trial.id,
                    step=step,
                    study_id=study.id,
                    value=value,
                    best=best,
                    metrics={study.metric: value},
                    seconds=step * 0.2,
                    at=self.now,
                )
            )
            data = {"points": [[step, value]], "best_value": best, "best_step": step}
            events.append(session, study, "measurements", trial=number, data=data, now=self.now)


@pytest.fixture
def make_spec() -> Callable[..., StudySpec]:
    """Makes a specification: ``make_spec(name, **fields)``."""
    return spec


@pytest.fixture
def seed(databases: Any) -> Iterator[Seed]:
    """An empty database, to be filled."""
    database = Database(databases.url("sqlite"))
    yield Seed(database)
    database.dispose()


@contextmanager
def _served(database: Database, token: str | None, tmp_path: Any) -> Iterator[str]:
    settings = Settings(home=tmp_path, database_url="", token=token)
    keys = iter(range(1_000_000))
    app = create_app(
        settings, database, clock=lambda: datetime.now(UTC), new_key=lambda: f"key{next(keys)}"
    )
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("the server did not start")
        thread.join(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def serve(tmp_path: Any) -> Iterator[Callable[..., str]]:
    """Starts a real server on a database and gives its address: ``serve(database, token=None)``."""
    with ExitStack() as servers:
        yield lambda database, token=None: servers.enter_context(_served(database, token, tmp_path))
