"""The contract of a strategy, held against every strategy there is.

``decide`` itself refuses an illegal answer (see test_decide.py), so that every study simulated here also
checks that all configurations, targets and budgets were legal.
"""

from __future__ import annotations

import importlib
import math
import pickle
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from search.decide import decide
from search.decision import Continue, Finish, Launch
from search.errors import SearchError
from search.simulator import Budget, History, Params, TrainingFailedError, simulate
from search.space import ParamValue
from search.strategies import create, forks
from search.view import BudgetLeft, Fidelity, StudyView, TrialView
from tests.search.support import CONDITIONAL, GENERAL, MIXED, space, valley

FIDELITY = Fidelity(1, 9, 1)
PLANE: dict[str, Any] = {
    "lr": {"type": "float", "low": 1e-5, "high": 1.0, "log": True},
    "depth": {"type": "int", "low": 1, "high": 6},
}
OPTIONS: Mapping[str, Mapping[str, ParamValue]] = {
    "bo": {"initial_trials": 3},
    "cmaes": {"population": 4},
    "curve-bo": {"initial_trials": 4},
    "mf-bo": {"along": "depth", "initial_trials": 4},
    "pbt": {"population": 4, "interval": 3},
    "tpe": {"initial_trials": 3},
}
TO_THE_END = ("bo", "cmaes", "mf-bo", "random", "sobol", "tpe")
"""Strategies that pause nothing."""
# Each launch from a model of bo takes a second, each of curve-bo and mf-bo about a tenth of one.
MANY: Mapping[str, int] = {"bo": 4, "curve-bo": 7, "mf-bo": 7}
SLOTS: Mapping[str, int] = {"bo": 1}
SIZED: Mapping[str, dict[str, Any]] = {"mf-bo": {"depth": {"type": "int", "low": 1, "high": 2}}}
"""What a strategy needs in a space beside what is tuned."""

every_strategy = pytest.mark.parametrize("strategy", GENERAL)


def _simulate(strategy: str, document: dict[str, Any] = PLANE, **wanted: Any) -> History:
    wanted.setdefault("budget", Budget(trials=MANY.get(strategy, 14)))
    return simulate(
        space(document),
        wanted.pop("fidelity", FIDELITY),
        wanted.pop("curve", valley),
        wanted.pop("budget"),
        strategy=strategy,
        options=OPTIONS.get(strategy, {}),
        workers=wanted.pop("workers", 2),
        **wanted,
    )


def _view(strategy: str, document: dict[str, Any], *trials: TrialView, **known: Any) -> StudyView:
    return StudyView(
        space(document),
        known.pop("fidelity", FIDELITY),
        False,
        strategy,
        OPTIONS.get(strategy, {}),
        trials,
        **known,
    )


def _studied(strategy: str) -> StudyView:
    """A study with finished, failed, paused and running trials."""
    curves = [(0.9, 0.8, 0.7), (0.5, 0.4), (0.6,), (0.7,), (0.8,), (math.nan,)]
    trials = []
    for i, values in enumerate(curves, start=1):
        params = {"lr": 10.0**-i, "depth": i}
        steps = (1, 3, 9)[: len(values)]
        done = len(values) == 3 or strategy in TO_THE_END
        status = "failed" if math.isnan(values[0]) else "completed" if done else "paused"
        trials.append(
            TrialView(
                i,
                params,
                status,
                steps,
                values,
                9 if done else steps[-1],
                1,
                steps[-1],
                not done,
                "diverged" if status == "failed" else None,
            )
        )
    trials.append(TrialView(7, {"lr": 0.5, "depth": 1}, "running", first_target=9, target=9))
    return _view(strategy, PLANE, *trials, seed=5)


