"""The command line: output, --json, errors and exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
import tomllib
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow.parquet
import pytest
from client_stub import Stub, item, problem, study, trial

from trimtab import __version__
from trimtab.cli import output
from trimtab.cli.main import main

CLIENT = str(Path(__file__).parents[2] / "client")
GOOD = """\
name: good
trainer: {name: synthetic}
space: {lr: {type: float, low: 1e-4, high: 1, log: true}}
metric: {name: loss}
fidelity: {max: 100}
budget: {trials: 3}
"""


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def trimtab(*arguments: str) -> Done:
    """Run the command line in this process: starting an interpreter for each call would take long."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["trimtab", *arguments])
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


def summary(**changes: Any) -> dict[str, Any]:
    whole = study(**changes)
    points = [{"fidelity": 10, "seconds": 1, "value": 3 - at, "trial": at} for at in (0, 1, 2)]
    return {"study": whole, "best_so_far": points, "default": None}


def detail() -> dict[str, Any]:
    curve = [
        {"step": s, "metrics": {"loss": 1 / s}, "seconds": None, "at": "2026-01-01T00:00:00Z"}
        for s in (1, 2)
    ]
    return trial() | {
        "number": 2, "study": "abc123", "curve": curve, "runs_detail": [], "decisions": [],
        "checkpoints": [],
        "failure": {"kind": "crash", "message": "boom", "output_tail": "last words"}, "can_continue": False,
    }  # fmt: skip


@pytest.fixture
def server(stub: Stub) -> Stub:
    stub.on("GET /v1/studies", (200, {"items": [item()], "next_cursor": None}))
    stub.on("GET /v1/studies/abc123", (200, study()), (200, study(state="completed")))
    stub.on("GET /v1/studies/abc123/summary", (200, summary()))
    stub.on("GET /v1/studies/abc123/trials/2", (200, detail()))
    stub.on("GET /v1/studies/abc123/decisions", (200, {"items": [], "next_cursor": None}))
    trials = [trial(), trial(number=2, params={"kind": "a"}, value="NaN", best_value=0.25, state="failed")]
    stub.on("GET /v1/studies/abc123/trials", (200, {"items": trials, "next_cursor": None}))
    return stub


