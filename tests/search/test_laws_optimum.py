"""Laws of the optimum: planted ones come back, and what cannot carry a law is refused or cautioned
about."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.law_planted import GRID, Planted, sweep
from bench.laws import flagged, planted_draws
from search.errors import SearchError
from search.laws import registry
from search.laws.base import PowerLaw, Runs
from search.laws.optimum import fitted
from search.laws.optimum_law import OptimumLaw
from search.laws.optimum_options import ESTIMATORS

TARGET = (8e8, 6e10)


def fit(runs: Runs, seed: int = 0, **options: Any) -> OptimumLaw:
    return fitted(runs, {"draws": 40, **options}, seed, lambda share: None)


@pytest.fixture(scope="module")
def exact() -> OptimumLaw:
    return fit(sweep(Planted(), np.random.default_rng(0)))


def _off(law: OptimumLaw, planted: Planted, n: float, d: float) -> tuple[float, float]:
    said, (lr, batch) = law.predict(n, d), planted.best(n, d)
    return float(np.log(said.lr.value / lr)), float(np.log(said.batch.value / batch))


@pytest.mark.parametrize("bend", [0.0, 0.35])
def test_a_planted_law_without_noise_is_recovered(bend: float) -> None:
    planted = Planted(bend=bend)
    law = fit(sweep(planted, np.random.default_rng(0)))
    assert law.lr.exponents == pytest.approx(planted.lr.exponents, abs=0.01)
    assert law.batch.exponents == pytest.approx(planted.batch.exponents, abs=0.01)
    assert _off(law, planted, *TARGET) == pytest.approx((0, 0), abs=0.03)


def test_six_runs_a_cell_are_enough() -> None:
    planted = Planted()
    runs = [sweep(planted, np.random.default_rng(seed), per_cell=6, noise=5e-4) for seed in range(6)]
    off = [_off(fit(each, draws=20, forms=False), planted, 3e8, 2e10) for each in runs]
    excess = [float(planted.excess(3e8, 2e10, *_scaled(planted, 3e8, 2e10, each))) for each in off]
    assert np.mean(excess) < 1e-3


def _scaled(planted: Planted, n: float, d: float, off: tuple[float, float]) -> tuple[Any, Any]:
    lr, batch = planted.best(n, d)
    return np.array(lr * np.exp(off[0])), np.array(batch * np.exp(off[1]))


def test_diverged_losses_do_not_bend_the_surface() -> None:
    planted = Planted()
    runs = sweep(planted, np.random.default_rng(1), noise=3e-4)
    wild = runs.loss.copy()
    high = runs.lr > 1.3 * np.array([planted.best(n, d)[0] for n, d in zip(runs.n, runs.d, strict=True)])
    struck = high & (np.random.default_rng(2).random(len(wild)) < 0.3)
    wild[struck] = 7.0 + np.random.default_rng(3).random(struck.sum())
    assert struck.sum() > 40
    assert _off(fit(replace(runs, loss=wild)), planted, *TARGET) == pytest.approx((0, 0), abs=0.1)


def test_other_units_move_constants_only(exact: OptimumLaw) -> None:
    runs = sweep(Planted(), np.random.default_rng(0))
    other = fit(replace(runs, lr=runs.lr * 7.0, batch=runs.batch / 64, loss=runs.loss * 1.3))
    assert other.lr.exponents == pytest.approx(exact.lr.exponents, abs=1e-6)
    assert other.batch.exponents == pytest.approx(exact.batch.exponents, abs=1e-6)
    assert other.lr.constant - exact.lr.constant == pytest.approx(np.log(7.0), abs=1e-5)
    assert other.batch.constant - exact.batch.constant == pytest.approx(-np.log(64), abs=1e-5)


def test_a_law_turns_to_json_and_back(exact: OptimumLaw) -> None:
    again = OptimumLaw.from_json(json.loads(json.dumps(exact.to_json())))
    assert again.to_json() == exact.to_json()
    assert again.predict(*TARGET) == exact.predict(*TARGET)
    json.dumps(exact.summary())


def test_the_same_seed_gives_the_same_law() -> None:
    runs = sweep(Planted(), np.random.default_rng(5), per_cell=8, noise=1e-3)
    assert fit(runs, seed=3).to_json() == fit(runs, seed=3).to_json()
    assert fit(runs, seed=3).draws != fit(runs, seed=4).draws


def test_plateaus_hold_what_they_say(exact: OptimumLaw) -> None:
    planted, said = Planted(), exact.predict(3e8, 2e10)
    assert [box.excess for box in said.plateau] == [0.001, 0.0025, 0.01]
    for box in said.plateau:
        lr, batch = np.meshgrid(np.geomspace(*box.lr, 41), np.geomspace(*box.batch, 41))
        inside = planted.excess(3e8, 2e10, lr, batch) <= box.excess
        # The box touches the level set on all four sides: no side could be moved in by a tenth.
        assert inside[:, :5].any()
        assert inside[:, -5:].any()
        assert inside[:5].any()
        assert inside[-5:].any()
        wider = planted.excess(3e8, 2e10, np.full(41, box.lr[0] * 0.85), batch[:, 0])
        assert (wider > box.excess).all()


def test_the_excess_of_ones_own_choice(exact: OptimumLaw) -> None:
    planted, (n, d) = Planted(), (3e8, 2e10)
    lr, batch = planted.best(n, d)
    assert exact.excess(n, d, lr, batch).value < 1e-4
    said, true = (
        exact.excess(n, d, 2 * lr, batch),
        float(planted.excess(n, d, np.array(2 * lr), np.array(batch))),
    )
    assert said.value == pytest.approx(true, rel=0.1)
    assert said.low <= said.value <= said.high


def test_the_best_rate_at_a_given_batch(exact: OptimumLaw) -> None:
    planted, (n, d) = Planted(), (3e8, 2e10)
    batch = 2 * planted.best(n, d)[1]
    rates = np.geomspace(0.2, 5, 2001) * planted.best(n, d)[0]
    best = rates[np.argmin(planted.excess(n, d, rates, np.array(batch)))]
    said = exact.predict(n, d, batch=batch)
    assert said.lr.value == pytest.approx(best, rel=0.05)
    assert said.batch.value == batch


def test_the_loss_at_the_optimum(exact: OptimumLaw) -> None:
    said = exact.predict(*TARGET)
    assert said.loss is not None
    n, d = TARGET
    assert said.loss.low <= said.loss.value <= said.loss.high
    assert said.loss.value == pytest.approx(1.7 + 400 / n**0.34 + 410 / d**0.28, rel=2e-3)
    assert exact.predict(*TARGET, batch=1e6).loss is None


def test_a_loss_that_is_hardly_known_is_said() -> None:
    runs = sweep(Planted(), np.random.default_rng(0), cells=GRID[1:8], per_cell=8, noise=5e-3)
    said = fit(runs, draws=40).predict(1e12, 1e13)
    assert said.loss is not None
    assert "loss-wide" in {caution.code for caution in said.cautions}


def test_too_few_cells_tell_no_loss() -> None:
    runs = sweep(Planted(), np.random.default_rng(0), cells=[GRID[k] for k in (0, 1, 3, 6, 8)], per_cell=12)
    law = fit(runs, draws=20)
    assert law.predict(*TARGET).loss is None
    assert any(c.code == "loss-unknown" and "5 cells" in c.message for c in law.cautions)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator_comes_near(estimator: str) -> None:
    planted = Planted()
    law = fit(sweep(planted, np.random.default_rng(4), noise=3e-4), estimator=estimator)
    off = _off(law, planted, 3e8, 2e10)
    assert planted.excess(3e8, 2e10, *_scaled(planted, 3e8, 2e10, off)) < 5e-3
    said = law.predict(3e8, 2e10)
    assert said.lr.low < said.lr.value < said.lr.high
    if estimator != "joint":
        assert said.plateau == ()
        assert said.loss is None
        assert "loss-unknown" in _codes(law)
        with pytest.raises(SearchError, match="no surface"):
            law.excess(3e8, 2e10, 1e-3, 1e5)


@pytest.mark.parametrize(("lr", "batch"), [("C", "C"), ("N,D", "D")])
def test_forms(lr: str, batch: str) -> None:
    law = fit(sweep(Planted(), np.random.default_rng(4), per_cell=20, noise=3e-4), lr=lr, batch=batch)
    assert set(law.lr.exponents) == set(lr.split(","))
    assert set(law.batch.exponents) == set(batch.split(","))
    # The form in N, D cannot be refuted by a narrower one: it is among the others.
    assert any("lr(N,D), batch(N,D)" in form.name for form in law.predict(3e8, 2e10).forms)


def _codes(law: OptimumLaw) -> set[str]:
    return {caution.code for caution in law.cautions}


def test_a_good_fit_needs_no_caution(exact: OptimumLaw) -> None:
    assert _codes(exact) == set()
    assert {c.code for c in exact.predict(3e8, 2e10).cautions} == set()


def test_targets_outside_are_told(exact: OptimumLaw) -> None:
    assert "outside-hull" in {c.code for c in exact.predict(1e10, 1e12).cautions}


def test_a_broken_law_is_flagged() -> None:
    cells = [(n, ratio * n) for n in (6e7, 1.15e8, 2.2e8, 4.3e8) for ratio in (20, 40, 75, 150)]
    for broken, said in (("N", "over N"), ("D", "over D")):
        planted = Planted(broken=broken, change=-0.8)
        law = fit(sweep(planted, np.random.default_rng(1), cells, per_cell=12, noise=5e-4), forms=False)
        (caution,) = (each for each in law.cautions if each.code == "bent")
        assert "best learning rate" in caution.message
        assert said in caution.message


def test_intervals_widen_beyond_the_sizes() -> None:
    two_sizes = fit(
        sweep(Planted(), np.random.default_rng(0), GRID[:6], per_cell=20, noise=1e-4), forms=False
    )
    lr, _ = two_sizes.optimum(4.3e9, 6e10)
    near, _ = two_sizes.optimum(1e8, 6e9)
    assert lr.high / lr.low > 1.5 > 1.2 > near.high / near.low


def test_losses_that_say_nothing_have_no_optimum() -> None:
    runs = sweep(Planted(), np.random.default_rng(0), per_cell=6)
    same = np.full(len(runs), 3.0)
    wild = np.exp(np.random.default_rng(1).normal(0, 2, len(runs)))
    for loss, code in ((same, "flat"), (wild, "interval-wide")):
        said = fit(replace(runs, loss=loss), forms=False).predict(1e9, 3e10)
        assert any(caution.code == code and caution.grave for caution in said.cautions)
        assert np.isfinite([said.lr.low, said.lr.high, said.batch.low, said.batch.high]).all()


def test_cautions_of_the_cells() -> None:
    planted, rng = Planted(), np.random.default_rng(0)

    def codes(runs: Runs) -> set[str]:
        return _codes(fit(runs, draws=20, forms=False))

    line = [(n, 20 * n) for n in (6e7, 1e8, 2e8, 4e8)]
    assert "exponents-unidentified" in codes(sweep(planted, rng, cells=line))
    assert "few-values" in codes(sweep(planted, rng, cells=GRID[:6]))
    assert "few-runs" in codes(sweep(planted, rng, per_cell=5))
    runs = sweep(planted, rng)
    low = np.array([planted.best(n, d)[0] for n, d in zip(runs.n, runs.d, strict=True)])
    cut = Runs(
        *(column[runs.lr < 0.8 * low] for column in (runs.n, runs.d, runs.lr, runs.batch, runs.loss))
    )
    assert "edge" in codes(cut)
    one = runs.batch.copy()
    one[:] = 2e5
    assert "one-value" in codes(replace(runs, batch=one))
    differing = replace(runs, conditions={"schedule": ("cosine", "wsd")})
    assert "conditions-differ" in codes(differing)


def test_bad_input_is_refused() -> None:
    runs = sweep(Planted(), np.random.default_rng(0), per_cell=6)
    empty = np.array([])
    no_batch = np.full(len(runs), np.nan)

    def mistakes(runs: Runs, **options: Any) -> list[str]:
        with pytest.raises(SearchError) as caught:
            fit(runs, **options)
        return [mistake.pointer for mistake in caught.value.mistakes]

    assert mistakes(Runs(empty, empty, empty, empty, empty, diverged={"n": np.ones(4)})) == ["/runs"]
    assert mistakes(replace(runs, batch=no_batch)) == ["/runs/batch"]
    assert mistakes(replace(runs, n=-runs.n, lr=0 * runs.lr)) == ["/runs/n", "/runs/lr"]
    assert mistakes(replace(runs, n=0 * runs.n + 1e8, d=0 * runs.d + 1e9)) == ["/runs"]
    assert mistakes(replace(runs, batch=runs.d * 2)) == ["/runs/batch"]
    assert sorted(mistakes(runs, estimator="joined", draws=3, lr="D", colour=1)) == [
        "/options/colour",
        "/options/draws",
        "/options/estimator",
        "/options/lr",
    ]


def test_targets_must_be_positive(exact: OptimumLaw) -> None:
    with pytest.raises(SearchError) as caught:
        exact.predict(-1, float("nan"))
    assert [mistake.pointer for mistake in caught.value.mistakes] == ["/target/n", "/target/d"]


def test_families_by_name() -> None:
    assert "optimum" in registry.names()
    assert registry.load("optimum").fit is fitted
    with pytest.raises(SearchError, match="no family of laws"):
        registry.load("optimun")


@given(
    bend=st.floats(0.05, 0.6),
    slopes=st.tuples(st.floats(-0.9, 0.1), st.floats(-0.2, 0.5), st.floats(-0.2, 0.3), st.floats(0.2, 0.8)),
)
@settings(max_examples=4, deadline=None, derandomize=True)
def test_any_planted_law_is_found(bend: float, slopes: tuple[float, float, float, float]) -> None:
    n, d = 2e8, 1.2e10

    def through(value: float, of_n: float, of_d: float) -> PowerLaw:
        return PowerLaw(np.log(value) - of_n * np.log(n) - of_d * np.log(d), {"N": of_n, "D": of_d})

    planted = Planted(through(2e-3, *slopes[:2]), through(4e5, *slopes[2:]), bend)
    law = fit(sweep(planted, np.random.default_rng(0)), draws=20, forms=False)
    off = _off(law, planted, 3e8, 2e10)
    assert planted.excess(3e8, 2e10, *_scaled(planted, 3e8, 2e10, off)) < 1e-4


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("per_cell", [10, 20])
def test_intervals_cover_at_the_stated_rate(per_cell: int) -> None:
    held, _ = planted_draws(Planted(), {"noise": 1e-3, "per_cell": per_cell}, 200)
    assert 0.8 <= held.mean() <= 0.98


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_bends_are_flagged_and_straight_laws_are_not() -> None:
    """Nine cells of 20 runs, noise 0.1 %. The standard error of a share is 2 % (of 100) and 1.5 % (200)."""
    assert flagged(Planted(), 200) <= 0.05
    assert flagged(Planted(broken="D", change=-0.6), 100) >= 0.85
    assert flagged(Planted(broken="N", change=-1.2), 100) >= 0.8
