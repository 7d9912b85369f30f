"""Performance profiles: the formula, and what they say of configurations that miss a target."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.profiles import TAU_MAX, profiles

INF = math.inf


def test_a_table_computed_by_hand() -> None:
    first, second, third = profiles([[10, 40, INF], [20, 20, 30], [50, INF, INF]], tau_max=4.0)
    assert first.ratios == (1, 2, INF)
    assert first.points == ((1.0, 1 / 3), (2.0, 2 / 3))
    # 1/3 over [1, 2], 2/3 over [2, 4], of 3.
    assert first.score == pytest.approx((1 / 3 + 2 * 2 / 3) / 3)
    assert second.points == ((1.0, 2 / 3), (2.0, 1.0))
    assert second.score == pytest.approx((2 / 3 + 2 * 1) / 3)
    # Five times as slow as the fastest lies beyond the range.
    assert (third.points, third.score, third.ratios[0]) == (((1.0, 0.0),), 0.0, 5.0)


def test_a_target_that_nobody_reaches_lowers_everybody() -> None:
    (alone,) = profiles([[3.0, INF]])
    assert alone.points == ((1.0, 0.5),)
    assert alone.score == pytest.approx(0.5)
    with pytest.raises(ValueError, match="no target"):
        profiles([[INF, INF], [INF, INF]])


TIMES = st.one_of(st.floats(0.1, 1e4), st.just(INF))


TABLES = st.integers(1, 4).flatmap(
    lambda many: st.lists(st.lists(TIMES, min_size=many, max_size=many), min_size=1, max_size=6)
)


@given(TABLES)
def test_the_score_is_the_area_below_the_points(times: list[list[float]]) -> None:
    if all(math.isinf(time) for row in times for time in row):
        return
    for row, found in zip(times, profiles(times), strict=True):
        taus = np.linspace(1, TAU_MAX, 20_001)
        share = np.mean(np.asarray(found.ratios)[:, None] <= taus, axis=0)
        assert found.score == pytest.approx(np.trapezoid(share, taus) / (TAU_MAX - 1), abs=1e-3)
        assert found.points[0][0] == 1
        assert [p[1] for p in found.points] == sorted(p[1] for p in found.points)
        assert 0 <= found.score <= 1
        assert [math.isinf(r) for r in found.ratios] == [math.isinf(t) for t in row]
    assert any(1.0 in found.ratios for found in profiles(times))
