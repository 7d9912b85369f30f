"""Logging in with a browser: the server's token, kept in a cookie that no script can read."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from service.web.contexts import LoginPage
from service.web.rendering import respond

COOKIE = "trimtab_token"
_COOKIE_SECONDS = 30 * 86_400
_MAX_FORM_BYTES = 8_192


def router(clock: Callable[[], datetime], token: str | None) -> APIRouter:
    """``/login`` and ``/logout``; with no token there is nothing to log in to."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/login")
    def form(next: str = "/") -> Response:
        if token is None:
            return RedirectResponse(_local(next), HTTPStatus.SEE_OTHER)
        return respond(LoginPage(title="Log in", now=clock(), next_url=_local(next)))

    @routes.post("/login")
    async def log_in(request: Request) -> Response:
        if token is None:
            return RedirectResponse("/", HTTPStatus.SEE_OTHER)
        fields = await _form(request)
        target = _local(fields.get("next", "/"))
        given = fields.get("token", "").strip()
        if not secrets.compare_digest(given.encode(), token.encode()):
            page = LoginPage(title="Log in", now=clock(), next_url=target, wrong=True)
            return respond(page, HTTPStatus.FORBIDDEN)
        answer = RedirectResponse(target, HTTPStatus.SEE_OTHER)
        answer.set_cookie(
            COOKIE,
            token,
            max_age=_COOKIE_SECONDS,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    @routes.post("/logout")
    def log_out() -> Response:
        answer = RedirectResponse("/login", HTTPStatus.SEE_OTHER)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    return routes


def login_url(request: Request) -> str:
    """Where to log in, and come back from to the page that was asked for."""
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return f"/login?next={quote(wanted, safe='')}"


def _local(target: str) -> str:
    """``target`` if it is a path on this server, else ``/``: a login must not lead elsewhere."""
    plain = target.startswith("/") and not target.startswith("//")
    return target if plain and "\\" not in target and target.isprintable() else "/"


async def _form(request: Request) -> dict[str, str]:
    """The fields of a small URL-encoded form; what is larger has none."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _MAX_FORM_BYTES:
            return {}
    fields = parse_qs(body.decode("utf-8", errors="replace"))
    return {name: values[0] for name, values in fields.items()}
