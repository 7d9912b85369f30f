"""``scaling``: the contract of a strategy, in the space that it can search, and what it makes of laws."""

from __future__ import annotations

import math
import pickle
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from bench.law_planted import Planted
from search.decide import decide
from search.decision import Answer, Finish, Launch
from search.errors import SearchError
from search.laws.base import Runs
from search.laws.candidates import plausible
from search.laws.design import plan_optimum
from search.laws.optimum import fitted
from search.simulator import Budget, Curve, History, Params, TrainingFailedError, simulate
from search.space import ParamValue, SearchSpace
from search.strategies import create, metrics
from search.strategies.scaling_law import Scale
from search.strategies.scaling_rounds import RUNS, SWEEP_RUNS
from search.strategies.scaling_space import Axis
from search.view import BudgetLeft, Fidelity, StudyView, TrialView

LENGTHS = [2e8, 4e8, 8e8, 1.6e9, 3.2e9]
DOCUMENT: dict[str, Any] = {
    "width": {"type": "ordered", "values": [100, 150, 200, 300, 400]},
    "length": {"type": "ordered", "values": LENGTHS},
    "batch_size": {"type": "ordered", "values": [16, 32, 64, 128, 256, 512, 1024]},
    "lr": {"type": "float", "low": 1e-4, "high": 3e-2, "log": True},
    "depth": {"type": "fixed", "value": 4},
}
SPACE = SearchSpace.from_json(DOCUMENT)
OPTIONS: dict[str, ParamValue] = {
    "size": "width",
    "length": "length",
    "sequence_length": 1024,
    "target_n": 2e8,
    "target_d": 4e9,
    "flops": 1e19,
    "within": 1.6,
}
FIDELITY = Fidelity(1, 1, 1)
SWEEP = 6 * SWEEP_RUNS
PLANTED = Planted()
NO_LIMIT = Budget()


def size_of(params: Params) -> float:
    return 1e3 * float(params["width"]) ** 2


def outcomes(params: Params, step: int) -> Mapping[str, float]:
    return {"parameters": size_of(params), "tokens": float(params["length"])}


def planted(params: Params, step: int) -> float:
    lr, batch = np.array(float(params["lr"])), np.array(1024.0 * float(params["batch_size"]))
    noise = math.sin(1e6 * float(lr))  # the same whenever and wherever it is trained
    return float(PLANTED.loss(size_of(params), float(params["length"]), lr, batch)) * (1 + 5e-4 * noise)


def run(curve: Curve = planted, *, budget: Budget = NO_LIMIT, **wanted: Any) -> History:
    options = {**OPTIONS, **wanted.pop("options", {})}
    wanted.setdefault("outcomes", outcomes)
    return simulate(SPACE, FIDELITY, curve, budget, strategy="scaling", options=options, **wanted)


@cache
def study() -> History:
    """A study that needs rounds beyond its sweep, and stops since it is sure enough."""
    return run(workers=3, seed=1)


def view_of(trials: tuple[TrialView, ...], **known: Any) -> StudyView:
    return StudyView(SPACE, FIDELITY, False, "scaling", OPTIONS, trials, seed=1, **known)


def flops(history: History) -> float:
    return sum(6 * size_of(trial.params) * float(trial.params["length"]) for trial in history.trials)


def cell(trial: TrialView) -> tuple[Any, Any]:
    return trial.params["width"], trial.params["length"]


def test_it_stops_when_it_is_sure_and_is_right() -> None:
    history = study()
    assert history.reason.startswith("both intervals are within a factor of 1.6: at N 2e+08, D 4e+09 lr ")
    assert len(history.trials) > SWEEP
    assert (len(history.trials) - SWEEP) % RUNS == 0
    assert flops(history) < float(OPTIONS["flops"])
    last = decide(view_of(history.trials), 3, 0)
    assert isinstance(last.decisions[0], Finish)
    told = last.diagnostics["scaling"]
    for (low, value, high), best in zip((told["lr"], told["batch"]), PLANTED.best(2e8, 4e9), strict=True):
        assert low < best < high
        assert max(value / low, high / value) <= 1.6
    assert told["grave"] == {}
    assert told["trials"] == len(history.trials)
    assert told["flops"] == pytest.approx(flops(history))


