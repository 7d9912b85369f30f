"""Error answers for people: HTML where a browser asks for it, problem+json everywhere else."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus

from fastapi import Request
from fastapi.responses import RedirectResponse, Response

from service.web.contexts import ErrorPage
from service.web.login import login_url
from service.web.rendering import respond


def error_page(
    request: Request, *, status: int, title: str, detail: str, now: datetime, locked: bool = False
) -> Response | None:
    """The HTML answer for an error, or None where the caller is to answer with problem+json.

    A browser that has not logged in is led to ``/login``. ``locked``: the server has a token.
    """
    if request.url.path.startswith("/v1/") or "text/html" not in request.headers.get("accept", ""):
        return None
    if status == HTTPStatus.UNAUTHORIZED:
        return RedirectResponse(login_url(request), HTTPStatus.SEE_OTHER)
    return respond(ErrorPage(title=title, now=now, locked=locked, status=status, detail=detail), status)
