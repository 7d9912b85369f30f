"""Spaces: legality, the unit cube and back, the wire's JSON, counting."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from search.errors import SearchError
from search.space import SearchSpace
from tests.search.support import CONDITIONAL, documents, space

DOCUMENTS = documents()


def _points(found: SearchSpace, seed: int, count: int = 20) -> np.ndarray:
    """Random points of the cube, its corners included."""
    d = len(found.dimensions)
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 2, (4, d)).astype(float)
    return np.vstack([np.zeros((1, d)), np.ones((1, d)), corners, rng.random((count, d))])


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS, st.integers(0, 2**32))
def test_every_point_decodes_to_a_legal_configuration(document: dict[str, Any], seed: int) -> None:
    found = SearchSpace.from_json(document)
    for point in _points(found, seed):
        params = found.decode(point)
        assert found.check(params) == []
        assert list(params) == [p.name for p in found.parameters if p.name in params]


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS, st.integers(0, 2**32))
def test_encode_then_decode_gives_the_configuration_back(document: dict[str, Any], seed: int) -> None:
    found = SearchSpace.from_json(document)
    for point in _points(found, seed):
        params = found.decode(point)
        code = found.encode(params)
        assert code.shape == (len(found.dimensions),)
        assert ((code >= 0) & (code <= 1)).all()
        back = found.decode(code)
        assert back.keys() == params.keys()
        for name, value in params.items():
            if isinstance(value, float) and found.by_name[name].domain.size is None:
                domain = document[name]
                scale = value if domain.get("log") else max(abs(domain["low"]), abs(domain["high"]))
                tolerance = 1e-12 if not domain.get("log") else 1e-11
                assert math.isclose(back[name], value, rel_tol=0, abs_tol=tolerance * abs(scale) + 5e-324)
            else:
                assert type(back[name]) is type(value)
                assert back[name] == value


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS)
def test_json_round_trip(document: dict[str, Any]) -> None:
    found = SearchSpace.from_json(document)
    assert SearchSpace.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert list(found.to_json()) == list(document)


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS)
def test_cardinality_counts_the_configurations(document: dict[str, Any]) -> None:
    found = SearchSpace.from_json(document)
    size = found.cardinality
    assume(size is not None and size <= 3000)
    listed = list(found.configurations())
    assert len(listed) == size
    assert len({found.key(params) for params in listed}) == size
    assert all(found.check(params) == [] for params in listed)


def test_a_continuous_parameter_that_can_be_active_makes_a_space_infinite() -> None:
    assert space(CONDITIONAL).cardinality is None
    assert space({"a": {"type": "float", "low": 1, "high": 1}}).cardinality == 1
    never = {
        "a": {"type": "fixed", "value": 1},
        "b": {"type": "bool"},
        "c": {"type": "float", "low": 0, "high": 1, "when": {"b": True}},
    }
    assert space(never).cardinality is None


def test_a_wide_space_is_counted_exactly() -> None:
    document = {f"p{i}": {"type": "int", "low": 0, "high": 9} for i in range(100)}
    assert space(document).cardinality == 10**100


def test_many_independent_conditions_are_counted() -> None:
    document: dict[str, Any] = {}
    for i in range(60):
        document[f"b{i}"] = {"type": "bool"}
        document[f"c{i}"] = {"type": "int", "low": 0, "high": 1, "when": {f"b{i}": True}}
    assert space(document).cardinality == 3**60


@pytest.mark.parametrize(
    ("low", "high", "step", "values"),
    [
        (0.1, 0.5, 0.1, [0.1, 0.2, 0.3, 0.4, 0.5]),
        (0.0, 1.0, 0.3, [0.0, 0.3, 0.6, 0.9]),
        (0.0, 0.7, 0.1, [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]),
        (1e-3, 3e-3, 1e-3, [0.001, 0.002, 0.003]),
        (5.0, 5.0, 1.0, [5.0]),
    ],
)
def test_a_stepped_float_has_exactly_the_values_one_would_write(
    low: float, high: float, step: float, values: list[float]
) -> None:
    found = space({"a": {"type": "float", "low": low, "high": high, "step": step}})
    assert [c["a"] for c in found.configurations()] == values


def test_a_uniform_point_gives_a_uniform_int_with_its_ends() -> None:
    found = space({"a": {"type": "int", "low": 1, "high": 5}})
    rng = np.random.default_rng(0)
    counts = Counter(found.decode([u])["a"] for u in rng.random(5000))
    assert set(counts) == {1, 2, 3, 4, 5}
    assert all(900 < count < 1100 for count in counts.values())


def test_a_log_int_gives_its_ends_whole_cells() -> None:
    found = space({"a": {"type": "int", "low": 1, "high": 1000, "log": True}})
    rng = np.random.default_rng(0)
    counts = Counter(found.decode([u])["a"] for u in rng.random(20000))
    width = math.log(1000.5) - math.log(0.5)
    assert counts[1] / 20000 == pytest.approx(math.log(1.5 / 0.5) / width, rel=0.1)
    assert counts[2] / 20000 == pytest.approx(math.log(2.5 / 1.5) / width, rel=0.1)


def test_a_log_float_is_even_on_the_log_scale() -> None:
    found = space({"a": {"type": "float", "low": 1e-4, "high": 1.0, "log": True}})
    assert found.decode([0.5])["a"] == pytest.approx(1e-2)
    assert found.decode([0.0])["a"] == 1e-4
    assert found.decode([1.0])["a"] == 1.0


def test_the_full_range_of_doubles_does_not_overflow() -> None:
    found = space({"a": {"type": "float", "low": -1.7e308, "high": 1.7e308}})
    assert found.decode([0.5])["a"] == pytest.approx(0)
    assert found.decode(found.encode({"a": 1e308}))["a"] == pytest.approx(1e308)


def test_values_that_python_holds_equal_stay_apart() -> None:
    found = space({"a": {"type": "categorical", "choices": [1, True, 1.0, "1"]}})
    listed = [c["a"] for c in found.configurations()]
    assert [type(v) for v in listed] == [int, bool, float, str]
    assert len({found.key({"a": v}) for v in listed}) == 4
    for value in listed:
        assert type(found.decode(found.encode({"a": value}))["a"]) is type(value)
    child = {"a": found.to_json()["a"], "b": {"type": "bool", "when": {"a": True}}}
    assert space(child).cardinality == 5


def test_a_condition_tells_values_apart_that_python_holds_equal() -> None:
    document = {
        "a": {"type": "categorical", "choices": [1, 1.0]},
        "b": {"type": "bool", "when": {"a": 1}},
        "c": {"type": "bool", "when": {"a": [1, 1.0]}},
    }
    found = space(document)
    assert found.cardinality == 4 + 2
    assert "b" in found.decode([0.0, 0.0, 0.0])
    assert "b" not in found.decode([1.0, 0.0, 0.0])


def test_an_int_is_welcome_where_a_float_is_due() -> None:
    found = space({"a": {"type": "float", "low": 0, "high": 2}})
    assert found.check({"a": 1}) == []
    assert found.key({"a": 1}) == found.key({"a": 1.0})


def _one_mistake(found: SearchSpace, params: dict[str, Any]) -> tuple[str, str, str]:
    (mistake,) = found.check(params)
    return mistake.pointer, mistake.message, mistake.suggestion


def _legal() -> dict[str, Any]:
    return {
        "lr": 0.1,
        "momentum": 0.3,
        "width": 64,
        "depth": 2,
        "activation": "relu",
        "size": "small",
        "bias": False,
        "seed": 7,
        "optimizer": "sgd",
        "nesterov": False,
        "damping": 3,
    }


@pytest.mark.parametrize(
    ("change", "pointer", "words"),
    [
        ({"learning_rate": 1}, "/learning_rate", "no parameter"),
        ({"bias": None}, "/bias", "missing"),
        ({"beta2": 0.95}, "/beta2", "not active"),
        ({"lr": 2.0}, "/lr", "nearest legal value is 1.0"),
        ({"lr": "fast"}, "/lr", "a number from 1e-05 to 1"),
        ({"lr": math.nan}, "/lr", "a number from"),
        ({"lr": True}, "/lr", "a number"),
        ({"momentum": 0.34}, "/momentum", "nearest legal value is 0.3"),
        ({"depth": 2.0}, "/depth", "whole number"),
        ({"depth": 9}, "/depth", "nearest legal value is 6"),
        ({"size": "smal"}, "/size", "did you mean small?"),
        ({"activation": 1.5}, "/activation", "one of relu, gelu, 1, true"),
        ({"bias": 1}, "/bias", "true or false"),
        ({"seed": 8}, "/seed", "always 7"),
        ({"optimizer": "sgdd"}, "/optimizer", "did you mean sgd?"),
        ({"lr": 10**400}, "/lr", "a number"),
    ],
)
def test_check_names_the_mistake_and_the_way_out(change: dict[str, Any], pointer: str, words: str) -> None:
    params = {k: v for k, v in {**_legal(), **change}.items() if v is not None}
    found = space(CONDITIONAL)
    where, message, suggestion = _one_mistake(found, params)
    assert where == pointer
    assert words in f"{message} {suggestion}"


def test_check_names_all_mistakes_at_once() -> None:
    params = {**_legal(), "lr": -1, "depth": "two", "wdith": 3}
    del params["width"]
    assert sorted(m.pointer for m in space(CONDITIONAL).check(params)) == [
        "/depth",
        "/lr",
        "/wdith",
        "/width",
    ]


def test_pointers_are_escaped() -> None:
    (mistake,) = space({"a/b": {"type": "bool"}}).check({"a/b": 3})
    assert mistake.pointer == "/a~1b"


@pytest.mark.parametrize(
    ("document", "pointer", "words"),
    [
        ({}, "/space", "no parameters"),
        ({"a": {"type": "flaot"}}, "/space/a/type", "did you mean float?"),
        ({"a": {"low": 1}}, "/space/a/type", "not a type"),
        ({"a": {"type": "float", "low": 1}}, "/space/a/high", "missing"),
        ({"a": {"type": "float", "low": 1, "high": 0}}, "/space/a/low", "must not exceed"),
        ({"a": {"type": "float", "low": 0, "high": 1, "log": True}}, "/space/a/low", "low > 0"),
        ({"a": {"type": "float", "low": 0, "high": math.inf}}, "/space/a/high", "not finite"),
        ({"a": {"type": "float", "low": "0", "high": 1}}, "/space/a/low", "not a number"),
        ({"a": {"type": "int", "low": 0.5, "high": 1}}, "/space/a/low", "not a whole number"),
        ({"a": {"type": "int", "low": 0, "high": 10**13}}, "/space/a/high", "float on a log scale"),
        ({"a": {"type": "int", "low": 1, "high": 9, "log": True, "step": 2}}, "/space/a/step", "exclude"),
        ({"a": {"type": "int", "low": 1, "high": 9, "step": 0}}, "/space/a/step", "positive"),
        (
            {"a": {"type": "float", "low": 0, "high": 1, "step": 1e-14}},
            "/space/a/step",
            "leave the step out",
        ),
        ({"a": {"type": "float", "low": 0, "high": 1, "setp": 1}}, "/space/a/setp", "did you mean step?"),
        ({"a": {"type": "categorical", "choices": []}}, "/space/a/choices", "no values"),
        ({"a": {"type": "ordered", "values": [1, 2, 1]}}, "/space/a/values/2", "listed twice"),
        ({"a": {"type": "bool", "when": {"b": 1}}}, "/space/a/when/b", "no parameter b"),
        ({"a": {"type": "bool", "when": {"a": True}}}, "/space/a/when/a", "circle: a needs a"),
        (
            {
                "opt": {"type": "categorical", "choices": ["adam"]},
                "a": {"type": "bool", "when": {"opt": "adm"}},
            },
            "/space/a/when/opt",
            "did you mean adam?",
        ),
        (
            {"opt": {"type": "bool"}, "a": {"type": "bool", "when": {"opt": []}}},
            "/space/a/when/opt",
            "never be active",
        ),
        (
            {"x": {"type": "float", "low": 0, "high": 1}, "a": {"type": "bool", "when": {"x": 0.5}}},
            "/space/a/when/x",
            "continuous",
        ),
        (
            {"x": {"type": "int", "low": 0, "high": 3}, "a": {"type": "bool", "when": {"x": [1, 4]}}},
            "/space/a/when/x",
            "can never be 4",
        ),
    ],
)
def test_a_wrong_document_is_refused_with_the_place(
    document: dict[str, Any], pointer: str, words: str
) -> None:
    with pytest.raises(SearchError) as caught:
        SearchSpace.from_json(document)
    (mistake,) = caught.value.mistakes
    assert mistake.pointer == pointer
    assert words in f"{mistake.message} {mistake.suggestion}"


def test_a_wrong_document_is_refused_with_all_mistakes() -> None:
    with pytest.raises(SearchError) as caught:
        SearchSpace.from_json(
            {
                "a": {"type": "bool", "when": {"b": True}},
                "b": {"type": "bool", "when": {"a": True}},
                "c": {"type": "float", "low": 2, "high": 1},
                "d": {"type": "bool", "when": {"nobody": 1}},
            }
        )
    assert len(caught.value.mistakes) == 3


def test_the_wires_dump_with_its_defaults_is_understood() -> None:
    dumped = {"type": "float", "low": 0.0, "high": 1.0, "log": False, "step": None, "when": {}, "doc": ""}
    assert SearchSpace.from_json({"a": dumped}).to_json() == {
        "a": {"type": "float", "low": 0.0, "high": 1.0}
    }


@example(0.0)
@example(1.0)
@given(st.floats(0, 1))
def test_nested_conditions_leave_out_what_is_inactive(u: float) -> None:
    found = space(CONDITIONAL)
    params = found.decode([u] * len(found.dimensions))
    assert ("beta2" in params) == (params["optimizer"] in ("adam", "lion"))
    assert ("nesterov" in params) == (params["optimizer"] == "sgd")
    assert ("damping" in params) == (params.get("nesterov") is False)
