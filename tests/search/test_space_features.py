"""The encoding for models: distances that mean something, for every kind of parameter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.features import Features
from search.sampling import candidates
from search.space import SearchSpace
from tests.search.support import CONDITIONAL, documents, space

MIXTURE = {"mix": {"type": "simplex", "parts": ["web", "code", "books"], "min": 0.1}}


@settings(max_examples=60, deadline=None)
@given(documents(simplexes=True), st.integers(0, 2**32))
def test_every_column_lies_in_the_unit_interval_and_tells_configurations_apart(
    document: dict[str, Any], seed: int
) -> None:
    found = SearchSpace.from_json(document)
    drawn = candidates(found, 30, np.random.default_rng(seed))
    encoded = Features.of(found).encode(drawn)
    assert encoded.shape == (30, Features.of(found).width)
    assert ((encoded >= 0) & (encoded <= 1)).all()
    points = [found.encode(params) for params in drawn]
    for a in range(0, 30, 2):
        same = found.key(drawn[a]) == found.key(drawn[a + 1])
        if same:
            assert (encoded[a] == encoded[a + 1]).all()
        elif np.abs(points[a] - points[a + 1]).max(initial=0) > 1e-9:
            assert (encoded[a] != encoded[a + 1]).any()


def _distance(document: dict[str, Any], a: dict[str, Any], b: dict[str, Any]) -> float:
    encoded = Features.of(space(document)).encode([a, b])
    return float(np.linalg.norm(encoded[0] - encoded[1]))


def test_two_categories_are_at_distance_one_and_a_bool_too() -> None:
    document: dict[str, Any] = {"a": {"type": "categorical", "choices": ["x", "y", 1, True]}}
    for other in ("y", 1, True):
        assert _distance(document, {"a": "x"}, {"a": other}) == pytest.approx(1)
    assert _distance({"a": {"type": "bool"}}, {"a": True}, {"a": False}) == 1


def test_numbers_are_apart_on_their_own_scale() -> None:
    document = {"a": {"type": "float", "low": 1e-4, "high": 1.0, "log": True}}
    assert _distance(document, {"a": 1e-4}, {"a": 1e-3}) == pytest.approx(0.25)
    assert _distance(document, {"a": 1e-2}, {"a": 1e-1}) == pytest.approx(0.25)
    sizes = {"a": {"type": "ordered", "values": ["s", "m", "l", "xl"]}}
    assert _distance(sizes, {"a": "s"}, {"a": "l"}) == pytest.approx(0.5)


def test_who_lacks_a_parameter_is_apart_from_who_has_it() -> None:
    document = {
        "optimizer": {"type": "categorical", "choices": ["adam", "sgd", "lion"]},
        "beta2": {"type": "float", "low": 0.0, "high": 1.0, "when": {"optimizer": ["adam", "lion"]}},
        "nesterov": {"type": "bool", "when": {"optimizer": "sgd"}},
        "damping": {"type": "float", "low": 0.0, "high": 1.0, "when": {"nesterov": True}},
    }
    features = Features.of(space(document))
    kinds = [(column.kind, column.parameters) for column in features.columns]
    assert kinds[-3:] == [("active", ("beta2",)), ("active", ("nesterov",)), ("active", ("damping",))]
    plain = {"optimizer": "sgd", "nesterov": False}
    damped = {"optimizer": "sgd", "nesterov": True, "damping": 0.5}
    encoded = features.encode([plain, damped, {"optimizer": "adam", "beta2": 0.9}])
    beta2 = [*features.by_parameter["beta2"], kinds.index(("active", ("beta2",)))]
    assert (encoded[0, beta2] == encoded[1, beta2]).all()
    assert np.abs(encoded[0, beta2] - encoded[2, beta2]).max() == 1
    # Even at the neutral value of its own column, an active parameter is told from an inactive one.
    damping = [*features.by_parameter["damping"], kinds.index(("active", ("damping",)))]
    assert encoded[0, damping].tolist() == [0.5, 0.0]
    assert encoded[1, damping].tolist() == [0.5, 1.0]


def test_columns_say_whose_they_are() -> None:
    features = Features.of(space({**CONDITIONAL, **MIXTURE}))
    assert "seed" not in features.by_parameter
    assert len(features.by_parameter["optimizer"]) == 3
    assert len(features.by_parameter["mix/web"]) == 1
    named = {name for column in features.columns for name in column.parameters}
    assert named == set(features.space.by_name) - {"seed"}
    assert sum(map(len, features.by_parameter.values())) + 3 == features.width


def test_a_share_counts_more_where_there_was_little() -> None:
    few = {"mix/web": 0.8, "mix/code": 0.1, "mix/books": 0.1}
    more = {"mix/web": 0.75, "mix/code": 0.15, "mix/books": 0.1}
    half = {"mix/web": 0.5, "mix/code": 0.4, "mix/books": 0.1}
    then = {"mix/web": 0.45, "mix/code": 0.45, "mix/books": 0.1}
    assert _distance(MIXTURE, few, more) > 2 * _distance(MIXTURE, half, then)
