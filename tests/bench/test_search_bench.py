"""The search benchmark's own rules: what is paid, on which clock, what regret means, what is kept."""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from bench.search import children, command
from bench.search.children import PEERS, SCRIPTS, PeerEngine, PeerError, python_of
from bench.search.ours import TrimtabEngine, variant
from bench.search.problems import Curve, Dimension, NoDataError, Params, Problem, _table, problems
from bench.search.protocol import EngineError, Job, Verdict, run_study
from bench.search.results import Row, Rows, common, mean_and_error, mean_ranks, table
from search.errors import SearchError

EPOCHS = 10


def hand_made(values: Mapping[float, list[float]], seconds: Mapping[float, float] | None = None) -> Problem:
    """A problem of one parameter x, to be minimised, best 0 and worst 1, with the given curves."""

    def curve(params: Params) -> Curve:
        x = params["x"]
        return Curve(tuple(values[x]), ((seconds or {}).get(x, 1.0),) * EPOCHS)

    return Problem("hand", "taskset", (Dimension("x", 0, 9),), EPOCHS, False, 0.0, 1.0, curve)


class Script:
    """An engine that plays a list of jobs and remembers what it is told."""

    def __init__(self, jobs: list[Job | None], verdicts: Mapping[tuple[int, int], Verdict] | None = None):
        self.jobs: Iterator[Job | None] = iter(jobs)
        self.verdicts = verdicts or {}
        self.told: list[tuple[int, int, float]] = []

    def ask(self) -> Job | None:
        return next(self.jobs)

    def report(self, trial: int, epoch: int, value: float) -> Verdict:
        self.told.append((trial, epoch, value))
        return self.verdicts.get((trial, epoch), "continue")

    def processor_seconds(self) -> float:
        return float(len(self.told))


A, B, C, D = ({"x": float(x)} for x in range(4))


def test_a_paused_trial_pays_only_its_new_epochs() -> None:
    problem = hand_made({0.0: [0.9, 0.8, 0.7, 0.2] + [0.5] * 6, 1.0: [0.6] * EPOCHS})
    engine = Script([Job(1, A, 2), Job(2, B, 1), Job(1, A, 4)])
    outcome = run_study(problem, engine, 1, 5, budgets=(1, 3, 5))
    assert engine.told == [(1, 1, 0.9), (1, 2, 0.8), (2, 1, 0.6), (1, 3, 0.7), (1, 4, 0.2)]
    assert outcome.regrets == {1: 0.9, 3: 0.6, 5: 0.2}
    assert (outcome.epochs, outcome.trials, outcome.decisions, outcome.clock) == (5, 2, 3, 5.0)
    assert outcome.seconds == 5.0  # one for each report


def test_a_verdict_and_a_divergence_end_a_trial_early() -> None:
    problem = hand_made({0.0: [0.5] * EPOCHS, 1.0: [0.4, math.nan] + [0.0] * 8, 2.0: [0.3] * EPOCHS})
    engine = Script([Job(1, A, 10), Job(2, B, 10), Job(3, C, 10)], {(1, 2): "stop"})
    run_study(problem, engine, 1, 5)
    assert [(trial, epoch) for trial, epoch, _ in engine.told] == [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1)]


def test_four_workers_report_in_the_order_of_the_virtual_clock() -> None:
    seconds = {0.0: 5.0, 1.0: 1.0, 2.0: 2.0, 3.0: 100.0}
    problem = hand_made({float(x): [0.5] * EPOCHS for x in range(4)}, seconds)
    engine = Script(
        [Job(1, A, 1), Job(2, B, 2), Job(3, C, 3), Job(4, D, 1), None, Job(2, B, 6)] + [None] * 2
    )
    outcome = run_study(problem, engine, 4, 8)
    # B at 1 and 2, C at 2, 4 and 6, A at 5; B goes on when A has ended at 5, not before: its epochs 3, 4.
    assert [(trial, epoch) for trial, epoch, _ in engine.told] == [
        (2, 1), (3, 1), (2, 2), (3, 2), (1, 1), (3, 3), (2, 3), (2, 4),
    ]  # fmt: skip
    assert outcome.clock == 7.0


