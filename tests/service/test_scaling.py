"""A scaling study through the service: rounds, what they show, and the fits that it leaves."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from sqlalchemy import select

from bench.law_planted import Planted
from search.laws.optimum import fitted
from service import laws, specs
from service.db import completion, reads, study_laws
from service.db.engine import Database
from service.db.models import EventRow, FitRow, StudyRow
from service.errors import InvalidError
from service.loops.suggest import Suggest
from service.replay import main
from service.web import pages
from service.web.rendering import respond
from tests.service.conftest import study_spec
from tests.service.fake_worker import FakeWorker, Inline, drive
from trimtab.cli import view
from trimtab.wire.views import StudySummary
from trimtab.wire.work import Assignment

OPTIONS: dict[str, Any] = {
    "size": "width",
    "length": "length",
    "sequence_length": 1024,
    "target_n": 4e8,
    "target_d": 8e9,
    "flops": 5e19,
    "within": 2.0,
}
SPEC: dict[str, Any] = {
    "space": {
        "width": {"type": "ordered", "values": [100, 200, 400, 800]},
        "length": {"type": "ordered", "values": [2e8, 4e8, 8e8, 1.6e9, 3.2e9]},
        "batch_size": {"type": "ordered", "values": [16, 32, 64, 128, 256, 512]},
        "lr": {"type": "float", "low": 1e-4, "high": 3e-2, "log": True},
    },
    "metric": {"name": "loss", "direction": "minimize"},
    "fidelity": {"unit": "steps", "max": 1, "report_every": 1},
    "budget": {"trials": 100},
    "parallelism": 4,
    "strategy": {"name": "scaling", "options": OPTIONS},
    "seeds": {"search": 3},
}


class Trainer(FakeWorker):
    """Trains models of 1,000 parameters for each of the width's square, under a planted law."""

    def metrics(self, assignment: Assignment, step: int) -> dict[str, float]:
        params = assignment.params
        n, d = 1e3 * float(params["width"]) ** 2, float(params["length"])
        batch = np.array(1024 * float(params["batch_size"]))
        loss = float(Planted().loss(n, d, np.array(params["lr"]), batch))
        return {"loss": loss, "parameters": n, "tokens": d}


class Silent(FakeWorker):
    """Does not say how large its models are."""

    def metrics(self, assignment: Assignment, step: int) -> dict[str, float]:
        return {"loss": 3.0, "tokens": float(assignment.params["length"])}


