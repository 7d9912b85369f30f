"""Fits of scaling laws over REST."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Path, Query, Response

from service import law_answers, laws
from service.db import fits, reads
from service.http import examples
from service.http.bodies import JsonRoute
from service.http.context import Context
from service.http.parameters import Cursor, Limit
from service.http.problems import responses
from service.http.studies import REPLAYED, IdempotencyKey
from trimtab.wire.laws import (
    FamiliesResponse,
    FiguresResponse,
    FitDetail,
    FitPage,
    FitRequest,
    PlanRequest,
    PlanResponse,
    PredictionResponse,
)

FitKey = Annotated[
    str, Path(pattern=r"^[A-Za-z0-9_-]{1,32}$", description="The fit's id.", examples=["f1b2c3d4e5f6"])
]
Size = Annotated[float, Query(gt=0, le=1e30, allow_inf_nan=False)]


def router(context: Context) -> APIRouter:
    """The routes below ``/v1/fits``."""
    routes = APIRouter(prefix="/v1/fits", tags=["scaling laws"], route_class=JsonRoute)
    database, clock, answers = context.database, context.clock, context.laws

    def earlier(key: str, request: FitRequest, response: Response) -> FitDetail | None:
        """The fit that was made with this idempotency key before."""
        with database.read() as session:
            found = fits.earlier(session, key, request)
            if found is None:
                return None
            response.status_code = 200
            response.headers[REPLAYED] = "true"
            response.headers["Location"] = f"/v1/fits/{found}"
            return reads.fit_detail(session, found)

    @routes.post(
        "",
        operation_id="createFit",
        summary="Fit a scaling law to runs",
        status_code=201,
        responses={
            **responses(400, 409, 413, 415),
            200: {
                "model": FitDetail,
                "description": "The fit of an earlier call with this Idempotency-Key.",
                "headers": {REPLAYED: {"schema": {"type": "string"}, "description": "`true`"}},
            },
        },
    )
    def create(
        request: Annotated[FitRequest, Body(openapi_examples=examples.FITS)],
        response: Response,
        idempotency_key: IdempotencyKey = None,
    ) -> FitDetail:
        """The runs come as columns (`table`), as the text of a CSV file, as a Parquet file in base64, or
        from the trials of studies. They are read and checked now, every mistake is named at once, and they
        are kept with the fit. It is computed in the background, within seconds: ask for it until its
        `state` is `done` or `failed`."""
        if idempotency_key is not None:
            known = earlier(idempotency_key, request, response)
            if known is not None:
                return known
        with database.read() as session:
            new = laws.read(request, lambda studies: reads.fit_trials(session, studies))
        law_answers.check(request)
        with database.write() as session:
            made = fits.create(
                session, new, key=context.new_key(), idempotency_key=idempotency_key, now=clock()
            )
            detail = None if made is None else reads.fit_detail(session, made)
        if detail is None:  # another call with the same key was quicker
            assert idempotency_key is not None
            detail = earlier(idempotency_key, request, response)
            assert detail is not None
            return detail
        response.headers["Location"] = f"/v1/fits/{detail.id}"
        return detail

    @routes.get("", operation_id="listFits", summary="List fits, newest first", responses=responses())
    def list_fits(cursor: Cursor = None, limit: Limit = 50) -> FitPage:
        with database.read() as session:
            return reads.list_fits(session, cursor=cursor, limit=limit)

    @routes.get(
        "/families", operation_id="listFamilies", summary="The families of laws", responses=responses()
    )
    def families() -> FamiliesResponse:
        return FamiliesResponse(families=law_answers.families())

    @routes.get("/{fit}", operation_id="readFit", summary="Read a fit", responses=responses(404))
    def read(fit: FitKey) -> FitDetail:
        """Its progress, and when it is done what its family says of it: parameters with 90 % intervals,
        figures of merit, and the cautions that hold whatever the target."""
        with database.read() as session:
            return reads.fit_detail(session, fit)

    @routes.delete(
        "/{fit}",
        operation_id="deleteFit",
        summary="Delete a fit",
        status_code=204,
        responses=responses(404),
    )
    def delete(fit: FitKey) -> None:
        """One that is being computed is given up. Studies that were told what it says keep the numbers."""
        with database.write() as session:
            fits.remove(session, fit)
        answers.forget(fit)

    @routes.get(
        "/{fit}/prediction",
        operation_id="predict",
        summary="What a fit says at a target",
        responses=responses(404, 409),
    )
    def prediction(
        fit: FitKey,
        n: Annotated[Size, Query(description="Parameters, such as 1.5e9.")],
        d: Annotated[Size, Query(description="Training tokens, such as 3e10.")],
        lr: Annotated[
            Size | None, Query(description="A learning rate of your own, to be told its cost.")
        ] = None,
        batch: Annotated[
            Size | None, Query(description="A batch in tokens of your own; with `lr`.")
        ] = None,
        flops: Annotated[
            Size | None,
            Query(description="Of a law of the loss: the compute to be spent best; 6 N D if absent."),
        ] = None,
        share: Annotated[
            float | None, Query(ge=0, le=1, description="Of a law of mixtures: the share of the domain.")
        ] = None,
    ) -> PredictionResponse:
        """`confident` is false where the data cannot carry the number: show the interval and the grave
        cautions then, not the value. 409 while the fit is not done."""
        return answers.predict(fit, n=n, d=d, lr=lr, batch=batch, flops=flops, share=share)

    @routes.post(
        "/{fit}/plan",
        operation_id="planRuns",
        summary="Which runs to add, for a budget",
        responses=responses(400, 404, 409, 413, 415, 503),
    )
    def plan(
        fit: FitKey, request: Annotated[PlanRequest, Body(openapi_examples=examples.PLANS)]
    ) -> PlanResponse:
        """Those that shrink the interval at the target most, for the FLOPs that may be spent. It takes
        seconds, a minute at most, and one plan is made at a time; 503 if too many are asked for."""
        return answers.plan(fit, request)

    @routes.get(
        "/{fit}/figures",
        operation_id="readFigures",
        summary="The pictures of a fit, for plotly",
        responses=responses(404, 409),
    )
    def figures(
        fit: FitKey,
        n: Annotated[Size | None, Query(description="Marks this target; with `d`.")] = None,
        d: Annotated[Size | None, Query(description="Marks this target; with `n`.")] = None,
    ) -> FiguresResponse:
        """Cells with their runs, the optimum against N and D beside the published laws, what is lost in
        cells that were left out. The same pictures as on the fit's page."""
        return answers.figures(fit, None if n is None or d is None else (n, d))

    return routes
