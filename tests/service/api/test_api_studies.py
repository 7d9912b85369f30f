"""Studies over REST: their life, idempotency, lists and pages."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.db import reads
from service.http import examples


def pointers(problem: dict[str, Any]) -> set[str]:
    return {error["pointer"] for error in problem["errors"]}


def test_a_study_is_paused_resumed_extended_cancelled_and_deleted(api: Any) -> None:
    study = api.study(tags=["night"], notes="n")
    detail = api.get(f"/studies/{study}")
    assert (detail["state"], detail["spec"]["notes"], detail["best"]) == ("running", "n", None)
    assert [use["name"] for use in detail["budget"]] == ["trials"]

    assert api.post(f"/studies/{study}/pause")["state"] == "paused"
    assert api.post(f"/studies/{study}/pause")["state"] == "paused"
    assert api.post(f"/studies/{study}/resume")["state"] == "running"
    extended = api.post(f"/studies/{study}/extend", {"trials": 200})
    assert extended["budget"][0]["limit"] == 200

    assert api.post(f"/studies/{study}/cancel")["state"] == "cancelled"
    assert api.post(f"/studies/{study}/cancel")["ended_at"] is not None
    for call in ("pause", "resume"):
        api.post(f"/studies/{study}/{call}", status=409)
    api.post(f"/studies/{study}/extend", {"trials": 300}, 409)

    assert api.http.delete(f"/v1/studies/{study}").status_code == 204
    api.get(f"/studies/{study}", 404)
    assert api.http.delete(f"/v1/studies/{study}").status_code == 404


def test_pruning_is_allowed_and_taken_back(api: Any) -> None:
    study = api.study(prune=True)
    detail = api.get(f"/studies/{study}")
    assert (detail["spec"]["prune"], detail["pruning"]) == (True, None)
    assert api.post(f"/studies/{study}/unprune")["spec"]["prune"] is False
    assert api.post(f"/studies/{study}/prune")["spec"]["prune"] is True
    api.post("/studies/none/unprune", status=404)


def test_extending_says_which_limit_did_not_grow(api: Any) -> None:
    study = api.study(budget={"trials": 10, "fidelity": 50})
    problem = api.post(f"/studies/{study}/extend", {"trials": 10, "fidelity": 60, "gpu_hours": 2}, 422)
    assert pointers(problem) == {"/trials", "/gpu_hours"}
    assert pointers(api.post(f"/studies/{study}/extend", {}, 422)) == {""}
    assert api.get(f"/studies/{study}")["spec"]["budget"]["fidelity"] == 50


def test_cancelling_stops_what_waits_and_tells_what_is_trained(api: Any) -> None:
    configs = [{"params": {"lr": lr, "optimizer": "adamw"}} for lr in (0.1, 0.2)]
    study = api.study(enqueue=configs)
    token = api.ask(study)["token"]
    assert api.report(token, 1, 1, 0.5) == "continue"
    assert api.http.delete(f"/v1/studies/{study}").status_code == 409

    counts = api.post(f"/studies/{study}/cancel")["trials"]
    assert (counts["running"], counts["stopped"]) == (1, 1)
    assert api.report(token, 2, 2, 0.4) == "stop"
    assert api.end(token, 2)["trial_state"] == "stopped"
    assert api.http.delete(f"/v1/studies/{study}").status_code == 204


def test_a_paused_study_tells_its_runs_to_pause_and_queues_the_rest_when_they_have(api: Any) -> None:
    study = api.study(enqueue=[{"params": {"lr": 0.1, "optimizer": "adamw"}, "to_end": True}])
    token = api.ask(study)["token"]
    api.post(f"/studies/{study}/pause")
    assert api.report(token, 1, 4, 0.5) == "pause"
    saved = {"step": 4, "uri": "file:///checkpoint"}
    assert api.end(token, 4, checkpoint=saved)["trial_state"] == "queued"
    assert api.post(f"/studies/{study}/ask", {"wait_seconds": 0})["assignment"] is None
    api.post(f"/studies/{study}/resume")
    assert api.ask(study)["start_step"] == 4


def test_deleting_leaves_checkpoints_to_be_cleared_away(api: Any) -> None:
    study = api.study(
        trainer={"script": "/nowhere/train.py"},
        enqueue=[{"params": {"lr": 0.1, "optimizer": "adamw"}, "to_end": True}],
    )
    dispatcher = {"worker": "deleting", "incarnation": "1"}
    api.post("/work/register", dispatcher, 204)
    (leased,) = api.post("/work/lease", dispatcher | {"free": {"cpus": 1}})["assignments"]
    token = leased["token"]
    uri = f"file:///{study}"
    api.end(token, 10, measurements=[{"step": 10, "metrics": {"loss": 1}}], seq=1,
            checkpoint={"step": 10, "uri": uri})  # fmt: skip

    def garbage() -> list[int]:
        return [item["id"] for item in api.get("/work/garbage")["items"] if item["uri"] == uri]

    assert garbage() == []
    assert api.http.delete(f"/v1/studies/{study}").status_code == 204
    (item,) = garbage()
    api.post("/work/garbage", {"ids": [item]}, 204)
    assert garbage() == []


def test_the_same_idempotency_key_gives_the_same_study(api: Any) -> None:
    first = api.post("/studies", api.document(), 201, Idempotency_Key="k")
    again = api.http.post("/v1/studies", json=api.document(), headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.json()["id"]) == (200, first["id"])
    assert again.headers["Idempotency-Replayed"] == "true"
    problem = api.post("/studies", api.document(name="other"), 422, Idempotency_Key="k")
    assert pointers(problem) == {"/header/Idempotency-Key"}
    api.http.delete(f"/v1/studies/{first['id']}")
    api.post("/studies", api.document(), 409, Idempotency_Key="k")
    api.post("/studies", api.document(), 422, Idempotency_Key="k" * 201)


def test_a_race_for_one_idempotency_key_makes_one_study(api: Any) -> None:
    document = api.document(name="racing")

    def submit(_: int) -> tuple[int, str]:
        answer = api.http.post("/v1/studies", json=document, headers={"Idempotency-Key": "race"})
        return answer.status_code, answer.json()["id"]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(submit, range(8)))
    assert sorted(status for status, _ in answers) == [200] * 7 + [201]
    assert len({key for _, key in answers}) == 1
    assert len(api.get("/studies", name="racing")["items"]) == 1


def test_every_mistake_of_a_study_is_named_at_once(api: Any) -> None:
    wrong = api.document(name="", metric={"name": "loss", "direction": "down"}, budget={}, paralelism=2)
    assert {"/name", "/metric/direction", "/budget", "/paralelism"} <= pointers(
        api.post("/studies", wrong, 422)
    )
    wrong = api.document(
        strategy={"name": "asha", "options": {"etta": 3}},
        enqueue=[{"params": {"lr": 7.0, "optimizer": "adamw", "momentum": 0.5}}],
    )
    found = pointers(api.post("/studies", wrong, 422))
    assert {"/strategy/options/etta", "/enqueue/0/params/lr", "/enqueue/0/params/momentum"} <= found


@pytest.mark.parametrize("example", examples.STUDIES)
def test_examples_of_studies_can_be_submitted(api: Any, example: str) -> None:
    answer = api.http.post("/v1/studies", json=examples.STUDIES[example]["value"])
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/studies/{answer.json()['id']}"


def test_examples_of_all_other_bodies_can_be_sent(api: Any) -> None:
    study = api.post("/studies", examples.STUDIES["external"]["value"], 201)["id"]
    for path, group, status in (
        (f"/studies/{study}/extend", examples.EXTEND, 200),
        (f"/studies/{study}/trials", examples.ENQUEUE, 201),
        (f"/studies/{study}/import", examples.IMPORT, 201),
        (f"/studies/{study}/ask", examples.ASK, 200),
        ("/work/register", examples.REGISTER, 204),
        ("/work/lease", examples.LEASE, 200),
        ("/work/reports", examples.REPORTS, 200),
        ("/work/end", examples.END, 200),
        ("/work/garbage", examples.GARBAGE, 204),
    ):
        for example in group.values():
            api.post(path, example["value"], status)
    api.post(f"/studies/{study}/trials/1/continue", examples.CONTINUE["further"]["value"], 409)


def test_studies_are_listed_newest_first_and_filtered(api: Any) -> None:
    names = ["Alpha 100%", "beta", "alpha_two", "gamma"]
    keys = [
        api.study(name=name, tags=["odd" if i % 2 else "even", "listed"]) for i, name in enumerate(names)
    ]
    api.post(f"/studies/{keys[3]}/pause")

    def listed(**query: Any) -> list[str]:
        return [item["name"] for item in api.get("/studies", **query)["items"]]

    assert listed(tag="listed") == names[::-1]
    assert listed()[:4] == names[::-1]
    assert listed(tag="odd") == ["gamma", "beta"]
    assert listed(tag="od") == []
    assert listed(name="ALPHA") == ["alpha_two", "Alpha 100%"]
    assert listed(name="0%") == ["Alpha 100%"]
    assert listed(state="paused", tag="odd") == ["gamma"]
    assert listed(state="paused", tag="even") == []
    for query in ({"state": "sleeping"}, {"limit": 0}, {"limit": 501}, {"stat": "x"}, {"tag": ""}):
        assert api.get("/studies", 422, **query)["errors"]


def test_bad_cursors_are_refused(api: Any) -> None:
    study = api.study()
    for _ in range(2):
        api.post(f"/studies/{study}/trials", {"params": {"lr": 0.1, "optimizer": "adamw"}}, 201)
    cursor = api.get(f"/studies/{study}/trials", limit=1)["next_cursor"]
    for path, query in (
        ("/studies", {"cursor": "nonsense"}),
        ("/studies", {"cursor": "é"}),
        ("/studies", {"cursor": cursor}),
        ("/studies", {"cursor": "WyJzdHVkaWVzIiwxZTk5OV0"}),
        (f"/studies/{study}/trials", {"cursor": cursor, "sort": "best"}),
        (f"/studies/{study}/decisions", {"cursor": cursor}),
    ):
        assert pointers(api.get(path, 422, **query)) == {"/query/cursor"}


finite = st.floats(-1e300, 1e300, allow_nan=False)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(st.none() | st.sampled_from([0.0, 1.0, 1e-300]) | finite, min_size=1, max_size=9),
    limit=st.integers(1, 4),
    sort=st.sampled_from(["number", "-number", "best", "value", "-value", "-best_value", "state", "-step"]),
    maximize=st.booleans(),
)
def test_pages_hold_every_trial_once_in_the_order_asked_for(
    api: Any, values: list[float | None], limit: int, sort: str, maximize: bool
) -> None:
    """Also while trials are added between two pages."""
    direction = "maximize" if maximize else "minimize"
    study = api.study(metric={"name": "loss", "direction": direction})
    trials = [
        {
            "params": {"lr": 0.1, "optimizer": "adamw"},
            "curve": [{"step": 1, "metrics": {"loss": "NaN" if value is None else value}}],
            "state": "failed" if value is None else "completed",
        }
        for value in values
    ]
    api.post(f"/studies/{study}/import", {"trials": trials}, 201)
    with api.database.read() as session:
        whole = [item.number for item in reads.list_trials(session, study, limit=500, sort=sort).items]
    key = {"value": "value", "best": "best_value", "best_value": "best_value"}.get(sort.removeprefix("-"))
    if key is not None:
        finite_values = [v for n in whole if (v := values[n - 1]) is not None]
        descending = maximize if sort == "best" else sort.startswith("-")
        assert finite_values == sorted(finite_values, reverse=descending)
        assert all(values[n - 1] is None for n in whole[len(finite_values) :])
    paged: list[int] = []
    cursor = None
    while True:
        query = {"limit": limit, "sort": sort} | ({"cursor": cursor} if cursor else {})
        page = api.get(f"/studies/{study}/trials", **query)
        paged += [item["number"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        if len(paged) == limit:
            api.post(f"/studies/{study}/import", {"trials": trials[:1]}, 201)
    assert [number for number in paged if number <= len(values)] == whole
    assert len(set(paged)) == len(paged)


def test_a_study_that_searches_optimizers_is_stored_with_a_range_of_rates_for_each(api: Any) -> None:
    optimizer = {"type": "categorical", "choices": ["nadamw", "sgd"]}
    created = api.post(
        "/studies",
        api.document(
            trainer={"name": "digits"}, metric={"name": "val_loss"}, space={"optimizer": optimizer}
        ),
        201,
    )
    space = api.get(f"/studies/{created['id']}")["spec"]["space"]
    assert list(space) == ["optimizer", "lr/nadamw", "lr/sgd"]
    assert space["lr/sgd"]["when"] == {"optimizer": "sgd"}
    assert space["lr/sgd"]["high"] > space["lr/nadamw"]["high"]