def test_it_sweeps_fits_plans_stops_and_leaves_its_laws(
    database: Database,
    make_study: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with database.write() as session:
        key = make_study(session, **SPEC).key
    now = drive(database, Trainer(database), Suggest(database, Inline()))
    with database.read() as session:
        detail = reads.study_detail(session, key, now)
        made = reads.list_fits(session).items
        found = [reads.fit_detail(session, fit.id) for fit in made]
    print(detail.state_reason)
    assert detail.state_reason.startswith("both intervals are within a factor of 2")
    assert detail.scaling is not None
    rounds = detail.scaling.rounds
    assert [each.round for each in rounds] == list(range(len(rounds)))
    last = rounds[-1]
    assert last.lr.high / last.lr.low < rounds[0].lr.high / rounds[0].lr.low
    best = Planted().best(OPTIONS["target_n"], OPTIONS["target_d"])
    assert last.lr.low < best[0] < last.lr.high
    assert last.batch.low < best[1] < last.batch.high
    assert last.trials == detail.trials.total
    assert not last.cautions
    assert {(fit.name, fit.family) for fit in made} == {
        (detail.name, "optimum"),
        (f"{detail.name} (loss)", "loss"),
    }
    assert [fit.family for fit in detail.scaling.fits] == ["optimum", "loss"]
    assert all(fit.counts.runs == detail.trials.total for fit in made)
    assert found[1].source.sequence_length == 1024
    url = database.engine.url.render_as_string(hide_password=False)
    monkeypatch.setenv("TRIMTAB_DATABASE_URL", url)
    assert main([key]) == 0
    assert "0 of them different" in capsys.readouterr().out
    with database.read() as session:
        (row, *_) = session.scalars(select(FitRow)).all()
        law = fitted(laws.runs_from_json(row.runs), {"forms": False}, row.seed, lambda _: None)
    said = law.predict(OPTIONS["target_n"], OPTIONS["target_d"])
    assert (said.lr.low, said.lr.high) == pytest.approx((last.lr.low, last.lr.high)), "as the study said"
    shown = respond(
        pages.study(database, now, key, sort="", state="", cursor=None, locked=False)
    ).body.decode()
    assert "The law at N 400M, D 8B" in shown
    assert shown.count('<svg class="interval"') == 2 * len(rounds)
    assert f"/laws/{detail.scaling.fits[0].id}?n=" in shown
    told = Console(width=120, record=True, file=io.StringIO())
    told.print(view.render(view.Snapshot(StudySummary(study=detail, best_so_far=[], default=None)), 120))
    text = told.export_text()
    assert "at N 400M, D 8B: lr" in text
    assert f"trimtab law predict {detail.scaling.fits[0].id} --n 4e+08 --d 8e+09" in text


def test_a_metric_that_is_never_reported_ends_the_study_and_is_named(
    database: Database, make_study: Any
) -> None:
    with database.write() as session:
        key = make_study(session, **SPEC).key
    now = drive(database, Silent(database), Suggest(database, Inline()))
    with database.read() as session:
        detail = reads.study_detail(session, key, now)
        events = session.scalars(select(EventRow.data).where(EventRow.kind == "study.not_fitted")).all()
    assert detail.state_reason.startswith("no trial reports the metric parameters")
    assert detail.trials.total == 8, "the first cell is enough to see it"
    assert detail.scaling is not None
    assert not detail.scaling.fits
    assert len(events) == 2
    assert "metrics/parameters" in events[0]["reason"]


def test_a_process_killed_at_completion_leaves_neither_end_nor_fits(
    database: Database, make_study: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.write() as session:
        key = make_study(
            session, **{**SPEC, "strategy": {"name": "scaling", "options": OPTIONS | {"within": 1e9}}}
        ).key
    queue = study_laws.queue

    def killed(*arguments: Any) -> None:
        queue(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(completion.study_laws, "queue", killed)
    worker, suggest = Trainer(database), Suggest(database, Inline())
    with pytest.raises(KeyboardInterrupt):
        drive(database, worker, suggest)
    with database.read() as session:
        assert session.scalars(select(FitRow)).all() == []
        assert session.scalars(select(StudyRow.state)).one() == "running"
    monkeypatch.undo()
    drive(database, worker, Suggest(database, Inline()))
    with database.read() as session:
        study = session.scalars(select(StudyRow)).one()
        assert study.state == "completed"
        assert len(session.scalars(select(FitRow)).all()) == 2
    assert key


@pytest.mark.parametrize(
    ("changes", "options", "pointer", "message"),
    [
        ({}, {"size": "widht"}, "/strategy/options/size", "the space has no parameter widht"),
        ({}, {"length": "width"}, "/strategy/options", "size and length name the same parameter"),
        ({}, {"target_n": 0}, "/strategy/options/target_n", "above 0"),
        ({}, {"within": 1}, "/strategy/options/within", "above 1"),
        ({}, {"flops": -1.0}, "/strategy/options/flops", "above 0"),
        ({}, {"lr": "rate"}, "/strategy/options/lr", "the space has no parameter rate"),
        ({"metric": {"name": "acc", "direction": "maximize"}}, {}, "/metric/direction", "minimized"),
        ({"prune": True}, {}, "/prune", "frozen"),
        ({"stopping": [{"rule": "median"}]}, {}, "/stopping/0", "cannot be compared"),
    ],
)
def test_mistakes_are_found_at_creation(
    changes: dict[str, Any], options: dict[str, Any], pointer: str, message: str
) -> None:
    strategy = {"name": "scaling", "options": OPTIONS | options}
    with pytest.raises(InvalidError) as caught:
        specs.check(study_spec(**{**SPEC, "strategy": strategy, **changes}))
    (problem,) = caught.value.errors
    assert problem.pointer == pointer
    assert message in problem.message


def test_all_mistakes_are_named_at_once() -> None:
    space = SPEC["space"] | {
        "width": {"type": "ordered", "values": ["small", "large"]},
        "length": {"type": "ordered", "values": [1e8]},
        "lr": {"type": "float", "low": 0.0, "high": 1.0},
        "decay": {"type": "float", "low": 0.0, "high": 1.0},
    }
    strategy = {
        "name": "scaling",
        "options": {"size": "width", "length": "length", "target_n": 1e9, "within": 0.5},
    }
    with pytest.raises(InvalidError) as caught:
        specs.check(study_spec(**{**SPEC, "space": space, "strategy": strategy}))
    assert [problem.pointer.removeprefix("/strategy/options") for problem in caught.value.errors] == [
        "/within",
        "",
        "",
        "/size",
        "/length",
        "/lr",
        "/space",
    ]
