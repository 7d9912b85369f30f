"""The benchmark of warm starts: what is compared with what."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
from rich.console import Console

from bench import transfer
from bench.search.problems import Curve, Dimension, Params, Problem
from bench.search.results import Row, Rows

EPOCHS = 9


def bowl(name: str, best: float) -> Problem:
    """Best at x = ``best``, to be maximised."""

    def curve(params: Params) -> Curve:
        end = 1.0 - (params["x"] - best) ** 2
        return Curve(tuple(end - 1 / math.sqrt(e) for e in range(1, EPOCHS + 1)), (1.0,) * EPOCHS)

    return Problem(name, "lcbench", (Dimension("x", 0, 1),), EPOCHS, True, 1.0, -1.0, curve)


def test_a_misleading_source_costs_its_openers_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "SOURCE_EPOCHS", 60)
    monkeypatch.setattr(transfer, "TARGET_EPOCHS", 60)
    monkeypatch.setattr(transfer, "EVERY", 1)
    monkeypatch.setattr(transfer, "SHOWN", (30, 60))
    monkeypatch.setattr(transfer, "COMPARED", (30,))
    rows, sources = Rows(tmp_path / "rows.jsonl"), transfer.Sources(tmp_path / "sources")
    console = Console(file=io.StringIO(), width=150)
    first, second = bowl("first", 0.2), bowl("second", 0.25)
    for kind in transfer.KINDS:
        transfer.run(first, second, kind, 0, rows, sources, console)
    none, misleading = rows.by_key["second", "none", 1, 0], rows.by_key["second", "misleading", 1, 0]
    openers = 2 * 3
    shifted = [misleading.regrets[str(e + openers)] for e in range(20, 60 - openers)]
    assert shifted == [none.regrets[str(e)] for e in range(20, 60 - openers)]
    printed = io.StringIO()
    Console(file=printed, width=150).print(*transfer.tables(list(rows.by_key.values())))
    assert "misleading" in printed.getvalue()
    # What is kept is not run again.
    source = sources.of(first)
    assert source == sources.of(first)
    assert transfer.negated(transfer.negated(source)) == source
    values, others = ([t.value for t in each.trials] for each in (source, transfer.shuffled(source, 0)))
    assert values != others
    assert sorted(values) == sorted(others)


def test_epochs_to_the_same_regret(monkeypatch: pytest.MonkeyPatch) -> None:
    def row(kind: str, lag: int) -> Row:
        regrets = {str(e): 1.0 / max(1, e - lag) for e in range(5, 601, 5)}
        return Row("p", kind, 1, 0, 600, regrets, 9, 0, 9, 1.0)

    printed = io.StringIO()
    rows = [row("none", 0), row("good", -20), row("misleading", 50)]
    Console(file=printed, width=150).print(*transfer.tables(rows))
    text = printed.getvalue()
    assert "230 (-8%)" in text
    assert "300 (+20%)" in text
    assert "550 (+10%)" in text
