"""Simplexes, beliefs, ties, constraints, forbidden combinations: JSON, mistakes, emptiness."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings

from search.emptiness import why_empty
from search.errors import SearchError
from search.space import SearchSpace
from tests.search.support import constrained, space

DOCUMENT: dict[str, Any] = {
    "lr": {
        "type": "float",
        "low": 1e-5,
        "high": 1.0,
        "log": True,
        "belief": {"near": 3e-4, "factor": 3},
        "tie": {"to": "batch", "at": 256, "rule": "sqrt"},
    },
    "batch": {"type": "ordered", "values": [64, 128, 256]},
    "depth": {"type": "int", "low": 1, "high": 6, "belief": {"between": [2, 3], "sd": 1}},
    "heads": {"type": "int", "low": 1, "high": 16},
    "beta1": {"type": "fixed", "value": 0.9, "tie": {"to": "batch", "at": 256, "rule": "one-minus"}},
    "eps": {
        "type": "ordered",
        "values": [1e-8, 1e-6],
        "tie": {"to": "batch", "at": 256, "rule": "inverse-sqrt"},
    },
    "optimizer": {"type": "categorical", "choices": ["adam", "sgd"]},
    "momentum": {"type": "float", "low": 0.0, "high": 0.99, "when": {"optimizer": "sgd"}},
    "mix": {
        "type": "simplex",
        "parts": ["web", "code", "books"],
        "min": 0.05,
        "when": {"optimizer": "adam"},
    },
}


def linear(terms: dict[str, Any], relation: Any = "<=", bound: Any = 0) -> dict[str, Any]:
    return {"terms": terms, "relation": relation, "bound": bound}


@settings(max_examples=60, deadline=None)
@given(constrained())
def test_json_round_trip(found: SearchSpace) -> None:
    document = json.loads(json.dumps({"space": found.to_json(), **found.rules_json()}))
    again = SearchSpace.from_json(document["space"], document["constraints"], document["forbid"])
    assert again == found


def test_json_round_trip_of_beliefs_ties_and_simplexes() -> None:
    found = SearchSpace.from_json(
        DOCUMENT,
        [linear({"depth": 1, "heads": 2.5}, ">=", 9), linear({"mix/web": 1}, "==", 0.5)],
        [{"optimizer": "sgd", "lr": {"above": 0.1}}, {"depth": [1, 2], "heads": 16}],
    )
    assert found.to_json() == DOCUMENT
    rules = json.loads(json.dumps(found.rules_json()))
    assert SearchSpace.from_json(DOCUMENT, rules["constraints"], rules["forbid"]) == found
    assert str(found.constraints[0]) == "depth + 2.5 * heads >= 9"
    assert str(found.forbidden[0]) == "optimizer = sgd with lr above 0.1"


def _with(name: str, change: dict[str, Any]) -> dict[str, Any]:
    return {**DOCUMENT, name: {**DOCUMENT.get(name, {}), **change}}


SIMPLEX = {"type": "simplex", "parts": ["a", "b"]}


@pytest.mark.parametrize(
    ("document", "constraints", "forbid", "pointer", "words"),
    [
        ({"m": {**SIMPLEX, "parts": ["a"]}}, [], [], "/space/m/parts", "two parts"),
        ({"m": {**SIMPLEX, "parts": ["a", "a"]}}, [], [], "/space/m/parts/1", "twice"),
        ({"m": {**SIMPLEX, "min": 0.7}}, [], [], "/space/m/min", "more than 1"),
        ({"m": {**SIMPLEX, "min": 1 / 3}}, [], [], "/space/m/min", "six decimals"),
        ({"m": SIMPLEX, "m/a": {"type": "bool"}}, [], [], "/space/m~1a", "name of two parameters"),
        ({"m": {**SIMPLEX, "when": {"x": 1}}}, [], [], "/space/m/when/x", "no parameter x"),
        (_with("batch", {"when": {"mix/web": 0.5}}), [], [], "/space/batch/when/mix~1web", "continuous"),
        (_with("lr", {"belief": {"near": 3, "factor": 3}}), [], [], "/space/lr/belief/near", "outside"),
        (_with("lr", {"belief": {"near": 0.1}}), [], [], "/space/lr/belief", "how far off"),
        (_with("lr", {"belief": {"near": 0.1, "factor": 1}}), [], [], "/space/lr/belief/factor", "above 1"),
        (
            _with("lr", {"belief": {"between": [1, 0.1], "sd": 1}}),
            [],
            [],
            "/space/lr/belief/between",
            "round",
        ),
        (_with("lr", {"belief": {"near": 0.1, "fctor": 3}}), [], [], "/space/lr/belief/fctor", "factor?"),
        (_with("batch", {"belief": {"near": 64, "sd": 3}}), [], [], "/space/batch/belief", "has no belief"),
        (_with("lr", {"tie": {"to": "lr", "at": 1, "rule": "sqrt"}}), [], [], "/space/lr/tie/to", "itself"),
        (
            _with("lr", {"tie": {"to": "btch", "at": 1, "rule": "sqrt"}}),
            [],
            [],
            "/space/lr/tie/to",
            "batch?",
        ),
        (
            _with("lr", {"tie": {"to": "optimizer", "at": 1, "rule": "sqrt"}}),
            [],
            [],
            "/space/lr/tie/to",
            "no number",
        ),
        (
            _with("lr", {"tie": {"to": "momentum", "at": 1, "rule": "sqrt"}}),
            [],
            [],
            "/space/lr/tie/to",
            "may be 0",
        ),
        (
            _with("momentum", {"tie": {"to": "lr", "at": 0, "rule": "sqrt"}}),
            [],
            [],
            "/space/momentum/tie/at",
            "positive",
        ),
        (
            _with("lr", {"tie": {"to": "batch", "at": 1, "rule": "sqr"}}),
            [],
            [],
            "/space/lr/tie/rule",
            "sqrt?",
        ),
        (
            _with("eps", {"values": [1e-8, "tiny"]}),
            [],
            [],
            "/space/eps/tie",
            "no number",
        ),
        (
            {**DOCUMENT, "flag": {"type": "fixed", "value": True, "tie": DOCUMENT["eps"]["tie"]}},
            [],
            [],
            "/space/flag/tie",
            "no number",
        ),
        (
            _with("batch", {"tie": {"to": "lr", "at": 1, "rule": "sqrt"}}),
            [],
            [],
            "/space/lr/tie/to",
            "circle",
        ),
        (DOCUMENT, [linear({"dpeth": 1})], [], "/constraints/0", "did you mean depth?"),
        (DOCUMENT, [linear({"mix": 1})], [], "/constraints/0", "mix/web, mix/code"),
        (DOCUMENT, [linear({"optimizer": 1})], [], "/constraints/0", "no number"),
        (DOCUMENT, [linear({})], [], "/constraints/0", "names no parameter"),
        (DOCUMENT, [linear({"depth": 0})], [], "/constraints/0", "other than 0"),
        (DOCUMENT, [linear({"depth": 1}, "<", 3)], [], "/constraints/0", "not a relation"),
        (DOCUMENT, [linear({"depth": 1}, "<=", "3")], [], "/constraints/0", "not a number"),
        (DOCUMENT, [linear({"depth": 1, "heads": 1}, ">=", 23)], [], "/constraints/0", "at most 22"),
        (DOCUMENT, [linear({"depth": -1}, "==", 0)], [], "/constraints/0", "at most -1"),
        (
            {"a": {"type": "float", "low": -1.7e308, "high": 1.7e308}},
            [linear({"a": 1}, "<=", 1)],
            [],
            "/constraints/0",
            "too wide",
        ),
        (DOCUMENT, [], [{"dpeth": 1}], "/forbid/0/dpeth", "did you mean depth?"),
        (DOCUMENT, [], [{}], "/forbid/0", "names no parameter"),
        (DOCUMENT, [], [{"optimizer": "adm"}], "/forbid/0/optimizer", "did you mean adam?"),
        (DOCUMENT, [], [{"optimizer": []}], "/forbid/0/optimizer", "empty list"),
        (DOCUMENT, [], [{"lr": 0.1}], "/forbid/0/lr", "continuous"),
        (DOCUMENT, [], [{"depth": {"above": 6}}], "/forbid/0/depth", "never there"),
        (DOCUMENT, [], [{"depth": {"above": 4, "below": 3}}], "/forbid/0/depth", "turn them round"),
        (DOCUMENT, [], [{"depth": {"over": 4}}], "/forbid/0/depth/over", "above, below"),
        (DOCUMENT, [], [{"optimizer": {"above": 4}}], "/forbid/0/optimizer", "no number"),
    ],
)
def test_what_is_wrong_is_named(
    document: dict[str, Any], constraints: list[Any], forbid: list[Any], pointer: str, words: str
) -> None:
    with pytest.raises(SearchError) as caught:
        SearchSpace.from_json(document, constraints, forbid)
    (mistake,) = caught.value.mistakes
    assert mistake.pointer == pointer
    assert words in f"{mistake.message} {mistake.suggestion}"


def test_ties_that_go_round_are_named() -> None:
    tied = {"type": "float", "low": 1, "high": 2}
    with pytest.raises(SearchError, match="a follows b follows a"):
        space(
            {
                "a": {**tied, "tie": {"to": "b", "at": 1, "rule": "linear"}},
                "b": {**tied, "tie": {"to": "a", "at": 1, "rule": "sqrt"}},
            }
        )


LEGAL = {
    "lr": 0.01,
    "batch": 64,
    "depth": 2,
    "heads": 4,
    "beta1": 0.9,
    "eps": 1e-8,
    "optimizer": "adam",
    "mix/web": 0.5,
    "mix/code": 0.4,
    "mix/books": 0.1,
}


@pytest.mark.parametrize(
    ("change", "pointer", "words"),
    [
        ({"mix/web": 0.4}, "/mix~1books", "sum to 0.9, not to 1 change some by 0.1"),
        ({"mix/web": 1 / 3}, "/mix~1web", "six decimals write 0.333333"),
        ({"mix/web": 0.01}, "/mix~1web", "a number from 0.05 to 0.9"),
        ({"mix/web": None}, "/mix~1web", "missing"),
        ({"mix": 0.5}, "/mix", "mix/web, mix/code, mix/books"),
        ({"depth": 3}, "/depth", "depth + 2 * heads <= 10 is broken: the left side is 11"),
        ({"heads": 1}, "/heads", "-heads <= -2 is broken: the left side is -1"),
        ({"lr": 0.2, "batch": 128}, "/lr", "lr above 0.1 with batch = 128 or 256 is forbidden"),
    ],
)
def test_check_names_what_is_broken(change: dict[str, Any], pointer: str, words: str) -> None:
    found = SearchSpace.from_json(
        DOCUMENT,
        [linear({"depth": 1, "heads": 2}, "<=", 10), linear({"heads": -1}, "<=", -2)],
        [{"lr": {"above": 0.1}, "batch": [128, 256]}],
    )
    assert found.check(LEGAL) == []
    params = {k: v for k, v in {**LEGAL, **change}.items() if v is not None}
    (mistake,) = found.check(params)
    assert mistake.pointer == pointer
    assert words in f"{mistake.message} {mistake.suggestion}"


def test_a_constraint_rests_while_a_parameter_of_it_is_not_active() -> None:
    found = SearchSpace.from_json(DOCUMENT, [linear({"momentum": 1, "lr": 1}, "<=", 0.5)])
    assert found.check({**LEGAL, "lr": 0.9}) == []
    plain = {k: v for k, v in LEGAL.items() if not k.startswith("mix/")} | {"lr": 0.2, "optimizer": "sgd"}
    assert [m.pointer for m in found.check({**plain, "momentum": 0.4})] == ["/momentum"]
    assert found.check({**plain, "momentum": 0.3}) == []


@pytest.mark.parametrize(
    ("constraints", "forbid", "pointer", "words"),
    [
        (
            [linear({"lr": 1}, "<=", 0.5), linear({"depth": 1, "heads": 1}, ">=", 20),
             linear({"heads": 1}, "<=", 12)],
            [],
            "/constraints/2",
            "depth + heads >= 20; heads <= 12",
        ),
        ([linear({"depth": 2, "heads": 4}, "==", 7)], [], "/constraints/0", "no values hold"),
        ([linear({"mix/web": 1, "mix/code": 1}, ">=", 0.97)], [], "/constraints/0", "while mix/web and"),
        (
            [linear({"momentum": 1, "lr": 1}, ">=", 1.9), linear({"lr": 1}, "<=", 0.5)],
            [],
            "/constraints/0",
            "while momentum is active",
        ),
        ([], [{"optimizer": "adam"}, {"optimizer": "sgd"}], "/forbid/0", "no configuration was found"),
    ],
)  # fmt: skip
def test_an_empty_space_is_told_with_its_reason(
    constraints: list[Any], forbid: list[Any], pointer: str, words: str
) -> None:
    (mistake,) = why_empty(SearchSpace.from_json(DOCUMENT, constraints, forbid))
    assert mistake.pointer == pointer
    assert words in mistake.message


@settings(max_examples=50, deadline=None)
@given(constrained())
def test_a_space_with_a_configuration_is_not_empty(found: SearchSpace) -> None:
    assert why_empty(found) == []


def test_constraints_are_counted_out() -> None:
    document = {"a": {"type": "int", "low": 1, "high": 6}, "b": {"type": "int", "low": 1, "high": 6}}
    seven = SearchSpace.from_json(document, [linear({"a": 1, "b": 1}, "==", 7)], [{"a": 3}])
    assert seven.cardinality == 5
    assert [c["a"] for c in seven.configurations()] == [1, 2, 4, 5, 6]
