"""Warm-starters: what they are told, what is taken of what they name, and how they may fail."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from client_stub import Stub, item, study, trial

from trimtab import errors, warm_start
from trimtab.check import InvalidStudyError
from trimtab.check import study as checked
from trimtab.client import Client
from trimtab.wire.study import StudySpec

DOCUMENT: dict[str, Any] = {
    "name": "demo",
    "notes": "digits, a small network",
    "trainer": {"name": "external", "settings": {"width": 64}},
    "space": {
        "lr": {"type": "float", "low": 0.001, "high": 1.0, "log": True},
        "kind": {"type": "categorical", "choices": ["sgd", "adam"]},
        "beta": {"type": "float", "low": 0.5, "high": 0.99, "when": {"kind": "adam"}},
        "depth": {"type": "fixed", "value": 3},
    },
    "constraints": ["lr <= 0.9"],
    "metric": {"name": "loss"},
    "fidelity": {"max": 100},
    "budget": {"fidelity": 1000},
    "enqueue": [{"params": {"lr": 0.1, "kind": "sgd", "depth": 3}, "label": "default"}],
}
GOOD: dict[str, Any] = {"lr": 0.01, "kind": "adam", "beta": 0.9}


def spec(**changes: Any) -> StudySpec:
    return checked(DOCUMENT | changes)


def asked(*answers: Any, **changes: Any) -> warm_start.Asked:
    return warm_start.ask(spec(**changes), lambda card, space: answers)


def test_legal_configurations_are_enqueued_behind_the_users_own() -> None:
    def language_model(card: dict[str, Any], space: dict[str, Any]) -> list[dict[str, Any]]:
        return [GOOD, {"lr": np.float64(0.5), "kind": "sgd"}]

    found = warm_start.ask(spec(warm_start={"function": "m:language_model"}), language_model)
    assert (found.added, found.dropped, found.error, found.troubled) == (2, (), "", False)
    assert [config.label for config in found.spec.enqueue] == [
        "default",
        "language_model 1",
        "language_model 2",
    ]
    # Fixed parameters need not be named.
    assert found.spec.enqueue[1].params == GOOD | {"depth": 3}
    assert found.spec.enqueue[2].params == {"lr": 0.5, "kind": "sgd", "depth": 3}
    assert found.spec.warm_start.function is None
    assert checked(found.spec.model_dump(mode="json")) == found.spec


def test_it_is_told_what_is_tuned_as_plain_data() -> None:
    told: list[Any] = []

    def listens(card: dict[str, Any], space: dict[str, Any]) -> list[dict[str, Any]]:
        told.extend([card, space])
        card.clear()
        space.clear()
        return []

    given = spec()
    earlier = [{"study": "old", "trials": []}]
    warm_start.ask(given, listens, earlier)
    assert given == spec()
    warm_start.ask(given, lambda card, space: told.extend([card, space]) or [], earlier)
    card, space = told[2:]
    wanted = {"name": "external", "settings": {"width": 64}, "args": [], "workloads": []}
    assert card["trainer"] == wanted
    assert card["metric"] == {"name": "loss", "direction": "minimize"}
    assert card["notes"] == "digits, a small network"
    assert card["fidelity"]["max"] == 100
    assert card["constraints"] == ["lr <= 0.9"]
    assert card["enqueue"][0]["label"] == "default"
    assert card["earlier"] == earlier
    assert space == DOCUMENT["space"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"lr": 5.0, "kind": "sgd"}, "lr"),
        ({"lr": math.nan, "kind": "sgd"}, "lr"),
        ({"lr": math.inf, "kind": "sgd"}, "lr"),
        ({"lr": "0.1", "kind": "sgd"}, "lr"),
        ({"lr": None, "kind": "sgd"}, "lr"),
        ({"lr": [0.1], "kind": "sgd"}, "lr"),
        ({"lr": 0.1, "kind": "lion"}, "kind"),
        ({"kind": "sgd"}, "lr is missing"),
        ({"lr": 0.1, "kind": "sgd", "beta": 0.9}, "beta is not active"),
        (GOOD | {"warmup": 3}, "warmup"),
        (GOOD | {"lr": 0.95}, "lr <= 0.9"),
        (GOOD | {"depth": 4}, "depth"),
        ({"lr": 0.1, "kind": "sgd"}, "is enqueued in the study already"),
        ("lr=0.1", "not a mapping"),
        (None, "not a mapping"),
        (3, "not a mapping"),
        ({3: 0.1}, "3"),
        ({}, "lr is missing"),
    ],
)
def test_what_is_illegal_is_dropped_with_its_reason(answer: Any, words: str) -> None:
    found = asked(GOOD, answer)
    assert (found.added, found.error) == (1, "")
    (dropped,) = found.dropped
    assert dropped.number == 2
    assert dropped.problems
    assert words in str(dropped)
    assert found.troubled


def test_the_same_configuration_twice_is_tried_once() -> None:
    found = asked(GOOD, GOOD | {"lr": 0.02}, dict(reversed(GOOD.items())))
    assert found.added == 2
    assert str(found.dropped[0]) == "number 3: is the same as number 1"


@pytest.mark.parametrize("answer", [None, "text", b"text", 7, {"lr": 0.1}])
def test_an_answer_that_is_no_list_is_an_error(answer: Any) -> None:
    found = warm_start.ask(spec(), lambda card, space: answer)
    assert (found.added, found.dropped) == (0, ())
    assert "not a list of configurations" in found.error
    assert found.spec.enqueue == spec().enqueue


@pytest.mark.parametrize("error", [ValueError("no key for the model"), SystemExit(3), AssertionError()])
def test_an_exception_is_reported_and_what_came_before_is_kept(error: BaseException) -> None:
    def breaks(card: dict[str, Any], space: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield GOOD
        raise error

    found = warm_start.ask(spec(), breaks)
    assert found.added == 1
    assert type(error).__name__ in found.error
    assert str(error) in found.error


def test_a_wrong_signature_is_an_error() -> None:
    assert "TypeError" in warm_start.ask(spec(), lambda: []).error  # type: ignore[arg-type, misc]


def test_without_end_as_many_are_taken_as_the_study_has_room_for() -> None:
    endless = ({"lr": 0.01 + n / 10_000, "kind": "sgd"} for n in count())
    found = warm_start.ask(spec(budget={"trials": 5}), lambda card, space: endless)
    assert found.added == 4
    assert "room for 5" in str(found.dropped[0])


def test_what_it_prints_is_kept_from_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    def talks(card: dict[str, Any], space: dict[str, Any]) -> list[dict[str, Any]]:
        print("thinking")
        return []

    warm_start.ask(spec(), talks)
    assert capsys.readouterr() == ("", "thinking\n")


def test_a_function_is_found_beside_the_study_file(tmp_path: Path) -> None:
    (tmp_path / "beside_the_file.py").write_text("def first(card, space): return [{'lr': 0.1}]")
    assert list(warm_start.load("beside_the_file:first", tmp_path)({}, {})) == [{"lr": 0.1}]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("starter_that_is_not_there:first", None, "cannot be imported"),
        ("starter_that_breaks:first", "1 / 0", "ZeroDivisionError"),
        ("starter_that_exits:first", "raise SystemExit(2)", "SystemExit"),
        ("starter_with_a_typo:frist", "def first(card, space): return []", "no function frist"),
        ("starter_with_a_number:first", "first = 3", "no function first"),
    ],
)
def test_a_function_that_cannot_be_loaded_is_named(
    tmp_path: Path, name: str, text: str | None, words: str
) -> None:
    if text is not None:
        (tmp_path / f"{name.partition(':')[0]}.py").write_text(text)
    with pytest.raises(warm_start.NotLoadedError) as error:
        warm_start.load(name, tmp_path)
    assert words in str(error.value)
    if "typo" in name:
        assert error.value.hint == "did you mean first?"


@pytest.mark.parametrize("function", ["first", "first.py:first", "a b:c", ":f", "m:"])
def test_the_form_of_its_name_is_checked(function: str) -> None:
    with pytest.raises(InvalidStudyError) as error:
        spec(warm_start={"function": function})
    (problem,) = error.value.problems
    assert problem.pointer == "/warm_start/function"
    assert "MODULE:FUNCTION" in problem.message + problem.suggestion


def test_a_study_is_named_once() -> None:
    with pytest.raises(InvalidStudyError) as error:
        spec(warm_start={"studies": ["a", "b", "a"]})
    (problem,) = error.value.problems
    assert problem.pointer == "/warm_start/studies/2"


# Against a server


def test_earlier_studies_may_be_named_and_their_best_trials_are_told(stub: Stub) -> None:
    old = item(id="old1", name="old", direction="maximize", metric="accuracy")
    stub.on("GET /v1/studies", (200, {"items": [old, item(id="x", name="other")], "next_cursor": None}))
    best = [trial(best_value=0.9, best_step=50), trial(number=2, best_value=None)]
    stub.on("GET /v1/studies/old1/trials", (200, {"items": best, "next_cursor": None}))
    stub.on("POST /v1/studies", (201, study()))
    cards: list[Any] = []
    with Client(stub.url) as client:
        given = spec(warm_start={"studies": ["old"]})
        found = client.first_configurations(given, lambda card, space: cards.append(card) or [GOOD])
        client.create(found.spec)
    assert cards[0]["earlier"] == [
        {
            "study": "old",
            "metric": "accuracy",
            "direction": "maximize",
            "trials": [{"params": {"lr": 0.5}, "value": 0.9, "step": 50}],
        }
    ]
    (sent,) = stub.calls("POST /v1/studies")
    assert sent.body["warm_start"]["studies"] == ["old1"]
    assert sent.body["enqueue"][-1]["params"] == GOOD | {"depth": 3}
    (listed,) = stub.calls("GET /v1/studies/old1/trials")
    assert "sort=best" in listed.query


def test_a_study_that_is_not_there_is_named(stub: Stub) -> None:
    stub.on("GET /v1/studies", (200, {"items": [item(name="digits")], "next_cursor": None}))
    with Client(stub.url) as client, pytest.raises(errors.UnknownStudyError) as error:
        client.create(spec(warm_start={"studies": ["digit"]}))
    assert error.value.hint == "did you mean digits?"