def test_engines_that_break_the_rules_are_named() -> None:
    problem = hand_made({0.0: [0.5] * EPOCHS, 1.0: [0.5] * EPOCHS})
    for jobs, message in (
        ([None], "nothing is running"),
        ([Job(1, A, 11)], "its target is 11"),
        ([Job(1, A, 2), Job(1, A, 2)], "stands at 2"),
        ([Job(1, A, 2), Job(1, B, 4)], "another configuration"),
    ):
        with pytest.raises(EngineError, match=message):
            run_study(problem, Script(jobs), 1, 20)


def test_regret_is_normalised_and_clipped_in_both_directions() -> None:
    low = hand_made({})
    assert [low.regret(v) for v in (None, 0.25, -1.0, 7.0)] == [1.0, 0.25, 0.0, 1.0]
    high = Problem("high", "lcbench", (), 1, True, 90.0, 40.0, lambda _: Curve((), ()))
    assert [high.regret(v) for v in (None, 90.0, 65.0, 10.0)] == [1.0, 0.0, 0.5, 1.0]
    assert high.better(1.0, None)
    assert not high.better(math.nan, None)
    assert not low.better(2.0, 1.0)


def test_our_strategies_pause_and_go_on_under_their_own_names() -> None:
    rng = np.random.default_rng(0)
    problem = Problem(
        "noisy", "taskset", (Dimension("x", 1e-3, 1, log=True), Dimension("n", 1, 9, whole=True)),
        EPOCHS, False, 0.0, 1.0,
        lambda params: Curve(tuple(abs(rng.normal(size=EPOCHS)) * params["x"]), (1.0,) * EPOCHS),
    )  # fmt: skip
    asha = run_study(problem, TrimtabEngine("asha", problem, 4, 1), 4, 200)
    assert asha.epochs == 200
    assert asha.decisions > asha.trials > 50  # most stop at the first rung, some were continued
    full = run_study(problem, TrimtabEngine("random", problem, 1, 1), 1, 200)
    assert full.trials == full.decisions == 20


def test_an_engines_name_says_the_options_of_a_strategy() -> None:
    assert variant("asha") == ("asha", {})
    assert variant("curve-bo:initial_trials=4:surrogate=nngp") == (
        "curve-bo",
        {"initial_trials": 4, "surrogate": "nngp"},
    )
    problem = hand_made({})
    assert TrimtabEngine("asha:eta=4", problem, 1, 0).view().options == {"eta": 4}
    with pytest.raises(SearchError, match="asha has no option surrogate"):
        TrimtabEngine("asha:surrogate=gp", problem, 1, 0)


def test_one_seed_gives_one_history_whatever_diverges() -> None:
    values = {
        float(x): [1.0 / (1 + x + e) if x % 3 else math.nan for e in range(EPOCHS)] for x in range(10)
    }

    def study(seed: int) -> object:
        problem = hand_made(values)
        grid = Problem(
            "grid", "taskset", (Dimension("x", 0, 9, whole=True),), EPOCHS, False, 0.0, 1.0,
            lambda params: problem.curve({"x": float(params["x"])}),
        )  # fmt: skip
        outcome = run_study(grid, TrimtabEngine("asha", grid, 2, seed), 2, 12)
        return outcome.regrets, outcome.trials, outcome.clock

    assert study(3) == study(3)


class Conversation(PeerEngine):
    """A peer whose child is played by the test."""

    def __init__(self, problem: Problem, answers: list[object]) -> None:
        self.name, self.problem = "played", problem
        self.targets, self.trained, self.diverged = {}, {}, set()
        self.answers, self.said, self.seconds = iter(answers), [], 0.0

    def _say(self, message: Mapping[str, object]) -> object:
        self.said.append(message)
        return next(self.answers)


