"""What the benchmark of surrogates asks, and of whom."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from bench import surrogates
from bench.search.problems import Curve, Dimension, Params, Problem

EPOCHS = 9


def _problem() -> Problem:
    """Forty recorded trainings; the end is twice x, the way there is straight, the largest x diverge."""

    def curve(params: Params) -> Curve:
        end = 2 * params["x"] if params["x"] < 0.9 else np.nan
        return Curve(tuple((1 + (end - 1) * np.arange(1, EPOCHS + 1) / EPOCHS).tolist()), (1.0,) * EPOCHS)

    recorded = tuple({"x": x} for x in np.linspace(0, 1, 40).tolist())
    return Problem("line", "taskset", (Dimension("x", 0, 1),), EPOCHS, False, 0.0, 1.0, curve, recorded)


def test_paused_trials_and_recorded_configurations_are_asked_for() -> None:
    found = list(surrogates.measure(_problem(), 45, 0, ["gp", "ensemble"]))
    assert [(name, kind) for name, kind, _ in found] == [
        ("gp", "paused"), ("gp", "new"), ("ensemble", "paused"), ("ensemble", "new"),
    ]  # fmt: skip
    for _, kind, scores in found:
        assert scores.rank > 0.8
        assert 0 <= scores.within <= 1
        assert np.isnan(scores.top) == (kind == "paused")
    assert all(scores.top > 0.9 for _, kind, scores in found if kind == "new")


def test_an_unknown_surrogate_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        surrogates.main(["--surrogates", "forest"], Console(file=io.StringIO()))
    assert capsys.readouterr().err
