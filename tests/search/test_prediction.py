"""Where trials end, by regression: what is predicted, what is stopped, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search import prediction
from search.prediction import Array, Curves, Point, Predictor, checks, due, judged
from search.simulator import Budget, simulate
from search.space import SearchSpace
from search.stopping import Predicted
from search.view import Fidelity

FULL = Fidelity(1, 64, 1, "epochs")
RULE = Predicted()
STEPS = checks(FULL, RULE)
Family = Callable[[Array, int], Array]


def falling(x: Array, step: int) -> Array:
    """Losses of configurations, shape (n,): a power of the step above an end that x decides."""
    end: Array = (x[:, 0] - 0.3) ** 2 + 0.1 * x[:, 1]
    return end + (0.5 + x[:, 1]) / math.sqrt(step)


def curves_of(x: Array, family: Family = falling, noise: float = 0.0, seed: int = 0) -> Curves:
    rng = np.random.default_rng(seed)
    every = np.column_stack([family(x, step) for step in range(1, FULL.max + 1)])
    every += noise * rng.standard_normal(every.shape)
    best = np.minimum.accumulate(every, axis=1)
    at = np.array(STEPS) - 1
    return Curves(x, best[:, at], every[:, at])


def points(curves: Curves, at: int) -> dict[int, Point]:
    return {
        step: (float(b), float(v))
        for step, b, v in zip(STEPS, curves.best[at], curves.newest[at], strict=True)
    }


def sample(n: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).random((n, 2))


def fitted(curves: Curves, rule: Predicted = RULE, maximize: bool = False) -> Predictor:
    found = Predictor.fit(curves, FULL, maximize, rule)
    assert found is not None
    return found


def test_ends_are_predicted_and_intervals_hold_them() -> None:
    model = fitted(curves_of(sample(60), noise=0.01))
    new = curves_of(sample(200, seed=2), noise=0.01, seed=5)
    for step in judged(FULL, RULE):
        seen = [model.forecast(new.features[i], points(new, i), step, 0.0) for i in range(200)]
        ends = new.best[:, -1]
        inside = [f.good <= end <= f.bad for f, end in zip(seen, ends, strict=True) if f is not None]
        errors = [f.value - end for f, end in zip(seen, ends, strict=True) if f is not None]
        assert len(inside) == 200
        assert np.mean(inside) > 0.8
        assert np.std(errors) < 0.6 * np.std(ends)


def test_leave_one_out_errors_are_those_of_fitting_without_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction, "_PENALTIES", (0.1,))
    monkeypatch.setattr(prediction, "_SHARES", (1.0,))
    rng = np.random.default_rng(3)
    columns, targets = rng.standard_normal((9, 4)), 5 + rng.standard_normal(9)
    columns[:, 1] = 2.0  # a constant column counts for nothing
    fit = prediction._ridge(columns, targets, 2)
    scale = np.where(columns.std(axis=0) > 1e-9, columns.std(axis=0), np.inf) * [1, 1, *[math.sqrt(2)] * 2]
    scaled = np.column_stack([np.ones(9), columns / scale])
    penalty = np.diag([0.0, *[0.1 * 9] * 4])
    for out in range(9):
        rest = np.arange(9) != out
        weights = np.linalg.solve(scaled[rest].T @ scaled[rest] + penalty, scaled[rest].T @ targets[rest])
        assert fit.errors[out] == pytest.approx(scaled[out] @ weights - targets[out])


@pytest.mark.parametrize("maximize", [False, True])
def test_both_directions_say_the_same(maximize: bool) -> None:
    losses = curves_of(sample(30))
    sign = -1 if maximize else 1
    own = Curves(losses.features, sign * losses.best, sign * losses.newest)
    model = fitted(own, maximize=maximize)
    curve = {step: (sign * b, sign * v) for step, (b, v) in points(losses, 3).items() if b and v}
    seen = model.forecast(losses.features[3], curve, judged(FULL, RULE)[0], sign * 0.05)
    same = fitted(losses).forecast(losses.features[3], points(losses, 3), judged(FULL, RULE)[0], 0.05)
    assert seen is not None
    assert same is not None
    assert seen.value == pytest.approx(sign * same.value)
    assert (seen.good, seen.bad) == pytest.approx((sign * same.good, sign * same.bad))
    assert seen.chance == pytest.approx(same.chance)


def test_a_predictor_survives_json() -> None:
    curves = curves_of(sample(20))
    model = fitted(curves)
    again = Predictor.from_json(json.loads(json.dumps(model.to_json())))
    assert again == model
    step = judged(FULL, RULE)[1]
    assert again.forecast(curves.features[0], points(curves, 0), step, 0.1) is not None


def test_too_few_finished_curves_say_nothing() -> None:
    curves = curves_of(sample(20))
    unfinished = curves.best.copy()
    unfinished[6:, -1] = np.nan
    assert Predictor.fit(replace(curves, best=unfinished), FULL, False, RULE) is None
    assert Predictor.fit(curves, FULL, False, replace(RULE, min_trials=21)) is None


def test_a_metric_that_comes_only_at_the_end_stops_nothing() -> None:
    curves = curves_of(sample(20))
    late = np.full_like(curves.best, np.nan)
    late[:, -1] = curves.best[:, -1]
    model = fitted(replace(curves, best=late, newest=late))
    assert model.models == {}
    assert model.forecast(curves.features[0], points(curves, 0), STEPS[-2], 0.0) is None


def test_a_check_that_was_not_measured_is_not_judged() -> None:
    curves = curves_of(sample(20))
    model, step = fitted(curves), judged(FULL, RULE)[2]
    whole = points(curves, 0)
    assert model.forecast(curves.features[0], whole, step, 0.0) is not None
    for missing in (step, STEPS[STEPS.index(step) - 1]):
        for nothing in ({}, {missing: (None, None)}, {missing: (math.nan, 1.0)}):
            rest: dict[int, Point] = {s: p for s, p in whole.items() if s != missing} | nothing
            assert model.forecast(curves.features[0], rest, step, 0.0) is None
    assert model.forecast(curves.features[0], whole, step, math.nan) is None
    assert model.forecast(curves.features[0], whole, step + 1, 0.0) is None
    newest_diverged = whole | {step: (whole[step][0], math.inf)}
    assert model.forecast(curves.features[0], newest_diverged, step, 0.0) is not None


def test_curves_that_are_all_alike_stop_nothing_and_levels_do() -> None:
    x = sample(20)
    alike = curves_of(x, lambda x, step: np.ones(len(x)))
    seen = fitted(alike, replace(RULE, protect=0)).forecast(x[0], points(alike, 0), 64 // 4, 1.0)
    if seen is not None:
        assert not seen.hopeless
    levels = curves_of(x, lambda x, step: np.round(x[:, 0] * 5))
    model = fitted(levels, replace(RULE, protect=0))
    worst = int(np.argmax(levels.best[:, -1]))
    seen = model.forecast(x[worst], points(levels, worst), judged(FULL, RULE)[1], 0.0)
    assert seen is not None
    assert seen.hopeless


@pytest.mark.parametrize("huge", [1e300, -1e300, 1e-300])
def test_losses_of_any_size_are_finite_inside(huge: float) -> None:
    x = sample(20)
    wild = curves_of(x, lambda x, step: np.where(x[:, 0] > 0.6, huge, falling(x, step)))
    for curves in (wild, curves_of(x, lambda x, step: huge * falling(x, step))):
        model = fitted(curves)
        text = json.dumps(model.to_json(), allow_nan=False)
        assert Predictor.from_json(json.loads(text)) == model
        for step in judged(FULL, RULE):
            for i in range(20):
                seen = model.forecast(x[i], points(curves, i), step, float(curves.best[:, -1].min()))
                assert seen is None or 0 <= seen.chance <= 1


def test_the_best_few_are_protected() -> None:
    curves = curves_of(sample(30))
    step = judged(FULL, RULE)[0]
    model = fitted(curves, replace(RULE, protect=3))
    order = np.argsort(curves.best[:, STEPS.index(step)])
    seen = [model.forecast(curves.features[i], points(curves, i), step, -9.0) for i in order]
    assert [f is not None and f.protected for f in seen] == [True] * 3 + [False] * 27
    assert [f is not None and f.hopeless for f in seen] == [False] * 3 + [True] * 27


def test_surprises_make_the_rule_careful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a few of those that had learned nothing become the best, a stop must be surer."""
    monkeypatch.setattr(prediction, "_SHARE", 10.0)
    x, step = sample(60), judged(FULL, RULE)[0]
    late = np.arange(60) % 20 == 0

    def surprising(x: Array, step: int) -> Array:
        return 1.0 + 0.1 * x[:, 0] - 0.5 * late * (step > 40)

    rule = replace(RULE, protect=0)
    calm, surprised = (fitted(curves_of(x, family, noise=0.01), rule) for family in (falling, surprising))
    assert surprised.models[step].threshold < 0.7 * calm.models[step].threshold


