"""Population based training: who is replaced by whom, and whether it finds schedules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from search.decide import decide
from search.decision import Continue, Fork, Launch, Stop
from search.errors import SearchError
from search.simulator import Budget, History, Segment, simulate
from search.strategies import create
from search.view import BudgetLeft, Fidelity, StudyView, TrialView
from tests.search.support import CONDITIONAL, MIXED, space

LR = {"lr": {"type": "float", "low": 1e-4, "high": 1.0, "log": True}}
FIDELITY = Fidelity(10, 100, 5)


def trial(number: int, loss: float, step: int = 20, **known: Any) -> TrialView:
    """Paused at ``step``, where it has ``loss``; measured every 5 steps, saved every 10."""
    steps = tuple(range(5, step + 1, 5))
    values = tuple(loss + (step - at) / 100 for at in steps)
    known = {"status": "paused", "resumable": True, "checkpoints": tuple(range(10, step + 1, 10))} | known
    return TrialView(
        number,
        known.pop("params", {"lr": 0.01}),
        known.pop("status"),
        steps,
        values,
        step,
        10,
        step,
        **known,
    )


def study(*trials: TrialView, document: dict[str, Any] = LR, **known: Any) -> StudyView:
    options = {"population": 4, "interval": 10} | known.pop("options", {})
    return StudyView(space(document), FIDELITY, False, "pbt", options, trials, **known)


def test_one_of_the_worst_is_stopped_and_a_fork_of_one_of_the_best_takes_its_place() -> None:
    view = study(trial(1, 0.4), trial(2, 0.9), trial(3, 0.5), trial(4, 0.6, params={"lr": 0.5}))
    stops = decide(view, 4, 0).decisions
    on = [d for d in stops if isinstance(d, Continue)]
    assert [(d.trial, d.target) for d in on] == [(1, 30), (3, 30), (4, 30)]
    assert on[0].reason == "1st of 4 at 20 steps, not among the worst 1: on to 30"
    (stop,) = [d for d in stops if isinstance(d, Stop)]
    (fork,) = [d for d in stops if isinstance(d, Fork)]
    assert stop.trial == 2
    assert stop.reason == "4th of 4 at 20 steps: a fork of trial 1, 1st of 4 at 20 steps, takes its place"
    assert (fork.parent, fork.step, fork.target) == (1, 20, 30)
    assert fork.params != {"lr": 0.01}
    assert fork.reason.startswith("takes the place of trial 2, 4th of 4 at 20 steps: a fork of trial 1")
    assert "with lr 0.01 → " in fork.reason


def test_the_one_behind_goes_first_and_is_compared_with_all_that_came_there() -> None:
    gone = [trial(n, 0.1 * n, status="stopped", resumable=False, checkpoints=()) for n in (1, 2, 3)]
    view = study(*gone, trial(4, 0.35, 30), trial(5, 0.9), trial(6, 0.4, 40), trial(7, 0.5, 40))
    stop, fork = decide(view, 1, 0).decisions
    assert isinstance(stop, Stop)
    assert isinstance(fork, Fork)
    # The best at step 20 were stopped since: the best that still has its checkpoint is forked.
    assert (stop.trial, fork.parent, fork.step) == (5, 4, 20)
    assert "7th of 7 at 20 steps: a fork of trial 4, 4th of 7" in stop.reason
    alone = replace(view, trials=tuple(replace(t, checkpoints=()) for t in view.trials))
    (on,) = decide(alone, 1, 0).decisions
    assert isinstance(on, Continue)
    assert "no better one can be forked" in on.reason


def test_without_a_trial_left_in_the_budget_the_worst_goes_on() -> None:
    view = study(*(trial(n, 0.1 * n) for n in range(1, 5)), budget=BudgetLeft(trials=0))
    last = decide(view, 4, 0).decisions[-1]
    assert isinstance(last, Continue)
    assert "no trial is left in the budget for a fork" in last.reason


def test_the_first_to_arrive_go_on_and_a_diverged_one_is_replaced() -> None:
    running = [trial(n, 0.5, 10, status="running", resumable=False) for n in (3, 4)]
    (first,) = decide(study(trial(1, 0.5), trial(2, 0.4, 10, status="running"), *running), 1, 0).decisions
    assert "too few to compare" in first.reason
    lost = replace(trial(1, 0.5), values=(1.0, 1.0, 1.0, math.nan))
    found = decide(study(lost, trial(2, 0.4), *running), 2, 0).decisions
    assert {type(d) for d in found} == {Stop, Fork, Continue}


def test_what_a_checkpoint_does_not_fit_is_inherited() -> None:
    document = LR | {
        "width": {"type": "int", "low": 1, "high": 64},
        "drop": {"type": "float", "low": 0, "high": 1},
    }
    params = {"lr": 0.01, "width": 16, "drop": 0.123456789}
    trials = [trial(n, 0.1 * n, params=params) for n in range(1, 5)]
    for seed in range(20):
        view = study(*trials, document=document, inherited=frozenset({"width", "drop"}))
        (fork,) = [d for d in decide(view, 4, seed).decisions if isinstance(d, Fork)]
        assert (fork.params["width"], fork.params["drop"]) == (16, 0.123456789)
        assert fork.params["lr"] != 0.01
    fixed = study(*trials, document=document, inherited=frozenset(document))
    (fork,) = [d for d in decide(fixed, 4, 0).decisions if isinstance(d, Fork)]
    assert (fork.params, fork.reason.endswith("with the same configuration")) == (params, True)


@pytest.mark.parametrize("document", [MIXED, CONDITIONAL], ids=["mixed", "conditional"])
def test_forks_are_legal_and_differ_in_every_kind_of_space(document: dict[str, Any]) -> None:
    found = space(document)
    params = found.decode([0.3] * len(found.dimensions))
    trials = [trial(n, 0.1 * n, params=params) for n in range(1, 5)]
    forks = [
        d
        for seed in range(30)
        for d in decide(study(*trials, document=document), 4, seed).decisions
        if isinstance(d, Fork)
    ]
    assert len({found.key(fork.params) for fork in forks}) > 20  # decide has checked that they are legal
    assert found.key(params) not in {found.key(fork.params) for fork in forks}


def test_intervals_end_at_measurements_and_the_least_fidelity() -> None:
    for fidelity, first, then in (
        (Fidelity(10, 100, 5), 10, 20),
        (Fidelity(1, 100, 30), 30, 60),
        (Fidelity(45, 100, 10), 50, 60),
        (Fidelity(7, 7, 10), 7, 7),
    ):
        strategy = create("pbt", {}, space(LR), fidelity)
        assert strategy.first_target(fidelity) == first
        assert strategy.boundary(fidelity, first) == then  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "options", [{"population": 1}, {"population": 2.5}, {"interval": 0}, {"quantile": 0.6}, {"perturb": 0}]
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SearchError):
        create("pbt", options, space(LR), FIDELITY)


def drifting(line: Sequence[Segment], step: int) -> float:
    """Progress is made at a rate that falls off with the distance from a learning rate that falls."""
    loss = 3.0
    for at in range(step):
        lr = float([part for part in line if part.start <= at][-1].params["lr"])
        loss *= 1 - 0.06 * math.exp(-4 * (math.log10(lr) - (-1 - 2 * at / 100)) ** 2)
    return loss


def drive(strategy: str, seed: int) -> History:
    return simulate(
        space(LR),
        FIDELITY,
        lambda params, step: 0.0,
        Budget(fidelity=1_600),
        strategy=strategy,
        workers=4,
        seed=seed,
        line_curve=drifting,
    )


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_a_schedule_where_no_constant_does(seed: int) -> None:
    history = drive("pbt", seed)
    assert history.units == 1_600
    assert history.best[-1].value < 0.25 * drive("random", seed).best[-1].value
    forks = [t for t in history.trials if t.parent is not None]
    assert forks
    for fork in forks:
        assert fork.steps == () or fork.steps[0] > fork.forked_at
    assert drive("pbt", seed) == history


def test_a_full_population_waits_for_nobody() -> None:
    launched = decide(study(), 6, 0).decisions
    assert len(launched) == 4
    assert all(isinstance(d, Launch) and d.target == 10 for d in launched)
    # What the budget does not train to the end is not begun.
    few = decide(study(budget=BudgetLeft(fidelity=250)), 6, 0).decisions
    assert len(few) == 2
