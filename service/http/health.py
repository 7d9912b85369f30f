"""Whether the process is up, and whether the whole service can do its work."""

from __future__ import annotations

from fastapi import APIRouter, Response

from service.db import processes, schema
from service.db.engine import DatabaseError
from service.http.bodies import JsonRoute
from service.http.context import Context
from service.http.problems import responses
from trimtab import __version__
from trimtab.wire.views import Component, Health, Readiness


def router(context: Context) -> APIRouter:
    """``GET /v1/health`` and ``GET /v1/ready``."""
    routes = APIRouter(prefix="/v1", tags=["health"], route_class=JsonRoute)

    @routes.get(
        "/health", operation_id="health", summary="Whether the process is up", responses=responses()
    )
    async def health() -> Health:
        """Needs no token."""
        return Health(status="ok", version=__version__)

    @routes.get(
        "/ready",
        operation_id="ready",
        summary="Whether database, scheduler and a dispatcher are there",
        responses={
            **responses(),
            503: {"model": Readiness, "description": "Something is missing; the components say what."},
        },
    )
    def ready(response: Response) -> Readiness:
        components = _components(context)
        alive = all(component.alive for component in components)
        if not alive:
            response.status_code = 503
        return Readiness(ready=alive, components=components)

    return routes


def _components(context: Context) -> list[Component]:
    try:
        with context.database.read() as session:
            mistake = schema.mistake(session)
            if mistake is None:
                database = Component(name="database", alive=True, detail=context.database.dialect)
                return [database, *processes.components(session, context.clock())]
    except DatabaseError as error:
        mistake = f"the database cannot be read: {error.orig}"
    return [Component(name="database", alive=False, detail=mistake)]
