"""Importances over REST: computed by a real child process over a real database."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from service.db import reads
from service.errors import UnavailableError
from service.http import analyst, examples
from trimtab.wire.importances import ImportanceMethod, ImportancesResponse


def trained(number: int, *, steps: int = 10) -> dict[str, Any]:
    """A trial as it is imported: the learning rate decides, the momentum does not matter."""
    place = (number * 0.618) % 1
    lr = 10 ** (-3 * place)
    sgd = number % 3 == 0
    params = {"lr": lr, "optimizer": "sgd" if sgd else "adamw"}
    if sgd:
        params["momentum"] = 0.9 * ((number * 0.7549) % 1)
    points = [
        {"step": step, "metrics": {"loss": 4 * (place - 0.6) ** 2 + 1 / step}}
        for step in range(1, steps + 1)
    ]
    return {"params": params, "curve": points, "state": "completed" if steps == 10 else "stopped"}


def fill(api: Any, *trials: dict[str, Any], **changes: Any) -> str:
    study = str(api.study(**changes))
    api.post(f"/studies/{study}/import", {"trials": list(trials)}, 201)
    return study


def test_all_methods_rank_all_parameters(api: Any) -> None:
    study = fill(api, *(trained(i, steps=10 if i % 2 else 4) for i in range(1, 25)))
    found = api.get(f"/studies/{study}/importances")
    assert found["study"] == study
    assert found["basis"] == {"measured": 12, "predicted": 12, "worst": 0, "left_out": 0}
    assert [ranking["method"] for ranking in found["rankings"]] == list(ImportanceMethod)
    for ranking in found["rankings"]:
        assert ranking["importances"][0]["parameter"] == "lr"
        assert {row["parameter"] for row in ranking["importances"]} == {"lr", "optimizer", "momentum"}
    assert api.get(f"/studies/{study}/importances") == found


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch, api: Any) -> list[dict[str, Any]]:
    """What child processes would have been asked; each takes a moment and finds too few trials."""
    asked: list[dict[str, Any]] = []

    async def child(question: dict[str, Any]) -> dict[str, Any]:
        asked.append(question)
        await asyncio.sleep(0.3)
        with api.database.read() as session:
            version = reads.version(session, question["study"])
        return {"version": version, "missing": "importances need ten trials"}

    monkeypatch.setattr(analyst, "_child", child)
    return asked


def test_an_answer_is_kept_until_the_study_moves_on(api: Any, children: list[dict[str, Any]]) -> None:
    study = api.study()
    for _ in range(2):
        refused = api.get(f"/studies/{study}/importances", 409)
        assert refused["detail"] == "Importances need ten trials."
    assert len(children) == 1
    api.get(f"/studies/{study}/importances", 409, method="fanova")
    assert [child["methods"] for child in children] == [list(ImportanceMethod), ["fanova"]]
    api.post(f"/studies/{study}/trials", {"params": {"lr": 0.1, "optimizer": "adamw"}}, 201)
    api.get(f"/studies/{study}/importances", 409)
    assert len(children) == 3


def test_who_asks_the_same_at_once_waits_for_one_answer(api: Any, children: list[dict[str, Any]]) -> None:
    study = api.study()
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: api.get(f"/studies/{study}/importances", 409), range(6)))
    assert len(answers) == 6
    assert len(children) == 1


def test_what_cannot_be_asked(api: Any) -> None:
    assert api.get("/studies/nothing/importances", 404)["type"] == "/v1/problems/not-found"
    wrong = api.get(f"/studies/{api.study()}/importances", 422, method="shap")
    assert wrong["errors"][0]["pointer"] == "/query/method"


def test_computations_that_take_too_long_or_fail_are_ended(
    api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = fill(api, trained(1))
    monkeypatch.setattr(analyst, "SECONDS", 0.05)
    late = api.get(f"/studies/{study}/importances", 503)
    assert "longer than" in late["detail"]
    monkeypatch.setattr(analyst, "SECONDS", 20.0)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert api.get(f"/studies/{study}/importances", 500)["type"] == "/v1/problems/internal"


def test_more_questions_than_may_wait_are_refused(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    async def slow(question: dict[str, object]) -> dict[str, Any]:
        while not release.is_set():
            await asyncio.sleep(0.01)
        return {"version": 1, "missing": "trials are missing"}

    monkeypatch.setattr(analyst, "_child", slow)
    monkeypatch.setattr(analyst, "MAX_WAITING", 2)
    asked = [api.study(name=str(i)) for i in range(4)]

    def status(study: str) -> int:
        answer = httpx.get(f"{str(api.http.base_url).rstrip('/')}/v1/studies/{study}/importances")
        return answer.status_code

    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(status, study) for study in asked]
        while not any(one.done() for one in waiting):
            time.sleep(0.01)
        api.get(f"/studies/{asked[0]}")  # other calls are answered meanwhile
        release.set()
        assert sorted(one.result() for one in waiting) == [409, 409, 409, 503]


def test_who_waits_when_the_service_stops_is_answered(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(question: dict[str, object]) -> dict[str, Any]:
        await asyncio.sleep(1000)
        raise AssertionError

    async def stopped() -> None:
        asked = analyst.Analyst(api.database)
        monkeypatch.setattr(asked, "_version", lambda study: 1)
        waiting = asyncio.create_task(asked.importances("s", [ImportanceMethod.SOBOL]))
        await asyncio.sleep(0.05)
        await asked.close()
        with pytest.raises(UnavailableError, match="stopping"):
            await waiting

    monkeypatch.setattr(analyst, "_child", never)
    asyncio.run(stopped())


def test_the_example_in_the_documentation_is_an_answer() -> None:
    ImportancesResponse.model_validate(examples.IMPORTANCES)
