"""The OpenAPI document: complete, and true of what the server answers to generated calls."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from migrations.upgrade import config
from service.db import schema as revision

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def document(api: Any) -> Any:
    schema = schemathesis.openapi.from_url(f"{str(api.http.base_url).rstrip('/')}/v1/openapi.json")
    return schema.exclude(path_regex="^/v1/(events|ready)$")


calls = schemathesis.pytest.from_fixture("document")


@calls.parametrize()
@settings(
    max_examples=6,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_generated_calls_are_answered_as_the_document_says(case: Any) -> None:
    if isinstance(case.body, dict) and "wait_seconds" in case.body:
        case.body["wait_seconds"] = 0
    case.call_and_validate(checks=CHECKS, timeout=20)


def test_every_call_is_described(api: Any) -> None:
    document = api.get("/openapi.json")
    operations = [(path, op) for path, item in document["paths"].items() for op in item.values()]
    assert len({op["operationId"] for _, op in operations}) == len(operations)
    for path, op in operations:
        assert path.startswith("/v1/")
        assert op["summary"]
        assert op["tags"]
        for status, answer in op["responses"].items():
            if status >= "400" and path != "/v1/ready":
                assert list(answer["content"]) == ["application/problem+json"]
        if "requestBody" in op:
            content = op["requestBody"]["content"]["application/json"]
            assert "$ref" in content["schema"], path
            assert content["examples"]
            assert {"400", "413", "415", "422"} <= op["responses"].keys()
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_the_service_expects_the_newest_migration() -> None:
    from alembic.script import ScriptDirectory

    assert ScriptDirectory.from_config(config("sqlite://")).get_current_head() == revision.REVISION