@every_strategy
@pytest.mark.parametrize("kind", ["trials", "fidelity", "seconds"])
def test_it_finishes_under_each_budget(strategy: str, kind: str) -> None:
    many = MANY.get(strategy, 14)
    budget = {
        "trials": Budget(trials=many),
        "fidelity": Budget(fidelity=9 * many + 4),
        "seconds": Budget(seconds=9.0 * many / 2),
    }[kind]
    history = _simulate(strategy, budget=budget)
    assert history.reason
    assert not any(trial.active for trial in history.trials) or kind == "seconds"
    assert any(trial.step == 9 for trial in history.trials)
    if kind == "trials":
        assert len(history.trials) == many
    if kind == "fidelity":
        assert 9 * many - 9 < history.units <= 9 * many + 4
    launched = [event for event in history.events if event.kind in ("launch", "continue")]
    assert all(event.reason for event in launched)


@every_strategy
def test_no_configuration_is_tried_twice(strategy: str) -> None:
    history = _simulate(
        strategy, {"depth": {"type": "int", "low": 1, "high": 12}}, curve=lambda p, s: float(p["depth"])
    )
    depths = [trial.params["depth"] for trial in history.trials if trial.parent is None]
    assert len(set(depths)) == len(depths)
    if forks(strategy):  # its further trials go on from others
        assert len(history.trials) == 14
        return
    # To mf-bo a configuration is what stands beside the depth, here nothing: one proxy, one at the target.
    assert len(depths) == (2 if strategy == "mf-bo" else min(12, MANY.get(strategy, 12)))


@every_strategy
def test_an_exhausted_space_finishes(strategy: str) -> None:
    history = _simulate(
        strategy,
        {"bias": {"type": "bool"}, "k": {"type": "fixed", "value": "x"}} | SIZED.get(strategy, {}),
        curve=lambda p, s: float(bool(p["bias"])),
        budget=Budget(trials=50),
    )
    assert len(history.trials) == (4 if strategy in SIZED else 2)
    assert "all 2 configurations" in history.reason
    assert any(trial.step == 9 for trial in history.trials)


@every_strategy
def test_a_space_of_one_point_finishes(strategy: str) -> None:
    history = _simulate(
        strategy,
        {"k": {"type": "fixed", "value": 1}} | SIZED.get(strategy, {}),
        curve=lambda p, s: 1 / s,
        budget=Budget(fidelity=100),
    )
    assert len(history.trials) == (2 if strategy in SIZED else 1)
    where = "tried at depth 2" if strategy in SIZED else "tried"
    assert history.reason.startswith("the only configuration")
    assert history.reason.endswith(f"has been {where}")
    assert all(trial.step == 9 and trial.status == "completed" for trial in history.trials)


@every_strategy
def test_pending_trials_are_respected(strategy: str) -> None:
    document = {"depth": {"type": "int", "low": 1, "high": 6}}
    pending = [
        TrialView(n, {"depth": n}, "running" if n < 3 else "queued", first_target=1, target=9)
        for n in (1, 2, 3)
    ]
    done = [TrialView(n, {"depth": n}, "completed", (9,), (float(n),), 9, 9, 9) for n in (4, 5)]
    answer = decide(_view(strategy, document, *pending, *done), 5, 0)
    assert [d.params for d in answer.decisions if isinstance(d, Launch)] == [{"depth": 6}]
    assert len(answer.decisions) == 1
    trials = [*pending, *done, TrialView(6, {"depth": 6}, "running", first_target=1, target=9)]
    assert decide(_view(strategy, document, *trials), 5, 0).decisions == ()


@every_strategy
def test_the_same_view_and_seed_give_the_same_decisions(strategy: str) -> None:
    view = _studied(strategy)
    slots = SLOTS.get(strategy, 2)
    first = decide(view, slots, 11).decisions
    assert len(first) == slots
    assert decide(view, slots, 11).decisions == first
    if strategy not in ("sobol", "bo", "pbt"):  # nothing is drawn here
        assert decide(view, 5, 12).decisions != decide(view, 5, 11).decisions


def test_a_fresh_process_decides_the_same() -> None:
    views = [_studied(name) for name in GENERAL]
    code = (
        "import pickle, sys; from search.decide import decide; "
        "views = pickle.load(sys.stdin.buffer); "
        "sys.stdout.buffer.write(pickle.dumps([decide(v, 1, 11).decisions for v in views]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(views),
        capture_output=True,
        check=True,
        timeout=120,
    )
    assert pickle.loads(done.stdout) == [decide(view, 1, 11).decisions for view in views]