def test_the_sweep_is_of_the_cheapest_cells_that_tell_a_law() -> None:
    cells = [cell(trial) for trial in study().trials[:SWEEP]]
    assert list(dict.fromkeys(cells)) == [
        (100, 2e8), (150, 2e8), (100, 4e8), (150, 4e8), (300, 2e8), (100, 8e8)
    ]  # fmt: skip
    assert set(Counter(cells).values()) == {SWEEP_RUNS}
    first = [float(trial.params["lr"]) for trial in study().trials[:SWEEP_RUNS]]
    assert max(first) / min(first) > 30, "the first cell looks everywhere"
    others = [float(trial.params["lr"]) for trial in study().trials[SWEEP_RUNS:SWEEP]]
    assert max(others) / min(others) <= 36


def test_each_launch_says_which_cell_and_why() -> None:
    reasons = [event.reason for event in study().events if event.kind == "launch"]
    assert "first sweep, cell 1 of 6, width 100, length 2e+08: spread over" in reasons[0]
    assert "within a factor of 6 of lr" in reasons[SWEEP_RUNS]
    assert reasons[SWEEP].startswith("round 1, width ")
    assert "at the target lr 0.0" in reasons[SWEEP]
    assert "now, expected after it a factor of" in reasons[SWEEP]


def test_no_configuration_is_tried_twice_and_all_runs_of_a_round_share_a_cell() -> None:
    trials = study().trials
    assert len({SPACE.key(trial.params) for trial in trials}) == len(trials)
    for start in range(SWEEP, len(trials), RUNS):
        assert len({cell(trial) for trial in trials[start : start + RUNS]}) == 1


@pytest.mark.parametrize("workers", [1, 20])
def test_any_number_of_workers_trains_the_same(workers: int) -> None:
    again = run(workers=workers, seed=1)
    assert [trial.params for trial in again.trials] == [trial.params for trial in study().trials]
    assert again.reason == study().reason


def test_it_goes_on_after_a_restart_where_it_stood() -> None:
    """At any moment of a round, whatever of it has ended, the rest of it is started."""
    trials = study().trials
    for count in (3, SWEEP_RUNS + 5, SWEEP + 1, SWEEP + 4):
        running = replace(trials[count - 1], status="running", step=0, steps=(), values=(), outcomes={})
        answer = decide(view_of((*trials[: count - 1], running)), 2, 99)
        assert [d.params for d in answer.decisions if isinstance(d, Launch)] == [
            trial.params for trial in trials[count : count + 2]
        ]


def test_a_round_is_waited_for() -> None:
    trials = study().trials
    for count in (SWEEP_RUNS, SWEEP, SWEEP + RUNS):
        running = replace(trials[count - 1], status="running", step=0, steps=(), values=(), outcomes={})
        assert decide(view_of((*trials[: count - 1], running)), 4, 0).decisions == ()


def test_a_fresh_process_decides_the_same() -> None:
    view = view_of(study().trials[: SWEEP + RUNS])
    code = (
        "import pickle, sys; from search.decide import decide; "
        "sys.stdout.buffer.write(pickle.dumps(decide(pickle.load(sys.stdin.buffer), 3, 7)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(view), capture_output=True, check=True, timeout=120
    )
    again: Answer = pickle.loads(done.stdout)
    assert again == decide(view, 3, 8)
    assert len(again.decisions) == 3


def test_global_random_states_are_left_alone() -> None:
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    decide(view_of(study().trials[: SWEEP + RUNS]), 2, 3)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # type: ignore[index]


def test_with_no_slot_nothing_starts() -> None:
    assert not decide(view_of(study().trials[:3]), 0, 0).decisions


def test_budgets_are_kept_and_named() -> None:
    history = run(budget=Budget(trials=SWEEP + 2), seed=1)
    assert len(history.trials) == SWEEP + 2
    assert history.reason.startswith("the budget of trials is spent; at N 2e+08, D 4e+09 lr ")
    for left in (BudgetLeft(trials=0), BudgetLeft(fidelity=0)):
        (finish,) = decide(view_of((), budget=left), 3, 0).decisions
        assert isinstance(finish, Finish)
        assert "budget" in finish.reason


def test_spent_flops_end_the_study_and_say_what_is_missing() -> None:
    history = run(options={"flops": 2.5e18, "within": 1.001}, seed=2)
    assert flops(history) <= 2.5e18
    assert "FLOP are spent" in history.reason or "no new cell is paid for" in history.reason
    assert "where 1.001 was asked for" in history.reason


