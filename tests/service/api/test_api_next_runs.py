"""The end of an attempt that brings the next run along, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

ADAMW = {"lr": 0.1, "optimizer": "adamw"}
OFFER = {"worker": "lab", "incarnation": "1", "free": {"cpus": 1}}


def queued(api: Any, trials: int, **changes: Any) -> str:
    """A dispatchers' study with so many runs queued, each for one CPU."""
    document = {
        "trainer": {"name": "synthetic"},
        "space": {"lr": {"type": "float", "low": 0.001, "high": 1.0}},
        "enqueue": [{"params": {"lr": 0.1}} for _ in range(trials)],
    }
    return str(api.study(**document | changes))


def lease(api: Any, **changes: Any) -> list[dict[str, Any]]:
    return list(api.post("/work/lease", OFFER | changes)["assignments"])


@pytest.fixture
def first(api: Any) -> Iterator[int]:
    """The token of a run under way, of a study whose only place it takes, with two more runs queued."""
    queued(api, 3, parallelism=1)
    (assignment,) = lease(api)
    assert lease(api) == []
    yield int(assignment["token"])
    for study in api.get("/studies", state="running")["items"]:
        api.post(f"/studies/{study['id']}/cancel")


def point(step: int) -> dict[str, Any]:
    return {"seq": 1, "measurements": [{"step": step, "metrics": {"loss": 0.5}}]}


def test_an_end_brings_the_next_run_into_the_place_it_leaves(api: Any, first: int) -> None:
    answer = api.end(first, 10, lease=OFFER, **point(10))
    assert (answer["accepted"], answer["trial_state"]) == (True, "completed")
    (following,) = answer["assignments"]
    assert (following["trial"], following["lease_seconds"]) == (2, 30.0)
    assert api.report(following["token"], 1, 1, 0.5) == "continue"
    assert lease(api) == [], "the parallelism of the study stands"


def test_an_end_without_an_offer_brings_nothing(api: Any, first: int) -> None:
    assert api.end(first, 10, **point(10))["assignments"] == []
    (following,) = lease(api)
    assert following["trial"] == 2


def test_an_end_brings_nothing_that_does_not_fit_or_is_paused(api: Any, first: int) -> None:
    tight = {**OFFER, "free": {"cpus": 0.5}}
    assert api.end(first, 10, lease=tight, **point(10))["assignments"] == []
    (second,) = lease(api)
    api.post(f"/studies/{second['study']}/pause")
    assert api.end(second["token"], 10, lease=OFFER, **point(10))["assignments"] == []


def test_the_place_goes_to_the_study_with_the_smallest_share(api: Any, first: int) -> None:
    other = queued(api, 1, name="other", parallelism=1)
    # Both have nothing running once the first has ended; whose run has waited longest comes first.
    (second,) = api.end(first, 10, lease=OFFER, **point(10))["assignments"]
    assert second["trial"] == 2
    third = api.post("/work/lease", OFFER)["assignments"]
    assert [each["study"] for each in third] == [other]


def test_a_repeated_end_is_stale_but_its_offer_counts(api: Any, first: int) -> None:
    end = {"lease": {**OFFER, "max_runs": 1}, **point(10)}
    (lost,) = api.end(first, 10, **end)["assignments"]
    again = api.end(first, 10, **end)
    assert (again["accepted"], again["assignments"]) == (False, []), "the run that got lost holds the place"
    api.end(lost["token"], 0, "released")
    again = api.end(first, 10, **end)
    assert again["accepted"] is False
    assert [each["trial"] for each in again["assignments"]] == [2]


def test_an_end_stands_though_a_successor_of_its_dispatcher_gets_the_work(api: Any, first: int) -> None:
    api.post("/work/register", {"worker": "else", "incarnation": "2"}, 204)
    answer = api.end(first, 10, lease={**OFFER, "worker": "else"}, **point(10))
    assert answer == {"accepted": True, "trial_state": "completed", "assignments": []}


def test_a_wrong_offer_is_pointed_at_and_ends_nothing(api: Any, first: int) -> None:
    body = {"token": first, "outcome": "finished", "step": 10, "lease": {**OFFER, "free": {"cpus": -1}}}
    problem = api.post("/work/end", body, 422)
    assert [error["pointer"] for error in problem["errors"]] == ["/lease/free/cpus"]
    assert api.report(first, 1, 1, 0.5) == "continue"