def test_validate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.yaml").write_text(GOOD)
    done = trimtab("validate", "good.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert "study good, 1 parameter, curve-bo, minimize loss" in done.stdout
    (tmp_path / "bad.yaml").write_text(GOOD.replace("trials: 3", "trails: 3"))
    done = trimtab("validate", "bad.yaml")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "bad.yaml:6:10  /budget/trails  unknown field trails (did you mean trials?)",
        "     6 │ budget: {trails: 3}",
        "       │          ^",
        "error: bad.yaml has 1 mistake",
    ]
    done = trimtab("validate", "bad.yaml", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["problems"] == [
        {
            "line": 6,
            "column": 10,
            "pointer": "/budget/trails",
            "message": "unknown field trails",
            "suggestion": "did you mean trials?",
        }
    ]


def test_submit_makes_script_paths_absolute(server: Stub, tmp_path: Path) -> None:
    server.on("POST /v1/studies", (201, study()))
    (tmp_path / "train.py").touch()
    (tmp_path / "s.yaml").write_text(GOOD.replace("{name: synthetic}", "{script: train.py}"))
    done = trimtab("submit", str(tmp_path / "s.yaml"), "--url", server.url, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["id"] == "abc123"
    assert server.requests[0].body["trainer"]["script"] == str(tmp_path / "train.py")


STARTER = """
def first(card, space):
    print("asked", card["name"])
    return [{"lr": 0.1}, {"lr": 7}]
"""


def test_submit_asks_the_warm_starter(server: Stub, tmp_path: Path) -> None:
    server.on("POST /v1/studies", (201, study()))
    (tmp_path / "cli_starter.py").write_text(STARTER)
    file = tmp_path / "s.yaml"
    file.write_text(GOOD + "warm_start: {function: 'cli_starter:first'}\n")
    done = trimtab("submit", str(file), "--url", server.url, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["id"] == "abc123"
    lines = done.stderr.splitlines()
    assert lines[0] == "asked good"
    assert lines[1].startswith("cli_starter:first dropped number 2: lr ")
    assert lines[2] == "cli_starter:first named 1 configuration to be tried first"
    (sent,) = server.calls("POST /v1/studies")
    assert [config["params"] for config in sent.body["enqueue"]] == [{"lr": 0.1}]
    assert sent.body["warm_start"]["function"] is None
    done = trimtab("submit", str(file), "--url", server.url, "--strict")
    assert done.returncode == 1
    assert "nothing was submitted" in done.stderr
    assert len(server.calls("POST /v1/studies")) == 1


def test_a_warm_starter_that_is_not_there_does_not_keep_a_study_back(server: Stub, tmp_path: Path) -> None:
    server.on("POST /v1/studies", (201, study()))
    file = tmp_path / "s.yaml"
    file.write_text(GOOD + "warm_start: {function: 'nobody_wrote_this:first'}\n")
    done = trimtab("submit", str(file), "--url", server.url)
    assert done.returncode == 0, done.stderr
    assert "nobody_wrote_this:first cannot be imported" in done.stderr
    assert "put nobody_wrote_this.py beside the study file" in done.stderr
    assert trimtab("submit", str(file), "--url", server.url, "--strict").returncode == 1


def test_show_says_what_a_study_learns_from(server: Stub) -> None:
    sources = [{"id": "old1", "name": "before"}, {"id": "gone1", "name": None}]
    server.on("GET /v1/studies/abc123/summary", (200, summary(sources=sources)))
    assert "before, gone1 (deleted)" in trimtab("show", "demo", "--url", server.url).stdout


def test_refusals_name_every_field(server: Stub, tmp_path: Path) -> None:
    field = {
        "pointer": "/strategy/name",
        "message": "no strategy is called x",
        "suggestion": "did you mean y?",
    }
    server.on("POST /v1/studies", (422, problem(422, "The study has mistakes", field)))
    (tmp_path / "s.yaml").write_text(GOOD)
    done = trimtab("submit", str(tmp_path / "s.yaml"), "--url", server.url)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: The study has mistakes",
        "  /strategy/name  no strategy is called x (did you mean y?)",
    ]


def test_list_show_and_best(server: Stub) -> None:
    listed = trimtab("list", "--url", server.url).stdout
    assert "abc123" in listed
    assert "running" in listed
    assert json.loads(trimtab("list", "--url", server.url, "--json").stdout)[0]["best_value"] == 0.25
    shown = trimtab("show", "demo", "--url", server.url).stdout
    assert "0.2500 loss" in shown
    assert "70% saved" in shown
    of_trial = trimtab("show", "demo", "--trial", "2", "--url", server.url).stdout
    assert "failed: crash\n  boom" in of_trial
    assert "last words" in of_trial
    best = trimtab("best", "demo", "--url", server.url, "--json")
    assert json.loads(best.stdout)["params"] == {"lr": 0.1}


def test_a_trial_is_forked_and_its_line_is_shown(server: Stub) -> None:
    made = trial(number=5, state="queued", parent=2, forked_at=40, step=40, target_step=90)
    call = "POST /v1/studies/abc123/trials/2/fork"
    server.on(call, (201, made))
    arguments = ["fork", "demo", "--trial", "2", "--url", server.url]
    plan = "--schedule=40:0.1,90:0.001"
    done = trimtab(
        *arguments,
        "--step",
        "40",
        "--set",
        "lr=0.001",
        "-s",
        "name=a b",
        plan,
        "--target",
        "90",
        "--seed",
        "7",
    )
    assert done.returncode == 0, done.stderr
    assert "trial 5 of demo goes on from trial 2 at step 40, to 90" in done.stdout
    assert server.calls(call)[0].body == {
        "params": {"lr": 0.001, "name": "a b"},
        "step": 40,
        "target_step": 90,
        "schedule": [[40, 0.1], [90, 0.001]],
        "seed": 7,
        "label": None,
    }
    assert json.loads(trimtab(*arguments, "--json").stdout)["parent"] == 2
    for wrong, words in (
        (["--set", "lr"], "--set lr is no parameter with a value"),
        (["--schedule", "1:x"], "'1:x' is no step with a rate"),
        (["--schedule", "1:-2"], "schedule"),
        (["--step", "0"], "step"),
    ):
        refused = trimtab(*arguments, *wrong)
        assert refused.returncode == 1
        assert words in refused.stderr
    server.on(call, (409, problem(409, "Trial 2 has no checkpoint at step 3; it has checkpoints at 40.")))
    refused = trimtab(*arguments, "--step", "3")
    assert (refused.returncode, "checkpoints at 40" in refused.stderr) == (1, True)

    child = {"number": 9, "forked_at": 80, "state": "running", "best_value": None}
    line = made | {"schedule": [[0, 0.5], [9, 0.25]], "seed": 3, "children": [child], "can_fork": [80]}
    server.on("GET /v1/studies/abc123/trials/5", (200, detail() | line))
    shown = " ".join(trimtab("show", "demo", "--trial", "5", "--url", server.url).stdout.split())
    assert "forked from trial 2 at 40 steps" in shown
    assert "forks of it trial 9 at 80" in shown
    assert "schedule 0: 0.5, 9: 0.25" in shown
    item = made | {"schedule": line["schedule"], "seed": 3}
    server.on("GET /v1/studies/abc123/trials", (200, {"items": [item], "next_cursor": None}))
    (row,) = csv.DictReader(io.StringIO(trimtab("export", "demo", "--url", server.url).stdout))
    assert (row["parent"], row["forked_at"], row["schedule"]) == ("2", "40", "[[0, 0.5], [9, 0.25]]")


FRONT = {
    "study": "abc123",
    "objectives": [{"name": "loss"}, {"name": "speed", "direction": "maximize"}],
    "limits": [{"metric": "ms", "at_most": 20}],
    "trials": [
        {"number": 7, "outcomes": {"loss": 0.25, "speed": 1, "ms": 5}, "step": 9, "params": {"lr": 0.1},
         "label": "default"},
        {"number": 3, "outcomes": {"loss": 0.5, "speed": 2, "ms": 20}, "step": 9, "params": {"lr": 0.2},
         "label": None},
    ],
    "dominated": 4,
    "over_limits": 1,
}  # fmt: skip


def test_a_schedule_is_shown_drawn_and_written_as_python(server: Stub, tmp_path: Path) -> None:
    answer = {
        "trial": 7,
        "line": [2, 7],
        "value": 1.5,
        "steps": 100,
        "points": [[0, 0.001], [9, 0.01], [80, 0.01], [100, 0.0]],
        "useful": 100,
        "search": 90,
        "tried": [{"trial": 5, "points": [[80, 0.01], [90, 0.0]]}],
        "torch": "TABLE = []\n",
    }
    call = "GET /v1/studies/abc123/schedule"
    server.on(call, (200, answer))
    shown = trimtab("schedule", "demo", "--trial", "7", "--horizon", "100", "--url", server.url).stdout
    assert "trial 2 → 7, 1.500" in shown
    assert "search, 190 in all" in shown
    assert "▁▃▄▅▆█████" in shown
    assert server.calls(call)[0].query == "trial=7&horizon=100"
    assert trimtab("schedule", "demo", "--python", "--url", server.url).stdout == "TABLE = []\n"

    for name in ("plan.svg", "plan.html"):
        trimtab("schedule", "demo", "--plot", str(tmp_path / name), "--url", server.url)
        text = (tmp_path / name).read_text().removeprefix("<!doctype html>")
        root = ElementTree.fromstring(re.search(r"<svg.*</svg>", text, re.DOTALL)[0])  # type: ignore[index]
        space = "{http://www.w3.org/2000/svg}"
        lines = [
            (line[0].text, line.get("points", "").split()) for line in root.findall(f"{space}polyline")
        ]
        assert [(title, len(points)) for title, points in lines] == [("trial 5", 2), ("trial 7", 4)]
        heights = [float(point.split(",")[1]) for point in lines[1][1]]
        assert heights[1] == heights[2] < heights[0] < heights[3], "a higher rate is higher up"
    refused = trimtab("schedule", "demo", "--plot", str(tmp_path / "plan.pdf"), "--url", server.url)
    assert (refused.returncode, "ends in .svg or .html" in refused.stderr) == (1, True)


def test_of_a_search_by_forks_it_is_said_what_it_cost(server: Stub) -> None:
    savings = {"trained": 120, "full": 400, "fraction_saved": 0.7, "useful": 90}
    server.on("GET /v1/studies/abc123", (200, study(savings=savings)))
    server.on("GET /v1/studies/abc123/summary", (200, summary(savings=savings)))
    shown = " ".join(trimtab("show", "demo", "--url", server.url).stdout.split())
    assert "training 90 steps useful, 30 search, 120 in all" in shown
    assert "saved" not in shown
    stop = {"trial": 3, "step": 20, "reason": "replaced", "best_value": 0.6, "saved": 80, "predicted": None,
            "low": None, "high": None, "chance": None}  # fmt: skip
    replay = {"items": [stop], "learned_from": 0, "trained": 120, "saved": 80, "factor": 1.7,
              "expected_loss": None, "unpredicted": 1}  # fmt: skip
    server.on("GET /v1/studies/abc123/stops", (200, replay))
    shown = trimtab("stops", "demo", "--url", server.url).stdout
    assert "1 trial was stopped early: others, mostly forks, were trained in their place" in shown
    assert "saved" not in shown


PROFILE = {
    "study": "abc123",
    "by": "steps",
    "tau_max": 4.0,
    "workloads": [
        {"name": "digits", "trainer": "digits", "target": {"metric": "accuracy", "at_least": 0.9},
         "steps": 200, "reached": 1, "fastest": 80.0, "fastest_trial": 7},
        {"name": "gpt", "trainer": "gpt", "target": {"metric": "val_loss", "at_most": 2.5},
         "steps": 100, "reached": 0, "fastest": None, "fastest_trial": None},
    ],
    "trials": [
        {"number": 7, "label": "default", "state": "completed", "score": 0.5, "reached": 1,
         "times": {"digits": 80.0}, "points": [[1.0, 0.5]]},
        {"number": 2, "label": None, "state": "stopped", "score": 0.0, "reached": 0, "times": {},
         "points": [[1.0, 0.0]]},
    ],
}  # fmt: skip


def test_the_profile_of_a_cross_workload_study(server: Stub) -> None:
    call = "GET /v1/studies/abc123/profile"
    server.on(call, *[(200, PROFILE)] * 3, (409, problem(409, "No trial has reached a target yet.")))
    shown = trimtab("profile", "demo", "--url", server.url).stdout
    assert (
        "digits  accuracy ≥ 0.9 within 200 steps: reached by 1 of 2 trials, first by trial 7 after 80 steps"
        in shown
    )
    assert "gpt  val_loss ≤ 2.5 within 100 steps: reached by 0 of 2 trials\n" in shown
    rows = [row.split() for row in shown.splitlines()]
    assert ["7", "(default)", "0.500", "1/2", "80", "–"] in rows
    assert "and 1 more" in trimtab("profile", "demo", "--rows", "1", "--url", server.url).stdout
    trimtab("profile", "demo", "--seconds", "--url", server.url)
    assert server.calls(call)[-1].query == "by=seconds"
    refused = trimtab("profile", "demo", "--url", server.url)
    assert (refused.returncode, "No trial has reached a target yet" in refused.stderr) == (1, True)


def test_the_front_of_a_study_with_several_objectives(server: Stub) -> None:
    spec = study()["spec"] | {name: FRONT[name] for name in ("objectives", "limits")}
    best = study()["best"] | {"front": "/v1/studies/abc123/front"}
    spec["objectives"] = spec["objectives"][1:]
    server.on("GET /v1/studies/abc123", (200, study(spec=spec, best=best)))
    server.on("GET /v1/studies/abc123/summary", (200, summary(spec=spec, best=best)))
    server.on("GET /v1/studies/abc123/front", (200, FRONT), (200, FRONT), (200, {**FRONT, "trials": []}))
    done = trimtab("front", "demo", "--url", server.url)
    assert "demo  2 trials on the Pareto front, 4 dominated, 1 over a limit" in done.stdout
    assert "limits: ms ≤ 20" in done.stdout
    rows = [row.split() for row in done.stdout.splitlines()]
    assert ["trial", "loss", "↓", "speed", "↑", "ms", "parameters"] in rows
    assert ["7", "0.2500", "1", "5", "(default)", "lr", "0.1"] in rows
    assert json.loads(trimtab("front", "demo", "--json", "--url", server.url).stdout)["dominated"] == 4
    done = trimtab("front", "demo", "--url", server.url)
    assert (done.returncode, "no completed trial that keeps its limits yet" in done.stderr) == (1, True)
    done = trimtab("best", "demo", "--url", server.url)
    assert "by loss alone, the first of 2 objectives; by all of them: trimtab front abc123" in done.stdout

    over = trial(number=1, best_value=None, outcomes={"speed": 3, "ms": 31}, over_limits=["ms 31 > 20"])
    good = trial(number=3, outcomes={"speed": "NaN", "ms": 4})
    server.on("GET /v1/studies/abc123/trials", (200, {"items": [over, good], "next_cursor": None}))
    shown = trimtab("show", "demo", "--url", server.url).stdout
    assert "loss ↓, speed ↑, ms ≤ 20" in shown
    assert "over a limit: 1 trial  by how much: trimtab show abc123 --trial 1" in shown
    assert "3 completed 0.5000 NaN 4 100 lr 0.5" in " ".join(shown.split())
    server.on("GET /v1/studies/abc123/trials/2", (200, {**detail(), **over, "number": 2}))
    shown = trimtab("show", "demo", "--trial", "2", "--url", server.url).stdout
    assert "over limit  ms 31 > 20" in shown
    rows = list(csv.DictReader(io.StringIO(trimtab("export", "demo", "--url", server.url).stdout)))
    assert [row["outcomes.speed"] for row in rows] == ["3.0", "NaN"]
    assert [row["over_limits"] for row in rows] == ["ms 31 > 20", ""]


def test_pruning_is_allowed_taken_back_and_shown(server: Stub) -> None:
    pruned = {
        "results": 40, "frozen": {"depth": 3}, "ranges": {"lr": [0.01, 0.1]},
        "reasons": {"depth": "frozen", "lr": "narrowed"},
    }  # fmt: skip
    server.on("POST /v1/studies/abc123/prune", (200, study()))
    server.on("POST /v1/studies/abc123/unprune", (200, study()))
    server.on("GET /v1/studies/abc123/summary", (200, summary(pruning=pruned)))
    assert trimtab("prune", "demo", "--url", server.url).stdout == "demo may leave out parts of its space\n"
    done = trimtab("prune", "demo", "--undo", "--url", server.url)
    assert done.stdout == "demo searches its whole space\n"
    shown = " ".join(trimtab("show", "demo", "--url", server.url).stdout.split())
    assert "pruned lr 0.01 to 0.1 depth = 3" in shown


RANKINGS = [
    {
        "method": method,
        "importances": [
            {"parameter": "lr", "importance": 0.75, "total": 0.85 if method == "sobol" else None},
            {"parameter": "a-long-name/" * 3 + "end", "importance": 0.004, "total": None},
        ],
        "explained": 0.8 if method == "sobol" else None,
        "notes": ["14 trials are few for 4 parameters"] if method == "fanova" else [],
    }
    for method in ("ped-anova", "fanova", "sobol")
]
IMPORTANCES = {
    "study": "abc123",
    "basis": {"measured": 1, "predicted": 11, "worst": 2, "left_out": 0},
    "rankings": RANKINGS,
    "computed_at": "2026-01-01T00:00:00Z",
}


@pytest.mark.parametrize("width", [60, 80, 120])
def test_importances(server: Stub, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setattr(output.out, "width", width, raising=False)
    server.on("GET /v1/studies/abc123/importances", (200, IMPORTANCES))
    done = trimtab("importances", "demo", "--url", server.url)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= width
    (row,) = [line for line in lines if line.startswith("lr ")]
    assert row.count("75%") == 3
    assert row.endswith("75% / 85%")
    assert "█" in row
    assert "80% of the differences" in " ".join(done.stdout.split())
    assert "fANOVA: 14 trials are few for 4 parameters" in done.stdout
    assert "<1%" in done.stdout


def test_importances_by_one_method_and_before_there_are_any(server: Stub) -> None:
    server.on(
        "GET /v1/studies/abc123/importances",
        (200, IMPORTANCES | {"rankings": RANKINGS[2:]}),
        (409, problem(409, "Importances need 10 trials with a result, so far 2 have one.")),
    )
    shown = trimtab("importances", "demo", "--method", "sobol", "--json", "--url", server.url)
    assert json.loads(shown.stdout)["rankings"][0]["importances"][0]["total"] == 0.85
    assert server.calls("GET /v1/studies/abc123/importances")[0].query == "method=sobol"
    done = trimtab("importances", "demo", "--url", server.url)
    assert done.returncode == 1
    assert done.stderr == "error: Importances need 10 trials with a result, so far 2 have one.\n"


@pytest.mark.parametrize(
    ("command", "route"), [("pause", "pause"), ("resume", "resume"), ("stop", "cancel")]
)
def test_commands_on_a_study(server: Stub, command: str, route: str) -> None:
    server.on(f"POST /v1/studies/abc123/{route}", (200, study(state="paused")))
    assert trimtab(command, "demo", "--url", server.url).stdout == "demo is paused\n"
    assert len(server.calls(f"POST /v1/studies/abc123/{route}")) == 1


def test_one_trial_is_stopped(server: Stub) -> None:
    server.on("POST /v1/studies/abc123/trials/2/stop", (200, trial(number=2, state="running")))
    done = trimtab("stop", "demo", "--trial", "2", "--url", server.url)
    assert done.stdout == "trial 2 of demo will stop at its next report\n"


def replay(**changes: Any) -> dict[str, Any]:
    """A StopsReplay as the service sends it."""
    told = "predicted to end at 0.41"
    first = {
        "trial": 3, "step": 20, "reason": told, "best_value": 0.6, "saved": 80, "predicted": 0.4125,
        "low": 0.38, "high": 0.45, "chance": 0.002,
    }  # fmt: skip
    second = first | {
        "trial": 4,
        "reason": "by hand",
        "predicted": None,
        "low": None,
        "high": None,
        "chance": None,
    }
    return {
        "items": [first, second], "learned_from": 12, "trained": 80, "saved": 160, "factor": 3.0,
        "expected_loss": 0.002, "unpredicted": 1, **changes,
    }  # fmt: skip


def test_stops_are_replayed(server: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output.out, "width", 120)
    server.on("GET /v1/studies/abc123/stops", (200, replay()))
    shown = trimtab("stops", "demo", "--url", server.url).stdout
    assert "2 trials stopped early saved 160 steps, 67%  without them 3.0 times as much training" in shown
    assert "expected number of best trials lost: 0.002  as 12 finished trials say now" in shown
    assert "1 stop left out" in shown
    first, second = (line.split() for line in shown.splitlines()[-3:-1])
    assert first[:8] == ["3", "20", "0.6000", "0.4125", "0.3800", "to", "0.4500", "<1%"]
    assert second[:5] == ["4", "20", "0.6000", "–", "–"]
    assert json.loads(trimtab("stops", "demo", "--url", server.url, "--json").stdout) == replay()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"items": []}, "no trial of demo has been stopped early"),
        ({"expected_loss": None, "learned_from": 0}, "too few trials were trained to the end to say"),
    ],
)
def test_stops_of_which_there_is_little_to_say(server: Stub, changes: dict[str, Any], words: str) -> None:
    server.on("GET /v1/studies/abc123/stops", (200, replay(**changes)))
    assert words in trimtab("stops", "demo", "--url", server.url).stdout


