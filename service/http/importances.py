"""Importances over REST."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from service.http import examples
from service.http.bodies import JsonRoute
from service.http.context import Context
from service.http.parameters import StudyKey
from service.http.problems import responses
from trimtab.wire.importances import ImportanceMethod, ImportancesResponse


def router(context: Context) -> APIRouter:
    """``GET /v1/studies/{study}/importances``."""
    routes = APIRouter(prefix="/v1/studies", tags=["studies"], route_class=JsonRoute)

    @routes.get(
        "/{study}/importances",
        operation_id="readImportances",
        summary="How much each parameter matters",
        responses={
            **responses(404, 409, 503),
            200: {"content": {"application/json": {"example": examples.IMPORTANCES}}},
        },
    )
    async def importances(
        study: StudyKey,
        method: Annotated[
            ImportanceMethod | None, Query(description="One method alone; absent: all three.")
        ] = None,
    ) -> ImportancesResponse:
        """Computed when asked, in a process of its own, and kept until a trial is made or a run ends.

        Trials that were not trained to the end count with where a model of all curves predicts them to end.
        409 while fewer than ten trials have a result; 503 while too much is asked at once.
        """
        methods = list(ImportanceMethod) if method is None else [method]
        return await context.analyst.importances(study, methods)

    return routes
