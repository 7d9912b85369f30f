"""Mistakes about tuning seeds and test seeds, each with its place."""

from __future__ import annotations

from typing import Any

import pytest

from trimtab import check

GOOD: dict[str, Any] = {
    "name": "test",
    "trainer": {"name": "synthetic"},
    "space": {"lr": {"type": "float", "low": 0.001, "high": 1.0, "log": True}},
    "metric": {"name": "loss"},
    "fidelity": {"max": 10},
    "budget": {"trials": 20},
    "strategy": {"name": "random"},
    "seeds": {"tuning": [0, 1, 2], "test": [100, 101], "finalists": 3},
}


def test_a_study_may_name_tuning_seeds_and_test_seeds() -> None:
    seeds = check.study(GOOD).seeds
    assert (seeds.first, seeds.several, seeds.test_runs) == (0, True, 6)
    plain = check.study(GOOD | {"seeds": {"training": 4}}).seeds
    assert (plain.first, plain.several, plain.test_runs) == (4, False, 0)


@pytest.mark.parametrize(
    ("change", "pointer", "message"),
    [
        ({"seeds": {"tuning": [0, 1, 0]}}, "/seeds/tuning/2", "0 is there already"),
        ({"seeds": {"test": [100, 100]}}, "/seeds/test/1", "100 is there already"),
        ({"seeds": {"tuning": [0, 1], "test": [1, 2]}}, "/seeds/test/0", "1 is a tuning seed"),
        ({"seeds": {"test": [0]}}, "/seeds/test/0", "0 is the training seed"),
        ({"seeds": {"training": 7, "tuning": [0, 1]}}, "/seeds/training", "never used"),
        ({"seeds": {"tuning": [0, 1], "finalists": 2}}, "/seeds/finalists", "nothing is tested"),
        ({"seeds": {"test": [1], "finalists": 0}}, "/seeds/finalists", "0"),
        (
            {"seeds": {"test": [1], "finalists": 20}, "budget": {"trials": 3}},
            "/seeds/finalists",
            "20 finalists of 3",
        ),
        ({"seeds": {"tuning": [-1]}}, "/seeds/tuning/0", "-1"),
        ({"strategy": {"name": "pbt"}}, "/strategy/name", "pbt cannot work with tuning or test seeds"),
        ({"strategy": {"name": "lr-schedule"}}, "/strategy/name", "lr-schedule cannot work with"),
        ({"objectives": [{"name": "cost"}], "strategy": {"name": "bo"}}, "/objectives", "one metric"),
        ({"limits": [{"metric": "loss", "at_most": 3}]}, "/limits", "one metric"),
        ({"budget": {"trials": 9, "target": 0.1}}, "/budget/target", "target reached on one seed"),
        ({"stopping": [{"rule": "target", "value": 0.1}]}, "/stopping/0", "target reached on one seed"),
        (
            {"budget": {"fidelity": 29}},
            "/budget/fidelity",
            "do not pay for one configuration with 3 tuning",
        ),
    ],
)
def test_each_mistake_has_its_place(change: dict[str, Any], pointer: str, message: str) -> None:
    with pytest.raises(check.InvalidStudyError) as error:
        check.study(GOOD | change)
    found = {problem.pointer: problem.message for problem in error.value.problems}
    assert pointer in found, found
    assert message in found[pointer]


def test_what_is_refused_with_several_seeds_may_stay_with_one() -> None:
    check.study(GOOD | {"seeds": {"tuning": [5]}, "budget": {"trials": 9, "target": 0.1}})
    check.study(GOOD | {"seeds": {}, "strategy": {"name": "pbt"}})
