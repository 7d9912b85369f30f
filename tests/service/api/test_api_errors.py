"""Wrong calls: each is answered with a problem that says what is wrong, where, and what to do."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from service.db import engine, reads, schema
from trimtab.wire import limits

JSON = {"content-type": "application/json"}


def problem(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = dict(answer.json())
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    return body


def test_unknown_addresses_and_wrong_methods(api: Any) -> None:
    problem(api.http.get("/v1/nothing"), 404)
    answer = api.http.put("/v1/studies", json={})
    problem(answer, 405)
    assert "POST" in answer.headers["allow"]
    problem(api.http.get("/v1/studies/none"), 404)
    problem(api.http.get("/v1/studies/none/trials/1"), 404)


def test_broken_json_is_shown_by_line_and_column(api: Any) -> None:
    body = problem(api.http.post("/v1/studies", content=b'{"a": 1,\n "b" 2}', headers=JSON), 400)
    assert "line 2, column 6" in body["detail"]


@pytest.mark.parametrize(
    "content",
    [b"\xff{}", b"[" * 100_000, b'{"a": ' + b"9" * 5_000 + b"}", b"{"],
    ids=["utf8", "deep", "digits", "cut"],
)
def test_bodies_that_cannot_be_read(api: Any, content: bytes) -> None:
    problem(api.http.post("/v1/studies", content=content, headers=JSON), 400)


def test_characters_that_cannot_be_stored_are_pointed_at(api: Any) -> None:
    content = rb'{"name": "\u0000", "notes": "\ud800", "tags": ["\ud83d\ude00"], "\udc00": 1}'
    body = problem(api.http.post("/v1/studies", content=content, headers=JSON), 422)
    assert {error["pointer"] for error in body["errors"]} == {"/name", "/notes", ""}


def test_the_media_type_must_be_json(api: Any) -> None:
    for headers in (
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
    ):
        problem(api.http.post("/v1/studies", content=b"{}", headers=headers), 415)
    problem(
        api.http.post("/v1/studies", content=b"{}", headers={"content-type": "application/merge+json"}), 422
    )


def test_a_missing_or_wrong_body_is_a_mistake(api: Any) -> None:
    for content in (b"", b"null", b"[]", b"3", b'"text"'):
        problem(api.http.post("/v1/studies", content=content, headers=JSON), 422)
        problem(api.http.post("/v1/work/end", content=content, headers=JSON), 422)


def test_every_bad_field_is_named(api: Any) -> None:
    report = {"token": 2**63, "seq": 0, "measurements": [{"step": 0, "metrics": {}}], "extra": 1}
    body = problem(api.http.post("/v1/work/reports", json={"reports": [report]}), 422)
    assert {error["pointer"] for error in body["errors"]} == {
        "/reports/0/token",
        "/reports/0/seq",
        "/reports/0/measurements/0/step",
        "/reports/0/measurements/0/metrics",
        "/reports/0/extra",
    }
    body = problem(api.http.get("/v1/studies/a!/trials/0?limit=x"), 422)
    assert {error["pointer"] for error in body["errors"]} >= {"/query/limit"}
    body = problem(api.http.get("/v1/studies/a!/trials/zero"), 422)
    assert {error["pointer"] for error in body["errors"]} == {"/path/study", "/path/number"}


def test_bodies_over_the_limit_are_refused_with_and_without_a_length(api: Any) -> None:
    too_much = b" " * (limits.MAX_BODY_BYTES + 1)
    problem(api.http.post("/v1/studies", content=too_much, headers=JSON), 413)

    def pieces() -> Iterator[bytes]:
        for _ in range(limits.MAX_BODY_BYTES // 65_536 + 1):
            yield b" " * 65_536

    problem(api.http.post("/v1/studies", content=pieces(), headers=JSON), 413)
    fits = json.dumps({"name": "x"}).encode().ljust(limits.MAX_BODY_BYTES)
    problem(api.http.post("/v1/studies", content=fits, headers=JSON), 422)


def test_a_fault_of_ours_tells_the_caller_an_incident_and_the_log_the_rest(
    api: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(reads, "list_studies", broken)
    with caplog.at_level(logging.ERROR):
        answer = api.http.get("/v1/studies")
    body = problem(answer, 500)
    assert "secret" not in answer.text
    (record,) = [record for record in caplog.records if "incident" in record.getMessage()]
    assert body["detail"].split("incident ")[1].rstrip(".") in record.getMessage()
    assert "secret detail" in caplog.text


def test_readiness_names_what_is_missing(api: Any) -> None:
    answer = api.http.get("/v1/ready")
    components = {part["name"]: part["alive"] for part in answer.json()["components"]}
    assert (answer.status_code, components["database"], components["scheduler"]) == (503, True, False)


def test_a_database_without_tables_says_what_to_run(api: Any, tmp_path: Any) -> None:
    from service.db.engine import Database

    database = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    with database.read() as session:
        assert "migrations.upgrade" in str(schema.mistake(session))
    with api.database.read() as session:
        assert schema.mistake(session) is None
    database.dispose()


def test_a_database_that_stays_locked_is_503_and_the_call_may_be_sent_again(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 100)
    api = serve()
    study = api.study(enqueue=[{"params": {"lr": 0.1, "optimizer": "adamw"}}])
    token = api.ask(study)["token"]
    report = {"token": token, "seq": 1, "measurements": [{"step": 1, "metrics": {"loss": 0.5}}]}
    holder = sqlite3.connect(api.database.engine.url.database, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    for path, body in (
        ("/studies", api.document()),
        ("/work/reports", {"reports": [report]}),
        ("/work/end", {"token": token, "outcome": "finished", "step": 1}),
        ("/work/lease", {"worker": "w", "incarnation": "i", "free": {"cpus": 1}}),
    ):
        answer = api.http.post(f"/v1{path}", json=body)
        problem(answer, 503)
        assert answer.headers["retry-after"] == "1"
    assert api.get(f"/studies/{study}")["state"] == "running"
    holder.execute("ROLLBACK")
    holder.close()
    api.post("/work/reports", {"reports": [report]})
    assert [point["step"] for point in api.get(f"/studies/{study}/trials/1")["curve"]] == [1]
