"""Ties: what each rule hands to the trainer, ``rule: adam`` written out, and ties that cannot be kept."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.space import SearchSpace
from trimtab import check
from trimtab.wire.space import Tie, scaled

REFERENCE = {"to": "batch_size", "at": 64}
ADAM = {**REFERENCE, "rule": "adam"}
LR = {"type": "float", "low": 1e-4, "high": 0.1, "log": True, "tie": ADAM}
BATCH = {"type": "ordered", "values": [16, 64, 256]}


def study(
    space: dict[str, Any], settings: dict[str, Any] | None = None, trainer: str = "gpt"
) -> dict[str, Any]:
    return {
        "name": "tied",
        "trainer": {"name": trainer, "settings": settings or {}},
        "space": {"batch_size": BATCH, **space},
        "metric": {"name": "val_loss"},
        "fidelity": {"max": 10},
        "budget": {"trials": 3},
    }


def mistakes(document: dict[str, Any]) -> dict[str, tuple[str, str]]:
    with pytest.raises(check.InvalidStudyError) as caught:
        check.study(document)
    return {problem.pointer: (problem.message, problem.suggestion) for problem in caught.value.problems}


def test_the_square_root_rule_in_one_go() -> None:
    spec = check.study(study({"lr": LR}, {"optimizer": "adam", "beta2": 0.98}))
    written = spec.model_dump(mode="json", exclude_defaults=True)
    assert written["space"]["lr"]["tie"] == {**REFERENCE, "rule": "sqrt"}
    assert written["space"]["beta1"] == {
        "type": "fixed",
        "value": 0.9,
        "tie": {**REFERENCE, "rule": "one-minus"},
    }
    assert written["space"]["beta2"]["value"] == 0.98
    assert written["space"]["eps"] == {
        "type": "fixed",
        "value": 1e-8,
        "tie": {**REFERENCE, "rule": "inverse-sqrt"},
    }
    assert spec.trainer.settings == {"optimizer": "adam"}
    params = {"lr": 0.01, "batch_size": 256, "beta1": 0.9, "beta2": 0.98, "eps": 1e-8}
    assert scaled(spec.space, params) == pytest.approx(
        {"lr": 0.02, "beta1": 0.6, "beta2": 0.92, "eps": 5e-9}, abs=1e-15
    )
    same = {**params, "batch_size": 64}
    assert {**same, **scaled(spec.space, same)} == same
    assert check.study(spec.model_dump(mode="json")) == spec


def test_enqueued_configurations_get_what_was_fixed() -> None:
    queued = [{"params": {"lr": 0.01, "batch_size": 16}}]
    spec = check.study({**study({"lr": LR}), "enqueue": queued})
    (config,) = spec.enqueue
    assert config.params == {**queued[0]["params"], "beta1": 0.9, "beta2": 0.95, "eps": 1e-8}
    assert SearchSpace.from_json(spec.model_dump(mode="json")["space"]).check(config.params) == []


def test_what_is_searched_is_tied_where_it_stands() -> None:
    own = {**REFERENCE, "rule": "linear"}
    spec = check.study(
        study(
            {
                "lr": LR,
                "beta1": {"type": "ordered", "values": [0.8, 0.9]},
                "beta2": {"type": "float", "low": 0.9, "high": 0.999},
                "eps": {"type": "float", "low": 1e-9, "high": 1e-7, "tie": own},
            }
        )
    )
    assert {name: tie["rule"] for name, tie in _ties(spec).items()} == {
        "lr": "sqrt",
        "beta1": "one-minus",
        "beta2": "one-minus",
        "eps": "linear",
    }


def test_a_rate_of_one_optimizer_takes_its_own_betas_along() -> None:
    optimizer = {"type": "categorical", "choices": ["adam", "sgd"]}
    rates = {
        "lr/adam": {**LR, "when": {"optimizer": "adam"}},
        "lr/sgd": {**LR, "when": {"optimizer": "sgd"}, "tie": {**REFERENCE, "rule": "linear"}},
    }
    spec = check.study(study({"optimizer": optimizer, **rates}))
    written = spec.model_dump(mode="json", exclude_defaults=True)["space"]
    assert written["beta2/adam"]["value"] == 0.999
    assert written["beta2/adam"]["when"] == written["eps/adam"]["when"] == {"optimizer": "adam"}
    params = {"optimizer": "sgd", "lr/sgd": 0.01, "batch_size": 16}
    assert scaled(spec.space, params) == {"lr/sgd": pytest.approx(0.0025)}
    found = mistakes(
        study({"optimizer": optimizer, **rates, "beta1": {"type": "float", "low": 0.8, "high": 0.9}})
    )
    assert "beta1/adam" in found["/space/lr~1adam/tie/rule"][1]


def _ties(spec: Any) -> dict[str, Any]:
    written = spec.model_dump(mode="json")["space"]
    return {name: parameter["tie"] for name, parameter in written.items() if parameter.get("tie")}


LINEAR = {"lr": {**LR, "tie": {**REFERENCE, "rule": "linear"}}}
TWO = {"optimizer": {"type": "categorical", "choices": ["adamw", "adam"]}}


@pytest.mark.parametrize(
    ("document", "pointer", "words", "suggestion"),
    [
        (study({"lr": LR}, {"optimizer": "sgd"}), "/space/lr/tie/rule", "sgd", "rule: linear"),
        (study({"lr": LR}, {"optimizer": "lion"}), "/space/lr/tie/rule", "lion", "rule: sqrt"),
        (study({"lr": LR, **TWO}), "/space/lr/tie/rule", "what it is", "add beta2:"),
        (study({"lr": LR}, trainer="external"), "/space/lr/tie/rule", "what it is", "add beta1:"),
        (
            study({"lr": LR, "beta1": {"type": "categorical", "choices": [0.9]}}),
            "/space/lr/tie/rule",
            "categorical",
            "float, ordered or fixed",
        ),
        (
            study({"weight_decay": {**LR}}),
            "/space/weight_decay/tie/rule",
            "for the learning rate",
            "on weight_decay say",
        ),
        (
            study({"lr": LR, "batch_size": {"type": "int", "low": 16, "high": 1024}}),
            "/space/beta1/tie/at",
            "nothing is left of beta1 = 0.9",
            "more than 102.4, or end batch_size below 640",
        ),
        (
            study({"depth": {"type": "fixed", "value": 2, "tie": {**REFERENCE, "rule": "one-minus"}}}),
            "/space/depth/tie/rule",
            "below 1",
            "say sqrt",
        ),
        (
            study({"schedule": {"type": "fixed", "value": "wsd", "tie": {**REFERENCE, "rule": "sqrt"}}}),
            "/space/schedule/tie",
            "no number",
            "take the tie away",
        ),
        (
            study(
                {
                    "lr": LR,
                    "beta2": {"type": "fixed", "value": 0.9999},
                    "batch_size": {"type": "ordered", "values": [0.125, 64]},
                },
                {},
            ),
            "/space/beta2/tie",
            "takes 0 to 0.999999",
            "narrow",
        ),
        (
            study(LINEAR, {"optimizer": "sgd", "warmup_fraction": 0}),
            "/trainer/settings/warmup_fraction",
            "4 times as large",
            "0.05",
        ),
        (
            study({**LINEAR, "warmup_fraction": {"type": "fixed", "value": 0.0}}, {"optimizer": "sgd"}),
            "/space/warmup_fraction",
            "warm-up",
            "0.05",
        ),
    ],
)
def test_a_tie_that_cannot_be_kept_is_named(
    document: dict[str, Any], pointer: str, words: str, suggestion: str
) -> None:
    found = mistakes(document)
    assert pointer in found, found
    assert words in found[pointer][0]
    assert suggestion in found[pointer][1]


def test_ties_are_looked_at_whatever_else_is_wrong() -> None:
    named = {"beta1": {"type": "fixed", "value": 0.9}, "eps": {"type": "fixed", "value": 1e-8, "tie": None}}
    document = study({"lr": LR, "beta2": {"type": "fixed", "value": 0.95}, **named})
    assert set(_ties(check.study(document))) == {"lr", "beta1", "beta2", "eps"}
    assert set(mistakes({**document, "trainer": "gpt"})) == {"/trainer"}
    assert set(mistakes({**document, "enqueue": [3], "tags": 1})) == {"/enqueue/0", "/tags"}
    assert set(mistakes(study({"lr": {**LR, "low": "x"}}))) == {"/space/lr/low"}
    assert set(mistakes(study({"lr": {**LR, "tie": {**ADAM, "at": 0}}}))) == {"/space/lr/tie/at"}


def test_a_linear_tie_is_fine_with_a_warm_up_or_only_smaller_batches() -> None:
    check.study(study(LINEAR, {"optimizer": "sgd"}))
    smaller = {**LINEAR, "batch_size": {"type": "ordered", "values": [16, 64]}}
    check.study(study(smaller, {"optimizer": "sgd", "warmup_fraction": 0}))


def test_mup_is_refused_for_optimizers_whose_rates_are_not_known() -> None:
    optimizer = {"type": "categorical", "choices": ["adamw", "muon"]}
    found = mistakes(study({"optimizer": optimizer}, {"mup_base_width": 64}))
    assert "muon" in found["/trainer/settings/mup_base_width"][0]
    check.study(study({"optimizer": optimizer}, {"mup_base_width": 0}))
    check.study(study({}, {"mup_base_width": 64}))


@st.composite
def tied(draw: st.DrawFn) -> dict[str, Any]:
    """Spaces with ``rule: adam`` whose betas are searched, fixed or left to the optimizer."""
    space: dict[str, Any] = {
        "batch_size": {
            "type": "ordered",
            "values": sorted(draw(st.sets(st.integers(1, 4096), min_size=1, max_size=4))),
        },
        "lr": {**LR, "tie": {**ADAM, "at": draw(st.floats(1, 4096))}},
    }
    for name, low, high in (("beta1", 0.5, 0.99), ("beta2", 0.8, 0.9999), ("eps", 1e-12, 1e-4)):
        match draw(st.sampled_from(["own", "float", "ordered", "fixed"])):
            case "float":
                ends = sorted(draw(st.tuples(st.floats(low, high), st.floats(low, high))))
                space[name] = {"type": "float", "low": ends[0], "high": ends[1]}
            case "ordered":
                values = draw(st.lists(st.floats(low, high), min_size=1, max_size=3, unique=True))
                space[name] = {"type": "ordered", "values": values}
            case "fixed":
                space[name] = {"type": "fixed", "value": draw(st.floats(low, high))}
    return space


@settings(max_examples=60, deadline=None)
@given(tied(), st.data())
def test_what_is_accepted_is_kept_by_every_configuration(
    space: dict[str, Any], data: st.DataObject
) -> None:
    at, largest = space["lr"]["tie"]["at"], space["batch_size"]["values"][-1]
    least = {"beta1": 0.9, "beta2": 0.95}  # nadamw's own
    for name in least:
        if name in space:
            values = [v for key in ("low", "value") for v in [space[name].get(key)] if v is not None]
            least[name] = min([*values, *space[name].get("values", [])])
    try:
        spec = check.study(study(space))
    except check.InvalidStudyError as refused:
        lost = {name for name, beta in least.items() if (1 - beta) * largest >= at}
        refused_at = {problem.pointer.split("/")[2] for problem in refused.problems}
        # A beta of which nothing is left, or one so near to 1 that the trainer does not take it.
        assert lost <= refused_at <= {"beta1", "beta2"}
        return
    written = spec.model_dump(mode="json")
    assert check.study(written) == spec
    searched = SearchSpace.from_json(written["space"])
    assert SearchSpace.from_json(searched.to_json()) == searched
    point = [data.draw(st.floats(0, 1)) for _ in searched.dimensions]
    params = searched.decode(point)
    # A point and what it decodes to are one configuration.
    assert searched.decode(searched.encode(params)) == pytest.approx(params)
    k = float(params["batch_size"]) / spec.space["lr"].tie.at  # type: ignore[union-attr]
    handed = scaled(spec.space, params)
    assert set(handed) == {"lr", "beta1", "beta2", "eps"}
    assert handed["lr"] == pytest.approx(float(params["lr"]) * math.sqrt(k))
    assert handed["eps"] == pytest.approx(float(params["eps"]) / math.sqrt(k), rel=1e-9, abs=0)
    for name in ("beta1", "beta2"):
        assert 0 < float(handed[name]) < 1
        assert 1 - float(handed[name]) == pytest.approx((1 - float(params[name])) * k, rel=1e-6)


@pytest.mark.parametrize("rule", ["sqrt", "linear", "inverse-sqrt", "one-minus"])
@settings(max_examples=50, deadline=None)
@given(st.floats(0.5, 0.999), st.floats(0.1, 2), st.floats(0.1, 2))
def test_two_changes_of_the_batch_are_one(rule: Any, value: float, first: float, second: float) -> None:
    """Scaled to one batch size and from there to another, a value is what it is scaled to at once."""
    tie = Tie(to="batch_size", at=64, rule=rule)
    assert tie.scaled(value, 64) == value
    at_once = tie.scaled(value, 64 * first * second)
    halfway = tie.scaled(value, 64 * first)
    if rule != "one-minus" or (1 - value) * max(first, first * second) < 1:
        assert tie.scaled(halfway, 64 * second) == pytest.approx(at_once, abs=1e-12)
    else:
        assert min(at_once, halfway) == 0