def test_a_diverged_trial_is_answered_for_a_peer_and_paid_by_nobody() -> None:
    problem = hand_made({0.0: [5.0, math.inf] + [0.0] * 8, 1.0: [0.5] * EPOCHS})
    first, again, other = (
        {"trial": t, "params": p, "target": n} for t, p, n in ((0, A, 3), (0, A, 4), (1, B, 1))
    )
    # Epoch 1; then 2 and 3, for which the child is told the worst; the resumed epoch 4 likewise; then B.
    peer = Conversation(problem, [first, "continue", "continue", "pause", again, "pause", other, "pause"])
    outcome = run_study(problem, peer, 1, 3)
    reports = [said["report"] for said in peer.said if "report" in said]
    assert reports == [[0, 1, 1.0], [0, 2, 1.0], [0, 3, 1.0], [0, 4, 1.0], [1, 1, 0.5]]
    assert (outcome.epochs, outcome.trials) == (3, 2)


TOY = """
from wire import FullTrainings, serve

class Toy(FullTrainings):
    trials = 0

    def suggest(self):
        print("libraries like to talk")
        if self.trials == 2:
            raise SystemExit("out of ideas")
        self.trials += 1
        return self.trials, {"x": self.trials - 1 + 0.0}

    def complete(self, trial, value):
        assert value == 0.25, value

serve(Toy)
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A peer that needs no packages, in a folder of its own instead of the real ones."""
    scripts = tmp_path / "peers"
    scripts.mkdir()
    (scripts / "toy.txt").write_text("nowhere @ file:///nowhere.whl\n")
    (scripts / "toy_peer.py").write_text(TOY)
    (scripts / "wire.py").write_text((SCRIPTS / "wire.py").read_text())
    monkeypatch.setattr(children, "SCRIPTS", scripts)
    monkeypatch.setattr(children, "PEERS", {"toy": children.PeerSpec("toy")})
    return scripts


def test_a_peer_talks_through_pipes_and_its_end_is_explained(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "python_of", lambda package: Path(sys.executable))
    problem = hand_made({0.0: [0.5, 0.25, 0.75] + [0.5] * 7, 1.0: [0.25] * EPOCHS})
    with PeerEngine("toy", problem, 1, 0) as peer:
        outcome = run_study(problem, peer, 1, 20, budgets=(1, 20))
        assert outcome.regrets == {1: 0.5, 20: 0.25}
        assert outcome.trials == 2
        assert 0 < outcome.seconds < 10
        with pytest.raises(PeerError, match=r"(?s)toy broke down.*out of ideas"):
            peer.ask()


def test_a_peer_that_cannot_be_installed_is_an_error(toy: Path, tmp_path: Path) -> None:
    with pytest.raises(PeerError, match=r"(?s)toy cannot be installed.*nowhere"):
        python_of("toy", tmp_path / "cache")
    assert not (tmp_path / "cache" / "toy" / "requirements.sha256").exists()


def test_every_peer_has_a_script_and_pinned_requirements() -> None:
    for spec in PEERS.values():
        assert (SCRIPTS / f"{spec.package}_peer.py").is_file()
        lines = (SCRIPTS / f"{spec.package}.txt").read_text().split()
        assert lines
        assert all("==" in line for line in lines)


def row(engine: str, seed: int, **regrets: float) -> Row:
    by_budget = {name.removeprefix("at"): value for name, value in regrets.items()}
    return Row("p", engine, 1, seed, 2000, by_budget, 3, 0, 4, 0.5)


def test_rows_are_kept_and_the_last_counts(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "folder" / "rows.jsonl")
    rows.add(row("a", 0, at250=0.5))
    rows.add(row("a", 0, at250=0.4))
    rows.add(row("b", 0, at250=0.3))
    again = Rows(rows.path)
    assert again.by_key == rows.by_key
    assert again.get(("p", "a", 1, 0)) == row("a", 0, at250=0.4)
    assert again.get(("p", "a", 4, 0)) is None


