"""The model of learning curves: what it predicts, and what it does with bad data."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from search.surrogates.curve_gp import CurveGP, Hyperparameters, fit
from search.surrogates.history import LossScale, Points, Progress, most_telling, thinned
from search.view import Fidelity

Array = np.ndarray


def _curves(count: int, steps: tuple[int, ...], seed: int = 0) -> tuple[Points, Array, Array]:
    """Points of ``count`` curves that fall like a power of the step to a floor that depends on x."""
    rng = np.random.default_rng(seed)
    x = rng.random((count, 2))
    floor = 2 * (x[:, 0] - 0.3) ** 2 + 0.3 * x[:, 1]
    progress = Progress(1, 50)
    owner = np.repeat(np.arange(count), len(steps))
    at = np.tile(steps, count)
    values = floor[owner] + 0.6 * (0.5 + x[owner, 1]) * at**-0.5
    return (
        Points(x[owner], progress(at), owner.astype(np.intp), (values - 0.6) / 0.4),
        x,
        (floor - 0.6) / 0.4,
    )


@pytest.fixture(scope="module")
def model() -> CurveGP:
    points, _, _ = _curves(25, (1, 2, 4, 8, 16, 50))
    return CurveGP(points, fit(points, np.random.default_rng(0)))


def test_it_predicts_the_end_of_untried_configurations(model: CurveGP) -> None:
    _, x, _ = _curves(200, (50,), seed=1)
    end = (2 * (x[:, 0] - 0.3) ** 2 + 0.3 * x[:, 1] + 0.6 * (0.5 + x[:, 1]) * 50**-0.5 - 0.6) / 0.4
    outlook = model.outlook(x, np.full(200, -1, dtype=np.intp))
    assert np.sqrt(np.mean((outlook.mean - end) ** 2)) < 0.15 * end.std()
    assert np.mean(np.abs(outlook.mean - end) <= 1.645 * outlook.sd) > 0.8


def test_a_longer_curve_says_more_about_its_end() -> None:
    points, x, _ = _curves(25, (1, 2, 4, 8, 16, 50))
    hyperparameters = fit(points, np.random.default_rng(0))
    short = points.take(np.flatnonzero((points.owner > 0) | (points.progress <= Progress(1, 50)(2))))
    longer = points.take(np.flatnonzero((points.owner > 0) | (points.progress <= Progress(1, 50)(16))))
    sds = [
        float(CurveGP(known, hyperparameters).outlook(x[:1], np.array([0])).sd[0])
        for known in (short, longer, points)
    ]
    assert sds[0] > sds[1] > sds[2]


def test_a_prediction_is_consistent_with_itself(model: CurveGP) -> None:
    x = np.random.default_rng(3).random((20, 2))
    outlook = model.outlook(x, np.full(20, -1, dtype=np.intp))
    mean, sd, shared = outlook.at(np.ones(20))
    np.testing.assert_allclose(mean, outlook.mean, atol=1e-8)
    np.testing.assert_allclose(sd, outlook.sd, atol=1e-6)
    np.testing.assert_allclose(shared, outlook.sd**2, atol=1e-6)
    _, early, shared = outlook.at(np.zeros(20))
    assert np.all(np.abs(shared) <= early * outlook.sd + 1e-9)


def test_leave_one_out_is_what_leaving_one_out_gives(model: CurveGP) -> None:
    mean, sd = model.leave_one_out()
    left = 7
    others = model.points.take(np.array([i for i in range(len(model.points)) if i != left]))
    without = CurveGP(others, model.hyperparameters)
    place = model.points.take(np.array([left]))
    expected, spread, _ = without.outlook(place.features, place.owner).at(place.progress)
    assert mean[left] == pytest.approx(expected[0], abs=1e-6)
    # What is left out is a measurement, noise and jitter included.
    assert sd[left] ** 2 == pytest.approx(spread[0] ** 2 + model.noise + 1e-6, rel=1e-4)


def test_its_report_is_plain_and_calibrated(model: CurveGP) -> None:
    told = model.report()
    assert told["points"] == 150
    assert 0.8 <= told["leave_one_out"]["within_90"] <= 1.0
    assert set(told["hyperparameters"]) >= {"end", "path", "noise"}
    assert all(math.isfinite(value) for value in told["hyperparameters"].values())


def test_the_fit_is_the_same_for_the_same_points() -> None:
    points, _, _ = _curves(40, (1, 3, 9, 27))
    first, second = (fit(points, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first.vector, second.vector)


@pytest.mark.parametrize("kind", ["constant", "one point", "duplicates", "contradictions"])
def test_bad_data_gives_finite_predictions(kind: str) -> None:
    x = np.array([[0.5, 0.5]] * 4)
    owner = np.array([0, 1, 2, 3], dtype=np.intp)
    values = {
        "constant": np.zeros(4),
        "one point": np.array([1.0, 1.0, 1.0, 1.0]),
        "duplicates": np.array([0.3, 0.3, 0.3, 0.3]),
        "contradictions": np.array([-2.0, 2.0, -2.0, 2.0]),
    }[kind]
    points = Points(x, np.ones(4), owner, values)
    if kind == "one point":
        points = points.take(np.array([0]))
    found = CurveGP(points, fit(points, np.random.default_rng(0)))
    outlook = found.outlook(np.array([[0.5, 0.5], [0.0, 1.0]]), np.array([0, -1], dtype=np.intp))
    assert np.isfinite(outlook.mean).all()
    assert np.isfinite(outlook.sd).all()
    assert (outlook.sd > 0).all()
    assert isinstance(found.hyperparameters, Hyperparameters)


def test_progress_is_logarithmic_from_the_first_measurement_to_the_end() -> None:
    progress = Progress.of(Fidelity(10, 1000, 5))
    np.testing.assert_allclose(progress([5, 1000, 2000]), [0.0, 1.0, 1.0])
    assert progress([50])[0] == pytest.approx(math.log(10) / math.log(200))
    np.testing.assert_array_equal(Progress.of(Fidelity(1, 1, 1))([1]), [1.0])


def test_the_scale_is_linear_where_it_is_good_and_bounded_where_it_is_bad() -> None:
    scale = LossScale.of([1.0, 2.0, 5.0, math.inf], [1.0, 2.0, 5.0, 9.0])
    assert scale.centre == 2.0
    np.testing.assert_allclose(scale.scale([2.0, 1.0, 0.0]), [0.0, -1.0, -2.0])
    assert scale.scale([1e300])[0] == 6.0
    assert 0 < scale.scale([3.0])[0] < 1.0
    for loss in (0.5, 1.0, 2.0, 4.0):
        assert scale.loss(float(scale.scale([loss])[0])) == pytest.approx(loss)


@pytest.mark.parametrize("bests", [[], [math.inf], [3.0], [2.0, 2.0, 2.0], [1e300, -1e300, 0.0]])
def test_the_scale_holds_for_any_losses(bests: list[float]) -> None:
    scale = LossScale.of(bests, bests)
    assert scale.unit > 0
    assert np.isfinite(scale.scale([0.0, 1e300, -1e300])).all()


def test_of_a_curve_the_newest_point_and_log_spaced_ones_are_kept() -> None:
    steps = tuple(range(1, 101))
    kept = [steps[i] for i in thinned(steps)]
    assert kept[-1] == 100
    assert len(kept) == 5
    assert all(later >= 1.6 * earlier for earlier, later in itertools.pairwise(kept))
    assert thinned((7,)) == [0]
    assert thinned(()) == []


def test_many_points_are_cut_to_the_best_curves_and_newest_points() -> None:
    points, _, _ = _curves(100, (1, 2, 4, 8, 16))
    best = np.arange(100, dtype=np.float64)
    cut = most_telling(points, best, 120, np.random.default_rng(0))
    assert len(cut) == 120
    counts = np.bincount(cut.owner, minlength=100)
    assert (counts[:12] == 5).all()
    assert counts.max() == 5
    assert set(counts[12:].tolist()) <= {0, 1}
    last = Progress(1, 50)(16)
    assert (cut.progress[cut.owner >= 12] == last).all()
