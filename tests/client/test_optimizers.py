"""Optimizers by name in a study: their own ranges of learning rates, and settings that none uses."""

from __future__ import annotations

from typing import Any

import pytest

from trimtab import check
from trimtab.optimizers import optimizers
from trimtab.wire.space import FloatParameter
from trimtab.wire.study import StudySpec

CHOICE = {"type": "categorical", "choices": ["sgd", "nadamw", "lion"]}


def study(space: dict[str, Any], settings: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "name": "optimizers",
        "trainer": {"name": "digits", "settings": settings or {}},
        "space": space,
        "metric": {"name": "val_loss"},
        "fidelity": {"max": 10},
        "budget": {"trials": 3},
        **more,
    }


def mistakes(document: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(check.InvalidStudyError) as caught:
        check.study(document)
    return {problem.pointer: problem.message for problem in caught.value.problems}


def test_each_optimizer_has_its_own_range_of_rates() -> None:
    spec = check.study(study({"optimizer": CHOICE}))
    assert list(spec.space) == ["optimizer", "lr/sgd", "lr/nadamw", "lr/lion"]
    for name in CHOICE["choices"]:
        rate = spec.space[f"lr/{name}"]
        assert isinstance(rate, FloatParameter)
        assert rate.log
        assert (rate.low, rate.high) == (optimizers()[name].low, optimizers()[name].high)
        assert rate.when == {"optimizer": name}
    ends = [rate.high for rate in spec.space.values() if isinstance(rate, FloatParameter)]
    assert max(ends) > 30 * min(ends)


def test_what_was_filled_in_is_part_of_the_study() -> None:
    spec = check.study(study({"optimizer": CHOICE}))
    again = check.study(spec.model_dump(mode="json"))
    assert again == spec
    assert StudySpec.model_validate(spec.model_dump(mode="json")) == spec


def test_enqueued_configurations_get_the_rate_they_name_or_the_optimizers_own() -> None:
    queued = [
        {"params": {"optimizer": "sgd"}},
        {"params": {"optimizer": "lion", "lr": 2e-4}},
        {"params": {"optimizer": "nadamw", "lr/nadamw": 5e-3}},
    ]
    spec = check.study(study({"optimizer": CHOICE}, enqueue=queued))
    assert [each.params for each in spec.enqueue] == [
        {"optimizer": "sgd", "lr/sgd": optimizers()["sgd"].lr},
        {"optimizer": "lion", "lr/lion": 2e-4},
        {"optimizer": "nadamw", "lr/nadamw": 5e-3},
    ]


@pytest.mark.parametrize(
    ("space", "settings"),
    [
        ({"optimizer": CHOICE, "lr": {"type": "float", "low": 0.001, "high": 0.1}}, {}),
        ({"optimizer": CHOICE}, {"lr": 0.01}),
        ({"channels": {"type": "int", "low": 1, "high": 8}}, {"optimizer": "sgd"}),
    ],
)
def test_a_study_that_says_its_rate_or_searches_no_optimizer_is_left_alone(
    space: dict[str, Any], settings: dict[str, Any]
) -> None:
    assert list(check.study(study(space, settings)).space) == list(space)


def test_a_rate_of_the_users_own_stays_and_the_others_are_filled_in() -> None:
    own = {"type": "float", "low": 0.5, "high": 0.9, "when": {"optimizer": "sgd"}}
    spec = check.study(study({"optimizer": CHOICE, "lr/sgd": own}, {"lr/lion": 1e-4}))
    assert list(spec.space) == ["optimizer", "lr/sgd", "lr/nadamw"]
    rate = spec.space["lr/sgd"]
    assert isinstance(rate, FloatParameter)
    assert rate.low == 0.5


def test_trainers_with_rates_of_their_own_are_left_alone() -> None:
    document = study({"optimizer": {"type": "categorical", "choices": ["adamw", "sgd"]}})
    document |= {"trainer": {"name": "synthetic"}, "metric": {"name": "loss"}}
    assert list(check.study(document).space) == ["optimizer"]


def test_all_optimizers_fit_one_study() -> None:
    every = {"type": "categorical", "choices": list(optimizers())}
    assert len(check.study(study({"optimizer": every})).space) == len(optimizers()) + 1


def test_settings_that_no_optimizer_uses_are_mistakes() -> None:
    assert mistakes(study({"lr": {"type": "float", "low": 0.1, "high": 0.2}}, {"momentum": 0.9})) == {
        "/trainer/settings/momentum": "nadamw uses no momentum"
    }
    beta = {"type": "float", "low": 0.8, "high": 0.9}
    two = {"type": "categorical", "choices": ["sgd", "rprop"]}
    assert mistakes(study({"optimizer": two, "beta1": beta, "momentum": beta})) == {
        "/space/beta1": "no optimizer of this study uses beta1"
    }
    assert mistakes(study({"optimizer": two, "momentum/rprop": beta})) == {
        "/space/momentum~1rprop": "rprop uses no momentum"
    }
    assert mistakes(study({"optimizer": two}, {"lr/lion": 0.1})) == {
        "/trainer/settings/lr~1lion": "lion is no optimizer of this study"
    }


def test_what_some_use_is_ignored_by_the_others() -> None:
    check.study(study({"optimizer": CHOICE}, {"momentum": 0.9, "beta1": 0.8}))


def test_sam_needs_an_optimizer_that_takes_one_gradient() -> None:
    found = mistakes(
        study({"lr": {"type": "float", "low": 0.1, "high": 0.2}}, {"optimizer": "mezo", "sam": 0.1})
    )
    assert found == {"/trainer/settings/sam": "sam does not go round mezo"}


def test_a_name_that_is_not_listed_is_named_with_what_may_have_been_meant() -> None:
    with pytest.raises(check.InvalidStudyError) as caught:
        check.study(study({"optimizer": {"type": "categorical", "choices": ["sgd", "nadmw"]}}))
    (problem,) = caught.value.problems
    assert problem.pointer == "/space/optimizer/choices/1"
    assert len(problem.message) < 200
    assert problem.suggestion.startswith("did you mean nadamw")