def test_cells_are_trained_as_long_as_the_flops_pay_for_a_new_one() -> None:
    """With losses that tell little, only the cells that were trained are foreseen well."""

    def noisy(params: Params, step: int) -> float:
        return planted(params, step) * (1 + 0.02 * math.sin(1e7 * float(params["lr"])))

    history = run(noisy, options={"flops": 2e19, "within": 1.05})
    tried = sorted({(size_of(t.params), float(t.params["length"])) for t in history.trials})
    all_cells = [(1e3 * width**2, length) for width in (100, 150, 200, 300, 400) for length in LENGTHS]
    new = sorted(set(all_cells) - set(tried))
    worth_it = plausible(np.array(new), np.array(tried), 2e8, 4e9)
    left = 2e19 - sum(6 * size_of(t.params) * float(t.params["length"]) for t in history.trials)
    assert left < max(0.05 * 2e19, RUNS * 6 * worth_it.prod(axis=1).min(initial=math.inf))


def test_flops_that_do_not_pay_for_the_first_sweep_are_named() -> None:
    history = run(options={"flops": 1.5e17})
    assert len(history.trials) == SWEEP_RUNS
    assert history.reason.startswith(
        "1.5e+17 FLOP do not pay for the first sweep: its first cell took 9.6e+16"
    )


def test_a_narrow_interval_under_a_grave_caution_is_not_taken_for_known() -> None:
    far: dict[str, ParamValue] = {"target_n": 1e11, "target_d": 2e12, "within": 1e6, "flops": 2e18}
    view = replace(view_of(study().trials[:SWEEP]), options={**OPTIONS, **far})
    (finish,) = decide(view, 3, 0).decisions
    assert isinstance(finish, Finish)
    assert finish.reason.startswith("the 2e+18 FLOP are spent; ")
    assert "not to be taken for known (" in finish.reason
    assert "outside-hull" in finish.reason


@pytest.mark.parametrize("metric", ["parameters", "tokens"])
def test_a_metric_that_is_never_reported_is_named(metric: str) -> None:
    def silent(params: Params, step: int) -> Mapping[str, float]:
        return {name: value for name, value in outcomes(params, step).items() if name != metric}

    history = run(outcomes=silent)
    assert history.reason.startswith(f"no trial reports the metric {metric}")
    assert len(history.trials) == SWEEP_RUNS


def _high_rates_diverge(params: Params, step: int) -> float:
    return math.nan if float(params["lr"]) > 4e-3 else planted(params, step)


def _some_crash(params: Params, step: int) -> float:
    if int(params["batch_size"]) == 64:
        raise TrainingFailedError("out_of_memory")
    return planted(params, step)


def _all_crash(params: Params, step: int) -> float:
    raise TrainingFailedError("crash")


@pytest.mark.parametrize("curve", [_high_rates_diverge, _some_crash])
def test_failed_runs_count_and_stop_nothing(curve: Curve) -> None:
    history = run(curve, options={"flops": 2e18, "within": 3.0})
    failed = sum(trial.status == "failed" for trial in history.trials)
    assert failed
    assert f"{len(history.trials)} trials, {failed} of them failed or diverged," in history.reason
    assert "lr 0.00" in history.reason


@pytest.mark.parametrize("curve", [_all_crash, lambda params, step: math.inf])
def test_runs_that_carry_no_law_end_the_study_with_the_reason(curve: Curve) -> None:
    history = run(curve)
    assert history.reason.startswith("the runs carry no law: ")
    assert len(history.trials) == SWEEP + 3 * RUNS
    assert max(float(trial.params["lr"]) for trial in history.trials[SWEEP:]) < 2e-3, (
        "lower rates were tried"
    )


def test_enqueued_configurations_count_and_are_not_repeated() -> None:
    enqueued = [study().trials[0].params, {**study().trials[0].params, "lr": 0.0011}]
    history = run(enqueue=enqueued, budget=Budget(trials=SWEEP + 2 + 1), seed=1)
    assert len({SPACE.key(trial.params) for trial in history.trials}) == SWEEP + 3
    assert history.trials[SWEEP + 2].origin == "strategy"
    last = [event.reason for event in history.events if event.kind == "launch"][-1]
    assert last.startswith("round 1, ")


def test_it_reads_the_metrics_that_its_options_name() -> None:
    assert metrics("scaling", OPTIONS) == ("parameters", "tokens")
    assert metrics("scaling", {**OPTIONS, "n": "weights"}) == ("weights", "tokens")
    assert metrics("sobol", {}) == ()


