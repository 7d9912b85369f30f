"""What workers say: register, lease, report, end, and the files of checkpoints nobody needs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body
from starlette.concurrency import run_in_threadpool

from service.db import checkpoints, ends, leases
from service.errors import ConflictError
from service.http import examples
from service.http.bodies import QuickRoute
from service.http.context import Context
from service.http.problems import responses
from service.http.reporting import Reporting
from trimtab.wire.work import (
    EndRequest,
    EndResponse,
    GarbageDone,
    GarbageResponse,
    LeaseRequest,
    LeaseResponse,
    OrphansRequest,
    OrphansResponse,
    RegisterRequest,
    ReportsRequest,
    ReportsResponse,
)


def router(context: Context) -> APIRouter:
    """The routes below ``/v1/work``."""
    routes = APIRouter(prefix="/v1/work", tags=["work"], route_class=QuickRoute)
    database, clock = context.database, context.clock
    reporting = Reporting(database, clock)

    @routes.post(
        "/register",
        operation_id="registerWorker",
        summary="A dispatcher says that it has started",
        status_code=204,
        responses=responses(400, 409, 413, 415),
    )
    def register(request: Annotated[RegisterRequest, Body(openapi_examples=examples.REGISTER)]) -> None:
        """What its earlier incarnations were training is lost, and queued again."""
        with database.write() as session:
            leases.register(session, request, clock())

    @routes.post(
        "/lease",
        operation_id="leaseRuns",
        summary="Lease queued runs that fit into free resources",
        responses=responses(400, 409, 413, 415),
    )
    async def lease(
        request: Annotated[LeaseRequest, Body(openapi_examples=examples.LEASE)],
    ) -> LeaseResponse:
        """Waits up to `wait_seconds` for one."""

        def try_once() -> LeaseResponse | None:
            with database.write() as session:
                answer = leases.lease(session, request, clock())
            return answer if answer.assignments else None

        answer = await context.tail.attempt(try_once, request.wait_seconds)
        return answer or LeaseResponse(assignments=[])

    @routes.post(
        "/reports",
        operation_id="report",
        summary="Report measurements and checkpoints, renew leases, hear verdicts",
        responses=responses(400, 409, 413, 415),
    )
    async def report(
        request: Annotated[ReportsRequest, Body(openapi_examples=examples.REPORTS)],
    ) -> ReportsResponse:
        """Resending a report changes nothing. A stale token gets the verdict `lost`."""
        return await reporting.record(request)

    @routes.post(
        "/end",
        operation_id="endAttempt",
        summary="An attempt is over",
        responses=responses(400, 409, 413, 415),
    )
    async def end(request: Annotated[EndRequest, Body(openapi_examples=examples.END)]) -> EndResponse:
        """`accepted` is false, and nothing changes, when the token is stale. With `lease`, the answer
        brings the next runs along."""

        def close_and_lease() -> EndResponse:
            with database.write() as session:
                answer = ends.end(session, request, clock())
            if request.lease is None:
                return answer
            # A transaction of its own: whatever comes of it, the end stands.
            try:
                with database.write() as session:
                    leased = leases.lease(session, request.lease, clock())
            except ConflictError:  # the dispatcher hears of it when it asks for a lease alone
                return answer
            return answer.model_copy(update={"assignments": leased.assignments})

        answer = await run_in_threadpool(close_and_lease)
        context.tail.wake()
        return answer

    @routes.get(
        "/garbage",
        operation_id="listGarbage",
        summary="Checkpoints whose files are to be deleted",
        responses=responses(),
    )
    def garbage() -> GarbageResponse:
        with database.read() as session:
            return GarbageResponse(items=checkpoints.garbage(session))

    @routes.post(
        "/garbage",
        operation_id="garbageDone",
        summary="Files of checkpoints have been deleted",
        status_code=204,
        responses=responses(400, 413, 415),
    )
    def garbage_done(request: Annotated[GarbageDone, Body(openapi_examples=examples.GARBAGE)]) -> None:
        with database.write() as session:
            checkpoints.done(session, request.ids)

    @routes.post(
        "/orphans",
        operation_id="findOrphans",
        summary="Which uploaded files nobody needs",
        responses=responses(400, 413, 415),
    )
    def orphans(
        request: Annotated[OrphansRequest, Body(openapi_examples=examples.ORPHANS)],
    ) -> OrphansResponse:
        """Those of attempts that ended before they could register what they had uploaded."""
        with database.read() as session:
            return OrphansResponse(folders=checkpoints.orphans(session, request.folders))

    return routes
