"""The OpenAPI document: complete, and true of what the server answers to generated calls."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
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


SKIPPED = "^/v1/(events|ready)$"
"""A stream has no end; readiness is 503 without the other programs."""


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_generated_calls_are_answered_as_the_document_says(api: Any, mode: GenerationMode) -> None:
    root = str(api.http.base_url).rstrip("/")
    document = schemathesis.openapi.from_url(f"{root}/v1/openapi.json").exclude(path_regex=SKIPPED)
    for found in document.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=3,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: Any) -> None:
            if isinstance(case.body, dict) and "wait_seconds" in case.body:
                case.body["wait_seconds"] = 0
            case.call_and_validate(checks=CHECKS, timeout=20)

        try:
            check()
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE  # a call without parameters cannot be wrong


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
