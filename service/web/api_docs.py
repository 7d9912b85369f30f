"""The API reference as a page of our own: the OpenAPI document laid out, with no script and no network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.web.contexts import ApiCall, ApiField, ApiModel

_BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} of them",
    "maxItems": "at most {} of them",
}
_REFERENCE = "#/components/schemas/"


def calls(document: Mapping[str, Any]) -> tuple[ApiCall, ...]:
    """Every call of an OpenAPI document, in its order."""
    return tuple(
        _call(method, path, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    )


def models(document: Mapping[str, Any]) -> tuple[ApiModel, ...]:
    """Every model of an OpenAPI document, by name."""
    return tuple(
        ApiModel(
            name=name, doc=schema.get("description", ""), fields=_fields(schema), type=type_text(schema)
        )
        for name, schema in sorted(document["components"]["schemas"].items())
    )


def type_text(schema: Mapping[str, Any]) -> str:
    """A JSON schema in a few words: ``list of Measurement``, ``integer ≥ 1``."""
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(_REFERENCE)
    for union in ("anyOf", "oneOf", "allOf"):
        if union in schema:
            return " or ".join(dict.fromkeys(type_text(part) for part in schema[union]))
    if "const" in schema:
        return repr(schema["const"])
    if "enum" in schema:
        return " or ".join(repr(value) for value in schema["enum"])
    kind = str(schema.get("type", "any"))
    if kind == "array":
        kind = f"list of {type_text(schema.get('items', {}))}"
    elif kind == "object" and (value := _value_schema(schema)) is not None:
        kind = f"object of {type_text(value)}"
    bounds = ", ".join(
        words.format(_bound(schema[name])) for name, words in _BOUNDS.items() if name in schema
    )
    return f"{kind} with {bounds}" if bounds.startswith("at ") else f"{kind} {bounds}".strip()


def _bound(value: float) -> str:
    """A bound as people write it; pydantic gives those of integers as floats."""
    return f"{int(value):,}" if value == int(value) else str(value)


def _value_schema(schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What the values of an object with free names are."""
    free = [*schema.get("patternProperties", {}).values(), schema.get("additionalProperties")]
    return next((each for each in free if isinstance(each, dict)), None)


def _call(method: str, path: str, operation: Mapping[str, Any]) -> ApiCall:
    body = operation.get("requestBody", {}).get("content", {})
    answers = {code: answer for code, answer in operation.get("responses", {}).items() if code < "400"}
    return ApiCall(
        method=method.upper(),
        path=path,
        summary=operation.get("summary", ""),
        doc=operation.get("description", ""),
        body=" or ".join(type_text(content.get("schema", {})) for content in body.values()),
        answers=tuple(f"{code} {_answer(answer)}".rstrip() for code, answer in answers.items()),
        fields=tuple(
            ApiField(
                name=parameter["name"],
                place=parameter["in"],
                type=type_text(parameter["schema"]),
                doc=parameter.get("description", ""),
                required=parameter.get("required", False),
            )
            for parameter in operation.get("parameters", [])
        ),
    )


def _answer(answer: Mapping[str, Any]) -> str:
    content = answer.get("content", {})
    return " or ".join(
        type_text(each["schema"]) if each.get("schema") else media for media, each in content.items()
    )


def _fields(schema: Mapping[str, Any]) -> tuple[ApiField, ...]:
    required = schema.get("required", ())
    return tuple(
        ApiField(
            name=name,
            place="",
            type=type_text(field),
            doc=field.get("description", ""),
            required=name in required,
        )
        for name, field in schema.get("properties", {}).items()
    )
