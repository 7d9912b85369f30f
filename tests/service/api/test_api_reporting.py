"""Reports that wait for each other share a transaction, and nothing else."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from service.errors import InvalidError
from service.http.reporting import Reporting
from trimtab.wire.states import Verdict
from trimtab.wire.work import ReportsRequest

PARAMS = {"lr": 0.1, "optimizer": "adamw"}
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def request(token: int, *steps: int) -> ReportsRequest:
    points = [{"step": step, "metrics": {"loss": 1.0}} for step in steps]
    return ReportsRequest.model_validate({"reports": [{"token": token, "seq": 1, "measurements": points}]})


def asked(api: Any, study: str, count: int) -> list[int]:
    """Tokens of so many trials under way."""
    for _ in range(count):
        api.post(f"/studies/{study}/trials", {"params": PARAMS}, 201)
    return [api.ask(study)["token"] for _ in range(count)]


async def record(api: Any, *requests: ReportsRequest) -> list[Any]:
    reporting = Reporting(api.database, lambda: NOW)
    return await asyncio.gather(*map(reporting.record, requests), return_exceptions=True)


def test_waiting_reports_share_a_commit_and_are_all_stored(api: Any) -> None:
    study = api.study()
    tokens = asked(api, study, 6)
    commits: list[Session] = []

    def note(session: Session) -> None:
        commits.append(session)

    event.listen(Session, "before_commit", note)
    try:
        answers = asyncio.run(record(api, *(request(token, 1) for token in tokens)))
    finally:
        event.remove(Session, "before_commit", note)
    assert [answer.replies[0].token for answer in answers] == tokens
    assert len(commits) < len(tokens)
    assert [api.get(f"/studies/{study}/trials/{number}")["step"] for number in range(1, 7)] == [1] * 6


def test_a_refused_report_does_not_harm_those_it_waited_with(api: Any) -> None:
    study = api.study()
    good, bad, late = asked(api, study, 3)
    answers = asyncio.run(record(api, request(good, 1), request(bad, 2, 1), request(late, 3)))
    assert [answers[index].replies[0].verdict for index in (0, 2)] == [Verdict.CONTINUE] * 2
    assert isinstance(answers[1], InvalidError)
    assert answers[1].errors[0].pointer == "/reports/0/measurements/1/step"
    steps = [api.get(f"/studies/{study}/trials/{number}")["step"] for number in (1, 2, 3)]
    assert steps == [1, 0, 3]


@pytest.mark.parametrize("header", ["application/json", "application/json; charset=utf-8"])
def test_the_quick_way_and_the_usual_way_answer_alike(api: Any, header: str) -> None:
    (token,) = asked(api, api.study(), 1)
    body = request(token, 1).model_dump_json()
    answer = api.http.post("/v1/work/reports", content=body, headers={"content-type": header})
    assert answer.status_code == 200
    assert answer.json() == {"replies": [{"token": token, "verdict": "continue", "reason": ""}]}
    wrong = api.http.post(
        "/v1/work/reports", content='{"reports": [{"seq": 1}]}', headers={"content-type": header}
    )
    assert wrong.status_code == 422
    assert [error["pointer"] for error in wrong.json()["errors"]] == ["/reports/0/token"]
