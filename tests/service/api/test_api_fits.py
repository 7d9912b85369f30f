"""Fits of scaling laws over REST: what is read, what is refused, what a fit answers."""

from __future__ import annotations

import base64
import io
import math
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from sqlalchemy import select

from service import specs
from service.api import now
from service.db.models import StudyRow
from service.loops.fitting import Fit
from tests.service.planted import COLUMNS, QUICK, as_csv, best, runs
from trimtab.cli.main import main
from trimtab.wire.study import StudySpec

TARGET = {"n": "1e9", "d": "2e10"}


def request(**changes: Any) -> dict[str, Any]:
    return {"name": "planted", "columns": COLUMNS, "options": QUICK, **changes}


def computed(api: Any, fit: str) -> Any:
    """The fit, once it is done or has failed: this test is the scheduler."""
    loop = Fit(api.database)
    deadline = time.monotonic() + 120
    try:
        while (found := api.get(f"/fits/{fit}"))["state"] in ("queued", "running"):
            assert time.monotonic() < deadline
            loop.tick(now())
            time.sleep(0.05)
    finally:
        loop.close()
    return found


@pytest.fixture(scope="module")
def done(api: Any) -> str:
    """A fit of a CSV file, done; its id."""
    made = api.post("/fits", request(csv=as_csv(runs(runs_per_cell=14))), 201)
    assert made["state"] in ("queued", "running")
    found = computed(api, made["id"])
    assert found["state"] == "done", found["error"]
    return str(made["id"])


def mistakes(api: Any, body: dict[str, Any]) -> list[Any]:
    return list(api.post("/fits", body, 422)["errors"])


def test_a_fit_says_where_the_planted_optimum_is(api: Any, done: str) -> None:
    detail = api.get(f"/fits/{done}")
    assert detail["counts"] == {
        "runs": 123, "diverged": 3, "cells": 9, "left_out": 0, "n": [6e7, 5.4e8], "d": [6e8, 4.86e10],
    }  # fmt: skip
    assert detail["source"]["columns"]["batch"] == "batch_tokens"
    assert detail["summary"]["held_out"]["mean"]["ours"] < 0.001
    lr, batch = best(1e9, 2e10)
    answer = api.get(f"/fits/{done}/prediction", **TARGET)
    assert answer["lr"]["low"] < answer["lr"]["value"] < answer["lr"]["high"]
    assert answer["lr"]["value"] == pytest.approx(lr, rel=0.25)
    assert answer["batch"]["value"] == pytest.approx(batch, rel=0.35)
    assert [box["excess"] for box in answer["plateau"]] == [0.001, 0.0025, 0.01]
    assert answer["plateau"][0]["lr"][0] < answer["lr"]["value"] < answer["plateau"][0]["lr"][1]
    assert answer["forms"]
    assert answer["confident"]
    assert answer["excess"] is None
    assert {caution["code"] for caution in answer["cautions"]} >= {"outside-hull"}


def test_it_says_what_settings_of_ones_own_cost(api: Any, done: str) -> None:
    lr, batch = best(2e8, 8e9)
    at = {"n": 2e8, "d": 8e9}
    good = api.get(f"/fits/{done}/prediction", **at, lr=lr, batch=batch)["excess"]
    bad = api.get(f"/fits/{done}/prediction", **at, lr=4 * lr, batch=batch)["excess"]
    assert good["value"] < 0.001 < bad["low"] < bad["value"] < bad["high"]
    given = api.get(f"/fits/{done}/prediction", **at, batch=batch / 4)
    assert given["batch"]["value"] == pytest.approx(batch / 4)
    assert given["lr"]["value"] < lr  # a small batch wants a small rate
    assert api.get(f"/fits/{done}/prediction", 422, **at, lr=lr)["errors"][0]["pointer"] == "/query/batch"
    for wrong in ({"n": 0}, {"n": "inf"}, {"n": "many"}):
        refused = api.get(f"/fits/{done}/prediction", 422, **{**at, **wrong})
        assert refused["errors"][0]["pointer"] == "/query/n"


