"""The three calls, in training scripts that run as child processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from trimtab import run_folder
from trimtab.run_folder import ScriptAssignment, ScriptReport

CLIENT = str(Path(__file__).parents[2] / "client")
SCRIPT = """
import json, trimtab
config = trimtab.params(lr=0.5, width=8)
print(json.dumps([config, type(config["lr"]).__name__, str(trimtab.checkpoint_dir())]), flush=True)
for step in range(1, 6):
    if trimtab.report(step * 10, loss=float("nan") if step == 2 else 1 / step):
        print("stop at", step * 10)
        break
"""
ASSIGNMENT = ScriptAssignment({"lr": 1, "depth": 2}, 0, 30, 100, 10, 7)


def run(folder: Path, script: str = SCRIPT, **environment: str) -> str:
    base = {name: value for name, value in os.environ.items() if not name.startswith("TRIMTAB")}
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**base, "PYTHONPATH": CLIENT, **environment},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_alone_the_defaults_are_used_and_nothing_stops_it(tmp_path: Path) -> None:
    first, *lines = run(tmp_path).splitlines()
    assert json.loads(first) == [{"lr": 0.5, "width": 8}, "float", "checkpoints"]
    assert (tmp_path / "checkpoints").is_dir()
    assert len(lines) == 5
    assert lines[0] == "step 10  loss 1"


def test_it_asks_for_the_learning_rate_of_a_step(tmp_path: Path) -> None:
    script = "import trimtab; print([trimtab.lr(step, 0.5) for step in (0, 3, 4, 6, 8, 99)])"
    assert json.loads(run(tmp_path, script)) == [0.5] * 6
    run_folder.write_assignment(tmp_path, ASSIGNMENT)
    assert json.loads(run(tmp_path, script, TRIMTAB_RUN_DIR=str(tmp_path))) == [0.5] * 6
    run_folder.write_assignment(tmp_path, replace(ASSIGNMENT, schedule=((4, 0.4), (8, 0.2)), parent=3))
    found = json.loads(run(tmp_path, script, TRIMTAB_RUN_DIR=str(tmp_path)))
    assert found == pytest.approx([0.4, 0.4, 0.4, 0.3, 0.2, 0.2])


def test_under_a_worker_it_gets_its_parameters_and_stops_at_the_target(tmp_path: Path) -> None:
    run_folder.write_assignment(tmp_path, ASSIGNMENT)
    first, *lines = run(tmp_path, TRIMTAB_RUN_DIR=str(tmp_path)).splitlines()
    params, kind, folder = json.loads(first)
    assert params == {"lr": 1.0, "width": 8, "depth": 2}
    assert kind == "float"
    assert folder == str(tmp_path / "checkpoint")
    assert lines == ["stop at 30"]
    reports, offset = run_folder.read_reports(tmp_path)
    assert [report.step for report in reports] == [10, 20, 30]
    assert reports[1].metrics["loss"] != reports[1].metrics["loss"]
    assert run_folder.read_reports(tmp_path, offset) == ([], offset)


def test_a_verdict_stops_it_at_the_next_report(tmp_path: Path) -> None:
    run_folder.write_assignment(tmp_path, ASSIGNMENT)
    run_folder.give_verdict(tmp_path, "pause")
    assert run(tmp_path, TRIMTAB_RUN_DIR=str(tmp_path)).splitlines()[-1] == "stop at 10"


def test_importing_it_is_quick_and_brings_nothing_along(tmp_path: Path) -> None:
    heavy = run(
        tmp_path,
        "import sys, trimtab; print([m for m in ('httpx', 'pydantic', 'yaml') if m in sys.modules])",
    )
    assert heavy.strip() == "[]"


def test_half_a_line_is_left_for_later(tmp_path: Path) -> None:
    run_folder.append_report(tmp_path, ScriptReport(1, {"loss": 1.0}))
    with (tmp_path / run_folder.REPORTS_FILE).open("a") as file:
        file.write('{"step": 2, "metr')
    reports, offset = run_folder.read_reports(tmp_path)
    assert [report.step for report in reports] == [1]
    with (tmp_path / run_folder.REPORTS_FILE).open("a") as file:
        file.write('ics": {"loss": "-Infinity"}}\n')
    assert run_folder.read_reports(tmp_path, offset)[0] == [ScriptReport(2, {"loss": float("-inf")})]


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "[]",
        "{}",
        "[" * 100_000,
        '{"step": 1e999, "metrics": {"a": 1}}',
        '{"step": 1, "metrics": {"a": 1' + "0" * 400 + "}}",
        '{"step": 0, "metrics": {"a": 1}}',
        '{"step": 1, "metrics": {}}',
    ],
)
def test_a_line_that_is_no_report_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / run_folder.REPORTS_FILE).write_text(line + "\n")
    with pytest.raises(run_folder.RunFolderError, match=r"reports\.jsonl, line 1: not a report"):
        run_folder.read_reports(tmp_path)


def test_the_good_lines_before_a_bad_one_are_read(tmp_path: Path) -> None:
    good = [json.dumps({"step": step, "metrics": {"a": 1}}) for step in (1, 2, 3)]
    (tmp_path / run_folder.REPORTS_FILE).write_text("\n".join([good[0], "", good[1], "bad", good[2], ""]))
    reports, offset = run_folder.read_reports(tmp_path)
    assert [report.step for report in reports] == [1, 2]
    with pytest.raises(run_folder.RunFolderError, match=r"line 4: not a report .*: bad$"):
        run_folder.read_reports(tmp_path, offset)


@pytest.mark.parametrize(
    ("step", "metrics"), [(0, {"a": 1.0}), (1.5, {"a": 1.0}), (1, {}), (1, {"a b": 1.0})]
)
def test_a_wrong_report_is_refused_where_it_is_made(step: int, metrics: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"step|metric"):
        run_folder.make_report(step, metrics)


def test_the_example_resumes_from_its_checkpoint_exactly(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "train_script.py"
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    params = {"lr": 0.3, "momentum": 0.5}

    def train(folder: Path, start: int, target: int) -> None:
        run_folder.write_assignment(folder, ScriptAssignment(params, start, target, 400, 20, 0))
        run(folder, example.read_text(), TRIMTAB_RUN_DIR=str(folder))

    train(whole, 0, 120)
    train(parts, 0, 60)
    train(parts, 60, 120)
    assert run_folder.read_reports(whole)[0] == run_folder.read_reports(parts)[0]