def test_export(server: Stub, tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(trimtab("export", "demo", "--url", server.url).stdout)))
    assert [row["params.lr"] for row in rows] == ["0.5", ""]
    assert [row["value"] for row in rows] == ["0.5", "NaN"]
    trials = json.loads(trimtab("export", "demo", "--json", "--url", server.url).stdout)
    assert trials[1]["params"] == {"kind": "a"}
    done = trimtab("export", "demo", "-o", str(tmp_path / "t.parquet"), "--url", server.url)
    assert done.returncode == 0, done.stderr
    table = pyarrow.parquet.read_table(tmp_path / "t.parquet").to_pylist()
    assert table[0]["params.lr"] == 0.5
    assert table[1]["params.kind"] == "a"
    done = trimtab("export", "demo", "-f", "parquet", "--url", server.url)
    assert done.stderr.splitlines()[0] == "error: parquet is binary and needs a file"


def test_a_file_that_cannot_be_written_is_named_once(server: Stub, tmp_path: Path) -> None:
    for name in ("x.csv", "x.parquet"):
        done = trimtab("export", "demo", "-o", str(tmp_path / "missing" / name), "--url", server.url)
        assert done.returncode == 1
        assert done.stderr.count(name) == 1
        assert "cannot be written: No such file or directory" in done.stderr