def test_ranks_count_only_where_all_engines_have_come() -> None:
    rows = [row("a", 0, at250=0.5, at500=0.1), row("b", 0, at250=0.5, at500=0.2), row("a", 1, at250=0.9)]
    assert mean_ranks(rows, (250, 500)) == {"a": 1.25, "b": 1.75}
    assert mean_ranks([row("a", 0, at250=1.0), row("b", 1, at250=1.0)], (250,)) == {}
    assert common(rows) == rows[:2]
    assert mean_and_error([1.0, 3.0]) == (2.0, 1.0, 2)
    out = io.StringIO()
    Console(file=out, width=150).print(table("t", rows, (250, 500)))
    assert "0.700 ± 0.200" in out.getvalue()
    assert "0.100 ± nan (1)" in out.getvalue()


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with a table of three trainings and no data sets of LCBench."""
    (tmp_path / "lcbench").mkdir()
    (tmp_path / "lcbench" / "dev_references.json").write_text("{}")
    (tmp_path / "lcbench" / "encoding.json").write_text('{"OpenML_task_id": {}}')
    (tmp_path / "taskset").mkdir()
    names = ("learning_rate", "beta1", "beta2", "epsilon", "l1", "l2", "linear_decay", "exponential_decay")
    hp = np.array([[10.0**k, 0.9, 0.99, 1e-8, 1e-4, 1e-4, 1e-6, 1e-5] for k in (-6, -3, 0)])
    valid = np.array([[0.7, 0.7, 0.7], [0.8, 0.5, 0.3], [0.7, np.nan, np.nan]])
    np.savez(tmp_path / "taskset" / "tiny.npz", names=np.array(names), hp=hp, valid=valid)
    monkeypatch.setenv("TRIMTAB_BENCH_DATA", str(tmp_path))
    return tmp_path


def test_the_nearest_recorded_training_answers(data: Path) -> None:
    problem = _table(data / "taskset" / "tiny.npz")
    params = {
        "one_minus_beta1": 0.1, "one_minus_beta2": 0.01, "epsilon": 1e-8, "l1": 1e-4, "l2": 1e-4,
        "linear_decay": 1e-6, "exponential_decay": 1e-5,
    }  # fmt: skip
    assert problem.curve({"learning_rate": 2e-4} | params).values == (0.5, 0.3)
    assert math.isnan(problem.curve({"learning_rate": 0.5} | params).values[0])
    assert (problem.max_epochs, problem.best, problem.worst) == (2, 0.3, 0.7)


def test_missing_data_and_unknown_problems_are_said(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [problem.name for problem in problems()] == ["taskset-tiny"]
    with pytest.raises(ValueError, match="there are: taskset-tiny"):
        problems(["mnist"])
    monkeypatch.setenv("TRIMTAB_BENCH_DATA", str(data / "nowhere"))
    with pytest.raises(NoDataError, match="set TRIMTAB_BENCH_DATA"):
        problems()


def test_the_command_computes_nothing_twice(data: Path) -> None:
    path = data / "rows.jsonl"

    def bench(*more: str) -> str:
        out = io.StringIO()
        options = [
            "--engines",
            "random,asha",
            "--seeds",
            "1",
            "--workers",
            "1,4",
            "--rows",
            str(path),
            *more,
        ]
        assert command.main(options, Console(file=out, width=150)) == 0
        return out.getvalue()

    printed = bench("--epochs", "250")
    assert printed.count("taskset-tiny random x4 seed 0:") == 1
    assert "taskset, 4 asynchronous workers" in printed
    assert len(path.read_text().splitlines()) == 4
    assert "seed" not in bench("--epochs", "250")
    bench("--epochs", "500")  # the longer study takes the shorter one's place
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["epochs"] for line in lines] == [250] * 4 + [500] * 4
    assert {row.epochs for row in Rows(path).by_key.values()} == {500}
    with pytest.raises(SystemExit):
        bench("--engines", "nobody")
