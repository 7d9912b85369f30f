"""Every error as RFC 9457 problem+json, each bad field named by a JSON pointer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from service.errors import ServiceError
from service.web.errors import error_page
from trimtab.wire.problems import FieldProblem, Problem

MEDIA_TYPE = "application/problem+json"

DESCRIPTIONS = {
    400: "The body is no JSON.",
    401: "The token is missing or wrong.",
    403: "The operator has not switched this capability on, or the request came from a foreign page.",
    404: "There is no such thing.",
    409: "The state does not allow this.",
    413: "The body is larger than the service takes.",
    415: "The body is not declared as JSON.",
    422: "The request has mistakes; `errors` names every bad field.",
    500: "A fault of the service; the log has the incident's details.",
    503: "Not now: the database is away, or the service has too much to do.",
}


class MalformedError(ServiceError):
    """The body cannot be read as JSON."""

    status = 400
    kind = "malformed"
    title = "The body is no JSON"


class UnauthorizedError(ServiceError):
    status = 401
    kind = "unauthorized"
    title = "The token is missing or wrong"


class TooLargeError(ServiceError):
    status = 413
    kind = "too-large"
    title = "The body is too large"


class MediaTypeError(ServiceError):
    status = 415
    kind = "media-type"
    title = "The body is not declared as JSON"


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI declarations of the errors that a route answers beside those that every route has."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {
            "description": DESCRIPTIONS[status],
            "content": {MEDIA_TYPE: {"schema": schema}},
        }
        for status in sorted({401, 403, 422, 500, *statuses})
    }


def of_error(error: ServiceError, path: str) -> Problem:
    """The problem that a service error is."""
    return Problem(
        type=f"/v1/problems/{error.kind}",
        title=error.title,
        status=error.status,
        detail=error.detail,
        instance=path,
        errors=list(error.errors),
    )


def of_incident(incident: str, path: str) -> Problem:
    """A fault of ours, of which the caller learns no more than the name under which it is logged."""
    return Problem(
        type="/v1/problems/internal",
        title="The service has a fault",
        status=500,
        detail=f"This is not your mistake. The service's log says more under incident {incident}.",
        instance=path,
    )


@dataclass(frozen=True, slots=True)
class Answers:
    """Turns errors into answers: problem+json, or a page where a browser asks for one."""

    clock: Callable[[], datetime]
    locked: bool
    """Whether the server has a token."""

    def of(self, request: Request, problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
        """The answer that ``problem`` is for who sent ``request``."""
        page = error_page(request, problem, self.clock(), locked=self.locked)
        if page is not None:
            return page
        if problem.status == 401:
            headers = {"WWW-Authenticate": "Bearer", **(headers or {})}
        return Response(
            problem.model_dump_json(), status_code=problem.status, media_type=MEDIA_TYPE, headers=headers
        )


def install(app: FastAPI, answers: Answers) -> None:
    """Answer every error of ``app`` with a problem."""

    async def service_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, ServiceError)
        return answers.of(request, of_error(error, request.url.path))

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        fields = _fields(error.errors(), error.body)
        count = "1 mistake" if len(fields) == 1 else f"{len(fields)} mistakes"
        problem = Problem(
            type="/v1/problems/invalid",
            title="The request has mistakes",
            status=422,
            detail=f"The request has {count}; errors names each.",
            instance=request.url.path,
            errors=fields,
        )
        return answers.of(request, problem)

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        phrase = HTTPStatus(error.status_code).phrase
        problem = Problem(
            type=f"/v1/problems/{phrase.lower().replace(' ', '-')}",
            title=phrase,
            status=error.status_code,
            detail=_DETAILS.get(error.status_code, str(error.detail)),
            instance=request.url.path,
        )
        return answers.of(request, problem, error.headers)

    app.add_exception_handler(ServiceError, service_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)


_DETAILS = {
    404: "There is nothing at this address. /docs lists all calls.",
    405: "This address does not take this method; the Allow header names those it takes.",
}


def _fields(errors: Sequence[Mapping[str, Any]], body: Any) -> list[FieldProblem]:
    found: dict[str, list[str]] = {}
    for error in errors:
        place, *path = error["loc"]
        pointer = _pointer(path, body) if place == "body" else _join([place, *path])
        messages = found.setdefault(pointer, [])
        message = _message(error)
        if message not in messages:
            messages.append(message)
    return [
        FieldProblem(pointer=pointer, message=" or ".join(messages)) for pointer, messages in found.items()
    ]


def _pointer(path: Sequence[str | int], body: Any) -> str:
    """The path without the names of union members, which pydantic mixes in: they are not in the body."""
    kept: list[str | int] = []
    for index, part in enumerate(path):
        last = index == len(path) - 1
        if isinstance(body, Mapping) and part in body:
            body = body[str(part)]
        elif isinstance(body, list) and isinstance(part, int) and part < len(body):
            body = body[part]
        elif not (last and isinstance(body, Mapping)):
            continue
        kept.append(part)
    return _join(kept)


def _join(parts: Sequence[str | int]) -> str:
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def _message(error: Mapping[str, Any]) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    return message[:1].lower() + message[1:]