@every_strategy
def test_what_a_forked_trial_comes_to_is_not_taken_for_its_configuration(strategy: str) -> None:
    """A person may fork in any study: such a curve begins late, and is owed to the parent, too."""
    studied, slots = _studied(strategy), SLOTS.get(strategy, 2)
    answers = []
    for losses in ((0.01, 0.001), (9.0, math.nan)):
        forked = TrialView(
            8, {"lr": 0.02, "depth": 3}, "completed", (7, 9), losses, 9, 9, 9, parent=1, forked_at=6
        )
        active = TrialView(
            9, {"lr": 0.02, "depth": 2}, "running", step=6, first_target=9, target=9, parent=1, forked_at=6
        )
        paused = replace(active, number=10, status="paused", resumable=True, step=7, target=7)
        study = replace(studied, trials=(*studied.trials, forked, active, paused))
        answers.append(decide(study, slots, 11).decisions)
        assert answers[-1]
    assert answers[0] == answers[1] or forks(strategy)


@every_strategy
def test_global_random_states_are_left_alone(strategy: str) -> None:
    import torch

    # Ax draws random numbers while it is imported, which bo does at its first use.
    importlib.import_module("search.strategies.bo_model")

    def states() -> tuple[Any, ...]:
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before, threads = states(), torch.get_num_threads()
    decide(_studied(strategy), SLOTS.get(strategy, 2), 3)
    assert states() == before
    assert torch.get_num_threads() == threads


def _crashing(params: Params, step: int) -> float:
    if float(params["lr"]) > 1e-3:
        raise TrainingFailedError("crash" if int(params["depth"]) % 2 else "out_of_memory")
    return valley(params, step)


def _diverging(params: Params, step: int) -> float:
    return math.nan if float(params["lr"]) > 1e-3 and step > 2 else valley(params, step)


def _all_crash(params: Params, step: int) -> float:
    raise TrainingFailedError("crash")


CURVES = {
    "some crash": _crashing,
    "some diverge": _diverging,
    "all crash": _all_crash,
    "all diverge": lambda params, step: math.inf,
    "constant": lambda params, step: 1.0,
    "huge": lambda params, step: 1e300 * (1 if int(params["depth"]) % 2 else -1),
    "tiny": lambda params, step: 1e-300 * int(params["depth"]),
}


@every_strategy
@pytest.mark.parametrize("curve", list(CURVES))
def test_it_survives(strategy: str, curve: str) -> None:
    many = {"bo": 5, "curve-bo": 9}.get(strategy, 14)
    history = _simulate(strategy, curve=CURVES[curve], budget=Budget(trials=many), seed=4)
    assert len(history.trials) == many
    assert history.reason
    if curve.startswith("all"):
        assert all(trial.status == "failed" for trial in history.trials)


@every_strategy
def test_a_budget_too_small_for_anything_finishes_at_once(strategy: str) -> None:
    fidelity = Fidelity(10, 100, 10)
    for left in (BudgetLeft(trials=0), BudgetLeft(fidelity=9), BudgetLeft(fidelity=0, trials=3)):
        (finish,) = decide(_view(strategy, PLANE, budget=left, fidelity=fidelity), 3, 0).decisions
        assert isinstance(finish, Finish)
        assert "budget" in finish.reason


@every_strategy
def test_with_no_slot_nothing_starts(strategy: str) -> None:
    assert not [d for d in decide(_studied(strategy), 0, 0).decisions if isinstance(d, Launch | Continue)]


@every_strategy
def test_it_takes_every_kind_of_parameter(strategy: str) -> None:
    document = dict(MIXED)
    if strategy == "cmaes":
        with pytest.raises(SearchError, match="cannot model categorical parameters") as caught:
            create(strategy, {}, space(document), FIDELITY)
        assert caught.value.mistakes[0].pointer == "/strategy/name"
        assert "hyperband, mf-bo, pbt, random, sobol or tpe" in caught.value.mistakes[0].suggestion
        del document["activation"]
    history = _simulate(strategy, document)
    assert all(trial.params["seed"] == 7 for trial in history.trials)


