"""The contract of a surrogate, held against every one there is; who brings one, and which is chosen."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from search.decide import decide
from search.decision import Continue, Launch
from search.errors import SearchError
from search.features import Features
from search.strategies import create
from search.surrogates import registry, selection
from search.surrogates.base import Surrogate
from search.surrogates.history import Points, Progress
from search.surrogates.registry import AUTO, load, names
from search.view import Fidelity, StudyView, TrialView
from tests.search.support import space

Array = npt.NDArray[np.float64]

FIDELITY = Fidelity(1, 27, 1)
PLANE: dict[str, Any] = {
    "lr": {"type": "float", "low": 1e-5, "high": 1.0, "log": True},
    "momentum": {"type": "float", "low": 0.0, "high": 1.0},
}

every_surrogate = pytest.mark.parametrize("name", names())


def _value(x: Array, progress: Array) -> Array:
    """About standardised; falls along progress to an end that depends on x."""
    value: Array = 4 * (x[:, 0] - 0.3) ** 2 + x[:, 1] + 2 * (1 - progress) * (0.5 + x[:, 1]) - 1.5
    return value


def _curves(count: int, seed: int = 0) -> Points:
    """Curves of one to five points, evenly over progress; every fifth of them is whole."""
    rng = np.random.default_rng(seed)
    x = rng.random((count, 2))
    owner = np.concatenate([[i] * (1 + i % 5) for i in range(count)]).astype(np.intp)
    progress = np.concatenate([np.linspace(0, 1, 5)[: 1 + i % 5] for i in range(count)])
    return Points(x[owner], progress, owner, _value(x[owner], progress))


def _fitted(name: str, points: Points) -> Surrogate:
    return load(name)(points, np.random.default_rng(0))


def _nobody(count: int) -> npt.NDArray[np.intp]:
    return np.full(count, -1, dtype=np.intp)


@pytest.fixture(scope="module")
def models() -> dict[str, Surrogate]:
    return {name: _fitted(name, _curves(30)) for name in names()}


@every_surrogate
def test_it_predicts_ends_of_what_it_was_never_told(name: str, models: dict[str, Surrogate]) -> None:
    x = np.random.default_rng(9).random((200, 2))
    truth = _value(x, np.ones(200))
    outlook = models[name].outlook(x, _nobody(200))
    assert np.corrcoef(outlook.mean, truth)[0, 1] > 0.8
    assert np.sqrt(np.mean((outlook.mean - truth) ** 2)) < 0.7 * truth.std()
    assert np.mean(np.abs(outlook.mean - truth) <= 1.645 * outlook.sd) > 0.6


@every_surrogate
def test_what_it_says_has_the_right_shapes_and_is_consistent(
    name: str, models: dict[str, Surrogate]
) -> None:
    model = models[name]
    x = np.random.default_rng(3).random((20, 2))
    x[:5] = model.points.features[:5]
    owner = np.concatenate([model.points.owner[:5], _nobody(15)])
    outlook = model.outlook(x, owner)
    for progress in (0.0, 0.4, 1.0):
        for array in (outlook.mean, outlook.sd, *outlook.at(np.full(20, progress))):
            assert array.shape == (20,)
            assert np.isfinite(array).all()
    mean, sd, shared = outlook.at(np.ones(20))
    np.testing.assert_allclose(mean, outlook.mean, atol=1e-7)
    np.testing.assert_allclose(sd, outlook.sd, atol=1e-5)
    np.testing.assert_allclose(shared, outlook.sd**2, atol=1e-4)
    _, early, shared = outlook.at(np.full(20, 0.2))
    assert (np.abs(shared) <= early * outlook.sd * (1 + 1e-6) + 1e-9).all()
    assert (outlook.sd > 0).all()
    assert model.noise >= 0
    assert model.lengths.shape == (2,)
    assert (model.lengths > 0).all()


@every_surrogate
def test_it_goes_through_what_was_measured_and_is_less_sure_away_from_it(
    name: str, models: dict[str, Surrogate]
) -> None:
    model = models[name]
    points = model.points
    mean, _, _ = model.outlook(points.features, points.owner).at(points.progress)
    assert np.abs(mean - points.values).max() < 0.25
    whole = points.take(np.flatnonzero(points.progress == 1.0))
    known = model.outlook(whole.features, whole.owner)
    np.testing.assert_allclose(known.mean, whole.values, atol=0.25)
    elsewhere = model.outlook(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]), _nobody(4))
    assert elsewhere.sd.mean() > 2 * known.sd.mean()


@every_surrogate
def test_a_run_under_way_is_believed(name: str, models: dict[str, Surrogate]) -> None:
    model, x, nobody = models[name], np.array([[0.9, 0.9]]), np.array([40], dtype=np.intp)
    before = model.outlook(x, nobody)
    imagined = Points(x, np.ones(1), nobody, before.mean - 0.5)
    after = model.plus(imagined).outlook(x, nobody)
    assert after.sd[0] < 0.7 * before.sd[0]
    assert after.mean[0] == pytest.approx(before.mean[0] - 0.5, abs=0.25)
    assert len(model.points) == len(_curves(30)), "the model itself is left as it was"


@every_surrogate
def test_the_same_points_give_the_same_model(name: str, models: dict[str, Surrogate]) -> None:
    state = np.random.get_state()[1].tobytes()  # type: ignore[union-attr]
    x = np.random.default_rng(3).random((20, 2))
    again = _fitted(name, _curves(30)).outlook(x, _nobody(20))
    first = models[name].outlook(x, _nobody(20))
    np.testing.assert_array_equal(first.mean, again.mean)
    np.testing.assert_array_equal(first.at(np.full(20, 0.5))[2], again.at(np.full(20, 0.5))[2])
    assert np.random.get_state()[1].tobytes() == state  # type: ignore[union-attr]


@every_surrogate
def test_it_is_replayed_on_curves_it_was_not_told(name: str, models: dict[str, Surrogate]) -> None:
    points, replays = models[name].points, models[name].replays()
    lengths = np.bincount(points.owner)
    assert replays.begun.sum() == (lengths - 1).sum()
    assert (~replays.begun).sum() == 30
    for array in (replays.progress, replays.mean, replays.sd, replays.values, replays.rivals):
        assert array.shape == (len(points),)
        assert np.isfinite(array).all()
    errors = np.abs(replays.values - replays.mean)
    assert errors[replays.begun].mean() < errors[~replays.begun].mean(), "a beginning helps"
    newest = np.append(points.owner[1:] != points.owner[:-1], True)
    least = points.values.min()
    assert (replays.rivals >= least).all()
    np.testing.assert_array_equal(np.unique(replays.values), np.unique(points.values[newest]))


@every_surrogate
def test_its_report_is_plain(name: str, models: dict[str, Surrogate]) -> None:
    report = models[name].report()
    assert report["points"] == len(_curves(30))
    told = report.get("leave_one_out") or report["out_of_bag"]
    assert math.isfinite(told["log_density"])
    assert 0.5 < told["within_90"] <= 1.0


@every_surrogate
@pytest.mark.parametrize("kind", ["constant", "one point", "one curve", "contradictions", "at the bounds"])
def test_bad_data_gives_finite_predictions(name: str, kind: str) -> None:
    x = np.full((6, 2), 0.5)
    owner, progress = np.arange(6), np.ones(6)
    values = np.zeros(6)
    if kind == "one curve":
        owner, progress, values = np.zeros(6, dtype=np.intp), np.linspace(0, 0.5, 6), np.linspace(2, 1, 6)
    if kind == "contradictions":
        values = np.array([-2.0, 2.0] * 3)
    if kind == "at the bounds":  # what 1e300 and its like come to, once scaled
        x = np.random.default_rng(0).random((6, 2))
        values = np.array([20.0, 20.0, -20.0, 0.0, 0.0, 20.0])
    points = Points(x, progress, owner.astype(np.intp), values)
    if kind == "one point":
        points = points.take(np.array([0]))
    model = _fitted(name, points)
    rows, owners = np.array([[0.5, 0.5], [0.5, 0.5], [0.0, 1.0]]), np.array([0, -1, -1], dtype=np.intp)
    outlook = model.outlook(rows, owners)
    for array in (outlook.mean, outlook.sd, *outlook.at(np.full(3, 0.3))):
        assert np.isfinite(array).all()
    assert (outlook.sd > 0).all()
    if kind == "contradictions":
        assert outlook.sd[0] < outlook.sd[1], "its own value is known, another's like it would not be"
    model.report()
    assert np.isfinite(model.replays().sd).all()


# Choosing


def _study(count: int, **known: Any) -> StudyView:
    """Explorers only, so that it is the model's turn: curves of 2, 6 or 27 steps."""
    rng = np.random.default_rng(0)
    trials = []
    for number in range(1, count + 1):
        rate, momentum, last = rng.uniform(-5, 0), rng.uniform(), int(rng.choice([2, 6, 27]))
        steps = tuple(range(1, last + 1))
        values = tuple(
            0.1 * (rate + 3) ** 2 + (momentum - 0.7) ** 2 + 0.5 * step ** (-0.3 - 0.1 * (rate + 5))
            for step in steps
        )
        status = "completed" if last == FIDELITY.max else "paused"
        params = {"lr": 10**rate, "momentum": momentum}
        whole = last == FIDELITY.max
        trials.append(TrialView(number, params, status, steps, values, last, 1, last, resumable=not whole))
    return StudyView(space(PLANE), FIDELITY, False, "curve-bo", known, tuple(trials))


