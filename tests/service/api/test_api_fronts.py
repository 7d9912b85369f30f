"""Several objectives and limits over REST, from the study to the front."""

from __future__ import annotations

from typing import Any

from trimtab.client import Client
from trimtab.wire.views import FrontResponse

GOALS: dict[str, Any] = {
    "objectives": [{"name": "speed", "direction": "maximize"}],
    "limits": [{"metric": "ms", "at_most": 20}],
}


def curve(loss: Any, speed: Any, ms: Any) -> list[dict[str, Any]]:
    return [{"step": 10, "metrics": {"loss": loss, "speed": speed, "ms": ms}}]


def test_a_front_from_reports_and_imports(api: Any) -> None:
    params = {"lr": 0.1, "optimizer": "adamw"}
    study = api.study(**GOALS, enqueue=[{"params": params, "to_end": True}])
    assert api.get(f"/studies/{study}/front")["trials"] == []
    assert "none that keeps its limits" in api.get(f"/studies/{study}/best", 404)["detail"]
    work = api.ask(study)
    report = {"token": work["token"], "seq": 1, "measurements": curve(1.0, 1.0, 31)}
    assert api.post("/work/reports", {"reports": [report]})["replies"][0]["verdict"] == "continue"
    api.end(work["token"], 10)
    trial = api.get(f"/studies/{study}/trials/1")
    assert (trial["state"], trial["best_value"], trial["over_limits"]) == (
        "completed",
        None,
        ["ms 31 > 20"],
    )
    ends = [(1.0, 1.0, 5), (2.0, 2.0, 5), (2.0, 1.0, 5), (0.5, "NaN", 5)]
    found = [{"params": params, "curve": curve(*end)} for end in ends]
    assert api.post(f"/studies/{study}/import", {"trials": found}, 201)["numbers"] == [2, 3, 4, 5]
    with Client(str(api.http.base_url)) as client:
        front = client.front(study, others=10)
        best = client.best(study)
    assert [trial.number for trial in front.trials] == [2, 3]
    assert [trial.number for trial in front.others] == [1, 4]
    assert (front.dominated, front.over_limits) == (1, 1)
    assert (best.number, best.front) == (5, f"/v1/studies/{study}/front")
    assert FrontResponse.model_validate(api.get(best.front.removeprefix("/v1"))).trials == front.trials
    api.get("/studies/nothing/front", 404)
    api.get(f"/studies/{study}/front", 422, others=-1)
    assert "several objectives" in api.post(f"/studies/{study}/prune", status=409)["detail"]


def test_what_cannot_be_is_refused_with_its_place(api: Any) -> None:
    bad = api.document(**GOALS, strategy={"name": "asha"}, stopping=[{"rule": "median"}], prune=True)
    pointers = {error["pointer"] for error in api.post("/studies", bad, 422)["errors"]}
    assert pointers == {"/strategy/name", "/stopping/0", "/prune"}
    study = api.study(**GOALS)
    found = [{"params": {"lr": 0.1, "optimizer": "adamw"}, "curve": curve(1.0, 1.0, 5)}]
    del found[0]["curve"][0]["metrics"]["ms"]
    (error,) = api.post(f"/studies/{study}/import", {"trials": found}, 422)["errors"]
    assert error["pointer"] == "/trials/0/curve/0/metrics"
    assert "ms, which an objective or a limit names" in error["message"]
