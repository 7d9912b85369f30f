"""What people are told of predictions: honest intervals and chances; a defined answer without a model."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from search.decide import decide
from search.decision import Launch
from search.strategies.curve_bo import predict
from search.strategies.telling import Teller
from search.surrogates import curve_gp
from search.surrogates.calibration import Calibration, Correction, Replays
from search.surrogates.curve_gp import CurveGP, fit, fitted
from search.surrogates.history import LossScale, Points
from search.view import Fidelity, StudyView, TrialView
from tests.search.support import space

PLANE: dict[str, Any] = {"x": {"type": "float", "low": 0.0, "high": 1.0}}
LAST = 27


def _points(curves: int = 12, seed: int = 0) -> Points:
    rng = np.random.default_rng(seed)
    x = rng.random((curves, 1))
    owner = np.repeat(np.arange(curves), 3).astype(np.intp)
    progress = np.tile([0.2, 0.6, 1.0], curves)
    values = (x[owner, 0] - 0.5) ** 2 * 4 + 0.5 * (1 - progress) + 0.05 * rng.standard_normal(3 * curves)
    return Points(x[owner], progress, owner, values)


def test_a_replay_is_what_the_model_says_without_the_rest_of_the_curve() -> None:
    points = _points()
    model = CurveGP(points, fit(points, np.random.default_rng(0)))
    replays = model.replays()
    assert len(replays.begun) == len(points)
    assert replays.begun.tolist() == [False, True, True] * 12
    for row, told in ((12, []), (13, [12])):  # of the fifth curve nothing is told, then its first point
        others = np.array([i for i in range(len(points)) if points.owner[i] != 4] + told)
        rest = CurveGP(points.take(np.sort(others)), model.hyperparameters)
        mean, sd, _ = rest.outlook(points.features[14:15], np.array([4])).at(points.progress[14:15])
        assert replays.mean[row] == pytest.approx(mean[0], abs=1e-6)
        assert replays.sd[row] ** 2 == pytest.approx(sd[0] ** 2 + model.noise, rel=1e-3)
        assert replays.values[row] == points.values[14]
        assert replays.rivals[row] == points.values[points.owner != 4].min()


def _replays(values: np.ndarray, rivals: float, progress: float = 1.0, begun: bool = False) -> Replays:
    """Of a model that says 0 with a standard deviation of 1 each time."""
    count = len(values)
    return Replays(
        np.full(count, begun),
        np.full(count, progress),
        np.zeros(count),
        np.ones(count),
        values,
        np.full(count, rivals),
    )


@pytest.mark.parametrize("true_sd", [0.7, 1.0, 4.0])
def test_widened_intervals_hold_nine_tenths(true_sd: float) -> None:
    rng = np.random.default_rng(1)
    found = Calibration.of(_replays(true_sd * rng.standard_normal(600), -9.0))
    unseen = true_sd * rng.standard_normal(2_000)
    # A fifth wider than the replays say: the model has seen them.
    assert found.new.width == pytest.approx(1.2 * true_sd, rel=0.15)
    assert 0.9 <= np.mean(np.abs(unseen) <= 1.645 * found.new.width) <= 0.97
    assert found.within_90 == pytest.approx(float(np.mean(np.abs(unseen) <= 1.645)), abs=0.05)


def test_short_replays_count_less_and_kinds_are_apart() -> None:
    far = Calibration.of(_replays(np.full(40, 10.0), -9.0, progress=1.0, begun=True))
    near = Calibration.of(_replays(np.full(40, 10.0), -9.0, progress=0.0, begun=True))
    assert far.begun.width == pytest.approx(1.2 * 10 / 1.645, rel=0.01)
    assert far.new.width == Calibration.of(_replays(np.empty(0), 0.0)).new.width < far.begun.width
    few = Calibration.of(_replays(np.full(8, 10.0), -9.0, progress=0.0, begun=True))
    assert few.begun.width < 3.0, "what is taken for granted outweighs them"
    assert near.begun.width > few.begun.width
    assert far.report()["corrected"].keys() == {"new", "begun"}


def test_where_fewer_become_the_best_than_was_said_chances_are_lowered() -> None:
    never = Calibration.of(_replays(np.full(50, 0.5), 0.0)).new
    assert never.chance == pytest.approx(1 / 26, rel=0.05), "half of 50 were to be expected"
    often = Calibration.of(_replays(np.where(np.arange(50) % 2, 0.5, -0.5), 0.0)).new
    assert often.chance == pytest.approx(1.0, abs=0.05)
    assert Calibration.of(_replays(np.empty(0), 0.0)).new.chance == 1.0
    assert Calibration.of(_replays(np.empty(0), 0.0)).within_90 is None


def test_people_are_told_in_the_metrics_own_units_and_direction() -> None:
    calibration = Calibration(Correction(2.0, 0.5), Correction(1.0, 1.0), 9, 0.8)
    teller = Teller(calibration, 0.0, LossScale(-80.0, 5.0), 1.0, -85.0, maximize=True)
    new, begun = teller.predictions(np.array([-1.0, -1.0]), np.array([0.2, 0.2]), np.array([False, True]))
    assert begun.middle == new.middle == new.best == 85.0
    assert new.high - new.low == pytest.approx(2 * (begun.high - begun.low))
    assert begun.low == pytest.approx(85 - 5 * 0.2 * 1.645, abs=1e-3)
    assert begun.chance == pytest.approx(0.5)
    assert new.chance == pytest.approx(0.25)
    assert (
        str(new) == "predicted to end at 85 (90 %: 81.71 to 88.29), 25 % chance to beat the best so far, 85"
    )


def _curve(x: float, length: int) -> tuple[float, ...]:
    return tuple((x - 0.4) ** 2 + 0.5 * step ** (-0.3 - x) for step in range(1, length + 1))


def _view(count: int = 24) -> StudyView:
    rng = np.random.default_rng(5)
    trials = []
    for number in range(1, count + 1):
        x, length = float(rng.random()), int(rng.choice([1, 3, 9, 27]))
        status: Any = "completed" if length == LAST else "paused"
        steps = tuple(range(1, length + 1))
        trials.append(
            TrialView(
                number,
                {"x": x},
                status,
                steps,
                _curve(x, length),
                step=length,
                first_target=1,
                target=length,
                resumable=length < LAST,
            )
        )
    return StudyView(space(PLANE), Fidelity(1, LAST, 1), False, "curve-bo", {}, tuple(trials))


def test_most_ends_lie_within_what_is_told() -> None:
    view = _view()
    untried = [{"x": x} for x in np.linspace(0, 1, 30).tolist()]
    told = predict(view, untried, np.random.default_rng(0))
    assert len(told) == len(view.trials) + len(untried)
    ends = [_curve(float(p["x"]), LAST)[-1] for p in [*(t.params for t in view.trials), *untried]]
    within = [p.low <= end <= p.high for p, end in zip(told, ends, strict=True)]
    assert np.mean(within) >= 0.85
    assert all(p.low <= p.middle <= p.high and 0 <= p.chance <= 1 for p in told)
    # They say something, too: less than the spread of the ends.
    assert np.median([p.high - p.low for p in told]) < max(ends) - min(ends)


def test_a_fit_that_fails_leaves_the_priors_medians_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    points = _points()
    assert fitted(points, np.random.default_rng(0)).report()["fit"] == "found"

    def lost(function: Any, start: np.ndarray, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(x=np.full_like(start, math.nan), fun=math.nan, nfev=3)

    monkeypatch.setattr(curve_gp, "minimize", lost)
    model = CurveGP(points, fit(points, np.random.default_rng(0)))
    assert model.hyperparameters.named()["end"] == pytest.approx(1.5), "the prior's median"
    told = model.report()
    assert told["fit"] == "failed: the prior's medians are used"
    assert told["log_posterior"] is None
    answer = decide(_view(), 2, 0)
    assert len(answer.decisions) == 2
    assert answer.diagnostics["fit"].startswith("failed")


def test_without_any_model_the_explorers_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def singular(matrix: np.ndarray) -> np.ndarray:
        raise np.linalg.LinAlgError("not positive definite")

    monkeypatch.setattr(curve_gp, "cholesky", singular)
    answer = decide(_view(), 2, 0)
    assert len(answer.decisions) == 2
    assert answer.diagnostics["fit"] == "failed: not positive definite"
    for decision in answer.decisions:
        assert not isinstance(decision, Launch) or "the model of curves failed" in decision.reason