@every_surrogate
def test_a_study_decides_by_the_surrogate_it_asks_for(name: str) -> None:
    answer = decide(_study(12, surrogate=name), 2, seed=0)
    assert len(answer.decisions) == 2
    assert answer.diagnostics["surrogate"] == name
    for decision in answer.decisions:
        assert isinstance(decision, Launch | Continue)
        assert "predicted to end" in decision.reason
        assert (f"(by {name})" in decision.reason) == (name != registry.DEFAULT)
    if name == registry.DEFAULT:
        assert decide(_study(12), 2, seed=0) == answer


def test_an_unknown_surrogate_is_refused_at_submission() -> None:
    with pytest.raises(SearchError) as caught:
        create("curve-bo", {"surrogate": "deep-kernels"}, space(PLANE), FIDELITY)
    (mistake,) = caught.value.mistakes
    assert mistake.pointer == "/strategy/options/surrogate"
    assert mistake.message.startswith("no surrogate is called deep-kernels; there are gp, deep-kernel,")
    assert mistake.suggestion == "did you mean deep-kernel?"


_ORACLE = """
import numpy as np
from search.surrogates.calibration import Replays
from search.surrogates.history import Points

class Oracle:
    '''Knows where every curve of the test goes, on the scale it was told.'''
    noise = 1e-4
    def __init__(self, points):
        self.points, self.lengths = points, np.ones(points.features.shape[1])
        told = _truth(points.features, points.progress)
        design = np.stack([np.ones(len(told)), told], axis=1)
        self.line = np.linalg.lstsq(design, points.values, rcond=None)[0]
        self.sd = (points.values - design @ self.line).std() + 0.05
    def plus(self, points):
        return Oracle(self.points.plus(points))
    def replays(self):
        return Replays(np.zeros(0, dtype=bool), *[np.zeros(0)] * 5)
    def report(self):
        return {}
    def outlook(self, features, owner):
        return Outlook(self, features)

class Outlook:
    def __init__(self, model, features):
        self.model, self.features = model, features
        self.mean, self.sd, _ = self.at(np.ones(len(features)))
    def at(self, progress):
        mean = self.model.line[0] + self.model.line[1] * _truth(self.features, progress)
        return mean, np.full(len(mean), self.model.sd), np.full(len(mean), self.model.sd**2)

def _truth(x, t):
    return np.sin(1e4 * x.sum(axis=1)) * t**3

def fit(points, rng):
    return Oracle(points)
"""


