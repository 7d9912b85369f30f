"""Stopping rules, as tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from search.stopping import (
    Divergence,
    Forecast,
    Median,
    Patience,
    Point,
    Predicted,
    Rule,
    Target,
    improves,
    judge,
)


def _nobody() -> Sequence[float]:
    raise AssertionError("only a median rule may ask for the other trials")


def _point(
    value: float, *, step: int = 10, best: float | None = None, first: float = 1.0, since: int = 0
) -> Point:
    return Point(step, value, value if best is None else best, first, since)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("maximize", [False, True])
def test_a_non_finite_value_always_fails(value: float, maximize: bool) -> None:
    for rules in ([], [Target(0.0)], [Median()]):
        judgement = judge(rules, _point(value), maximize, _nobody)
        assert judgement.action == "fail"
        assert "diverged" in judgement.reason


@pytest.mark.parametrize(
    ("rule", "point", "maximize", "action", "words"),
    [
        (Target(0.5), _point(0.5), False, "complete", "0.5 reaches the target 0.5"),
        (Target(0.5), _point(0.51), False, "continue", ""),
        (Target(0.9), _point(0.91), True, "complete", "target 0.9"),
        (Target(0.9), _point(0.89), True, "continue", ""),
        (Divergence(bound=10), _point(10), False, "continue", ""),
        (Divergence(bound=10), _point(10.5), False, "fail", "worse than the bound 10"),
        (Divergence(bound=0.1), _point(0.05), True, "fail", "bound 0.1"),
        (Divergence(factor=3), _point(3, first=1), False, "continue", ""),
        (Divergence(factor=3), _point(3.1, first=1), False, "fail", "3 times the first value 1"),
        (Divergence(factor=3), _point(-1.9, first=-1), False, "continue", ""),
        (Divergence(factor=3), _point(1.1, first=-1), False, "fail", "worse than 1"),
        (Divergence(factor=2), _point(-0.1, first=1), True, "fail", "worse than 0"),
        (Divergence(factor=2), _point(0.5, first=1), True, "continue", ""),
        (Divergence(factor=2), _point(99, first=0), False, "continue", ""),
        (Patience(3), _point(2, best=1, since=2), False, "continue", ""),
        (Patience(3), _point(2, best=1, since=3), False, "stop", "no improvement on 1 in 3 measurements"),
        (Patience(1), _point(2, best=1, since=1), True, "stop", "1 measurement "),
    ],
)
def test_rules_that_look_at_the_trial_alone(
    rule: Rule, point: Point, maximize: bool, action: str, words: str
) -> None:
    judgement = judge([rule], point, maximize, _nobody)
    assert judgement.action == action
    assert words in judgement.reason


@pytest.mark.parametrize(
    ("best", "peers", "maximize", "action"),
    [
        (5.0, [1, 2, 3, 4], False, "continue"),  # too few
        (3.5, [1, 2, 3, 4, 5], False, "stop"),
        (3.0, [1, 2, 3, 4, 5], False, "continue"),  # the median itself is good enough
        (2.5, [1, 2, 3, 4, 5], True, "stop"),
        (3.0, [1, 2, 3, 4, 5], True, "continue"),
        (9.0, [1, 2, math.nan, math.inf, math.nan], False, "continue"),  # the others diverged
        (9.0, [1, 2, 3, math.inf, math.nan], False, "stop"),
        (-9.0, [1, 2, 3, math.inf, math.nan], True, "stop"),
        (1.0, [1.0] * 9, False, "continue"),
    ],
)
def test_median(best: float, peers: list[float], maximize: bool, action: str) -> None:
    judgement = judge(
        [Median(5)], _point(best + 1 if not maximize else best, best=best), maximize, lambda: peers
    )
    assert judgement.action == action


def test_the_median_rule_asks_nobody_within_its_grace() -> None:
    assert judge([Median(2, grace=11)], _point(99, step=10), False, _nobody).action == "continue"
    assert judge([Median(2, grace=10)], _point(99, step=10), False, lambda: [1, 2]).action == "stop"


def test_success_comes_before_stopping_and_failure_before_stopping() -> None:
    rules: list[Rule] = [Median(2), Patience(1), Divergence(bound=5), Target(0)]
    assert judge(rules, _point(-1, best=-1, since=4), False, _nobody).action == "complete"
    assert judge(rules, _point(6, best=1, since=4), False, _nobody).action == "fail"
    assert judge(rules, _point(4, best=1, since=4), False, _nobody).action == "stop"


def test_improvement() -> None:
    assert improves(1.0, None, False)
    assert not improves(math.nan, None, False)
    assert improves(1.0, math.nan, False)
    assert improves(0.9, 1.0, False)
    assert not improves(0.9, 1.0, False, 0.1 + 1e-9)
    assert improves(1.2, 1.0, True, 0.1)
    assert not improves(1.0, 1.0, True)


def _forecast(chance: float, protected: bool = False) -> Forecast:
    return Forecast(0.41234, 0.38, 0.45, chance, 0.023, 0.352, protected)


def test_the_predicted_rule_stops_what_has_no_chance_and_says_why() -> None:
    rules: list[Rule] = [Predicted()]
    judgement = judge(rules, _point(0.6), False, _nobody, lambda: _forecast(0.0021))
    assert judgement.action == "stop"
    assert judgement.reason == (
        "chance of 0.21 % to beat 0.352, under 2.3 %: "
        "predicted to end at 0.4123 (90 %: 0.38 to 0.45), seen at 10"
    )
    for forecast in (None, _forecast(0.03), _forecast(1e-9, protected=True)):
        assert judge(rules, _point(0.6), False, _nobody, lambda f=forecast: f).action == "continue"  # type: ignore[misc]
    assert "next to nothing" in judge(rules, _point(0.6), False, _nobody, lambda: _forecast(1e-9)).reason


def test_nobody_is_asked_for_a_forecast_without_the_predicted_rule() -> None:
    def forecast() -> Forecast:
        raise AssertionError

    assert judge([Target(0)], _point(0.6), False, _nobody, forecast).action == "continue"