def test_a_curve_unlike_all_finished_ones_is_predicted_with_less_confidence() -> None:
    curves, step = curves_of(sample(30), noise=0.02), judged(FULL, RULE)[0]
    model = fitted(curves)
    usual = points(curves, 0)
    odd: dict[int, Point] = {s: (9.0 / s, 9.0 / s) for s in STEPS}  # far steeper
    seen = [model.forecast(curves.features[0], curve, step, 0.0) for curve in (usual, odd)]
    widths = [f.value - f.good for f in seen if f is not None]
    assert widths[1] > 2 * widths[0]


def test_less_risk_needs_a_smaller_chance() -> None:
    curves = curves_of(sample(60), noise=0.1)
    step = judged(FULL, RULE)[0]
    rule = replace(RULE, protect=0)
    thresholds = [fitted(curves, replace(rule, risk=r)).models[step].threshold for r in (0.2, 0.01, 1e-6)]
    assert thresholds == sorted(thresholds, reverse=True)
    assert thresholds[0] > thresholds[2]


@given(st.integers(1, 50), st.integers(1, 5000), st.integers(1, 100), st.none() | st.integers(0, 6000))
def test_checks_are_measured_steps_up_to_the_full_fidelity(
    least: int, most: int, every: int, grace: int | None
) -> None:
    fidelity = Fidelity(min(least, most), most, min(every, most), "steps")
    rule = Predicted(grace=grace)
    steps = checks(fidelity, rule)
    assert steps[-1] == most
    assert list(steps) == sorted(set(steps))
    assert all(step % fidelity.report_every == 0 for step in steps[:-1])
    assert len(steps) <= 2 * math.log2(most) + 4
    for step in judged(fidelity, rule):
        assert step in steps
        assert max(fidelity.min, 0 if grace is None else grace) <= step < most


