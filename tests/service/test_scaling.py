"""A scaling study through the service: rounds, what they show, and the fits that it leaves."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from bench.law_planted import Planted
from service import specs
from service.db import fits, reads
from service.db.engine import Database
from service.db.models import FitRow, StudyRow
from service.errors import InvalidError
from service.loops.suggest import Suggest
from service.replay import main
from tests.service.conftest import study_spec
from tests.service.fake_worker import FakeWorker, Inline, drive
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
    assert {(fit.name, fit.family) for fit in made} == {(detail.name, "optimum"), (f"{detail.name} (loss)", "loss")}
    assert [fit.family for fit in detail.scaling.fits] == ["optimum", "loss"]
    assert all(fit.counts.runs == detail.trials.total for fit in made)
    assert found[1].source.sequence_length == 1024
    url = database.engine.url.render_as_string(hide_password=False)
    monkeypatch.setenv("TRIMTAB_DATABASE_URL", url)
    assert main([key]) == 0
    assert "0 of them different" in capsys.readouterr().out
