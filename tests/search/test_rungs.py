"""ASHA and Hyperband against examples worked by hand."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest

from search.decide import decide
from search.decision import Answer, Continue, Finish, Launch
from search.strategies.hyperband import launch_cost, next_bracket
from search.strategies.rungs import rung_levels
from search.view import BudgetLeft, Fidelity, TrialView
from tests.search.support import trial, view


@pytest.mark.parametrize(
    ("fidelity", "eta", "levels"),
    [
        (Fidelity(1, 81, 1), 3, (1, 3, 9, 27, 81)),
        (Fidelity(1, 100, 1), 3, (1, 3, 9, 27, 81, 100)),
        (Fidelity(10, 100, 20), 3, (20, 40, 100)),  # 10, 30, 90: up to the next measurement
        (Fidelity(5, 5, 1), 3, (5,)),
        (Fidelity(1, 10, 10), 3, (10,)),
        (Fidelity(1, 10, 1), 2.5, (1, 2, 6, 10)),
        (Fidelity(100, 250, 30), 2, (120, 210, 250)),  # the top is measured wherever it lies
    ],
)
def test_rung_levels(fidelity: Fidelity, eta: float, levels: tuple[int, ...]) -> None:
    assert rung_levels(fidelity, eta) == levels


def _at(number: int, *values: float, lr: float | None = None, **known: Any) -> TrialView:
    """A trial that stands at rung 1, 3 or 9 with these values there."""
    return trial(
        number,
        lr=number / 100 if lr is None else lr,
        steps=(1, 3, 9)[: len(values)],
        values=values,
        **known,
    )


def _continued(answer: Answer) -> list[tuple[int, int]]:
    return [(d.trial, d.target) for d in answer.decisions if isinstance(d, Continue)]


def test_nobody_goes_on_while_a_rung_has_fewer_than_eta() -> None:
    answer = decide(view(_at(1, 0.5), _at(2, 0.4)), 1, 0)
    (launch,) = answer.decisions
    assert isinstance(launch, Launch)
    assert launch.target == 1


def test_the_best_of_three_goes_on() -> None:
    answer = decide(view(_at(1, 0.5), _at(2, 0.4), _at(3, 0.6)), 2, 0)
    going_on, launch = answer.decisions
    assert going_on == Continue(2, 3, "rung 1: 1st of 3, in the best third, goes on to 3 steps")
    assert isinstance(launch, Launch)
    assert answer.diagnostics["rungs"][0] == {"rung": 1, "trials": 3, "best": 0.4}


def test_maximising_turns_the_order_round() -> None:
    assert _continued(decide(view(_at(1, 0.5), _at(2, 0.4), _at(3, 0.6), maximize=True), 1, 0)) == [(3, 3)]


def test_the_highest_rung_goes_first() -> None:
    trials = [
        _at(1, 0.5, 0.30),
        _at(2, 0.4, 0.31),
        _at(3, 0.3, 0.32),
        *[_at(n, 1.0 + n) for n in range(4, 12)],
    ]
    trials.append(_at(12, 0.1))
    # Rung 3 holds three, the best of them is trial 1. Rung 1 holds twelve, four may go on: 12, 3, 2, 1.
    assert _continued(decide(view(*trials), 3, 0)) == [(1, 9), (12, 3)]


def test_nobody_is_promoted_twice() -> None:
    trials = [_at(1, 0.1, status="running", target=3), _at(2, 0.4), _at(3, 0.6)]
    assert _continued(decide(view(*trials), 3, 0)) == []
    trials = [_at(1, 0.1, status="queued", target=3), _at(2, 0.4), _at(3, 0.6)]
    assert _continued(decide(view(*trials), 3, 0)) == []


def test_running_trials_count_at_the_rungs_they_have_passed() -> None:
    trials = [
        trial(1, 0.01, steps=(1, 2), values=(0.9, 0.8), status="running", target=9),
        trial(2, 0.02, steps=(1, 2), values=(0.8, 0.7), status="running", target=9),
        _at(3, 0.6),
    ]
    assert _continued(decide(view(*trials), 1, 0)) == [(3, 3)]


def test_a_rungs_value_is_the_one_at_the_rung_not_a_later_or_better_one() -> None:
    trials = [
        trial(1, 0.01, steps=(1, 2, 3), values=(0.9, 0.1, 0.2), target=3),
        _at(2, 0.5),
        _at(3, 0.6),
    ]
    assert _continued(decide(view(*trials), 1, 0)) == [(2, 3)]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_failed_or_diverged_trial_is_the_worst_at_the_rung_it_was_going_to(value: float) -> None:
    failed = trial(2, 0.02, status="failed", failure="crash")
    diverged = trial(3, 0.03, steps=(1,), values=(value,), status="failed", failure="diverged")
    assert _continued(decide(view(_at(1, 5.0), failed, diverged), 1, 0)) == [(1, 3)]


def test_a_trial_that_failed_later_still_counts_where_it_was_good() -> None:
    failed = trial(1, 0.01, steps=(1, 2), values=(0.1, 0.1), status="failed", failure="crash", target=3)
    # It holds the one place of rung 1 that three trials give.
    assert _continued(decide(view(failed, _at(2, 0.5), _at(3, 0.6)), 1, 0)) == []
    # At rung 3 it is the last of three.
    trials = [failed, _at(2, 0.5, 0.4), _at(3, 0.6, 0.3)]
    assert _continued(decide(view(*trials), 1, 0)) == [(3, 9)]


def test_only_what_can_be_taken_up_goes_on() -> None:
    assert _continued(decide(view(_at(1, 0.1, resumable=False), _at(2, 0.5), _at(3, 0.6)), 1, 0)) == []
    assert _continued(decide(view(_at(1, 0.1, status="stopped"), _at(2, 0.5), _at(3, 0.6)), 1, 0)) == []


def test_imported_and_enqueued_trials_count_at_every_rung_they_passed() -> None:
    imported = [
        _at(n, 0.9, 0.8, 0.7, status="completed", origin="imported", first_target=9) for n in (1, 2)
    ]
    to_end = _at(3, 0.95, 0.9, 0.85, status="completed", origin="enqueued", first_target=9)
    trials = [*imported, to_end, _at(4, 0.5), _at(5, 0.6, 0.5)]
    # Rung 3 holds 5, 1, 2, 3: one may go on, trial 5. Rung 1 holds all five: one may go on, trial 4.
    assert _continued(decide(view(*trials), 2, 0)) == [(5, 9), (4, 3)]


def test_equal_trials_go_on_in_order_of_age() -> None:
    assert _continued(decide(view(*[_at(n, 1.0) for n in range(1, 7)]), 2, 0)) == [(1, 3), (2, 3)]


def test_a_promotion_that_the_budget_does_not_pay_for_is_passed_over() -> None:
    trials = [
        _at(1, 0.5, 0.30),
        _at(2, 0.4, 0.31),
        _at(3, 0.3, 0.32),
        *[_at(n, 0.1 * n) for n in range(4, 13)],
    ]
    assert _continued(decide(view(*trials, budget=BudgetLeft(fidelity=6)), 1, 0)) == [(1, 9)]
    assert _continued(decide(view(*trials, budget=BudgetLeft(fidelity=5)), 1, 0)) == [(4, 3)]


def test_a_small_study_still_trains_its_best_to_the_end() -> None:
    spent = BudgetLeft(trials=0)
    (decision,) = decide(view(_at(1, 0.5), _at(2, 0.4), budget=spent), 4, 0).decisions
    assert isinstance(decision, Continue)
    assert (decision.trial, decision.target) == (2, 3)
    assert "none was trained to the end" in decision.reason
    (decision,) = decide(view(_at(1, 0.5), _at(2, 0.4, 0.3), budget=spent), 4, 0).decisions
    assert isinstance(decision, Continue)
    assert (decision.trial, decision.target) == (2, 9)
    (decision,) = decide(
        view(_at(1, 0.5), _at(2, 0.4, 0.3, 0.2, status="completed"), budget=spent), 4, 0
    ).decisions
    assert decision == Finish("the budget of trials is spent")


def test_the_last_climb_waits_for_what_is_still_running() -> None:
    trials = [_at(1, 0.5), trial(2, 0.02, status="running", target=1)]
    assert decide(view(*trials, budget=BudgetLeft(trials=0)), 4, 0).decisions == ()


def test_the_last_climb_passes_over_what_cannot_go_on() -> None:
    trials = [_at(1, 0.5), _at(2, 0.4, resumable=False), _at(3, 0.3, math.nan, status="failed")]
    assert _continued(decide(view(*trials, budget=BudgetLeft(trials=0)), 1, 0)) == [(1, 3)]


def test_costs_of_brackets() -> None:
    assert launch_cost((1, 3, 9), 3, 0) == pytest.approx(1 + 2 / 3 + 6 / 9)
    assert launch_cost((1, 3, 9), 3, 1) == pytest.approx(3 + 6 / 3)
    assert launch_cost((1, 3, 9), 3, 2) == 9


def test_brackets_share_the_budget_equally() -> None:
    levels = (1, 3, 9, 27, 81)
    started = [0] * 5
    for _ in range(2000):
        started[next_bracket(levels, 3, started, range(5))] += 1
    spent = [started[b] * launch_cost(levels, 3, b) for b in range(5)]
    assert max(spent) - min(spent) <= 2 * 81
    assert started[0] > started[1] > started[2] > started[3] > started[4] > 0


def test_hyperband_tells_brackets_by_the_first_target() -> None:
    # Three in bracket 0, three in bracket 1 (rungs 3 and 9): the best of each goes on, not the best of all.
    cheap = [_at(n, 0.5 + n / 10, first_target=1) for n in (1, 2, 3)]
    dear = [
        trial(n, n / 100, steps=(1, 3), values=(0.1, 0.1 * n), first_target=3, target=3) for n in (4, 5, 6)
    ]
    answer = decide(view(*cheap, *dear, strategy="hyperband"), 2, 0)
    assert _continued(answer) == [(1, 3), (4, 9)]


def test_hyperbands_first_launches() -> None:
    answer = decide(view(strategy="hyperband"), 8, 0)
    # Costs 2.33, 5, 9: bracket 0 at 2.33 and 4.67, 1 at 5, 0 at 7, 2 at 9, 0 at 9.33, 1 at 10, 0 at 11.67.
    assert [d.target for d in answer.decisions if isinstance(d, Launch)] == [1, 1, 3, 1, 9, 1, 3, 1]


def test_hyperband_starts_only_what_the_budget_pays_for() -> None:
    answer = decide(view(strategy="hyperband", budget=BudgetLeft(fidelity=8)), 8, 0)
    targets = Counter(d.target for d in answer.decisions if isinstance(d, Launch))
    assert sum(target * n for target, n in targets.items()) <= 8
    assert 9 not in targets