def test_a_long_name_hides_no_other_column(server: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output.out, "width", 80, raising=False)
    long = item(name="a-long-name-" * 9, metric="validation/perplexity_on_held_out_tokens")
    server.on("GET /v1/studies", (200, {"items": [long], "next_cursor": None}))
    text = trimtab("list", "--url", server.url).stdout
    for words in ("abc123", "a-long-na", "running", "0.2500", "validation/", "40%"):
        assert words in text


def test_a_completed_study_is_not_resumed_but_extended(server: Stub) -> None:
    over = item(state="completed", state_reason="the budget of trials is spent")
    server.on("GET /v1/studies/demo", (404, problem(404, "no")))
    server.on("GET /v1/studies/abc123", (200, study(state="completed")))
    server.on("GET /v1/studies", (200, {"items": [over], "next_cursor": None}))
    done = trimtab("resume", "demo", "--url", server.url)
    assert done.returncode == 1
    assert "larger budget" in done.stderr
    assert "trimtab extend abc123" in done.stderr


def test_a_budget_is_extended(server: Stub) -> None:
    server.on("GET /v1/studies/demo", (404, problem(404, "no")))
    budget = [{"name": "trials", "used": 10, "limit": 80, "fraction": 0.1}]
    server.on("POST /v1/studies/abc123/extend", (200, study(budget=budget)))
    done = trimtab("extend", "demo", "--trials", "80", "--url", server.url)
    assert (done.returncode, done.stdout) == (0, "demo is running, with 80 trials\n")
    (asked,) = server.calls("POST /v1/studies/abc123/extend")
    assert {name: limit for name, limit in asked.body.items() if limit is not None} == {"trials": 80}
    done = trimtab("extend", "demo", "--trials", "80", "--url", server.url, "--json")
    assert json.loads(done.stdout)["budget"] == budget

    field = {"pointer": "/trials", "message": "5 is not larger than the present limit of 10",
             "suggestion": "name more than 10"}  # fmt: skip
    refusal = problem(422, "The budget cannot be extended like this.", field)
    server.on("POST /v1/studies/abc123/extend", (422, refusal))
    done = trimtab("extend", "demo", "--trials", "5", "--url", server.url)
    assert done.returncode == 1
    assert "5 is not larger than the present limit of 10 (name more than 10)" in done.stderr


