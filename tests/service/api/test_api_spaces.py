"""What a study says about its space, from the request to the trainer and back."""

from __future__ import annotations

from typing import Any

import pytest

SPACE: dict[str, Any] = {
    "lr": {
        "type": "float",
        "low": 1e-5,
        "high": 1.0,
        "log": True,
        "belief": {"near": 3e-4, "factor": 3},
        "tie": {"to": "batch", "at": 256, "rule": "sqrt"},
    },
    "batch": {"type": "ordered", "values": [64, 256, 1024]},
    "depth": {"type": "int", "low": 1, "high": 8},
    "mix": {"type": "simplex", "parts": ["web", "code"], "min": 0.1, "doc": "The data."},
}
RULES: dict[str, Any] = {
    "constraints": ["depth + 0.01 * batch <= 12", "mix/web <= 0.6"],
    "forbid": [{"batch": 64, "depth": {"above": 6}}],
}
PARAMS = {"lr": 0.01, "batch": 64, "depth": 2, "mix/web": 0.3, "mix/code": 0.7}


def test_a_space_is_read_as_it_was_written(api: Any) -> None:
    study = api.study(space=SPACE, **RULES)
    spec = api.get(f"/studies/{study}")["spec"]
    assert spec["constraints"] == RULES["constraints"]
    assert spec["forbid"] == [{"batch": 64, "depth": {"above": 6.0, "below": None}}]
    assert spec["space"]["mix"]["parts"] == ["web", "code"]
    assert spec["space"]["lr"]["tie"] == {"to": "batch", "at": 256.0, "rule": "sqrt"}
    again = api.post("/studies", spec, 201)
    assert again["spec"] == spec


def test_the_trainer_gets_scaled_values_and_people_see_both(api: Any) -> None:
    study = api.study(space=SPACE, **RULES, enqueue=[{"params": PARAMS, "label": "default"}])
    asked = api.ask(study)
    assert asked["params"] == {**PARAMS, "lr": pytest.approx(0.005)}
    api.report(asked["token"], 1, 1, 0.5)
    api.end(asked["token"], 10)
    trial = api.get(f"/studies/{study}/trials/1")
    assert trial["params"] == PARAMS
    assert trial["scaled"] == {"lr": pytest.approx(0.005)}
    (row,) = api.get(f"/studies/{study}/trials")["items"]
    assert row["scaled"] == trial["scaled"]
    summary = api.get(f"/studies/{study}/summary")
    assert summary["study"]["best"]["scaled"] == summary["default"]["scaled"] == trial["scaled"]
    page = api.http.get(f"/studies/{study}/trials/1").text
    assert "trained with 0.005" in page
    assert page.count("The data.") == 2
    lines = api.http.get(f"/studies/{study}/trials.csv").text.splitlines()
    named = dict(zip(lines[0].split(","), lines[1].split(","), strict=True))
    assert named["mix/web"] == "0.3"
    assert float(named["lr as trained"]) == pytest.approx(0.005)


@pytest.mark.parametrize(
    ("changes", "pointer", "words"),
    [
        ({"constraints": ["depth < 3"]}, "/constraints/0", "write <="),
        ({"constraints": ["dpeth <= 3"]}, "/constraints/0", "depth?"),
        (
            {"constraints": ["depth >= 7", "depth + 0.01 * batch <= 7"]},
            "/constraints/1",
            "all of these at once",
        ),
        ({"forbid": [{"batch": [64, 256, 1024]}]}, "/forbid/0", "no configuration was found"),
    ],
)
def test_what_cannot_be_is_refused_at_submission(
    api: Any, changes: dict[str, Any], pointer: str, words: str
) -> None:
    document = api.document(**{"space": SPACE, **changes})
    problem = api.post("/studies", document, 422)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert words in f"{problem['errors'][0]['message']} {problem['errors'][0]['suggestion']}"


@pytest.mark.parametrize(
    ("change", "pointer", "words"),
    [
        ({"mix/web": 0.7, "mix/code": 0.3}, "/params/mix~1web", "mix/web <= 0.6 is broken"),
        ({"mix/web": 0.4}, "/params/mix~1code", "sum to 1.1"),
        ({"depth": 8}, "/params/batch", "is forbidden"),
    ],
)
def test_an_illegal_configuration_is_refused(api: Any, change: Any, pointer: str, words: str) -> None:
    study = api.study(space=SPACE, **RULES)
    problem = api.post(f"/studies/{study}/trials", {"params": {**PARAMS, **change}}, 422)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert words in problem["errors"][0]["message"]


def test_the_schema_tells_of_it(api: Any) -> None:
    schemas = api.get("/openapi.json")["components"]["schemas"]
    spec = next(schemas[name] for name in schemas if name.startswith("StudySpec"))
    assert {"constraints", "forbid"} <= spec["properties"].keys()
    assert any(name.startswith("SimplexParameter") for name in schemas)
    assert any(name.startswith("Belief") for name in schemas)
