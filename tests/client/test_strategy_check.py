"""Mistakes about the strategy are found without a server."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pytest

from search import strategies
from search.errors import SearchError
from search.space import SearchSpace
from search.view import Fidelity
from trimtab import check

SPACE: dict[str, Any] = {
    "lr": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
    "nesterov": {"type": "bool"},
    "momentum": {"type": "float", "low": 0.0, "high": 0.9, "when": {"nesterov": True}},
}


SCALING: dict[str, Any] = {
    "size": "width",
    "length": "tokens",
    "target_n": 1e9,
    "target_d": 2e10,
    "flops": 1e20,
}


def document(strategy: dict[str, Any], space: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "study",
        "trainer": {"name": "external"},
        "space": space,
        "metric": {"name": "loss"},
        "fidelity": {"max": 9},
        "budget": {"trials": 3},
        "strategy": strategy,
    }


def test_the_shipped_file_says_what_the_strategies_say() -> None:
    shipped = resources.files("trimtab").joinpath("strategies.json").read_text()
    now = json.loads(json.dumps(strategies.catalogue()))
    assert json.loads(shipped) == now, "run `make catalogue`"


@pytest.mark.parametrize(
    ("strategy", "pointer", "message"),
    [
        ({"name": "ahsa"}, "/strategy/name", "no strategy is called ahsa"),
        ({"name": "cmaes"}, "/strategy/name", "cmaes cannot model conditional parameters (momentum)"),
        ({"name": "asha", "options": {"etta": 3}}, "/strategy/options/etta", "asha has no option etta"),
        (
            {"name": "asha", "options": {"eta": 1.0}},
            "/strategy/options/eta",
            "eta must be a number, at least 1.1 and at most 1000, not 1.0",
        ),
        ({"name": "sobol", "options": {"eta": 3}}, "/strategy/options/eta", "sobol has no option eta"),
        (
            {"name": "mf-bo"},
            "/strategy/options",
            "mf-bo needs the option along: the parameter whose highest value counts",
        ),
        (
            {"name": "mf-bo", "options": {"along": "rl"}},
            "/strategy/options/along",
            "the space has no parameter rl",
        ),
        (
            {"name": "mf-bo", "options": {"along": "nesterov"}},
            "/strategy/options/along",
            "nesterov has no highest value, or conditions",
        ),
        (
            {"name": "mf-bo", "options": {"along": "momentum"}},
            "/strategy/options/along",
            "momentum has no highest value, or conditions",
        ),
        (
            {"name": "hyperband", "options": {"eta": True}},
            "/strategy/options/eta",
            "eta must be a number, at least 1.1 and at most 1000, not true",
        ),
    ],
)
def test_each_mistake_is_named_and_search_finds_it_too(
    strategy: dict[str, Any], pointer: str, message: str
) -> None:
    with pytest.raises(check.InvalidStudyError) as caught:
        check.study(document(strategy, SPACE))
    assert [(p.pointer, p.message) for p in caught.value.problems] == [(pointer, message)]
    assert caught.value.problems[0].suggestion or "must be" in message
    with pytest.raises(SearchError) as refused:
        strategies.create(
            strategy["name"],
            strategy.get("options", {}),
            SearchSpace.from_json(SPACE),
            Fidelity(min=1, max=9, report_every=1),
        )
    assert [mistake.pointer for mistake in refused.value.mistakes] == [pointer]


@pytest.mark.parametrize("name", strategies.names())
def test_every_strategy_is_known(name: str) -> None:
    space = dict.fromkeys(("lr", "width", "tokens", "batch_size"), SPACE["lr"])
    needed = {"mf-bo": {"along": "lr"}, "scaling": SCALING}
    strategy = {"name": name, "options": needed.get(name, {})}
    assert check.study(document(strategy, space)).strategy.name == name


def test_options_that_must_be_given_and_parameters_that_they_name() -> None:
    options = {**SCALING, "size": "widht", "target_d": 0}
    del options["flops"]
    with pytest.raises(check.InvalidStudyError) as caught:
        check.study(
            document({"name": "scaling", "options": options}, {"lr": SPACE["lr"], "width": SPACE["lr"]})
        )
    assert {(p.pointer, p.message) for p in caught.value.problems} == {
        ("/strategy/options/size", "the space has no parameter widht"),
        ("/strategy/options/length", "the space has no parameter tokens"),
        ("/strategy/options/batch", "the space has no parameter batch_size"),
        ("/strategy/options/target_d", "target_d must be a number, above 0, not 0"),
        ("/strategy/options", "scaling needs the option flops"),
    }
    suggestions = {p.pointer: p.suggestion for p in caught.value.problems}
    assert suggestions["/strategy/options/size"] == "did you mean width?"


def test_a_strategy_that_needs_an_order_refuses_categories() -> None:
    space = {"lr": SPACE["lr"], "act": {"type": "categorical", "choices": ["relu", "gelu"]}}
    with pytest.raises(check.InvalidStudyError) as caught:
        check.study(document({"name": "cmaes"}, space))
    (problem,) = caught.value.problems
    assert problem.pointer == "/strategy/name"
    assert problem.message == "cmaes cannot model categorical parameters (act)"
    assert "tpe" in problem.suggestion
    with pytest.raises(SearchError) as refused:
        strategies.create("cmaes", {}, SearchSpace.from_json(space), Fidelity(1, 9, 1))
    assert [mistake.message for mistake in refused.value.mistakes] == [problem.message]
