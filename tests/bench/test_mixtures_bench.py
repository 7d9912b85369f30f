"""The benches of unequal costs: tasks, and what their tables say."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from bench import mixtures, seconds


def shown(table: Table) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_mixture_task_is_scaled_by_its_best_and_its_median() -> None:
    task = mixtures.mixture(1)
    even = {f"mix/{domain}": 0.2 for domain in mixtures.DOMAINS}
    small, large = ({**even, "million": size} for size in (30, 1000))
    assert task.loss(small) > task.loss(large) > task.best
    assert 0 < task.regret(large) <= 1
    assert task.measured(large, 0) == task.measured(large, 0) != task.measured(large, 1)
    assert task.cost(small, 0) < 0.08
    assert 1 <= task.cost(large, 0) <= 1.1
    assert task.along.target == 1000


def test_the_cost_to_come_as_far_is_read_from_the_means() -> None:
    falling = [1 - 0.5 * at / mixtures.BUDGET for at in mixtures.GRID]
    twice = [1 - min(0.5, at / mixtures.BUDGET) for at in mixtures.GRID]
    rows = {("mf-bo", 0): twice, ("bo", 0): falling, ("bo", 1): [0.0] * len(falling)}
    text = shown(mixtures.table("mixture", rows))
    assert "1 seeds" in text
    assert "3 (0.50x)" in text
    assert "6 (0.50x)" in text


def test_only_studies_that_were_run_both_ways_are_compared() -> None:
    def row(problem: str, kind: str, regret: float) -> dict[str, object]:
        regrets = {str(at): regret for at in seconds.UNITS}
        return {"problem": problem, "kind": kind, "seed": 0, "regrets": regrets, "epochs": 9, "trials": 3}

    rows = [row("a", "epochs", 0.4), row("a", "seconds", 0.2), row("b", "epochs", 0.9)]
    text = shown(seconds.table(rows))
    assert "1 studies" in text
    assert "0.4000" in text
    assert "0.2000" in text
    assert "0.9" not in text


def test_an_unknown_problem_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMTAB_BENCH_DATA", "/nowhere")
    with pytest.raises(SystemExit):
        seconds.main(["--only", "lcbench"], Console(file=io.StringIO()))
