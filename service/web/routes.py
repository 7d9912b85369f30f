"""The routes of the dashboard."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from service.db.engine import Database
from service.errors import ConflictError
from service.http.analyst import Analyst
from service.law_answers import Laws
from service.web import api_docs, assets, law_pages, login, pages
from service.web.contexts import ApiPage, StudyFilter, TargetForm
from service.web.rendering import respond
from trimtab.wire.importances import ImportanceMethod, ImportancesResponse


def router(
    database: Database, clock: Callable[[], datetime], token: str | None, analyst: Analyst, laws: Laws
) -> APIRouter:
    """The dashboard's pages, to be mounted at ``/``. ``token``: the server's, None where it has none."""
    routes = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    routes.include_router(assets.router)
    routes.include_router(login.router(clock, token))
    locked = token is not None

    @routes.get("/")
    def studies(state: str = "", tag: str = "", name: str = "", cursor: str | None = None) -> Response:
        chosen = StudyFilter(state=state.strip(), tag=tag.strip(), name=name.strip())
        return respond(pages.studies(database, clock(), chosen, cursor, locked))

    @routes.get("/studies/{key}")
    def study(key: str, sort: str = "", state: str = "", cursor: str | None = None) -> Response:
        return respond(
            pages.study(database, clock(), key, sort=sort, state=state, cursor=cursor, locked=locked)
        )

    @routes.get("/studies/{key}/trials/{number}")
    def trial(key: str, number: int) -> Response:
        return respond(pages.trial(database, clock(), key, number, locked))

    @routes.get("/studies/{key}/importances")
    async def importances(key: str) -> Response:
        found: ImportancesResponse | None = None
        missing = ""
        try:
            found = await analyst.importances(key, list(ImportanceMethod))
        except ConflictError as error:
            missing = error.detail
        page = await run_in_threadpool(pages.importances, database, clock(), key, found, missing, locked)
        return respond(page)

    @routes.get("/studies/{key}/study.yaml")
    def study_file(key: str) -> Response:
        spec = pages.study_spec(database, clock(), key)
        return PlainTextResponse(pages.spec_text(spec), media_type="text/yaml; charset=utf-8")

    @routes.get("/studies/{key}/trials.csv")
    def trials_csv(key: str) -> Response:
        spec = pages.study_spec(database, clock(), key)
        return StreamingResponse(
            pages.trials_csv(database, spec, key),
            media_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": 'attachment; filename="trials.csv"'},
        )

    @routes.get("/laws")
    def all_laws(cursor: str | None = None) -> Response:
        return respond(law_pages.laws(database, clock(), cursor, locked))

    @routes.get("/laws/{key}")
    def law(key: str, n: str = "", d: str = "", lr: str = "", batch: str = "", share: str = "") -> Response:
        asked = TargetForm(n.strip(), d.strip(), lr.strip(), batch.strip(), share.strip())
        return respond(law_pages.law(database, laws, clock(), key, asked, locked))

    @routes.get("/docs")
    def api(request: Request) -> Response:
        document = request.app.openapi()
        page = ApiPage(
            title="REST API",
            now=clock(),
            locked=locked,
            description=document["info"]["description"].strip(),
            document_url=request.app.openapi_url,
            calls=api_docs.calls(document),
            models=api_docs.models(document),
        )
        return respond(page)

    return routes