def test_what_is_to_be_extended_must_be_said(server: Stub) -> None:
    done = trimtab("extend", "abc123", "--url", server.url)
    assert done.returncode == 1
    assert "which limit is to be raised" in done.stderr
    assert "demo has --trials 10" in done.stderr
    done = trimtab("extend", "abc123", "--gpu-hours", "-1", "--url", server.url)
    assert done.returncode == 2
    assert "--gpu-hours" in done.stderr
    assert "greater than 0" in done.stderr
    assert not server.calls("POST /v1/studies/abc123/extend")


def test_watch_ends_with_the_study(server: Stub) -> None:
    done = trimtab("watch", "demo", "--json", "--url", server.url)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["state"] for line in done.stdout.splitlines()] == ["running", "completed"]
    server.on("GET /v1/studies/abc123", (200, study(state="failed")))
    done = trimtab("watch", "demo", "--url", server.url)
    assert done.returncode == 1
    assert "4 trials (1 running, 2 paused, 1 failed) | best 0.2500 (trial 2)" in done.stdout


def test_an_unknown_study_and_no_server(server: Stub) -> None:
    done = trimtab("best", "dmeo", "--url", server.url)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["error: there is no study dmeo", "  → did you mean demo?"]
    done = trimtab("list", "--url", "nonsense", "--json")
    assert done.returncode == 3
    assert "no address" in json.loads(done.stderr)["error"]["message"]


def test_version_and_usage() -> None:
    base = {name: value for name, value in os.environ.items() if not name.startswith("TRIMTAB")}
    command = [sys.executable, "-m", "trimtab", "version", "--json"]
    shown = subprocess.check_output(command, env={**base, "PYTHONPATH": CLIENT}, text=True)
    assert json.loads(shown) == {"version": __version__}
    assert trimtab("frobnicate").returncode == 2
    commands = [
        "serve",
        "demo",
        "validate",
        "submit",
        "watch",
        "list",
        "show",
        "best",
        "front",
        "profile",
        "importances",
        "prune",
        "pause",
        "resume",
        "stop",
        "export",
        "version",
    ]
    shown = trimtab("--help").stdout
    assert all(command in shown for command in commands)


def test_the_version_is_the_distribution_s() -> None:
    project = tomllib.loads((Path(CLIENT) / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__
