"""The client against real HTTP: retries, errors, event streams, ask and tell."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

import pytest
from client_stub import Stub, item, problem, study

from trimtab import errors
from trimtab.client import Client
from trimtab.wire import views, work
from trimtab.wire.states import Verdict
from trimtab.wire.study import StudySpec

SPEC = StudySpec.model_validate(study()["spec"])
BUSY = (503, problem(503, "later"))


@pytest.fixture
def client(stub: Stub) -> Client:
    return Client(stub.url, "secret", sleep=lambda seconds: None)


def test_a_safe_call_is_tried_again(stub: Stub, client: Client) -> None:
    stub.on("GET /v1/studies/abc123", BUSY, (502, problem(502, "x")), (0, None), (200, study()))
    assert client.study("abc123").best_value == 0.25
    assert len(stub.requests) == 4
    assert stub.requests[0].headers["authorization"] == "Bearer secret"


def test_what_is_no_address_is_not_tried_again() -> None:
    def sleep(seconds: float) -> None:
        pytest.fail("it will not become one")

    with (
        Client("nonsense", sleep=sleep) as client,
        pytest.raises(errors.ConnectionFailedError, match="no address"),
    ):
        client.study("abc123")


def test_creating_is_tried_again_under_the_same_key(stub: Stub, client: Client) -> None:
    stub.on("POST /v1/studies", (0, None), (504, problem(504, "x")), (201, study()))
    assert client.create(SPEC).id == "abc123"
    keys = {request.headers["idempotency-key"] for request in stub.requests}
    assert len(stub.requests) == 3
    assert len(keys) == 1
    assert stub.requests[0].body["space"] == {
        "lr": {"type": "float", "low": 0.001, "high": 1.0, "log": True}
    }


def test_what_is_not_safe_is_not_repeated_when_it_may_have_happened(stub: Stub, client: Client) -> None:
    stub.on("POST /v1/studies/abc123/trials", (0, None), (201, {}))
    with pytest.raises(errors.ConnectionFailedError):
        client.enqueue("abc123", views.EnqueueRequest(params={"lr": 0.1}))
    assert len(stub.requests) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (403, errors.ForbiddenError), (404, errors.NotFoundError),
        (409, errors.ConflictError), (422, errors.InvalidError), (400, errors.ApiError),
        (500, errors.ServerFaultError),
    ],
)  # fmt: skip
def test_refusals_are_raised_at_once(
    stub: Stub, client: Client, status: int, kind: type[errors.ApiError]
) -> None:
    field = {"pointer": "/x", "message": "wrong"}
    stub.on("GET /v1/studies/abc123", (status, problem(status, "because", field)))
    with pytest.raises(kind) as caught:
        client.study("abc123")
    assert str(caught.value) == "because"
    assert caught.value.fields[0].pointer == "/x"
    assert len(stub.requests) == 1


@pytest.mark.parametrize(
    ("token", "words"),
    [(None, "asks for a token"), ("wrong", "does not take this token"), ("ü", "no server takes")],
)
def test_a_token_is_asked_for_in_plain_words(stub: Stub, token: str | None, words: str) -> None:
    stub.on("GET /v1/studies/abc123", (401, problem(401, "send a header")))
    with pytest.raises(errors.TrimtabError, match=words) as caught, Client(stub.url, token) as client:
        client.study("abc123")
    assert "--token" in caught.value.hint


def test_being_unavailable_for_long_is_an_error(stub: Stub, client: Client) -> None:
    stub.on("GET /v1/health", BUSY)
    with pytest.raises(errors.UnavailableError):
        client.health()
    assert len(stub.requests) == 5


def test_no_server_says_what_to_do() -> None:
    with pytest.raises(errors.ConnectionFailedError, match="no server answers") as caught:
        Client("http://127.0.0.1:9", sleep=lambda seconds: None).health()
    assert "trimtab serve" in caught.value.hint


def test_another_server_is_told_apart(stub: Stub, client: Client) -> None:
    stub.on("GET /v1/health", (200, {"hello": "world"}))
    with pytest.raises(errors.ConnectionFailedError, match="unexpected"):
        client.health()


def test_studies_are_found_by_id_or_unique_name(stub: Stub, client: Client) -> None:
    items = [item(), item(id="x1", name="twin"), item(id="x2", name="twin")]
    stub.on("GET /v1/studies", (200, {"items": items, "next_cursor": None}))
    assert client.find("demo").id == "abc123"
    assert client.find("x2").name == "twin"
    with pytest.raises(errors.UnknownStudyError, match="2 studies") as caught:
        client.find("twin")
    assert "x1" in caught.value.hint
    with pytest.raises(errors.UnknownStudyError) as caught:
        client.find("dmeo")
    assert caught.value.hint == "did you mean demo?"


def event(number: int) -> bytes:
    made = {
        "id": number,
        "study": "abc123",
        "kind": "decision",
        "trial": None,
        "data": {},
        "at": "2026-01-01T00:00:00Z",
    }
    return f"id: {number}\nevent: decision\ndata: {json.dumps(made)}\n\n".encode()


def test_a_broken_stream_goes_on_where_it_broke(stub: Stub, client: Client) -> None:
    stub.on("GET /v1/events", (200, b": ping\n\n" + event(3) + event(5)), (0, None), BUSY, (200, event(6)))
    assert [made.id for made in islice(client.events("abc123", after=2), 3)] == [3, 5, 6]
    assert [request.headers["last-event-id"] for request in stub.requests] == ["2", "5", "5", "5"]


def test_a_stream_that_is_refused_raises(stub: Stub, client: Client) -> None:
    stub.on("GET /v1/events", (401, problem(401, "no")))
    with pytest.raises(errors.UnauthorizedError):
        next(client.events("abc123"))


ASSIGNMENT: dict[str, Any] = {
    "token": 7, "study": "abc123", "study_name": "demo", "trial": 4, "run": 1, "params": {"lr": 0.1},
    "trainer": {"name": "external"}, "training_seed": 0, "start_step": 0, "target_step": 10,
    "max_step": 100,
    "report_every": 1, "metric": "loss", "resources": {}, "hang_after_seconds": 60, "lease_seconds": None,
}  # fmt: skip


def ask_once(stub: Stub, verdict: str = "continue") -> None:
    stub.on(
        "POST /v1/studies/abc123/ask", (200, {"assignment": None, "reason": "wait"}),
        (200, {"assignment": ASSIGNMENT}), (409, problem(409, "the study has ended")),
    )  # fmt: skip
    stub.on("GET /v1/studies/abc123", (200, study()), (200, study(state="completed")))
    stub.on("POST /v1/work/reports", (200, {"replies": [{"token": 7, "verdict": verdict}]}))
    stub.on("POST /v1/work/end", (200, {"accepted": True, "trial_state": "completed"}))


def test_the_loop_asks_reports_and_completes_until_the_study_ends(stub: Stub, client: Client) -> None:
    ask_once(stub, "stop")
    for asked in client.loop("abc123"):
        with asked as running:
            assert running.params == {"lr": 0.1}
            assert running.report(5, loss=float("nan"), accuracy=float("-inf")) == Verdict.STOP
    (report,) = stub.calls("POST /v1/work/reports")
    assert report.body["reports"] == [
        {
            "token": 7,
            "seq": 1,
            "measurements": [{"step": 5, "metrics": {"loss": "NaN", "accuracy": "-Infinity"}}],
        }
    ]
    (end,) = stub.calls("POST /v1/work/end")
    assert end.body["outcome"] == "finished"
    assert end.body["step"] == 5


@pytest.mark.parametrize(
    ("error", "outcome", "kind"),
    [
        (RuntimeError("boom"), "failed", "crash"),
        (MemoryError(), "failed", "out_of_memory"),
        (KeyboardInterrupt(), "released", None),
    ],
)
def test_an_exception_ends_the_trial(
    stub: Stub, client: Client, error: BaseException, outcome: str, kind: str | None
) -> None:
    ask_once(stub)
    asked = next(client.loop("abc123"))
    with pytest.raises(type(error)), asked:
        raise error
    (end,) = stub.calls("POST /v1/work/end")
    assert end.body["outcome"] == outcome
    assert (end.body.get("failure") or {}).get("kind") == kind


def test_a_lost_trial_is_not_ended(stub: Stub, client: Client) -> None:
    ask_once(stub, "lost")
    with next(client.loop("abc123")) as running:
        running.report(1, loss=1.0)
    assert not stub.calls("POST /v1/work/end")


def test_a_failed_trial_ends_once(stub: Stub, client: Client) -> None:
    ask_once(stub)
    with next(client.loop("abc123")) as running:
        running.fail("the data is gone")
    (end,) = stub.calls("POST /v1/work/end")
    assert end.body["failure"] == {"kind": "crash", "message": "the data is gone"}


def test_pages_are_followed(stub: Stub, client: Client) -> None:
    stub.on(
        "GET /v1/studies", (200, {"items": [item(id="a")], "next_cursor": "n"}),
        (200, {"items": [item(id="b")], "next_cursor": None}),
    )  # fmt: skip
    assert [made.id for made in client.studies()] == ["a", "b"]
    assert "cursor=n" in stub.requests[1].query


def test_leases_are_waited_for(stub: Stub, client: Client) -> None:
    stub.on("POST /v1/work/lease", (200, {"assignments": [ASSIGNMENT]}))
    request = work.LeaseRequest(worker="w", incarnation="i", free=work.Capacity(cpus=1), wait_seconds=5)
    assert client.lease(request).assignments[0].token == 7
