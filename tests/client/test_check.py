"""Every mistake at once, each with a pointer and words a person understands."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from trimtab import check, explain
from trimtab.wire.space import expanded, scaled
from trimtab.wire.study import StudySpec

GOOD: dict[str, Any] = {
    "name": "good",
    "trainer": {"name": "gpt", "settings": {"width": 64}},
    "space": {
        "lr": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
        "schedule": {"type": "categorical", "choices": ["constant", "cosine"]},
        "final_fraction": {"type": "float", "low": 0.0, "high": 0.5, "when": {"schedule": "cosine"}},
        "depth": {"type": "int", "low": 1, "high": 7, "step": 2},
    },
    "metric": {"name": "val_loss"},
    "fidelity": {"min": 10, "max": 100, "report_every": 10},
    "budget": {"trials": 10},
    "enqueue": [{"params": {"lr": 1e-3, "schedule": "constant", "depth": 3}}],
}

# What is changed (a path and a value; DELETE takes away); what is said: pointer, words, suggestion.
DELETE = object()
MISTAKES: list[tuple[str, Any, str, str, str]] = [
    # Fields and types
    ("/budget", DELETE, "/budget", "budget is missing", "add budget"),
    ("/fidelty", 1, "/fidelty", "unknown field fidelty", "did you mean fidelity?"),
    ("/space/lr/lo", 1, "/space/lr/lo", "unknown field lo", "did you mean low?"),
    ("/space/lr/type", "flaot", "/space/lr/type", 'unknown type "flaot"', "did you mean float?"),
    ("/space/lr/type", DELETE, "/space/lr/type", "type is missing", "float or int"),
    ("/space/lr/high", "x", "/space/lr/high", 'must be a number, not "x"', ""),
    ("/space/lr/high", 1e-9, "/space/lr", "low (0.0001) must not exceed high (1e-09)", ""),
    ("/space/lr/log", "maybe", "/space/lr/log", 'must be true or false, not "maybe"', ""),
    ("/space/depth/low", 1.0, "/space/depth/low", "must be a whole number, not 1.0", "write 1"),
    ("/space/schedule/choices/0", None, "/space/schedule/choices/0", "not empty", ""),
    ("/space/schedule/choices/0", ["a"], "/space/schedule/choices/0", "not a list", ""),
    ("/space/1st", {"type": "bool"}, "/space/1st", "cannot be a name", "start with a letter"),
    ("/space/lr", 3, "/space/lr", "must be named fields, not 3", ""),
    ("/metric/direction", "minimise", "/metric/direction", "must be minimize or maximize", "minimize?"),
    ("/parallelism", 0, "/parallelism", "must be at least 1, not 0", ""),
    ("/tags", "a", "/tags", "must be a list", 'write ["a"]'),
    ("/notes", 3, "/notes", "must be text, not 3", 'put it in quotes: "3"'),
    ("/budget", {}, "/budget", "name at least one of", ""),
    ("/enqueue/0/params/lr", float("nan"), "/enqueue/0/params/lr", "must be a finite number", ""),
    (
        "/checkpoints",
        {"keep": "bst"},
        "/checkpoints/keep",
        "must be resumable or best",
        "did you mean best?",
    ),
    (
        "/stopping",
        [{"rule": "mediann"}],
        "/stopping/0/rule",
        'unknown rule "mediann"',
        "did you mean median?",
    ),
    (
        "/trainer",
        {"name": "gpt", "script": "x.py"},
        "/trainer",
        "exactly one of name, script or module",
        "",
    ),
    ("/space/lr/when", {"1st": []}, "/space/lr/when/1st", "cannot be a name", "start with a letter"),
    # Conditions
    (
        "/space/lr/when",
        {"schedul": "x"},
        "/space/lr/when/schedul",
        "not a parameter",
        "did you mean schedule?",
    ),
    ("/space/lr/when", {"schedule": "cosin"}, "/space/lr/when/schedule", "never", "did you mean cosine?"),
    ("/space/lr/when", {"depth": [1, 2]}, "/space/lr/when/depth/1", "depth is never 2", ""),
    ("/space/lr/when", {"lr": 1e-3}, "/space/lr/when/lr", "cannot depend on itself", ""),
    ("/space/depth/when", {"lr": 1e-3}, "/space/depth/when/lr", "continuous range", "depend on an int"),
    ("/space/depth/when", {"schedule": []}, "/space/depth/when/schedule", "never be active", ""),
    ("/space/schedule/when", {"final_fraction": 0.1}, "/space/schedule/when", "circle", "take one"),
    # Simplexes, beliefs, ties
    ("/space/mix", {"type": "simplex", "parts": ["a"]}, "/space/mix/parts", "needs at least 2", ""),
    ("/space/mix", {"type": "simplex", "parts": ["a", "a"]}, "/space/mix", "listed twice", ""),
    (
        "/space/mix",
        {"type": "simplex", "parts": ["a", "b"], "min": 0.6},
        "/space/mix",
        "at least 0.6 are more than 1",
        "",
    ),
    (
        "/space",
        {f"m{i}": {"type": "simplex", "parts": [f"p{j}" for j in range(100)]} for i in range(3)},
        "/space",
        "300 parameters, shares of simplexes counted",
        "",
    ),
    (
        "/space",
        {"m" * 100: {"type": "simplex", "parts": ["p" * 50, "q"]}},
        "/space",
        "more than 120 characters",
        "",
    ),
    ("/space/lr/belief", {"near": 1e-3}, "/space/lr/belief", "either factor or sd", ""),
    ("/space/lr/belief", {"factor": 3}, "/space/lr/belief", "either near or between", ""),
    ("/space/lr/belief", {"near": 1e-3, "factor": 1}, "/space/lr/belief/factor", "greater than 1", ""),
    ("/space/lr/belief", {"near": 1, "factor": 3}, "/space/lr/belief/near", "outside of lr's", "widen"),
    ("/space/lr/belief", {"naer": 1, "factor": 3}, "/space/lr/belief/naer", "unknown", "mean near?"),
    ("/space/schedule/belief", {"near": 1}, "/space/schedule/belief", "unknown field belief", ""),
    ("/space/lr/tie", {"to": "lr", "at": 1, "rule": "sqrt"}, "/space/lr/tie/to", "tied to itself", ""),
    (
        "/space/lr/tie",
        {"to": "dpeth", "at": 1, "rule": "sqrt"},
        "/space/lr/tie/to",
        "not a parameter",
        "depth?",
    ),
    (
        "/space/lr/tie",
        {"to": "schedule", "at": 1, "rule": "sqrt"},
        "/space/lr/tie/to",
        "no number",
        "batch size",
    ),
    (
        "/space/lr/tie",
        {"to": "final_fraction", "at": 1, "rule": "sqrt"},
        "/space/lr/tie/to",
        "may be 0",
        "positive",
    ),
    (
        "/space/lr/tie",
        {"to": "depth", "at": 1, "rule": "square"},
        "/space/lr/tie/rule",
        "sqrt or linear",
        "",
    ),
    # Constraints and forbidden combinations
    ("/constraints", ["lr + dpeth <= 3"], "/constraints/0", "dpeth is not a parameter", "mean depth?"),
    ("/constraints", ["depth-lr <= 3"], "/constraints/0", "not a parameter", "write depth - lr, with"),
    ("/constraints", ["depth/2 <= 3"], "/constraints/0", "not a parameter", "write 0.5 * depth"),
    ("/constraints", ["schedule <= 3"], "/constraints/0", "schedule is no number", "forbid"),
    ("/constraints", ["depth + lr >= 8"], "/constraints/0", "is at most 7.1, and the right", "change"),
    ("/constraints", ["depth * lr <= 3"], "/constraints/0", "depth * lr is not linear", ""),
    ("/constraints", ["depth <= 3", "lr < 3"], "/constraints/1", "write <=", ""),
    ("/constraints", "depth <= 3", "/constraints", "must be a list", 'write ["depth <= 3"]'),
    ("/constraints", [3], "/constraints/0", "must be text", ""),
    ("/forbid", [{"dpeth": 3}], "/forbid/0/dpeth", "not a parameter", "did you mean depth?"),
    ("/forbid", [{"depth": 2}], "/forbid/0/depth", "depth is never 2", ""),
    ("/forbid", [{"schedule": ["cosin"]}], "/forbid/0/schedule/0", "is never", "mean cosine?"),
    ("/forbid", [{"lr": 0.01}], "/forbid/0/lr", "hardly ever has an exact value", "above"),
    ("/forbid", [{"lr": {"abov": 0.01}}], "/forbid/0/lr/abov", "unknown field abov", "mean above?"),
    ("/forbid", [{"lr": {"abov": 1}, "schedule": "cosin"}], "/forbid/0/schedule", "never", "cosine?"),
    ("/forbid", [{"lr": {"above": "x"}}], "/forbid/0/lr/above", 'must be a number, not "x"', ""),
    ("/forbid", [{"lr": {}}], "/forbid/0/lr", "say above, below or both", ""),
    ("/forbid", [{"lr": {"above": 0.1}}], "/forbid/0/lr/above", "never above that", "move the bound"),
    ("/forbid", [{"schedule": {"above": 1}}], "/forbid/0/schedule", "is no number", "list the values"),
    ("/forbid", [{"lr": None}], "/forbid/0/lr", "must be a number, text, true or false, not empty", ""),
    ("/forbid", [{}], "/forbid/0", "at least 1", ""),
    ("/forbid", [3], "/forbid/0", "must be named fields", ""),
    # Enqueued configurations
    ("/enqueue/0/params/lrr", 1, "/enqueue/0/params/lrr", "not a parameter", "did you mean lr?"),
    ("/enqueue/0/params/lr", DELETE, "/enqueue/0/params/lr", "lr is missing", "add lr"),
    ("/enqueue/0/params/lr", 1.0, "/enqueue/0/params/lr", "must lie in 0.0001..0.1, not 1.0", ""),
    ("/enqueue/0/params/depth", 2, "/enqueue/0/params/depth", "must lie on the grid 1, 3", ""),
    ("/enqueue/0/params/depth", True, "/enqueue/0/params/depth", "must be a whole number, not true", ""),
    (
        "/enqueue/0/params/final_fraction",
        0.1,
        "/enqueue/0/params/final_fraction",
        "is not active",
        "leave it",
    ),
    # Budget, fidelity, rules, resources
    (
        "/budget",
        {"fidelity": 5},
        "/budget/fidelity",
        "do not pay for the shortest training (10",
        "at least 10",
    ),
    ("/budget", {"gpu_hours": 5}, "/budget/gpu_hours", "holds no GPU", "gpus: 1"),
    ("/enqueue", [GOOD["enqueue"][0]] * 11, "/budget/trials", "too few for 11", "more than 11"),
    ("/fidelity/min", 5, "/fidelity/report_every", "before its first measurement", "every 5"),
    ("/checkpoints", {"every": 101}, "/checkpoints/every", "never happens", "leave it out"),
    (
        "/stopping",
        [{"rule": "median", "grace": 100}],
        "/stopping/0/grace",
        "never stops anything",
        "less than 100",
    ),
    (
        "/stopping",
        [{"rule": "median", "min_trials": 10}],
        "/stopping/0/min_trials",
        "never stops",
        "more trials",
    ),
    (
        "/stopping",
        [{"rule": "predicted", "min_trials": 10}],
        "/stopping/0/min_trials",
        "never stops",
        "more trials",
    ),
    (
        "/stopping",
        [{"rule": "predicted", "risk": 0}],
        "/stopping/0/risk",
        "greater than 0",
        "",
    ),
    (
        "/stopping",
        [{"rule": "patience", "reports": 10}],
        "/stopping/0/reports",
        "10 measurements",
        "less than 10",
    ),
    (
        "/stopping",
        [{"rule": "target", "value": 1}] * 2,
        "/stopping/1",
        "there already (number 1",
        "keep one",
    ),
    (
        "/stopping",
        [{"rule": "target", "value": 9}, {"rule": "divergence", "bound": 6}],
        "/stopping/0/value",
        "9 counts as diverged",
        "bound",
    ),
    ("/resources", {"custom": {"GPU": 1}}, "/resources/custom/GPU", "no custom resource", "gpus"),
    # Objectives and limits
    (
        "/objectives",
        [{"name": "lr"}],
        "/objectives",
        "curve-bo, the default strategy, cannot",
        "bo, random",
    ),
    ("/limits", [{"metric": "lr", "at_most": 1}], "/limits", "cannot work with limits on metrics", "sobol"),
    ("/objectives", [{"name": "val_loss"}], "/objectives/0/name", "already (under metric)", "keep one"),
    ("/objectives", [{"name": "lr"}] * 2, "/objectives/1/name", "already (number 1 of", "keep one"),
    ("/objectives", [{"name": "los"}], "/objectives/0/name", "does not report los", "val_loss"),
    ("/objectives", [{"name": "lr", "direction": "min"}], "/objectives/0/direction", "minimize", ""),
    ("/limits", [{"metric": "los", "at_most": 1}], "/limits/0/metric", "does not report los", "val_loss"),
    ("/limits", [{"metric": "lr"}], "/limits/0", "exactly one of at_most and at_least", ""),
    ("/limits", [{"metric": "lr", "at_most": 1, "at_least": 0}], "/limits/0", "exactly one of", ""),
    ("/limits", [{"metric": "lr", "at_mots": 1}], "/limits/0/at_mots", "unknown", "mean at_most?"),
    ("/limits", [{"metric": "lr", "at_most": math.inf}], "/limits/0/at_most", "finite number", ""),
    (
        "/limits",
        [{"metric": "lr", "at_most": 1}] * 2,
        "/limits/1/at_most",
        "an at_most already",
        "keep one",
    ),
    (
        "/limits",
        [{"metric": "lr", "at_most": 1}, {"metric": "lr", "at_least": 2}],
        "/limits/1/at_least",
        "no lr is at least 2 and at most 1",
        "exchange",
    ),
    # The trainer
    ("/trainer/name", "gtp", "/trainer/name", "no trainer is called gtp", "did you mean gpt?"),
    ("/trainer/name", "train.py", "/trainer/name", "no trainer is called", "script: train.py"),
    ("/trainer/settings/widht", 64, "/trainer/settings/widht", "no setting widht", "did you mean width?"),
    ("/trainer/settings/width", 1, "/trainer/settings/width", "at least 4", ""),
    ("/trainer/settings/width", 64.5, "/trainer/settings/width", "must be a whole number", ""),
    (
        "/trainer/settings/optimizer",
        "nadamww",
        "/trainer/settings/optimizer",
        "one of",
        "did you mean nadamw?",
    ),
    ("/trainer/settings/schedule", "table", "/trainer/settings/schedule", "needs the setting", "300:1"),
    ("/trainer/settings/lr", 0.1, "/trainer/settings/lr", "fixed here and searched", "keep one"),
    (
        "/space/heads",
        {"type": "float", "low": 1, "high": 2},
        "/space/heads/type",
        "whole number",
        "type: int",
    ),
    (
        "/space/optimizer",
        {"type": "int", "low": 1, "high": 2},
        "/space/optimizer/type",
        "not a number",
        "adamw",
    ),
    ("/space/dropout", {"type": "float", "low": 0, "high": 2}, "/space/dropout/high", "at most 0.9", ""),
    ("/space/dropot", {"type": "bool"}, "/space/dropot", "has no setting dropot", "did you mean dropout?"),
    ("/metric/name", "loss", "/metric/name", "does not report loss", "val_loss"),
]


def changed(document: dict[str, Any], pointer: str, value: Any) -> dict[str, Any]:
    made = copy.deepcopy(document)
    *parents, last = explain.split(pointer)
    place: Any = made
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place[part]
    if value is DELETE:
        del place[last]
    elif isinstance(place, list):
        place[int(last)] = value
    else:
        place[last] = value
    return made


def test_the_good_study_is_good() -> None:
    assert check.study(GOOD).name == "good"


@pytest.mark.parametrize(("path", "value", "pointer", "words", "suggestion"), MISTAKES)
def test_a_mistake_is_named(path: str, value: Any, pointer: str, words: str, suggestion: str) -> None:
    with pytest.raises(check.InvalidStudyError) as caught:
        check.study(changed(GOOD, path, value))
    assert any(
        problem.pointer == pointer and words in problem.message and suggestion in problem.suggestion
        for problem in caught.value.problems
    ), caught.value.problems


GOALS: dict[str, Any] = {
    **GOOD,
    "strategy": {"name": "random"},
    "objectives": [{"name": "tokens_per_second", "direction": "maximize"}],
    "limits": [{"metric": "lr", "at_least": 0.1}, {"metric": "lr", "at_most": 0.1}],
    "stopping": [{"rule": "divergence", "bound": 9}],
    "warm_start": {"function": "first:configurations"},
}


def test_a_study_with_several_objectives_and_limits_is_good() -> None:
    spec = check.study(GOALS)
    assert [goal.name for goal in spec.goals] == ["val_loss", "tokens_per_second"]
    assert spec.watched == ["tokens_per_second", "lr"]
    assert [str(limit) for limit in spec.limits] == ["lr ≥ 0.1", "lr ≤ 0.1"]
    assert StudySpec.model_validate_json(spec.model_dump_json()) == spec
    assert spec.limits[1].broken_by(0.25) == "lr 0.25 > 0.1"
    assert spec.limits[1].broken_by(math.nan) == "lr is NaN, not at most 0.1"


@pytest.mark.parametrize(
    ("path", "value", "pointer"),
    [
        ("/stopping", [{"rule": "median"}], "/stopping/0"),
        ("/stopping", [{"rule": "patience", "reports": 3}], "/stopping/0"),
        ("/stopping", [{"rule": "predicted"}], "/stopping/0"),
        ("/stopping", [{"rule": "target", "value": 1}], "/stopping/0"),
        ("/budget/target", 1.0, "/budget/target"),
        ("/prune", True, "/prune"),
        ("/warm_start/studies", ["earlier"], "/warm_start/studies"),
    ],
)
def test_what_decides_by_one_best_value_goes_with_limits_but_not_with_objectives(
    path: str, value: Any, pointer: str
) -> None:
    document = changed(GOALS, path, value)
    with pytest.raises(check.InvalidStudyError) as caught:
        check.study(document)
    assert [problem.pointer for problem in caught.value.problems] == [pointer]
    assert "several objectives" in caught.value.problems[0].message
    assert caught.value.problems[0].suggestion
    check.study(changed(document, "/objectives", []))


WIDE: dict[str, Any] = {
    **GOOD,
    "trainer": {"name": "external"},
    "space": {
        **GOOD["space"],
        "lr": {
            **GOOD["space"]["lr"],
            "belief": {"near": 3e-3, "factor": 3},
            "tie": {"to": "batch", "at": 256, "rule": "sqrt"},
        },
        "batch": {"type": "ordered", "values": [64, 128, 256], "doc": "Sequences in a step."},
        "mix": {"type": "simplex", "parts": ["web", "code"], "when": {"schedule": "cosine"}},
    },
    "constraints": ["2 * depth + 0.125 * batch <= 30", "mix/web >= 0.25"],
    "forbid": [{"schedule": "constant", "lr": {"above": 0.05}}, {"batch": [64], "depth": [5, 7]}],
    "enqueue": [
        {
            "params": {
                "lr": 1e-3,
                "schedule": "cosine",
                "final_fraction": 0.1,
                "depth": 3,
                "batch": 64,
                "mix/web": 0.3,
                "mix/code": 0.7,
            }
        }
    ],
}


def test_a_wide_study_is_good_and_goes_round() -> None:
    spec = check.study(WIDE)
    assert StudySpec.model_validate_json(spec.model_dump_json()) == spec
    assert check.study(spec.model_dump(mode="json")) == spec
    assert list(expanded(spec.space))[-3:] == ["batch", "mix/web", "mix/code"]


@pytest.mark.parametrize(
    ("path", "value", "pointer", "words", "suggestion"),
    [
        ("/enqueue/0/params/mix~1web", 0.4, "/enqueue/0/params/mix~1code", "sum to 1.1", "by 0.1"),
        ("/enqueue/0/params/mix~1web", 1 / 3, "/enqueue/0/params/mix~1web", "six decimals", "0.333333"),
        ("/enqueue/0/params/mix~1web", DELETE, "/enqueue/0/params/mix~1web", "missing", "add mix/web"),
        ("/enqueue/0/params/mix", 0.5, "/enqueue/0/params/mix", "mix is a simplex", "mix/web, mix/code"),
        (
            "/enqueue/0/params/batch",
            256,
            "/enqueue/0/params/depth",
            'breaks "2 * depth + 0.125 * batch <= 30"',
            "depth or batch",
        ),
        ("/enqueue/0/params/depth", 5, "/enqueue/0/params/batch", "combination number 2", "batch or depth"),
        ("/constraints/1", "mix >= 0.25", "/constraints/1", "mix is a simplex", "mix/web, mix/code"),
        ("/space/mix~1web", {"type": "bool"}, "/space/mix/parts/0", "mix/web already", "rename"),
        ("/space/batch/when", {"mix/web": 0.5}, "/space/batch/when/mix~1web", "continuous", "depend on"),
        (
            "/space/weight",
            {"type": "float", "low": 1, "high": 2, "tie": {"to": "weight2", "at": 1, "rule": "linear"}},
            "/space/weight/tie/to",
            "not a parameter",
            "",
        ),
    ],
)
def test_a_mistake_of_a_wide_study_is_named(
    path: str, value: Any, pointer: str, words: str, suggestion: str
) -> None:
    with pytest.raises(check.InvalidStudyError) as caught:
        check.study(changed(WIDE, path, value))
    assert any(
        problem.pointer == pointer and words in problem.message and suggestion in problem.suggestion
        for problem in caught.value.problems
    ), caught.value.problems


def test_ties_that_go_round_are_named() -> None:
    tied = {"type": "float", "low": 1, "high": 2}
    document = changed(WIDE, "/space/a", {**tied, "tie": {"to": "b", "at": 1, "rule": "linear"}})
    document = changed(document, "/space/b", {**tied, "tie": {"to": "a", "at": 1, "rule": "sqrt"}})
    with pytest.raises(check.InvalidStudyError) as caught:
        check.study(document)
    assert [p.pointer for p in caught.value.problems if "circle" in p.message] == ["/space/a/tie/to"]


def test_tied_values_are_scaled() -> None:
    space = check.study(WIDE).space
    assert scaled(space, {"lr": 0.01, "batch": 64}) == {"lr": pytest.approx(0.005)}
    assert scaled(space, {"batch": 64}) == {}
    document = changed(WIDE, "/space/wd", {"type": "float", "low": 0.1, "high": 1})
    document = changed(document, "/space/wd/tie", {"to": "lr", "at": 0.01, "rule": "linear"})
    document = changed(document, "/enqueue/0/params/wd", 0.5)
    chained = check.study(document).space
    assert scaled(chained, {"lr": 0.01, "batch": 64, "wd": 0.5})["wd"] == pytest.approx(0.25)


def test_all_mistakes_come_at_once() -> None:
    document = changed(GOOD, "/space/lr/type", "flaot")
    document = changed(document, "/parallelism", "two")
    document = changed(document, "/trainer/settings/widht", 1)
    document = changed(document, "/budget", {"fidelity": 1})
    with pytest.raises(check.InvalidStudyError) as caught:
        check.study(document)
    assert {p.pointer for p in caught.value.problems} == {
        "/space/lr/type",
        "/parallelism",
        "/trainer/settings/widht",
        "/budget/fidelity",
    }


@pytest.mark.parametrize("document", [None, [], "text", 3, {}])
def test_what_is_no_mapping_is_refused(document: Any) -> None:
    with pytest.raises(check.InvalidStudyError):
        check.study(document)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
PATHS = [
    "/space",
    "/space/lr",
    "/space/lr/low",
    "/space/lr/when",
    "/trainer",
    "/enqueue",
    "/enqueue/0",
    "/budget",
]
PATHS += [
    "/stopping",
    "/resources",
    "/metric",
    "/fidelity",
    "/name",
    "/trainer/settings",
    "/enqueue/0/params",
    "/constraints",
    "/constraints/0",
    "/forbid",
    "/forbid/0",
    "/forbid/0/lr",
    "/space/mix",
    "/space/lr/belief",
    "/space/lr/tie",
]


@given(st.sampled_from(PATHS), JSON)
def test_any_document_is_a_study_or_has_named_mistakes(path: str, value: Any) -> None:
    document = changed(
        {**GOOD, "constraints": ["depth <= 6"], "forbid": [{"depth": 1, "lr": {"above": 0.05}}]},
        path,
        value,
    )
    try:
        spec = check.study(document)
    except check.InvalidStudyError as error:
        messages = [problem.message for problem in error.problems]
    else:
        messages = ["none"]
        assert StudySpec.model_validate_json(spec.model_dump_json()) == spec
    assert messages
    assert all(message and "union" not in message for message in messages)


@given(st.lists(st.text()))
def test_pointers_round_trip(parts: list[str]) -> None:
    assert list(explain.split(explain.join(parts))) == parts


def test_problems_are_json() -> None:
    with pytest.raises(check.InvalidStudyError) as caught:
        check.study({"name": 3})
    assert json.dumps([problem.model_dump() for problem in caught.value.problems])


def test_the_space_that_the_readme_shows_is_good() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    shown = readme.split("## What a space may say\n\n```yaml\n")[1].split("```")[0]
    document = {**GOOD, **yaml.safe_load(shown), "trainer": {"name": "external"}, "enqueue": []}
    assert len(check.study(document).constraints) == 2


@pytest.mark.parametrize(
    ("where", "table", "words"),
    [
        ("/trainer/settings/schedule_table", "0:1, 5", "'5' is no point"),
        ("/trainer/settings/schedule_table", "9:1, 5:0", "step 5 follows step 9"),
        ("/space/schedule_table", {"type": "categorical", "choices": ["0:1", "0:-1"]}, "not negative"),
    ],
)
def test_a_table_that_cannot_be_read(where: str, table: Any, words: str) -> None:
    searched = {"type": "categorical", "choices": ["cosine", "table"]}
    made = changed(changed(changed(GOOD, "/enqueue", []), "/space/schedule", searched), where, table)
    with pytest.raises(check.InvalidStudyError) as caught:
        check.study(made)
    (problem,) = caught.value.problems
    assert problem.pointer == where
    assert words in problem.message
    assert "steps that grow" in problem.suggestion
    unused = changed(made, "/space/schedule", {"type": "categorical", "choices": ["cosine", "linear"]})
    assert check.study(unused)
