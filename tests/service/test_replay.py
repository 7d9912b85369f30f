"""Every decision of a study can be made again from the database, when all about it has moved on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from search.decision import Answer, Launch
from service.db import studies
from service.db.engine import Database
from service.db.models import CheckpointRow, DecisionRow, StudyRow, TrialRow
from service.db.reads.replay import Answered, Started, answers, pack
from service.db.views import build
from service.loops.suggest import Suggest
from service.replay import differences, main
from tests.service.fake_worker import FakeWorker, Inline, drive
from trimtab.wire.views import ExtendRequest


@pytest.fixture
def settings(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    url = database.engine.url.render_as_string(hide_password=False)
    monkeypatch.setenv("TRIMTAB_DATABASE_URL", url)


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize(("strategy", "options"), [("curve-bo", {"initial_trials": 2}), ("hyperband", {})])
def test_a_finished_study_is_decided_again_as_it_was(
    database: Database,
    make_study: Any,
    capsys: pytest.CaptureFixture[str],
    strategy: str,
    options: dict[str, Any],
) -> None:
    with database.write() as session:
        key = make_study(
            session,
            strategy={"name": strategy, "options": options},
            budget={"fidelity": 24},
            parallelism=3,
        ).key
    now = drive(database, FakeWorker(database), Suggest(database, Inline()))
    with database.write() as session:
        studies.extend(session, key, ExtendRequest(fidelity=32), now)
    drive(database, FakeWorker(database, "other"), Suggest(database, Inline()))
    with database.read() as session:
        every = list(answers(session, key))
        made = session.scalars(select(DecisionRow)).all()
    assert sum(len(answered.decisions) for answered in every) == len(made) >= 4
    under_way = [
        t for answered in every for t in answered.view.trials if t.active and 0 < t.step < t.target
    ]
    # The model may train its trials in single steps, which leave nothing half way.
    assert under_way or strategy == "curve-bo", "some were decided while others were half way"
    assert main([key]) == 0
    assert capsys.readouterr().out == f"{len(every)} answers made again, 0 of them different\n"


@pytest.mark.usefixtures("settings")
def test_forks_are_decided_again_as_they_were(
    database: Database, make_study: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"population": 4, "interval": 2}
    with database.write() as session:
        key = make_study(
            session, strategy={"name": "pbt", "options": options}, budget={"fidelity": 40}, parallelism=3
        ).key
    drive(database, FakeWorker(database), Suggest(database, Inline()))
    with database.read() as session:
        kinds = set(session.scalars(select(DecisionRow.kind)))
        ready = select(CheckpointRow.step).where(CheckpointRow.state == "ready")
        kept = set(session.scalars(ready))
        rows = session.execute(select(TrialRow.trained, TrialRow.step, TrialRow.forked_at)).all()
    assert {"launch", "fork", "stop", "continue"} <= kinds
    assert kept == {10}, "the study has ended: nobody forks what lies before"
    assert all(row.trained == row.step - row.forked_at for row in rows)
    assert sum(row.trained for row in rows) == 40
    assert main([key]) == 0
    assert capsys.readouterr().out.endswith("answers made again, 0 of them different\n")


@pytest.mark.usefixtures("settings")
def test_the_time_that_was_left_is_kept(
    database: Database, make_study: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    space = {
        "lr": {"type": "float", "low": 0.1, "high": 1.0},
        "width": {"type": "int", "low": 1, "high": 8},
    }
    with database.write() as session:
        key = make_study(
            session,
            space=space,
            strategy={"name": "mf-bo", "options": {"along": "width", "initial_trials": 2}},
            budget={"wall_clock_seconds": 60, "trials": 30},
        ).key
    drive(database, FakeWorker(database), Suggest(database, Inline()))
    with database.read() as session:
        left = [answered.view.budget for answered in answers(session, key)]
    clocks = [budget.clock for budget in left if budget.clock is not None]
    assert len(clocks) == len(left) >= 2
    assert clocks == sorted(clocks, reverse=True)
    assert clocks[-1] < clocks[0] <= 60
    assert main([key]) == 0
    assert capsys.readouterr().out == f"{len(left)} answers made again, 0 of them different\n"


@pytest.mark.usefixtures("settings")
def test_what_differs_is_said(
    database: Database, make_study: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with database.write() as session:
        key = make_study(session, strategy={"name": "sobol"}, budget={"trials": 2}).key
    drive(database, FakeWorker(database), Suggest(database, Inline()))
    with database.write() as session:
        row = session.scalars(select(DecisionRow).order_by(DecisionRow.id)).first()
        assert row is not None
        row.reason = "a guess"
    assert main([key]) == 1
    assert "was ('launch', Started(params={'lr': " in capsys.readouterr().out
    assert main(["nowhere"]) == 2
    assert main([]) == 2
    started = Started({"lr": 1.0}, None, 0, ())
    answered = Answered(None, 1, 0, (("launch", 1, 3, "x"),), (started,))  # type: ignore[arg-type]
    assert differences(answered, Answer((Launch({"lr": 1.0}, 3, "x"),))) == []
    assert differences(answered, Answer(())) == ["1 decisions were made, now 0"]


def test_a_question_about_a_thousand_trials_is_small(database: Database, make_study: Any) -> None:
    """Kept with every answer: 4 KB at most."""
    with database.write() as session:
        make_study(session, strategy={"name": "sobol"}, budget={"trials": 4})
    drive(database, FakeWorker(database), Suggest(database, Inline()))
    with database.read() as session:
        view = build(session, session.scalars(select(StudyRow)).one())
    many = tuple(
        replace(trial, number=n, step=n % 97, target=n % 89, first_target=1 + n % 3)
        for n, trial in ((i + 1, view.trials[i % 4]) for i in range(1_000))
    )
    assert len(pack(replace(view, trials=many), 4)) < 4_096