def test_it_plans_runs_within_the_budget(api: Any, done: str) -> None:
    plan = api.post(f"/fits/{done}/plan", {"flops": 2e20, "n": 1e9, "d": 2e10})
    assert plan["runs"]
    assert sum(run["flops"] for run in plan["runs"]) == pytest.approx(plan["flops"])
    assert plan["flops"] <= 2e20

    def wide(when: str) -> float:
        both = (plan[f"lr_{when}"], plan[f"batch_{when}"])
        return math.prod(each["high"] / each["low"] for each in both)

    assert wide("then") < wide("now")
    short = api.post(f"/fits/{done}/plan", {"flops": 1.0, "n": 1e9, "d": 2e10}, 422)
    assert short["errors"][0]["pointer"] == "/flops"
    assert api.post(f"/fits/{done}/plan", {"flops": -1, "n": 1e9}, 422)["errors"]


def test_its_pictures_are_of_plotly(api: Any, done: str) -> None:
    import plotly.graph_objects as go

    found = api.get(f"/fits/{done}/figures", **TARGET)["figures"]
    names = [figure["id"] for figure in found]
    assert names[:5] == ["lr-n", "lr-d", "batch-n", "batch-d", "held-out"]
    assert names[5:] == [f"cell-{at}" for at in range(9)]
    for figure in found:
        go.Figure(figure["data"], figure["layout"])  # raises for what plotly does not know
    lines = {trace["name"] for trace in found[0]["data"]}
    assert {"Step Law", "DeepSeek LLM", "square-root rule", "linear rule", "cells", "target"} <= lines
    (contour,) = (trace for trace in found[5]["data"] if trace["type"] == "contour")
    levels = range(contour["contours"]["start"], contour["contours"]["end"] + 1)
    assert list(levels) == [1, 2, 3, 4]
    assert min(min(row) for row in contour["customdata"]) < 0.1
    assert {"diverged", "the law", "cell's own optimum"} <= {trace["name"] for trace in found[5]["data"]}


def test_all_ways_to_hand_in_runs_read_the_same(api: Any) -> None:
    table = runs(runs_per_cell=4)
    file = io.BytesIO()
    loss = [float(value) for value in table["loss"]]
    pyarrow.parquet.write_table(pyarrow.table({**table, "loss": loss}), file)
    ways = [
        {"table": table},
        {"csv": as_csv(table).replace(",", ";")},
        {"parquet": base64.b64encode(file.getvalue()).decode()},
    ]
    counts = [api.post("/fits", request(**way), 201)["counts"] for way in ways]
    assert counts[0] == counts[1] == counts[2]
    for item in api.get("/fits")["items"][:3]:
        api._body(api.http.delete(f"/v1/fits/{item['id']}"), 204)


def test_the_same_key_makes_one_fit(api: Any) -> None:
    body = request(table=runs(runs_per_cell=4))
    first = api.post("/fits", body, 201, Idempotency_Key="fit-once")
    again = api.post("/fits", body, 200, Idempotency_Key="fit-once")
    assert again["id"] == first["id"]
    other = api.post("/fits", {**body, "seed": 1}, 422, Idempotency_Key="fit-once")
    assert other["errors"][0]["pointer"] == "/header/Idempotency-Key"
    assert api.get(f"/fits/{first['id']}/prediction", 409, **TARGET)["detail"].endswith("when it is done.")
    api._body(api.http.delete(f"/v1/fits/{first['id']}"), 204)
    for call, query in (("", {}), ("/prediction", TARGET), ("/figures", {})):
        assert api.get(f"/fits/{first['id']}{call}", 404, **query)["type"] == "/v1/problems/not-found"
    api._body(api.http.delete(f"/v1/fits/{first['id']}"), 404)


def changed(column: str, row: int, value: Any) -> dict[str, list[Any]]:
    table = runs(runs_per_cell=4)
    table[column][row] = value
    return table


