"""Drawing: every candidate and neighbour is legal, and the same again from the same seed."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.errors import SearchError
from search.sampling import candidates, fresh, neighbours, uniform_points
from search.space import SearchSpace
from search.strategies.common import why_done
from search.view import Fidelity, StudyView
from tests.search.support import CONDITIONAL, MIXED, constrained, documents, space


def linear(terms: dict[str, float], relation: str, bound: float) -> dict[str, Any]:
    return {"terms": terms, "relation": relation, "bound": bound}


@settings(max_examples=60, deadline=None)
@given(documents(simplexes=True), st.integers(0, 2**32))
def test_tables_and_single_configurations_agree(document: dict[str, Any], seed: int) -> None:
    found = SearchSpace.from_json(document)
    points = np.random.default_rng(seed).random((20, len(found.dimensions)))
    points[0], points[1] = 0.0, 1.0
    table = found.layout.decode(points)
    drawn = found.layout.write(table)
    again = found.layout.read(drawn)
    assert (again.codes == table.codes).all()
    assert (again.active == table.active).all()
    for params, point, encoded in zip(drawn, points, found.layout.encode(table), strict=True):
        assert found.check(params) == []
        single = found.decode(point)
        assert list(single) == list(params)
        for name, value in single.items():
            assert type(value) is type(params[name])
            assert value == pytest.approx(params[name], rel=1e-12) if isinstance(value, float) else True
            assert value == params[name] if not isinstance(value, float) else True
        np.testing.assert_allclose(found.encode(params), encoded, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(constrained(), st.integers(0, 2**32))
def test_every_candidate_and_neighbour_is_legal(found: SearchSpace, seed: int) -> None:
    drawn = candidates(found, 20, np.random.default_rng(seed))
    assert len(drawn) == 20
    near = neighbours(found, drawn[0], 20, np.random.default_rng(seed))
    assert len(near) == 20
    for params in (*drawn, *near):
        assert found.check(params) == []
    assert drawn == candidates(found, 20, np.random.default_rng(seed))
    assert near == neighbours(found, drawn[0], 20, np.random.default_rng(seed))


@settings(max_examples=60, deadline=None)
@given(constrained(), st.integers(0, 2**32))
def test_encode_then_decode_is_the_identity_for_what_is_legal(found: SearchSpace, seed: int) -> None:
    drawn = candidates(found, 10, np.random.default_rng(seed))
    for params in drawn:
        back = found.decode(found.encode(params))
        assert back.keys() == params.keys()
        for name, value in params.items():
            if isinstance(value, float) and found.by_name[name].domain.size is None and "/" not in name:
                assert back[name] == pytest.approx(value, rel=1e-9, abs=1e-9)
            else:
                assert back[name] == value
                assert type(back[name]) is type(value)


def test_candidates_are_even_over_what_constraints_leave() -> None:
    ten = {f"x{i}": {"type": "float", "low": 0, "high": 1} for i in range(10)}
    corner = SearchSpace.from_json(ten, [linear(dict.fromkeys(ten, 1.0), "<=", 0.3)])
    drawn = candidates(corner, 2000, np.random.default_rng(0))
    # Uniform over a simplex of 10 dimensions and size 0.3: each coordinate has the mean 0.3 / 11.
    means = [np.mean([params[name] for params in drawn]) for name in ten]
    assert means == pytest.approx([0.3 / 11] * 10, rel=0.25)
    assert len({corner.key(params) for params in drawn}) == 2000


def test_log_scales_stay_log_under_constraints() -> None:
    document = {
        "a": {"type": "float", "low": 1e-6, "high": 1.0, "log": True},
        "b": {"type": "float", "low": 1e-6, "high": 1.0, "log": True},
    }
    found = SearchSpace.from_json(document, [linear({"a": 1, "b": 1}, "<=", 3e-6)])
    drawn = candidates(found, 1000, np.random.default_rng(0))
    assert np.median([params["a"] for params in drawn]) == pytest.approx(1.35e-6, rel=0.1)


def test_equalities_are_met_also_by_whole_numbers_and_shares() -> None:
    document = {
        **MIXED,
        "heads": {"type": "int", "low": 1, "high": 16},
        "mix": {"type": "simplex", "parts": ["web", "code", "books"]},
    }
    found = SearchSpace.from_json(
        document,
        [
            linear({"depth": 3, "heads": 2}, "==", 20),
            linear({"mix/web": 1, "mix/code": 1}, "==", 0.7),
            linear({"lr": 1, "momentum": -1}, "<=", 0),
        ],
    )
    drawn = candidates(found, 200, np.random.default_rng(0))
    assert {3 * params["depth"] + 2 * params["heads"] for params in drawn} == {20}
    assert {params["mix/books"] for params in drawn} == {0.3}
    assert all(found.check(params) == [] for params in drawn)
    assert len({params["mix/web"] for params in drawn}) > 150


def test_neighbours_are_near() -> None:
    found = space(CONDITIONAL)
    base = candidates(found, 1, np.random.default_rng(3))[0]
    for scale in (0.02, 0.2):
        near = neighbours(found, base, 400, np.random.default_rng(0), scale)
        moved = [abs(found.encode(params)[0] - found.encode(base)[0]) for params in near]
        assert 0.4 * scale < np.median(moved) < scale
        kept = np.mean([params["optimizer"] == base["optimizer"] for params in near])
        assert 0.8 < kept < 1
        assert len({params["depth"] for params in near}) > 1
        newly = [p for p in near if p["optimizer"] != base["optimizer"]]
        assert all(found.check(params) == [] for params in newly)


def test_neighbours_of_a_mixture_are_near() -> None:
    found = space({"mix": {"type": "simplex", "parts": ["a", "b", "c"], "min": 0.1}})
    base = {"mix/a": 0.7, "mix/b": 0.2, "mix/c": 0.1}
    near = neighbours(found, base, 300, np.random.default_rng(0), 0.05)
    assert np.mean([abs(float(params["mix/a"]) - 0.7) for params in near]) < 0.05
    assert all(found.check(params) == [] for params in near)


def test_fresh_skips_what_is_forbidden_and_ends_when_all_is_tried() -> None:
    document = {"a": {"type": "int", "low": 0, "high": 4}, "b": {"type": "int", "low": 0, "high": 4}}
    found = SearchSpace.from_json(
        document, [linear({"a": 1, "b": 1}, "<=", 3)], [{"a": 1, "b": [0, 1]}, {"b": {"above": 2}}]
    )
    assert found.cardinality == 7
    rng = np.random.default_rng(0)
    seen: set[Any] = set()
    drawn = [fresh(found, seen, uniform_points(2, rng), rng) for _ in range(8)]
    assert drawn[-1] is None
    assert all(params is not None and found.check(params) == [] for params in drawn[:-1])
    assert len(seen) == 7


def test_a_space_too_large_to_be_counted_ends_too() -> None:
    document = {f"x{i}": {"type": "int", "low": 0, "high": 9} for i in range(12)}
    found = SearchSpace.from_json(document, [linear(dict.fromkeys(document, 1.0), "==", 1)])
    assert found.cardinality is None
    rng = np.random.default_rng(0)
    seen: set[Any] = set()
    drawn = [fresh(found, seen, uniform_points(12, rng), rng) for _ in range(13)]
    assert drawn[-1] is None
    assert len(seen) == 12
    one = {"x": {"type": "float", "low": 0, "high": 1}}
    view = StudyView(found, Fidelity(1, 1, 1), False, "random")
    assert "constraints leave" in why_done(view, 1, exhausted=True)
    assert SearchSpace.from_json(one).finite is False


def test_what_cannot_be_is_said() -> None:
    bools = {f"x{i}": {"type": "float", "low": 0, "high": 1} for i in range(3)}
    found = SearchSpace.from_json(
        bools, [linear({"x0": 1, "x1": 1}, ">=", 1.5), linear({"x0": 1, "x1": 1, "x2": 1}, "<=", 1.4)]
    )
    with pytest.raises(SearchError, match="no configuration"):
        candidates(found, 5, np.random.default_rng(0))


def test_a_thousand_candidates_come_at_once() -> None:
    found = space({**CONDITIONAL, "mix": {"type": "simplex", "parts": ["web", "code"]}})
    candidates(found, 10, np.random.default_rng(0))  # scipy is imported
    begin = time.process_time()
    drawn = candidates(found, 1000, np.random.default_rng(0))
    neighbours(found, drawn[0], 1000, np.random.default_rng(0))
    assert time.process_time() - begin < 0.2
