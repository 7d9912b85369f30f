"""The web application: REST, event stream and dashboard over one database."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from fastapi import FastAPI, Request, Response
from sqlalchemy.exc import OperationalError

from service.db.engine import Database
from service.http import fits, health, importances, problems, stream, studies, trials, work
from service.http.analyst import Analyst
from service.http.context import Context
from service.http.guard import Guard
from service.http.tail import Tail
from service.law_answers import Laws
from service.settings import Settings
from service.web.routes import router as web_router
from trimtab import __version__
from trimtab.wire import limits
from trimtab.wire.problems import Problem

log = logging.getLogger(__name__)

DESCRIPTION = f"""
Hyperparameter tuning as a service.

**Errors** are problem details (RFC 9457, `application/problem+json`); `errors` names every bad field by its
JSON pointer: `/name` in the body, `/query/name`, `/path/name` or `/header/name` elsewhere.

**Non-finite numbers.** A metric may be `"NaN"`, `"Infinity"` or `"-Infinity"`, as these strings or as the
bare words that Python's `json` writes; it is recorded, and the trial has diverged. A parameter never may.

**Pages.** Pass `next_cursor` as `cursor` until it is null. Rows that come meanwhile do not shift the pages.

**Limits.** A body has at most {limits.MAX_BODY_BYTES} bytes; a name {limits.MAX_NAME_CHARS} and a text
{limits.MAX_TEXT_CHARS} characters; a study {limits.MAX_PARAMETERS} parameters and
{limits.MAX_TRIALS_PER_STUDY} trials; a report {limits.MAX_METRICS} metrics per point and
{limits.MAX_POINTS_PER_REPORT} points, a request {limits.MAX_REPORTS_PER_REQUEST} reports; a curve
{limits.MAX_CURVE_POINTS} points; an import {limits.MAX_IMPORTED_TRIALS} trials; a page
{limits.MAX_PAGE} rows; a fit of a scaling law {limits.MAX_FITTED_RUNS} runs.

**Token.** A server that has one wants it with every call but `GET /v1/health`.
"""


def create_app(
    settings: Settings, database: Database, *, clock: Callable[[], datetime], new_key: Callable[[], str]
) -> FastAPI:
    """The application.

    Args:
        settings: what the operator decided.
        database: a migrated one.
        clock: the present moment, with its time zone.
        new_key: makes new public ids: letters and digits, at most 32 of them, never the same twice.
    """
    context = Context(settings, database, clock, new_key, Tail(database), Analyst(database), Laws(database))

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await context.close()

    app = FastAPI(
        title="Trimtab",
        version=__version__,
        description=DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        # FastAPI's own page fetches its scripts from another site; ours (service.web) does without.
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
        separate_input_output_schemas=False,
        lifespan=lifespan,
    )
    app.state.context = context
    answers = problems.Answers(clock, locked=settings.token is not None)
    problems.install(app, answers)

    async def unavailable(request: Request, error: Exception) -> Response:
        log.warning("the database did not answer: %s", error)
        problem = Problem(
            type="/v1/problems/unavailable",
            title="The database does not answer",
            status=503,
            detail="Try again in a moment: nothing of this call was done.",
            instance=request.url.path,
        )
        return answers.of(request, problem, {"Retry-After": "1"})

    app.add_exception_handler(OperationalError, unavailable)
    app.add_middleware(Guard, settings=settings, answers=answers, new_key=new_key)
    # Routes are tried one after the other: what is called for every step of every training comes first.
    for module in (work, studies, trials, importances, fits, stream, health):
        app.include_router(module.router(context))
    app.include_router(web_router(database, clock, settings.token, context.analyst, context.laws))
    _describe(app, secured=settings.token is not None)
    return app


def _describe(app: FastAPI, *, secured: bool) -> None:
    """Add to the OpenAPI document what FastAPI cannot know: the problem's schema and the token."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            components = document.setdefault("components", {})
            schemas = components.setdefault("schemas", {})
            problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= problem.pop("$defs")
            schemas["Problem"] = problem
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            if secured:
                components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
                document["security"] = [{"token": []}]
        return app.openapi_schema or document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend it