def test_when_to_fit_again() -> None:
    assert [n for n in range(1, 40) if due(RULE, n, 0)] == list(range(7, 40))
    assert not due(RULE, 30, 30)
    assert not due(RULE, 32, 30)
    assert due(RULE, 33, 30)
    assert due(RULE, 8, 7)


@pytest.mark.parametrize("maximize", [False, True])
def test_a_simulated_study_saves_training_and_keeps_its_best(maximize: bool) -> None:
    space = SearchSpace.from_json(
        {
            "lr": {"type": "float", "low": 1e-4, "high": 1.0, "log": True},
            "drop": {"type": "float", "low": 0.0, "high": 1.0},
        }
    )

    def curve(params: object, step: int) -> float:
        assert isinstance(params, dict)
        end = (math.log10(params["lr"]) + 2) ** 2 / 4 + 0.1 * params["drop"]
        value = end + (1 - 0.3 * end) / math.sqrt(step)
        return -value if maximize else float(value)

    def study(*rules: Predicted) -> tuple[float, int, list[str]]:
        history = simulate(
            space,
            Fidelity(10, 1_000, 10),
            curve,
            Budget(trials=60),
            strategy="random",
            rules=rules,
            maximize=maximize,
            workers=3,
        )
        return (
            history.best[-1].value,
            history.units,
            [e.reason for e in history.events if e.kind == "stopped"],
        )

    best, units, reasons = study(Predicted())
    full_best, full_units, _ = study()
    assert best == full_best
    assert units < full_units / 2
    assert all("predicted to end at" in reason for reason in reasons)