def test_bad_runs_are_refused_in_words_and_nothing_is_stored(api: Any) -> None:
    before = api.get("/fits", limit=500)["items"]
    table = runs(runs_per_cell=4)
    in_sequences = {**table, "batch_tokens": [value / 2048 for value in table["batch_tokens"]]}
    one_cell = {name: values[:4] for name, values in table.items()}
    no_loss = {**table, "loss": ["NaN"] * len(table["loss"])}
    text = as_csv(table)
    for body, pointer, words in (
        ({"table": table, "columns": {**COLUMNS, "lr": "rate"}}, "/columns/lr", "no column 'rate'"),
        ({"table": changed("params", 5, 0)}, "/table/params/5", "row 6, column params: is 0"),
        ({"csv": as_csv(changed("tokens", 5, -3))}, "/csv", "line 7, column tokens: is -3"),
        ({"csv": as_csv(changed("lr", 2, "fast"))}, "/csv", "line 4, column lr: 'fast' is not a number"),
        ({"csv": text.replace("NaN", "NaN,9", 1)}, "/csv", "line 2 has 6 cells"),
        ({"csv": "\n\n"}, "/csv", "the file is empty"),
        ({"csv": 'a,b\n"1,2\n'}, "/csv", "cannot be read"),
        ({"parquet": "####"}, "/parquet", "no base64"),
        ({"parquet": base64.b64encode(b"PAR1 or not").decode()}, "/parquet", "no Parquet file"),
        ({"table": one_cell}, "/table", "one cell only"),
        ({"csv": as_csv(no_loss)}, "/csv", "all 36 runs diverged"),
        ({"table": in_sequences}, "/columns/batch", "sequences"),
        ({"table": table, "family": "optimun"}, "/family", "optimun"),
        ({"table": table, "options": {"draws": 1}}, "/options/draws", "20"),
        ({"table": {"N": [1.0], "D": []}, "columns": {}}, "/columns/loss", "no column 'loss'"),
        ({"studies": ["nothing"]}, "/studies/0", "no study with the id nothing"),
        ({"table": table, "csv": text}, "", "table and csv are given"),
        ({}, "", "none is given"),
    ):
        found = mistakes(api, request(**body))
        assert any(each["pointer"] == pointer and words in each["message"] for each in found), (
            found,
            words,
        )
    assert api.get("/fits", limit=500)["items"] == before
    ok = api.post("/fits", request(table=in_sequences, batch_unit="sequences", sequence_length=2048), 201)
    api._body(api.http.delete(f"/v1/fits/{ok['id']}"), 204)


def test_trials_of_studies_are_runs(api: Any) -> None:
    table = runs(runs_per_cell=4)
    space = {
        "width": {"type": "float", "low": 1.0, "high": 1e12},
        "lr": {"type": "float", "low": 1e-9, "high": 1e3},
        "sequences": {"type": "float", "low": 1.0, "high": 1e12},
    }
    study = api.study(space=space)
    trials = []
    for n, d, lr, batch, loss in zip(*table.values(), strict=True):
        point = {"step": 10, "metrics": {"loss": loss}, "tokens": round(d)}
        state = "failed" if loss == "NaN" else "completed"
        trials.append(
            {
                "params": {"width": n / 12, "lr": lr, "sequences": batch / 64},
                "curve": [point],
                "state": state,
            }
        )
    api.post(f"/studies/{study}/import", {"trials": trials}, 201)
    columns = {"n": "12 * width", "lr": "lr", "batch": "params/sequences * 64"}
    made = api.post("/fits", {"name": "of trials", "studies": [study], "columns": columns}, 201)
    assert made["counts"]["runs"] == 33
    assert made["counts"]["diverged"] == 3
    assert made["source"]["columns"]["loss"] == "metrics/loss"
    assert made["counts"]["d"] == pytest.approx([6e8, 4.86e10])
    api._body(api.http.delete(f"/v1/fits/{made['id']}"), 204)
    (wrong,) = mistakes(api, {"name": "x", "studies": [study], "columns": {**columns, "n": "wdth"}})
    assert wrong["pointer"] == "/columns/n"
    assert "width" in wrong["suggestion"]
    (missing,) = mistakes(api, {"name": "x", "studies": [study]})
    assert (missing["pointer"], missing["message"]) == ("/columns/n", "is missing")


