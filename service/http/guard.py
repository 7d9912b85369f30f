"""The guard in front of every route: foreign pages, token, size of the body, faults of our own.

A server on loopback without a token trusts whoever can connect, which is every program on the machine,
a browser that shows a hostile page among them. So a page of another origin may not change anything
(``Origin``), nor may one that has made its own name point here (DNS rebinding: ``Host``).
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request, cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ForbiddenError, ServiceError
from service.http import problems
from service.http.problems import Answers
from service.settings import Settings, is_loopback
from trimtab.wire import limits

log = logging.getLogger(__name__)

COOKIE = "trimtab_token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
PUBLIC = ("/v1/health", "/login", "/static/")
"""Paths that need no token: who has none yet must be able to log in."""


class BodyTooLargeError(HTTPException):
    """Raised while the body is read; Starlette's own kind, so that it passes through FastAPI's reading."""

    def __init__(self) -> None:
        super().__init__(413, f"The body is larger than {limits.MAX_BODY_BYTES} bytes; send it in parts.")


class Guard:
    """ASGI middleware. What it refuses is answered with a problem and goes no further."""

    def __init__(
        self, app: ASGIApp, *, settings: Settings, answers: Answers, new_key: Callable[[], str]
    ) -> None:
        self._app = app
        self._answers = answers
        self._settings = settings
        self._new_key = new_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope, Headers(scope=scope))
        except ServiceError as error:
            problem = problems.of_error(error, scope["path"])
            await self._answers.of(Request(scope), problem)(scope, receive, send)
            return
        await self._pass(scope, receive, send)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > limits.MAX_BODY_BYTES:
                raise BodyTooLargeError
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, counted, noted)
        except ClientDisconnect:
            log.info("%s %s: the caller went away", scope["method"], scope["path"])
        except Exception:
            incident = self._new_key()
            log.exception("incident %s at %s %s", incident, scope["method"], scope["path"])
            if started:  # too late for a problem: let the server cut the connection
                raise
            problem = problems.of_incident(incident, scope["path"])
            await self._answers.of(Request(scope), problem)(scope, receive, send)

    def _check(self, scope: Scope, headers: Headers) -> None:
        host = headers.get("host", "")
        if self._settings.token is None and not is_loopback(_hostname(host)):
            raise ForbiddenError(
                f"This server answers to localhost and 127.0.0.1 only, not to {host!r}. To reach it under "
                "another name, set TRIMTAB_TOKEN."
            )
        origin = headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
        if foreign and scope["method"] not in SAFE_METHODS:
            raise ForbiddenError(f"A page of {origin} may not change anything here.")
        token = self._settings.token
        if token is not None and not _is_public(scope["path"]) and not _same(_given_token(headers), token):
            raise problems.UnauthorizedError(
                "Send the header `Authorization: Bearer TOKEN` with the token that the server was "
                f"started with (TRIMTAB_TOKEN), or the cookie {COOKIE}."
            )
        declared = headers.get("content-length", "")
        if declared.isdigit() and int(declared) > limits.MAX_BODY_BYTES:
            raise problems.TooLargeError(
                f"The body has {declared} bytes; the service takes {limits.MAX_BODY_BYTES} at most. "
                "Send it in parts."
            )


def _is_public(path: str) -> bool:
    return any(path.startswith(public) if public.endswith("/") else path == public for public in PUBLIC)


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _given_token(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return cookie_parser(headers.get("cookie", "")).get(COOKIE, "")


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode())
