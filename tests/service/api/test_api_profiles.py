"""The performance profile of a cross-workload study over REST."""

from __future__ import annotations

from typing import Any

from trimtab.client import Client

WORKLOAD = {"trainer": "synthetic", "steps": 100, "target": {"metric": "loss", "at_most": 1.5}}
SUITE: dict[str, Any] = {
    "trainer": {"name": "suite", "workloads": [{"name": "a", **WORKLOAD}, {"name": "b", **WORKLOAD}]},
    "space": {"lr": {"type": "float", "low": 0.001, "high": 1.0, "log": True}},
    "metric": {"name": "score"},
}


def measured(score: float, **times: float) -> dict[str, Any]:
    """A trial whose targets are reached at the second of its two measurements."""
    found = {f"{name}/steps_to_target": time for name, time in times.items()}
    found |= {f"{name}/seconds_to_target": time / 2 for name, time in times.items()}
    curve = [{"step": 5, "metrics": {"score": 1.5}}, {"step": 9, "metrics": {"score": score, **found}}]
    return {"params": {"lr": 0.1}, "curve": curve}


def test_trials_are_compared_by_their_times_to_the_targets(api: Any) -> None:
    study = api.study(**SUITE)
    path = f"/studies/{study}/profile"
    assert "No trial has reached a target yet (0 were measured)" in api.get(path, 409)["detail"]
    api.post(f"/studies/{study}/import", {"trials": [measured(1.2), measured(1.1)]}, 201)
    assert "(2 were measured)" in api.get(path, 409)["detail"]
    rows = [measured(0.7, a=40), measured(0.5, a=20, b=90), measured(1.0, b=45)]
    assert api.post(f"/studies/{study}/import", {"trials": rows}, 201)["numbers"] == [3, 4, 5]
    with Client(str(api.http.base_url)) as client:
        found, by_seconds = client.profile(study), client.profile(study, by="seconds")
    assert [trial.number for trial in found.trials] == [4, 5, 3, 1, 2]
    best = found.trials[0]
    assert (best.times, best.reached, best.points) == ({"a": 20, "b": 90}, 2, [(1.0, 0.5), (2.0, 1.0)])
    assert abs(best.score - (3 / 3 + 2 / 3) / 2) < 1e-9
    assert [(w.name, w.reached, w.fastest, w.fastest_trial) for w in found.workloads] == [
        ("a", 2, 20, 4),
        ("b", 2, 45, 5),
    ]
    assert [trial.score for trial in by_seconds.trials] == [trial.score for trial in found.trials]
    assert by_seconds.trials[0].times == {"a": 10, "b": 45}
    api.get(path, 422, by="minutes")
    api.get("/studies/nothing/profile", 404)


def test_a_study_of_one_workload_has_none(api: Any) -> None:
    assert "trains external, which is no suite" in api.get(f"/studies/{api.study()}/profile", 409)["detail"]


def test_mistakes_inside_a_suite_are_refused_with_their_place(api: Any) -> None:
    wrong = {
        "name": "suite",
        "workloads": [{"name": "a", **WORKLOAD, "trainer": "suite"}, {"name": "a", **WORKLOAD}],
    }
    answer = api.post("/studies", api.document(**{**SUITE, "trainer": wrong}), 422)
    assert {error["pointer"] for error in answer["errors"]} == {
        "/trainer/workloads/0/trainer",
        "/trainer/workloads/1/name",
    }
