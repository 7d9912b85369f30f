"""JSON bodies, read strictly and with good errors, before FastAPI looks at them."""

from __future__ import annotations

import email.message
import json
from collections.abc import Callable, Coroutine, Iterator
from inspect import iscoroutinefunction
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from service.errors import InvalidError
from service.http.problems import MalformedError, MediaTypeError
from trimtab.wire.problems import FieldProblem


class JsonRoute(APIRoute):
    """A route whose body, if it has one, must be declared as JSON and be JSON.

    Python's bare ``NaN``, ``Infinity`` and ``-Infinity`` are read as well, since ``json.dumps`` writes
    them: metrics may be non-finite. Where a number must be finite, the models refuse them.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler behind our reading of the body."""
        handle = super().get_route_handler()
        takes_body = self.body_field is not None
        known = {field.alias for field in self.dependant.query_params}

        async def read_and_handle(request: Request) -> Response:
            _check_query(request, known)
            if takes_body:
                request = _JsonRequest(request, await request.body())
            return await handle(request)

        return read_and_handle


class QuickRoute(JsonRoute):
    """A route that is called for every step of every training.

    An endpoint that is a coroutine and turns one model into another is called without FastAPI's general
    machinery, which costs more than such a call itself. Whatever is out of the ordinary (a body that does
    not fit the model, an unusual header) goes the usual way, so errors are the same as anywhere.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The quick way for whom it is open, else the usual one."""
        handle = super().get_route_handler()
        model = None if self.body_field is None else self.body_field.field_info.annotation
        if not (
            isinstance(model, type) and issubclass(model, BaseModel) and iscoroutinefunction(self.endpoint)
        ):
            return handle
        endpoint = self.endpoint

        async def validate_and_call(request: Request) -> Response:
            body = await request.body()
            usual = (
                request.headers.get("content-type") == "application/json"
                and not request.scope["query_string"]
            )
            if not usual or b"\\u" in body:
                return await handle(request)
            try:
                document = model.model_validate_json(body)
            except ValidationError:
                return await handle(request)
            answer: BaseModel = await endpoint(document)
            return Response(answer.__pydantic_serializer__.to_json(answer), media_type="application/json")

        return validate_and_call


class _JsonRequest(Request):
    """A request whose JSON has been read already."""

    def __init__(self, request: Request, body: bytes) -> None:
        super().__init__(request.scope, request.receive)
        self._body = body
        if body:
            _check_media_type(request.headers.get("content-type", ""))
            self._document = read(body)

    async def json(self) -> Any:
        return self._document


def read(body: bytes) -> Any:
    """The document in ``body``.

    Raises:
        MalformedError: it is no JSON; the detail names line and column.
        InvalidError: texts hold characters that cannot be stored; each is pointed at.
    """
    try:
        text = body.decode("utf-8-sig")
        document = json.loads(text)
    except UnicodeDecodeError as error:
        raise MalformedError(f"The body is not UTF-8: byte {error.start} cannot be read.") from None
    except json.JSONDecodeError as error:
        raise MalformedError(
            f"The body is no JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from None
    except RecursionError:
        raise MalformedError("The body is nested too deeply.") from None
    except ValueError:  # Python's limit on the digits of a whole number
        raise MalformedError("The body holds a number with too many digits.") from None
    # Only these escapes can make such characters, and looking for them is quicker than a walk.
    if b"\\u0000" in body or b"\\ud" in body.lower():
        _check_texts(document)
    return document


def _check_query(request: Request, known: set[str]) -> None:
    unknown = [
        FieldProblem(
            pointer=f"/query/{name}",
            message="this call knows no such parameter",
            suggestion=f"it knows {', '.join(sorted(known))}" if known else "leave it out",
        )
        for name in dict.fromkeys(request.query_params)
        if name not in known
    ]
    if unknown:
        raise InvalidError("The address has parameters that this call does not know.", unknown)


def _check_media_type(header: str) -> None:
    message = email.message.Message()
    message["content-type"] = header
    subtype = message.get_content_subtype()
    if message.get_content_maintype() != "application" or not (
        subtype == "json" or subtype.endswith("+json")
    ):
        said = repr(header) if header else "none"
        raise MediaTypeError(f"Send JSON with the header `Content-Type: application/json`, not {said}.")


def _check_texts(document: Any) -> None:
    bad = [
        FieldProblem(pointer=pointer, message="the text holds a NUL or half a surrogate pair")
        for pointer, text in _texts("", document)
        if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text)
    ]
    if bad:
        raise InvalidError("The body holds characters that cannot be stored.", bad)


def _texts(pointer: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield pointer, value
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(f"{pointer}/{index}", item)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield pointer, name
            shown = name.encode("utf-8", "replace").decode()
            yield from _texts(f"{pointer}/{shown.replace('~', '~0').replace('/', '~1')}", item)