def believing(fit: str, **changes: Any) -> dict[str, Any]:
    belief = {"law": fit, "n": 1e9, "d": 2e10, **changes}
    return {
        "lr": {"type": "float", "low": 1e-6, "high": 1.0, "log": True, "belief": belief},
        "batch_size": {
            "type": "int", "low": 1, "high": 4096, "log": True,
            "belief": {**belief, "sequence_length": 2048},
        },
    }  # fmt: skip


def test_a_law_is_believed_by_its_numbers(api: Any, done: str) -> None:
    study = api.study(space=believing(done))
    space = api.get(f"/studies/{study}")["spec"]["space"]
    lr, batch = best(1e9, 2e10)
    low, high = space["lr"]["belief"]["between"]
    assert low < lr < high
    assert space["lr"]["belief"]["law"] == done
    assert 1.15 <= space["lr"]["belief"]["factor"] < 2
    low, high = space["batch_size"]["belief"]["between"]
    assert low < batch / 2048 < high
    # What search is told needs no fit, now or in a replay; nor does the study, handed in again.
    with api.database.read() as session:
        row = session.scalar(select(StudyRow).where(StudyRow.key == study))
        assert row is not None
        spec = StudySpec.model_validate(row.spec)
    told = specs.space(spec).by_name["lr"].belief
    assert told is not None
    assert (told.low, told.high) == tuple(space["lr"]["belief"]["between"])
    assert api.study(space=space)


def test_what_a_law_cannot_say_is_refused(api: Any, done: str) -> None:
    def refused(space: dict[str, Any]) -> list[tuple[str, str]]:
        answer = api.post("/studies", api.document(space=space), 422)
        return [(each["pointer"], each["message"]) for each in answer["errors"]]

    (lr, _) = refused(believing("nothing"))
    assert lr[0] == "/space/lr/belief/law"
    assert "There is no fit 'nothing'" in lr[1]
    assert any("say n" in message for _, message in refused(believing(done, n=None)))
    narrow = believing(done)
    narrow["lr"]["low"] = 0.1
    assert ("/space/lr/belief/between", "the belief lies outside of 0.1 to 1") in refused(narrow)


@pytest.fixture
def trimtab(api: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the command line against the server, in this process: starting many would take long."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str, status: int = 0) -> str:
        printed, code = io.StringIO(), 0
        monkeypatch.setattr(sys, "argv", ["trimtab", "law", *words, "--url", str(api.http.base_url)])
        with redirect_stdout(printed), redirect_stderr(printed):
            try:
                main()
            except SystemExit as end:
                code = int(end.code or 0)
        assert code == status, printed.getvalue()
        return printed.getvalue()

    return run


def test_the_command_line(api: Any, done: str, trimtab: Any, tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text(as_csv(runs(runs_per_cell=4)))
    options = [f"--{role}={column}" for role, column in COLUMNS.items()]
    made = trimtab("fit", "runs.csv", *options, "-o", "draws=20", "--name", "by hand", "--no-wait")
    assert "33 runs in 9 cells, 3 diverged; N 60M to 540M" in made
    assert "by hand" in trimtab("list")
    assert "queued" in trimtab("predict", "by hand", "--n", "1e9", "--d", "2e10", status=1)
    assert "deleted by hand" in trimtab("delete", "by hand")
    assert "there is no fit by hand" in trimtab("show", "by hand", status=1)
    wrong = trimtab("fit", "runs.csv", "--n", "parms", status=1)
    assert "the table has no column 'parms'" in wrong
    assert "did you mean params?" in wrong
    assert "a file, or studies" in trimtab("fit", status=1)

    shown = trimtab("show", done, "--plot", "law.html")
    assert "N^-0." in shown
    page = (tmp_path / "law.html").read_text()
    assert "Best learning rate against N" in page
    assert len(page) > 1_000_000  # with plotly in it
    predicted = trimtab("predict", done, "--n", "1e9", "--d", "2e10", "--lr", "3e-4", "--batch", "5e5")
    assert "N 1B, D 20B" in predicted
    assert "your learning rate and batch cost" in predicted
    assert "outside-hull" in predicted
    planned = trimtab("plan", done, "--flops", "2e20", "--n", "1e9", "--d", "2e10")
    assert "expected after them" in planned