@pytest.mark.parametrize(
    ("changes", "options", "pointer", "message"),
    [
        ({}, {"size": "widht"}, "/strategy/options/size", "the space has no parameter widht"),
        ({}, {"size": "depth"}, "/strategy/options/size", "depth is not a number with several values"),
        ({"width": {"type": "ordered", "values": [1, 2]}}, {}, "/strategy/options/size", "at least 3"),
        (
            {"length": {"type": "ordered", "values": ["a", "b"]}},
            {},
            "/strategy/options/length",
            "not all positive",
        ),
        ({"width": {"type": "int", "low": 0, "high": 9}}, {}, "/strategy/options/size", "not above 0"),
        ({"lr": {"type": "float", "low": 0, "high": 1}}, {}, "/strategy/options/lr", "positive number"),
        ({"decay": {"type": "float", "low": 0, "high": 1}}, {}, "/space", "the space has decay, too"),
        ({}, {"batch": "lr"}, "/strategy/options", "name the same parameter, lr"),
        ({}, {"within": 1.0}, "/strategy/options/within", "above 1"),
        ({}, {"sequence_length": 0.5}, "/strategy/options/sequence_length", "whole number"),
    ],
)
def test_mistakes_are_named(
    changes: dict[str, Any], options: dict[str, ParamValue], pointer: str, message: str
) -> None:
    with pytest.raises(SearchError) as caught:
        create("scaling", {**OPTIONS, **options}, SearchSpace.from_json(DOCUMENT | changes), FIDELITY)
    (mistake,) = (m for m in caught.value.mistakes if m.pointer == pointer)
    assert message in mistake.message
    assert mistake.suggestion


def test_options_that_must_be_given_are_all_asked_for() -> None:
    with pytest.raises(SearchError) as caught:
        create("scaling", {}, SPACE, FIDELITY)
    words = " ".join(mistake.message for mistake in caught.value.mistakes)
    for name in ("size", "length", "target_n", "target_d", "flops"):
        assert f"needs the option {name}" in words


def test_other_kinds_of_parameters_have_levels_too() -> None:
    document = {
        "ints": {"type": "int", "low": 10, "high": 500, "log": True},
        "few": {"type": "int", "low": 2, "high": 8, "step": 2},
        "real": {"type": "float", "low": 1.0, "high": 64.0, "log": True},
        "grid": {"type": "float", "low": 0.5, "high": 2.0, "step": 0.5},
    }
    axes = {p.name: Axis(p.name, p.domain) for p in SearchSpace.from_json(document).parameters}  # type: ignore[arg-type]
    assert axes["few"].levels == (2, 4, 6, 8)
    assert axes["grid"].levels == (0.5, 1.0, 1.5, 2.0)
    assert (axes["ints"].low, axes["ints"].high, axes["real"].high) == (10, 500, 64)
    assert axes["ints"].nearest(33.4) == 33
    assert axes["grid"].nearest(1.6) == 1.5
    assert axes["few"].nearest(7.2) in (6, 8)
    assert axes["real"].first(3, 2.0) == pytest.approx((1.0, 2.18, 4.76), rel=0.01)
    assert axes["few"].first(3, 4.0) == (2, 6, 8), "too few are so far apart"


def test_what_was_not_measured_is_read_off_the_neighbours() -> None:
    scale = Scale.of([(16, 100.0), (16, 110.0), (16, 90.0), (64, 1600.0)])
    assert scale is not None
    assert scale(16) == 100
    assert scale(32) == pytest.approx(400)
    assert scale(128) == pytest.approx(6400)
    alone = Scale.of([(16, 100.0)])
    assert alone is not None
    assert alone(32) == 200
    assert Scale.of([]) is None


def test_a_plan_keeps_to_the_cells_that_can_be_trained() -> None:
    runs = [trial for trial in study().trials if math.isfinite(trial.values[-1])]
    n, d = np.array([[size_of(t.params), float(t.params["length"])] for t in runs]).T
    lr = np.array([float(t.params["lr"]) for t in runs])
    batch = np.array([1024.0 * float(t.params["batch_size"]) for t in runs])
    read = Runs(n=n, d=d, lr=lr, batch=batch, loss=np.array([t.values[-1] for t in runs]))
    law = fitted(read, {"draws": 40, "forms": False}, 0, lambda _: None)
    among = np.array([[3e7, 3e9], [9e7, 5e9], [2e7, 1.1e9], [9e12, 9e12]])
    plan = plan_optimum(law, read, 2e8, 4e9, 1e20, 6, 0, among)
    assert {(run.n, run.d) for run in plan.runs} <= {(3e7, 3e9), (9e7, 5e9), (2e7, 1.1e9)}
