"""The live view fits its terminal and shows what matters."""

from __future__ import annotations

import io

import pytest
from client_stub import study
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from trimtab.cli.output import sparkline
from trimtab.cli.view import Snapshot, line, render
from trimtab.wire.views import DecisionView, StudySummary


def snapshot(**changes: object) -> Snapshot:
    points = [{"fidelity": 1, "seconds": 1, "value": 3.0 - at, "trial": 1} for at in (0, 1, 2)]
    default = {"number": 1, "value": 0.75, "step": 100, "params": {"lr": 0.5}, "label": "default"}
    made = {"study": study(**changes), "best_so_far": points, "default": default}
    decision = {
        "id": 1, "kind": "continue", "trial": 2, "target_step": 100, "reason": "rung 10: " + "best " * 40,
        "strategy": "asha", "seed": 0, "seconds": 0, "diagnostics": {}, "at": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    return Snapshot(
        StudySummary.model_validate(made), [1, 2], [2.0, 0.25], [DecisionView.model_validate(decision)]
    )


def drawn(width: int, shown: Snapshot) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    console.print(render(shown, width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_view_fits(width: int) -> None:
    text = drawn(width, snapshot())
    assert all(len(row) <= width for row in text.splitlines())
    for words in ("demo", "running", "0.2500 loss", "trial 2 at 90 steps", "4 of 10 trials", "70% saved"):
        assert words in text
    assert "1 m 5 s left" in text
    assert "continue trial 2 to 100  rung 10" in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_long_names_hide_neither_state_nor_metric(width: int) -> None:
    text = drawn(width, snapshot(name="a-long-name-" * 9, trainer="/a/folder/train.py"))
    assert all(len(row) <= width for row in text.splitlines())
    assert "running" in text
    assert "asha · train.py · loss ↓" in text


def test_why_a_study_failed_is_whole() -> None:
    reason = "5 trials in a row failed: " + "the disk is full " * 8
    text = " ".join(drawn(80, snapshot(state="failed", state_reason=reason)).split())
    assert f"failed: {reason.strip()}" in text


def test_pieces_are_not_broken() -> None:
    counts = {"running": 10, "queued": 10, "paused": 1000, "completed": 100, "stopped": 100, "failed": 10}
    text = drawn(60, snapshot(trials=counts))
    for name, count in counts.items():
        assert f"{count} {name}" in text


def test_names_are_not_markup() -> None:
    assert "[red]x[/]" in drawn(80, snapshot(name="[red]x[/]"))


def test_a_study_without_measurements_is_shown() -> None:
    assert "nothing measured yet" in drawn(80, snapshot(best=None))
    spec = study()["spec"] | {"strategy": {"name": "mf-bo", "options": {"along": "width"}}}
    assert "nothing measured at the highest width yet" in drawn(80, snapshot(best=None, spec=spec))


def test_the_line() -> None:
    text = line(snapshot().study)
    assert text.endswith(
        "4 trials (1 running, 2 paused, 1 failed) | best 0.2500 (trial 2) | budget 40% | left 1 m 5 s"
    )


@given(st.lists(st.floats(width=32), max_size=200), st.integers(1, 60))
def test_sparklines_fit(values: list[float], width: int) -> None:
    assert len(sparkline(values, width)) <= width


def test_a_sparkline_shows_the_shape() -> None:
    assert sparkline([8, 4, float("nan"), 1], 10) == "█▄ ▁"


def test_what_a_study_waits_for_is_shown() -> None:
    waiting = "no worker can hold a trial: it needs gpus 1; the largest worker offers cpus 2, gpus 0"
    assert "needs gpus 1" in drawn(120, snapshot(waiting_for=waiting))
    assert line(snapshot(waiting_for=waiting).study).endswith(waiting)