@pytest.fixture
def oracle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed package that brings the surrogate ``oracle``, one that is broken and a second ``gp``."""
    info = tmp_path / "oracle-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: oracle\nVersion: 1.0\n")
    entries = "oracle = oracle_of_tests:fit\nbroken = no_such_module:fit\ngp = oracle_of_tests:fit\n"
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{entries}")
    (tmp_path / "oracle_of_tests.py").write_text(_ORACLE)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    registry.installed.cache_clear()
    yield
    registry.installed.cache_clear()


@pytest.mark.usefixtures("oracle")
def test_a_package_brings_a_surrogate_of_its_own() -> None:
    assert names() == ("gp", "deep-kernel", "ensemble", "nngp", "broken", "oracle")
    assert load("gp").__module__ == "search.surrogates.curve_gp", "ours are not replaced"
    create("curve-bo", {"surrogate": "oracle"}, space(PLANE), FIDELITY)
    answer = decide(_study(12, surrogate="oracle"), 1, seed=0)
    assert "(by oracle)" in answer.decisions[0].reason
    with pytest.raises(SearchError, match="the surrogate broken cannot be loaded: No module"):
        decide(_study(12, surrogate="broken"), 1, seed=0)


def _rough(view: StudyView) -> StudyView:
    """The same configurations, each on a way of its own that shows late; but the oracle knows."""
    features = Features.of(view.space).encode([trial.params for trial in view.trials])
    progress = Progress.of(view.fidelity)
    trials = tuple(
        replace(trial, values=tuple((np.sin(1e4 * row.sum()) * progress(trial.steps) ** 3).tolist()))
        for trial, row in zip(view.trials, features, strict=True)
    )
    return replace(view, trials=trials)


def test_auto_takes_what_foresees_best(monkeypatch: pytest.MonkeyPatch, oracle: None) -> None:
    monkeypatch.setattr(selection, "names", lambda: ("gp", "ensemble", "oracle"))
    answer = decide(_rough(_study(20, surrogate=AUTO)), 1, seed=0)
    assert answer.diagnostics["surrogate"] == answer.diagnostics["auto"]["chosen"] == "oracle"
    assert "(by oracle)" in answer.decisions[0].reason
    scores = answer.diagnostics["auto"]["log_density"]
    assert scores["oracle"] > max(scores["gp"], scores["ensemble"]) + 0.3
    # Where it knows nothing, it is not taken.
    assert decide(_study(20, surrogate=AUTO), 1, seed=0).diagnostics["surrogate"] != "oracle"


def test_auto_is_replayable_and_seldom_scores_again() -> None:
    view = _study(14, surrogate=AUTO)
    first = decide(view, 1, seed=3)
    assert set(first.diagnostics["auto"]["log_density"]) == set(names())
    scored = selection.choose_by_bytes.cache_info().misses
    longer = _study(15, surrogate=AUTO)
    assert decide(longer, 1, seed=3).diagnostics["auto"] == first.diagnostics["auto"]
    assert selection.choose_by_bytes.cache_info().misses == scored, (
        "12 trials are looked at until there are 18"
    )
    selection.choose_by_bytes.cache_clear()
    assert decide(view, 1, seed=3) == first


def test_auto_begins_with_the_default() -> None:
    answer = decide(_study(7, surrogate=AUTO), 1, seed=0)
    assert answer.diagnostics["auto"] == {"chosen": "gp", "held_out": 0, "log_density": {}}


def test_a_narrow_lead_is_none() -> None:
    rng = np.random.default_rng(0)
    gp = rng.normal(size=50)
    ahead = {"gp": gp, "nngp": gp + 0.5 + 0.1 * rng.normal(size=50)}
    level = {"gp": gp, "nngp": gp + 0.01 + rng.normal(size=50) - 0.1}
    even = np.ones(50)
    assert selection.best(ahead, even).name == "nngp"
    assert selection.best(level, even).name == "gp"
    assert selection.best({"gp": gp[:1], "nngp": gp[:1] + 1}, even[:1]).name == "gp"


def test_ends_count_more_than_beginnings() -> None:
    gp, progress = np.zeros(40), np.repeat([0.05, 1.0], 20)
    early, late = np.where(progress < 1, 1.0, -0.2), np.where(progress < 1, -1.0, 0.2)
    assert selection.best({"gp": gp, "nngp": early, "ensemble": late}, progress).name == "ensemble"
    assert selection.best({"gp": gp, "nngp": early}, np.zeros(40)).name == "gp"


def test_a_surrogate_that_cannot_be_fitted_scores_least() -> None:
    def fails(points: Points, rng: np.random.Generator) -> Surrogate:
        raise np.linalg.LinAlgError("not positive definite")

    parts = list(selection.splits(_curves(10), np.random.default_rng(0)))
    least, other = (selection.log_densities(fit, parts) for fit in (fails, load("gp")))
    assert set(least) == {other.min(initial=least[0])}
    assert other.mean() > least[0] + 1


def test_the_newest_point_of_every_curve_is_asked_for_once() -> None:
    points = _curves(20)
    parts = list(selection.splits(points, np.random.default_rng(0)))
    asked = [owner for part in parts for owner in part.asked.owner.tolist()]
    assert sorted(asked) == list(range(20))
    for part in parts:
        for owner, progress in zip(part.asked.owner, part.asked.progress, strict=True):
            assert progress == points.progress[points.owner == owner].max()
            assert (part.told.progress[part.told.owner == owner] < progress).all()
