"""Trials over REST: ask and tell, enqueue, stop, retry, continue, import, long polls."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

ADAMW = {"lr": 0.1, "optimizer": "adamw"}


def enqueued(**changes: Any) -> list[dict[str, Any]]:
    return [{"params": ADAMW, "to_end": True, **changes}]


def pointers(problem: dict[str, Any]) -> set[str]:
    return {error["pointer"] for error in problem["errors"]}


def test_ask_report_and_end_make_a_finished_trial_with_its_curve(api: Any) -> None:
    study = api.study(enqueue=enqueued(label="default"))
    token = api.ask(study)["token"]
    for step, loss in ((5, 0.5), (10, 0.25)):
        assert api.report(token, step // 5, step, loss) in ("continue", "stop")
    assert api.end(token, 10) == {"accepted": True, "trial_state": "completed", "assignments": []}
    assert api.end(token, 10)["accepted"] is False
    assert api.report(token, 9, 11, 0.1) == "lost"

    trial = api.get(f"/studies/{study}/trials/1")
    assert [(p["step"], p["metrics"]) for p in trial["curve"]] == [(5, {"loss": 0.5}), (10, {"loss": 0.25})]
    assert trial["runs_detail"][0]["attempts"][0]["state"] == "finished"
    best = api.get(f"/studies/{study}/best")
    assert (best["number"], best["value"], best["step"], best["params"]) == (1, 0.25, 10, ADAMW)
    summary = api.get(f"/studies/{study}/summary")
    assert summary["default"]["value"] == 0.25
    assert [point["value"] for point in summary["best_so_far"]] == [0.5, 0.25]
    assert summary["study"]["savings"] == {"trained": 10, "full": 10, "fraction_saved": 0.0, "useful": None}
    kinds = {event["kind"] for event in api.get(f"/studies/{study}/events")["items"]}
    assert {"study.created", "trial.queued", "measurements", "trial.completed"} <= kinds


def test_a_non_finite_metric_is_kept_as_a_divergence(api: Any) -> None:
    study = api.study(enqueue=enqueued())
    token = api.ask(study)["token"]
    api.report(token, 1, 1, 0.5)
    measured = [{"step": 2, "metrics": {"loss": float("nan")}}]
    bare = json.dumps({"reports": [{"token": token, "seq": 2, "measurements": measured}]})
    assert '"loss": NaN' in bare
    answer = api.http.post("/v1/work/reports", content=bare, headers={"content-type": "application/json"})
    assert answer.json()["replies"][0]["verdict"] == "stop"
    api.end(token, 2)
    trial = api.get(f"/studies/{study}/trials/1")
    assert (trial["state"], trial["failure_kind"], trial["best_value"]) == ("failed", "diverged", 0.5)
    assert trial["curve"][1]["metrics"] == {"loss": "NaN"}
    (line,) = api.get(f"/studies/{study}/curves")["lines"]
    assert line["values"] == [0.5, "NaN"]


def test_a_failed_trial_is_retried_and_a_finished_one_is_not(api: Any) -> None:
    study = api.study(enqueue=enqueued(), retries={"crash": 0})
    token = api.ask(study)["token"]
    failure = {"kind": "crash", "message": "boom", "output_tail": "Traceback"}
    assert api.end(token, 0, "failed", failure=failure)["trial_state"] == "failed"
    assert api.get(f"/studies/{study}/trials/1")["failure"] == failure
    assert api.post(f"/studies/{study}/trials/1/retry")["state"] == "queued"
    api.post(f"/studies/{study}/trials/1/retry", status=409)
    token = api.ask(study)["token"]
    api.end(token, 10, measurements=[{"step": 10, "metrics": {"loss": 1}}], seq=1)
    api.post(f"/studies/{study}/trials/1/retry", status=409)


def test_stopping_a_trial_that_waits_runs_or_has_ended(api: Any) -> None:
    study = api.study(enqueue=enqueued() * 2)
    token = api.ask(study)["token"]
    assert api.post(f"/studies/{study}/trials/2/stop")["state"] == "stopped"
    assert api.post(f"/studies/{study}/trials/1/stop")["state"] == "running"
    assert api.report(token, 1, 1, 0.5) == "stop"
    assert api.end(token, 1)["trial_state"] == "stopped"
    api.post(f"/studies/{study}/trials/1/stop", status=409)
    answer = api.post(f"/studies/{study}/trials/3/stop", status=404)
    assert answer["detail"] == "study 'test' has no trial 3: it has trials 1 to 2"


def test_a_finished_trial_is_continued_from_its_checkpoint(api: Any) -> None:
    study = api.study(enqueue=enqueued() * 2)
    first, second = api.ask(study)["token"], api.ask(study)["token"]
    api.end(first, 10, seq=1, measurements=[{"step": 10, "metrics": {"loss": 1}}],
            checkpoint={"step": 10, "uri": "file:///1"})  # fmt: skip
    api.end(second, 10, seq=1, measurements=[{"step": 10, "metrics": {"loss": 2}}])
    assert api.get(f"/studies/{study}/trials/1")["can_continue"] is True
    assert api.get(f"/studies/{study}/trials/2")["can_continue"] is False
    path = f"/studies/{study}/trials"
    assert "checkpoint" in api.post(f"{path}/2/continue", {"target_step": 20}, 409)["detail"]
    assert pointers(api.post(f"{path}/1/continue", {"target_step": 10}, 422)) == {"/target_step"}
    assert api.post(f"{path}/1/continue", {"target_step": 20})["target_step"] == 20
    api.post(f"{path}/1/continue", {"target_step": 20}, 409)
    assignment = api.ask(study)
    assert (assignment["start_step"], assignment["target_step"]) == (10, 20)
    assert assignment["checkpoint"]["uri"] == "file:///1"


def test_a_trial_is_forked_from_its_checkpoint(api: Any) -> None:
    study = api.study(enqueue=[{"params": {"lr": 0.1, "optimizer": "sgd", "momentum": 0.5}}])
    path = f"/studies/{study}/trials"
    token = api.ask(study)["token"]
    assert "no checkpoint to fork" in api.post(f"{path}/1/fork", {}, 409)["detail"]
    api.end(token, 6, seq=1, measurements=[{"step": 6, "metrics": {"loss": 1}}],
            checkpoint={"step": 6, "uri": "file:///1"})  # fmt: skip
    assert api.get(f"{path}/1")["can_fork"] == [6]
    answer = api.post(f"{path}/1/fork", {"step": 5}, 409)
    assert answer["detail"] == "Trial 1 has no checkpoint at step 5; it has checkpoints at 6."
    wrong = {"params": {"lr": 7, "nothing": 1}, "target_step": 6, "schedule": [[9, 0.1], [8, 0.1]]}
    assert pointers(api.post(f"{path}/1/fork", wrong, 422)) == {
        "/params/lr",
        "/params/nothing",
        "/target_step",
        "/schedule/1/0",
    }
    for bad in ({"steps": 6}, {"schedule": [[1, -0.1]]}, {"schedule": [[1, "NaN"]]}, {"seed": -1}):
        api.post(f"{path}/1/fork", bad, 422)
    api.post(f"{path}/9/fork", {}, 404)
    made = api.post(
        f"{path}/1/fork",
        {"params": {"optimizer": "adamw"}, "target_step": 8, "schedule": [[6, 0.1], [8, 0.01]], "seed": 4},
        201,
    )
    # What the change makes inactive is left out.
    assert made["params"] == {"lr": 0.1, "optimizer": "adamw"}
    assert (made["parent"], made["forked_at"], made["step"], made["target_step"]) == (1, 6, 6, 8)
    assert (made["schedule"], made["seed"], made["origin"]) == ([[6, 0.1], [8, 0.01]], 4, "enqueued")
    (child,) = api.get(f"{path}/1")["children"]
    assert child == {"number": made["number"], "forked_at": 6, "state": "queued", "best_value": None}
    api.post(f"/studies/{study}/cancel")
    api.post(f"{path}/1/fork", {}, 409)


def test_nothing_is_added_to_a_study_whose_budget_is_spent_until_it_is_extended(api: Any) -> None:
    study = api.study(enqueue=enqueued(), budget={"fidelity": 10}, retries={"crash": 0})
    token = api.ask(study)["token"]
    api.end(token, 10, seq=1, measurements=[{"step": 10, "metrics": {"loss": 1}}])
    assert "Extend" in api.post(f"/studies/{study}/trials", {"params": ADAMW}, 409)["detail"]
    api.post(f"/studies/{study}/extend", {"fidelity": 20})
    api.post(f"/studies/{study}/trials", {"params": ADAMW}, 201)


def test_enqueued_configurations_must_lie_in_the_space(api: Any) -> None:
    study = api.study()
    path = f"/studies/{study}/trials"
    trial = api.post(path, {"params": ADAMW, "label": "mine", "to_end": True}, 201)
    assert (trial["origin"], trial["label"], trial["target_step"]) == ("enqueued", "mine", 10)
    wrong = {"lr": 3.0, "optimizer": "adamw", "momentum": 0.5, "lrr": 1}
    assert pointers(api.post(path, {"params": wrong}, 422)) == {
        "/params/lr",
        "/params/momentum",
        "/params/lrr",
    }
    for params in ({"lr": "NaN", "optimizer": "sgd"}, {"lr": None, "optimizer": "sgd"}):
        assert "/params/lr" in pointers(api.post(path, {"params": params}, 422))
    bare = b'{"params": {"lr": NaN, "optimizer": "adamw"}}'
    answer = api.http.post("/v1" + path, content=bare, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert pointers(answer.json()) == {"/params/lr"}
    api.post(f"/studies/{study}/cancel")
    api.post(path, {"params": ADAMW}, 409)


def test_imports_are_all_or_nothing(api: Any) -> None:
    study = api.study()
    path = f"/studies/{study}/import"
    point = {"step": 2, "metrics": {"loss": 1}}
    wrong = [
        {"params": ADAMW, "curve": [point]},
        {"params": {"lr": 0.1}, "curve": [point]},
        {"params": ADAMW, "curve": [point, {"step": 2, "metrics": {"loss": 1}}]},
        {"params": ADAMW, "curve": [{"step": 1, "metrics": {"acc": 1}}]},
        {"params": ADAMW},
    ]
    assert pointers(api.post(path, {"trials": wrong}, 422)) == {
        "/trials/1/params/optimizer",
        "/trials/2/curve/1/step",
        "/trials/3/curve/0/metrics",
        "/trials/4/curve",
    }
    assert api.get(f"/studies/{study}")["trials"]["completed"] == 0

    curves = [[3.0, 1.0, 2.0], [5.0], [0.5, 0.75]]
    good = [
        {"params": ADAMW, "curve": [{"step": i + 1, "metrics": {"loss": v}} for i, v in enumerate(curve)]}
        for curve in curves
    ]
    assert api.post(path, {"trials": good}, 201)["numbers"] == [1, 2, 3]
    assert api.post(path, {"trials": good[:1]}, 201)["numbers"] == [4]
    detail = api.get(f"/studies/{study}")
    best = {
        "number": 3,
        "value": 0.5,
        "step": 1,
        "params": ADAMW,
        "scaled": {},
        "label": None,
        "parent": None,
        "forked_at": 0,
        "front": None,
        "seeds": 1,
        "spread": None,
        "final": None,
    }
    assert detail["best"] == best
    assert detail["budget"][0]["used"] == 0
    assert detail["savings"]["full"] == 0
    trial = api.get(f"/studies/{study}/trials/1")
    assert (trial["origin"], trial["best_step"], trial["value"]) == ("imported", 2, 2.0)
    points = api.get(f"/studies/{study}/summary")["best_so_far"]
    assert [(point["trial"], point["value"]) for point in points] == [(1, 1.0), (3, 0.5)]


def test_curves_are_thinned_to_the_best_and_the_newest(api: Any) -> None:
    study = api.study(fidelity={"max": 1000})
    trials = [
        {
            "params": ADAMW,
            "curve": [{"step": s, "metrics": {"loss": abs(number - 3) + 1 / s}} for s in range(1, 102)],
        }
        for number in range(1, 11)
    ]
    api.post(f"/studies/{study}/import", {"trials": trials}, 201)
    lines = api.get(f"/studies/{study}/curves", max_points=5, max_lines=4)["lines"]
    assert [line["number"] for line in lines] == [2, 3, 9, 10]
    assert all(line["steps"] == [1, 26, 51, 76, 101] for line in lines)
    assert lines[1]["values"] == [1 / s for s in lines[1]["steps"]]
    whole = api.get(f"/studies/{study}/curves", max_points=101)["lines"]
    assert [len(line["steps"]) for line in whole] == [101] * 10
    assert [
        len(line["steps"]) for line in api.get(f"/studies/{study}/curves", max_points=100)["lines"]
    ] == [100] * 10


def test_a_long_poll_is_answered_as_soon_as_there_is_a_run(api: Any) -> None:
    study = api.study()
    waited: list[float] = []

    def wait() -> None:
        started = time.monotonic()
        assert api.ask(study, wait_seconds=10)["trial"] == 1
        waited.append(time.monotonic() - started)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.5)
    api.post(f"/studies/{study}/trials", {"params": ADAMW}, 201)
    thread.join(15)
    assert 0.4 < waited[0] < 3


def test_who_asks_a_study_that_ends_waits_no_longer(api: Any) -> None:
    study = api.study()
    answers: list[Any] = []

    def wait() -> None:
        answers.append(api.post(f"/studies/{study}/ask", {"wait_seconds": 30}))

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.2)
    api.post(f"/studies/{study}/cancel")
    thread.join(15)
    wait()
    assert [(answer["assignment"], answer["ended"]) for answer in answers] == [(None, True)] * 2


def test_waiting_callers_hold_no_threads(api: Any) -> None:
    """More of them than the server has threads, and another call is answered at once."""
    study = api.study()
    answers: list[Any] = []

    def wait() -> None:
        answers.append(api.http.post(f"/v1/studies/{study}/ask", json={"wait_seconds": 2}).json())

    threads = [threading.Thread(target=wait) for _ in range(60)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    started = time.monotonic()
    assert api.get("/health")["status"] == "ok"
    assert api.get(f"/studies/{study}")["id"] == study
    assert time.monotonic() - started < 1.5
    for thread in threads:
        thread.join(20)
    assert [answer["assignment"] for answer in answers] == [None] * 60


def test_asking_a_study_that_dispatchers_train_is_refused(api: Any) -> None:
    study = api.study(trainer={"name": "synthetic"})
    api.post(f"/studies/{study}/ask", {"wait_seconds": 0}, 409)


def test_a_dispatcher_leases_what_fits_and_an_old_incarnation_is_sent_away(api: Any) -> None:
    me = {"worker": "w-lease", "incarnation": "1"}
    api.post("/work/register", {**me, "total": {"cpus": 1}}, 204)
    study = api.study(trainer={"name": "synthetic"}, resources={"cpus": 3.5}, enqueue=enqueued())
    ask = {**me, "max_runs": 256, "free": {"cpus": 3}}
    leased = api.post("/work/lease", ask)["assignments"]
    assert study not in [assignment["study"] for assignment in leased]
    leased = api.post("/work/lease", {**ask, "free": {"cpus": 3.5}, "wait_seconds": 1})["assignments"]
    assert study in [assignment["study"] for assignment in leased]
    api.post("/work/register", {**me, "incarnation": "2"}, 204)
    api.post("/work/lease", ask, 409)
