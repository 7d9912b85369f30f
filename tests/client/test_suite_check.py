"""Mistakes in cross-workload studies: each with its place."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from trimtab import check
from trimtab.catalogue import entry_of
from trimtab.wire.study import TrainerSpec

STUDY: dict[str, Any] = {
    "name": "suite",
    "trainer": {
        "name": "suite",
        "settings": {"schedule": "cosine"},
        "workloads": [
            {
                "name": "digits",
                "trainer": "digits",
                "settings": {"channels": 4},
                "steps": 100,
                "target": {"metric": "accuracy", "at_least": 0.9},
            },
            {
                "name": "table",
                "trainer": "tabular",
                "steps": 50,
                "target": {"metric": "val_loss", "at_most": 0.1},
            },
        ],
    },
    "space": {"lr": {"type": "float", "low": 1e-4, "high": 1.0, "log": True}},
    "metric": {"name": "score"},
    "fidelity": {"unit": "rounds", "max": 20},
    "budget": {"trials": 4},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    document = copy.deepcopy(STUDY)
    *above, last = path.strip("/").split("/")
    at: Any = document
    for part in above:
        at = at[int(part)] if isinstance(at, list) else at[part]
    at[int(last) if isinstance(at, list) else last] = value
    return document


def test_a_sound_one_is_taken_and_optimizers_bring_their_rates() -> None:
    assert check.study(STUDY).trainer.workloads[1].target.bound == 0.1
    search = {"optimizer": {"type": "categorical", "choices": ["nadamw", "sgd"]}}
    assert set(check.study(changed("/space", search)).space) == {"optimizer", "lr/nadamw", "lr/sgd"}
    for metric in ("digits/accuracy", "table/steps_to_target", "digits/score", "reached"):
        check.study(changed("/metric/name", metric))


FIRST = "/trainer/workloads/0"  # is written as @ below


@pytest.mark.parametrize(
    ("path", "value", "pointer", "words", "suggestion"),
    [
        ("@/trainer", "digit", "@/trainer", "no trainer is called digit", "did you mean digits?"),
        ("@/trainer", "suite", "@/trainer", "cannot be a workload", "name its workloads"),
        ("@/trainer", "external", "@/trainer", "built-in trainer", "there are"),
        ("@/target/metric", "acuracy", "@/target/metric", "does not report acuracy", "accuracy?"),
        ("@/target", {"metric": "accuracy"}, "@/target", "exactly one of", ""),
        ("@/settings/channels", 0, "@/settings/channels", "at least 1", ""),
        ("@/settings/lr", 0.1, "@/settings/lr", "fixed here and searched", "keep one"),
        ("@/settings/wdith", 1, "@/settings/wdith", "no setting wdith", ""),
        ("@/name", "table", "/trainer/workloads/1/name", "another workload is called table", "its own"),
        ("@/name", "a/b", "@/name", "not allowed here", ""),
        ("@/steps", 0, "@/steps", "at least 1", ""),
        ("/trainer/workloads", [], "/trainer", "it needs some", ""),
        ("/trainer/name", "gpt", "/trainer", "workloads belong to the trainer suite", ""),
        ("/trainer/settings/channels", 3, "/trainer/settings/channels", "only digits", "those workloads"),
        ("/space/channels", {"type": "int", "low": 2, "high": 4}, "/space/channels", "only digits", ""),
        ("/space/dpeth", {"type": "int", "low": 1, "high": 4}, "/space/dpeth", "no setting dpeth", ""),
        ("/space/lr/high", 1e5, "/space/lr/high", "at most 1000", ""),
        ("/metric/name", "accuracy", "/metric/name", "does not report accuracy", "/accuracy?"),
        ("/trainer/workloads", [{**STUDY["trainer"]["workloads"][0], "name": f"w{i}"} for i in range(16)],
         "/trainer/workloads", "metrics together", "leave some"),
    ],
)  # fmt: skip
def test_a_mistake_has_its_place(path: str, value: Any, pointer: str, words: str, suggestion: str) -> None:
    path, pointer = (each.replace("@", FIRST) for each in (path, pointer))
    with pytest.raises(check.InvalidStudyError) as caught:
        check.study(changed(path, value))
    found = {problem.pointer: problem for problem in caught.value.problems}
    assert pointer in found, found
    assert words in found[pointer].message
    assert suggestion in found[pointer].suggestion


def test_the_settings_are_what_all_workloads_take() -> None:
    trainer = TrainerSpec.model_validate(
        {
            "name": "suite",
            "workloads": [
                {**STUDY["trainer"]["workloads"][0], "name": name, "trainer": name, "settings": {},
                 "target": {"metric": "val_loss", "at_most": 1}}
                for name in ("digits", "boosting")
            ],
        }
    )  # fmt: skip
    entry = entry_of(trainer)
    assert entry is not None
    assert entry.setting("optimizer") is None
    assert entry.partly["optimizer"] == ("digits",)
    lr = entry.setting("lr")
    assert lr is not None
    assert {"score", "reached", "boosting/val_loss", "digits/seconds_to_target"} <= set(entry.metrics)
