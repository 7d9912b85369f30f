"""The replay of early stops over REST and with the Python client."""

from __future__ import annotations

from typing import Any

import pytest

from trimtab.client import Client

PARAMS = {"lr": 0.1, "optimizer": "adamw"}


def test_a_stop_is_replayed_with_what_finished_trials_say(api: Any) -> None:
    study = api.study(stopping=[{"rule": "patience", "reports": 2}], enqueue=[{"params": PARAMS}])
    assert api.get(f"/studies/{study}/stops")["items"] == []
    trials = [
        {
            "params": PARAMS | {"lr": 0.05 + end / 100},
            "curve": [{"step": step, "metrics": {"loss": end + 1 / step}} for step in range(1, 11)],
        }
        for end in range(12)
    ]
    api.post(f"/studies/{study}/import", {"trials": trials}, 201)
    token = api.ask(study)["token"]
    for step, loss in ((1, 9.0), (2, 8.5), (3, 9.0)):
        assert api.report(token, step, step, loss) == "continue"
    assert api.report(token, 4, 4, 9.0) == "stop"
    api.end(token, 4)

    replay = api.get(f"/studies/{study}/stops")
    (stop,) = replay["items"]
    assert (stop["step"], stop["best_value"], stop["saved"]) == (4, 8.5, 6)
    assert "no improvement" in stop["reason"]
    assert stop["low"] < stop["predicted"] <= stop["high"] <= 8.5
    assert stop["chance"] < 0.05  # the best imported one ended at 0.1
    assert (replay["learned_from"], replay["trained"], replay["saved"]) == (12, 4, 6)
    assert replay["factor"] == pytest.approx(2.5)
    assert replay["expected_loss"] == stop["chance"]

    root = str(api.http.base_url).rstrip("/")
    with Client(root) as client:
        assert client.stops(study).model_dump(mode="json") == replay


def test_no_study_no_stops(api: Any) -> None:
    assert "no study" in api.get("/studies/nothing/stops", 404)["detail"]
