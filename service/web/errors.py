"""Error answers for people: HTML where a browser asks for it, problem+json everywhere else."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus

from fastapi import Request
from fastapi.responses import RedirectResponse, Response

from service.web.contexts import ErrorPage
from service.web.login import login_url
from service.web.rendering import respond
from trimtab.wire.problems import Problem


def error_page(
    request: Request, problem: Problem, now: datetime, *, locked: bool = False
) -> Response | None:
    """The HTML answer for an error, or None where the caller is to answer with problem+json.

    A browser that has not logged in is led to ``/login``. ``locked``: the server has a token.
    """
    if request.url.path.startswith("/v1/") or "text/html" not in request.headers.get("accept", ""):
        return None
    if problem.status == HTTPStatus.UNAUTHORIZED:
        return RedirectResponse(login_url(request), HTTPStatus.SEE_OTHER)
    page = ErrorPage(
        title=problem.title,
        now=now,
        locked=locked,
        status=problem.status,
        detail=problem.detail,
        errors=tuple(problem.errors),
    )
    return respond(page, problem.status)