@every_strategy
def test_conditional_spaces_work_or_are_refused_at_submission(strategy: str) -> None:
    found = space(CONDITIONAL)
    if strategy == "cmaes":
        with pytest.raises(SearchError, match="cannot model conditional parameters") as caught:
            create(strategy, {}, found, FIDELITY)
        others = "asha, bo, bohb, curve-bo, hyperband, mf-bo, pbt, random, sobol or tpe"
        assert others in caught.value.mistakes[0].suggestion
    else:
        optimizers = {trial.params["optimizer"] for trial in _simulate(strategy, CONDITIONAL).trials}
        assert len(optimizers) > 1


@every_strategy
def test_a_first_target_lies_within_the_fidelity(strategy: str) -> None:
    for fidelity in (FIDELITY, Fidelity(10, 100, 30), Fidelity(5, 5, 1)):
        options = OPTIONS.get(strategy, {})
        target = create(strategy, options, space(PLANE), fidelity).first_target(fidelity)
        assert fidelity.min <= target <= fidelity.max


@every_strategy
def test_an_unknown_option_is_refused_with_its_place(strategy: str) -> None:
    with pytest.raises(SearchError) as caught:
        create(strategy, {**OPTIONS.get(strategy, {}), "etaa": 3}, space(PLANE), FIDELITY)
    (mistake,) = caught.value.mistakes
    assert mistake.pointer == "/strategy/options/etaa"
    assert mistake.suggestion


@pytest.mark.parametrize(
    ("strategy", "options", "words"),
    [
        ("asha", {"eta": 1}, "at least 1.1"),
        ("asha", {"eta": True}, "number"),
        ("asha", {"eta": "3"}, "number"),
        ("hyperband", {"eta": math.nan}, "number"),
        ("bo", {"initial_trials": 1}, "at least 2"),
        ("bo", {"initial_trials": 2.5}, "whole number"),
        ("bo", {"noise_sd": -1.0}, "at least 0"),
        ("bohb", {"random_share": 1.5}, "at most 1"),
        ("cmaes", {"population": 3}, "at least 4"),
        ("tpe", {"initial_trials": 0}, "at least 2"),
    ],
)
def test_an_option_out_of_range_is_refused(
    strategy: str, options: dict[str, ParamValue], words: str
) -> None:
    with pytest.raises(SearchError, match=words) as caught:
        create(strategy, options, space(PLANE), FIDELITY)
    assert caught.value.mistakes[0].pointer == f"/strategy/options/{next(iter(options))}"


def test_an_unknown_strategy_is_refused_with_a_suggestion() -> None:
    with pytest.raises(SearchError) as caught:
        create("ahsa", {}, space(), FIDELITY)
    assert caught.value.mistakes[0].pointer == "/strategy/name"
    assert caught.value.mistakes[0].suggestion == "did you mean asha?"


@pytest.mark.parametrize("strategy", [name for name in GENERAL if name != "bo"])
@pytest.mark.parametrize("seed", range(8))
def test_studies_of_all_sorts_end_well(strategy: str, seed: int) -> None:
    """Random fidelities, budgets, workers and curves: legal throughout, and over when they should be."""
    rng = np.random.default_rng(seed)
    longest = int(rng.integers(1, 60))
    fidelity = Fidelity(int(rng.integers(1, longest + 1)), longest, int(rng.integers(1, longest + 1)))
    limit = int(rng.integers(1, 400))
    budget = Budget(trials=int(rng.integers(1, 30)), fidelity=limit)
    curve = list(CURVES.values())[seed % len(CURVES)]
    history = _simulate(
        strategy,
        PLANE if strategy == "cmaes" else CONDITIONAL,
        fidelity=fidelity,
        budget=budget,
        curve=curve,
        workers=int(rng.integers(1, 9)),
        maximize=bool(rng.integers(2)),
        seed=seed,
    )
    assert history.reason
    assert history.units <= limit
    assert not any(trial.active for trial in history.trials)
