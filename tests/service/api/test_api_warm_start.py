"""Warm starts over REST: named, refused, shown."""

from __future__ import annotations

import html
import uuid
from typing import Any

import pytest

from trimtab.client import Client
from trimtab.errors import InvalidError
from trimtab.wire.study import StudySpec

PARAMS = {"lr": 0.1, "optimizer": "adamw"}


@pytest.fixture
def earlier(api: Any) -> str:
    """A study with one result; it has its name alone."""
    name = f"before <{uuid.uuid4().hex}>"
    study = str(api.study(name=name, enqueue=[{"params": PARAMS}]))
    asked = api.ask(study)
    api.report(asked["token"], 1, 10, 0.5)
    api.end(asked["token"], 10)
    return study


def test_a_study_shows_what_it_learns_from(api: Any, earlier: str) -> None:
    study = api.study(warm_start={"studies": [earlier]})
    detail = api.get(f"/studies/{study}")
    name = api.get(f"/studies/{earlier}")["name"]
    assert detail["sources"] == [{"id": earlier, "name": name}]
    assert detail["spec"]["warm_start"] == {"studies": [earlier], "function": None}
    page = api.http.get(f"/studies/{study}").text
    assert f'learns from <a href="/studies/{earlier}">{html.escape(name)}</a>' in page
    api.http.delete(f"/v1/studies/{earlier}")
    assert f"learns from {earlier} (deleted)" in api.http.get(f"/studies/{study}").text


def test_every_mistake_is_named(api: Any, earlier: str) -> None:
    document = api.document(warm_start={"studies": [earlier, "nobody"]})
    (error,) = api.post("/studies", document, 422)["errors"]
    assert error["pointer"] == "/warm_start/studies/1"
    assert "no study with the id nobody" in error["message"]
    document = api.document(warm_start={"studies": [earlier], "function": "mine:first"})
    (error,) = api.post("/studies", document, 422)["errors"]
    assert error["pointer"] == "/warm_start/function"
    document = api.document(warm_start={"studies": [str(n) for n in range(9)]})
    (error,) = api.post("/studies", document, 422)["errors"]
    assert error["pointer"] == "/warm_start/studies"


def test_the_client_asks_and_submits(api: Any, earlier: str) -> None:
    def first(card: dict[str, Any], space: dict[str, Any]) -> list[dict[str, Any]]:
        (told,) = card["earlier"]
        return [told["trials"][0]["params"], {"lr": 0.5, "optimizer": "adamw"}, {"lr": 9}]

    name = api.get(f"/studies/{earlier}")["name"]
    document = api.document(warm_start={"studies": [name], "function": "mine:first"})
    spec = StudySpec.model_validate(document)
    with Client(str(api.http.base_url)) as client:
        with pytest.raises(InvalidError) as error:
            client.create(spec)
        assert error.value.fields[0].pointer == "/warm_start/function"
        asked = client.first_configurations(spec, first)
        study = client.create(asked.spec)
    assert (asked.added, len(asked.dropped)) == (2, 1)
    assert study.sources[0].id == earlier
    labels = [trial["label"] for trial in api.get(f"/studies/{study.id}/trials")["items"]]
    assert labels == ["first 1", "first 2"]
