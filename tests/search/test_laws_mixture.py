"""The mixture law: planted laws come back with their best share; what is no domain's loss is flagged."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bench import mixture_laws as planted
from search.errors import SearchError
from search.laws.base import Array, Runs
from search.laws.mixture import MixtureFit, best_share, fit_mixture


def domain(n: float | Array, d: float | Array, r: Array) -> Array:
    return np.asarray(1.5 + 400 / n**0.34 + 600 * r**0.1 / d**0.36 + 0.6 / (r + 0.1) ** 0.4)


def runs(loss: Any) -> Runs:
    drawn = planted.runs(np.random.default_rng(0))
    noise = np.exp(np.random.default_rng(1).normal(0, 0.002, len(drawn)))
    return replace(drawn, loss=loss(drawn.n, drawn.d, drawn.share) * noise)


def fit(loss: Any, **options: Any) -> MixtureFit:
    return fit_mixture(runs(loss), {"draws": 20, **options}, 0, lambda _: None)


@pytest.fixture(scope="module")
def of_whole() -> MixtureFit:
    return fit(planted.loss, form="whole")


def test_a_domains_loss_is_foreseen_at_a_larger_model() -> None:
    fitted = fit(domain)
    assert not fitted.cautions
    grid = np.linspace(0.05, 0.95, 19)
    assert fitted.losses(4e9, 1e11, grid)[0] == pytest.approx(domain(4e9, 1e11, grid), rel=5e-3)
    said = fitted.predict(4e9, 1e11)
    assert said.share == 0.95  # a domain's own loss wants all of it
    assert "share-edge" in {caution.code for caution in said.cautions}
    at = fitted.predict(4e9, 1e11, share=0.5)
    assert at.loss.low < domain(4e9, 1e11, np.array([0.5]))[0] < at.loss.high


def test_the_best_share_of_a_whole_is_found(of_whole: MixtureFit) -> None:
    grid = np.linspace(0.05, 0.95, 901)
    true = float(grid[np.argmin(planted.loss(4e9, 1e11, grid))])
    best = of_whole.predict(4e9, 1e11).best_share
    assert best is not None
    # Of one noise and twenty draws; that nine of ten intervals hold the truth is a slow test's matter.
    assert best.low < best.value < best.high
    assert abs(best.value - true) < 2 * (best.high - best.low) < 0.1


def test_a_loss_of_several_domains_is_no_domains_own() -> None:
    assert [caution.code for caution in fit(planted.loss).cautions] == ["not-monotone"]


def test_two_losses_are_weighed_against_each_other() -> None:
    own, other = fit(domain), fit(lambda n, d, r: domain(n, d, 1 - r), form="whole")
    even = best_share([(own, 1.0), (other, 1.0)], 4e9, 1e11)
    tilted = best_share([(own, 3.0), (other, 1.0)], 4e9, 1e11)
    assert even.value == pytest.approx(0.5, abs=0.1)
    assert tilted.value > even.value


def test_a_share_that_was_not_run_is_said(of_whole: MixtureFit) -> None:
    codes = {caution.code for caution in of_whole.predict(1e9, 1e10, share=0.99).cautions}
    assert "outside-shares" in codes


def test_a_fit_survives_json(of_whole: MixtureFit) -> None:
    again = MixtureFit.from_json(json.loads(json.dumps(of_whole.to_json())))
    assert again.to_json() == of_whole.to_json()
    assert again.predict(4e9, 1e11) == of_whole.predict(4e9, 1e11)
    assert "gamma'" in json.loads(json.dumps(of_whole.summary()))["parameters"]


def test_what_cannot_be_fitted_is_refused() -> None:
    full = runs(domain)
    with pytest.raises(SearchError, match="there is no form"):
        fit(domain, form="hole")
    with pytest.raises(SearchError, match="/options/drows"):
        fit(domain, drows=3)
    with pytest.raises(SearchError, match="/columns/share"):
        fit_mixture(Runs(full.n, full.d, full.lr, full.batch, full.loss), {}, 0, lambda _: None)
    one = full.n == full.n[0]
    few = Runs(
        full.n[one], full.d[one], full.lr[one], full.batch[one], full.loss[one], np.full(one.sum(), 0.5)
    )
    with pytest.raises(SearchError) as error:
        fit_mixture(few, {}, 0, lambda _: None)
    messages = [mistake.message for mistake in error.value.mistakes]
    assert messages[0] == "all runs have one N"
    assert messages[1] == "there are 1 shares"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_interval_of_the_best_share_holds_the_truth() -> None:
    """Of 100 draws: the standard error of a share is 3 %."""
    held, loss_held, _ = planted.drawn(100)
    assert 0.84 <= held.mean() <= 0.98
    assert 0.8 <= loss_held.mean() <= 0.99
