"""The simulator: a study by hand, and what successive halving is worth."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from search.simulator import Budget, History, Params, TrainingFailedError, simulate, table_curve
from search.stopping import Divergence, Median, Patience, Target
from search.view import Fidelity
from tests.search.support import space

DEPTH: Mapping[str, Any] = {"depth": {"type": "int", "low": 1, "high": 50}}


def _run(curve: Any, budget: Budget, **wanted: Any) -> History:
    wanted.setdefault("strategy", "random")
    return simulate(
        space(wanted.pop("document", DEPTH)),
        wanted.pop("fidelity", Fidelity(1, 4, 2)),
        curve,
        budget,
        **wanted,
    )


def test_one_worker_trains_one_trial_after_the_other() -> None:
    history = _run(lambda p, s: 1 / s, Budget(trials=2))
    assert [(e.seconds, e.kind, e.trial, e.step) for e in history.events] == [
        (0.0, "launch", 1, 0),
        (2.0, "measured", 1, 2),
        (4.0, "measured", 1, 4),
        (4.0, "completed", 1, 4),
        (4.0, "launch", 2, 0),
        (6.0, "measured", 2, 2),
        (8.0, "measured", 2, 4),
        (8.0, "completed", 2, 4),
    ]
    assert (history.seconds, history.units, history.reason) == (8.0, 8, "the budget of trials is spent")
    assert [(b.units, b.value, b.trial) for b in history.best] == [(2, 0.5, 1), (4, 0.25, 1)]
    assert history.best_by_units(1) is None
    assert history.best_by_units(3) == 0.5
    assert history.best_by_seconds(100) == 0.25


def test_the_same_arguments_give_the_same_history() -> None:
    wanted: dict[str, Any] = {
        "workers": 5,
        "strategy": "hyperband",
        "fidelity": Fidelity(1, 27, 1),
        "seed": 9,
    }
    curve = lambda p, s: p["depth"] / 50 + 1 / s  # noqa: E731
    first, again = (_run(curve, Budget(fidelity=500), **wanted) for _ in range(2))
    assert first == again
    assert _run(curve, Budget(fidelity=500), **{**wanted, "seed": 10}) != first


def test_workers_run_side_by_side_at_their_own_pace() -> None:
    history = _run(
        lambda p, s: 1.0,
        Budget(trials=4),
        workers=2,
        enqueue=[{"depth": 1}, {"depth": 9}],
        seconds_per_unit=lambda p: float(p["depth"]) if p["depth"] in (1, 9) else 0.5,
    )
    ends = {e.trial: e.seconds for e in history.events if e.kind == "completed"}
    assert ends[1] == 4.0
    assert ends[2] == 36.0
    assert ends[3] == 6.0  # started at 4, when the first worker was free
    assert history.trials[0].origin == "enqueued"


def test_a_pause_at_a_rung_costs_nothing_twice() -> None:
    history = _run(
        lambda p, s: p["depth"] + 1 / s, Budget(trials=9), strategy="asha", fidelity=Fidelity(1, 9, 1)
    )
    # Nine to 1, three on to 3, one on to 9.
    assert (
        sorted(t.step for t in history.trials) == [1] * 6 + [3, 3, 9]
        or max(t.step for t in history.trials) == 9
    )
    assert history.units == sum(t.step for t in history.trials)
    for trial in history.trials:
        assert trial.steps == tuple(range(1, trial.step + 1))


def test_stopping_rules_act() -> None:
    fidelity = Fidelity(1, 10, 1)
    stopped = _run(lambda p, s: float(s), Budget(trials=1), fidelity=fidelity, rules=[Patience(3)])
    assert (stopped.trials[0].status, stopped.trials[0].step) == ("stopped", 4)
    slow = _run(
        lambda p, s: 1 - 0.01 * s, Budget(trials=1), fidelity=fidelity, rules=[Patience(3, min_delta=0.1)]
    )
    assert (slow.trials[0].status, slow.trials[0].step) == ("stopped", 4)
    failed = _run(lambda p, s: float(s), Budget(trials=1), fidelity=fidelity, rules=[Divergence(factor=4)])
    assert (failed.trials[0].status, failed.trials[0].step, failed.trials[0].failure) == (
        "failed",
        5,
        "diverged",
    )
    done = _run(lambda p, s: 1 / s, Budget(trials=1), fidelity=fidelity, rules=[Target(0.2)])
    assert (done.trials[0].status, done.trials[0].step) == ("completed", 5)
    nan = _run(lambda p, s: math.nan, Budget(trials=1), fidelity=fidelity)
    assert (nan.trials[0].status, nan.trials[0].step, nan.trials[0].failure) == ("failed", 1, "diverged")
    assert nan.best == ()


def test_the_median_rule_saves_training() -> None:
    curve = lambda p, s: p["depth"] + 1 / s  # noqa: E731
    wanted: dict[str, Any] = {"fidelity": Fidelity(1, 20, 1), "strategy": "random"}
    full = _run(curve, Budget(trials=30), **wanted)
    saved = _run(curve, Budget(trials=30), rules=[Median(5, grace=2)], **wanted)
    assert full.units == 600
    assert saved.units < 400
    assert saved.best[-1].value == full.best[-1].value


def test_a_crash_is_a_failure_and_frees_the_worker() -> None:
    def curve(params: Params, step: int) -> float:
        if params["depth"] == 7:
            raise TrainingFailedError("out_of_memory")
        return 1.0

    history = _run(curve, Budget(trials=3), enqueue=[{"depth": 7}])
    assert (history.trials[0].status, history.trials[0].failure) == ("failed", "out_of_memory")
    assert [t.status for t in history.trials[1:]] == ["completed", "completed"]


def test_time_runs_out() -> None:
    history = _run(lambda p, s: 1.0, Budget(seconds=9.0))
    assert history.seconds == 9.0
    assert history.reason == "the budget of 9 seconds is spent"
    assert [t.status for t in history.trials] == ["completed", "completed", "running"]


def test_a_table_is_a_curve() -> None:
    found = space({"depth": {"type": "int", "low": 1, "high": 2}})
    curve = table_curve(found, [({"depth": 1}, {2: 0.5, 4: 0.4}), ({"depth": 2}, {2: 0.6, 4: 0.3})])
    history = simulate(found, Fidelity(1, 4, 2), curve, Budget(trials=5), strategy="sobol")
    assert {t.params["depth"]: t.values for t in history.trials} == {1: (0.5, 0.4), 2: (0.6, 0.3)}
    assert history.reason == "all 2 configurations of the space have been tried"


PLANE: Mapping[str, Any] = {
    "x": {"type": "float", "low": -1.0, "high": 1.0},
    "y": {"type": "float", "low": -1.0, "high": 1.0},
}


def _noisy_power_law(noise: float, seed: int) -> Any:
    """Curves that fall to a floor at a speed, both set by the configuration; noise fixed by all of it."""

    def curve(params: Params, step: int) -> float:
        x, y = float(params["x"]), float(params["y"])
        floor = (x - 0.3) ** 2 + (y + 0.4) ** 2
        rng = np.random.default_rng([seed, step, int((x + 1) * 1e9), int((y + 1) * 1e9)])
        return floor + (1 + 0.5 * math.sin(5 * x)) / math.sqrt(step) + noise * rng.standard_normal()

    return curve


def _final_floor(history: History) -> float:
    """The true floor of the configuration that the study would recommend."""
    best = history.trials[history.best[-1].trial - 1].params
    return (float(best["x"]) - 0.3) ** 2 + (float(best["y"]) + 0.4) ** 2


@pytest.mark.parametrize("strategy", ["asha", "hyperband"])
def test_successive_halving_finds_better_configurations_for_less(strategy: str) -> None:
    fidelity = Fidelity(1, 81, 1)
    random, halving = [], []
    for seed in range(12):
        curve = _noisy_power_law(0.02, seed)
        wanted: dict[str, Any] = {"document": PLANE, "fidelity": fidelity, "workers": 4, "seed": seed}
        random.append(_final_floor(_run(curve, Budget(fidelity=81 * 16), strategy="random", **wanted)))
        halving.append(_final_floor(_run(curve, Budget(fidelity=81 * 8), strategy=strategy, **wanted)))
    # Half the budget, and still clearly better.
    assert statistics.mean(halving) < 0.7 * statistics.mean(random)


def test_a_study_of_a_thousand_trials_takes_seconds() -> None:
    curve = _noisy_power_law(0.0, 0)
    history = _run(
        curve, Budget(trials=300), document=PLANE, fidelity=Fidelity(1, 27, 1), strategy="asha", workers=16
    )
    assert len(history.trials) == 300
    # Every rung keeps about a third.
    rungs = [sum(t.step >= level for t in history.trials) for level in (1, 3, 9, 27)]
    assert rungs[0] == 300
    assert 100 <= rungs[1] <= 140
    assert 33 <= rungs[2] <= 60
    assert 11 <= rungs[3] <= 30
