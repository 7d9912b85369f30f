"""Trials over REST: the list, one trial, what people do to them, and ask for the user's own loop."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query

from service.db import imports, leases, reads, trials
from service.db.reads.trials import TrialSort
from service.http import examples
from service.http.bodies import JsonRoute
from service.http.context import Context
from service.http.parameters import Cursor, Limit, StudyKey, TrialNumber
from service.http.problems import responses
from trimtab.wire.states import TrialState
from trimtab.wire.views import (
    ContinueRequest,
    EnqueueRequest,
    ForkRequest,
    TrialDetail,
    TrialItem,
    TrialPage,
)
from trimtab.wire.work import AskRequest, AskResponse, ImportRequest, ImportResponse


def router(context: Context) -> APIRouter:
    """The routes below ``/v1/studies/{study}`` that are about trials."""
    routes = APIRouter(prefix="/v1/studies/{study}", tags=["trials"], route_class=JsonRoute)
    database, clock = context.database, context.clock

    @routes.get("/trials", operation_id="listTrials", summary="List trials", responses=responses(404))
    def list_trials(
        study: StudyKey,
        cursor: Cursor = None,
        limit: Limit = 50,
        state: Annotated[TrialState | None, Query(description="Trials in this state.")] = None,
        sort: Annotated[
            TrialSort, Query(description="`best` has the best trial first; `-` turns an order round.")
        ] = "number",
        replicas: Annotated[
            bool, Query(description="Whether trials that repeat one with another seed are listed, too.")
        ] = True,
    ) -> TrialPage:
        with database.read() as session:
            return reads.list_trials(
                session, study, cursor=cursor, limit=limit, state=state, sort=sort, replicas=replicas
            )

    @routes.post(
        "/trials",
        operation_id="enqueueTrial",
        summary="Queue a configuration of one's own",
        status_code=201,
        responses=responses(400, 404, 409, 413, 415),
    )
    def enqueue(
        study: StudyKey, request: Annotated[EnqueueRequest, Body(openapi_examples=examples.ENQUEUE)]
    ) -> TrialItem:
        with database.write() as session:
            return reads.trial_item(session, study, trials.enqueue(session, study, request, clock()))

    @routes.get(
        "/trials/{number}",
        operation_id="readTrial",
        summary="Read a trial with its curve, runs and reasons",
        responses=responses(404),
    )
    def read(study: StudyKey, number: TrialNumber) -> TrialDetail:
        with database.read() as session:
            return reads.trial_detail(session, study, number)

    @routes.post(
        "/trials/{number}/stop",
        operation_id="stopTrial",
        summary="End a trial early",
        responses=responses(404, 409),
    )
    def stop(study: StudyKey, number: TrialNumber) -> TrialItem:
        """At once if it waits, at its next report if it is being trained."""
        with database.write() as session:
            return reads.trial_item(session, study, trials.stop(session, study, number, clock()))

    @routes.post(
        "/trials/{number}/retry",
        operation_id="retryTrial",
        summary="Queue a failed or stopped trial again",
        responses=responses(404, 409),
    )
    def retry(study: StudyKey, number: TrialNumber) -> TrialItem:
        """From its newest checkpoint if one is left. A study that was over runs again."""
        with database.write() as session:
            return reads.trial_item(session, study, trials.retry(session, study, number, clock()))

    @routes.post(
        "/trials/{number}/continue",
        operation_id="continueTrial",
        summary="Train a finished or paused trial for more steps",
        responses=responses(400, 404, 409, 413, 415),
    )
    def train_on(
        study: StudyKey,
        number: TrialNumber,
        request: Annotated[ContinueRequest, Body(openapi_examples=examples.CONTINUE)],
    ) -> TrialItem:
        """From its newest checkpoint. A study that was over runs again."""
        with database.write() as session:
            return reads.trial_item(
                session, study, trials.train_on(session, study, number, request, clock())
            )

    @routes.post(
        "/trials/{number}/fork",
        operation_id="forkTrial",
        summary="Start a new trial from a checkpoint of this one",
        status_code=201,
        responses=responses(400, 404, 409, 413, 415),
    )
    def fork(
        study: StudyKey,
        number: TrialNumber,
        request: Annotated[ForkRequest, Body(openapi_examples=examples.FORK)],
    ) -> TrialItem:
        """With a changed configuration. What a checkpoint does not fit, such as another width, is refused;
        `can_fork` of the trial has the steps to start from. A study that was over runs again."""
        with database.write() as session:
            return reads.trial_item(session, study, trials.fork(session, study, number, request, clock()))

    @routes.post(
        "/import",
        operation_id="importTrials",
        summary="Take in trials that were finished elsewhere",
        status_code=201,
        responses=responses(400, 404, 409, 413, 415),
    )
    def import_trials(
        study: StudyKey, request: Annotated[ImportRequest, Body(openapi_examples=examples.IMPORT)]
    ) -> ImportResponse:
        """All or nothing. They cost nothing of the budget; imported twice, they are there twice."""
        with database.write() as session:
            return ImportResponse(numbers=imports.import_trials(session, study, request, clock()))

    @routes.post(
        "/ask",
        operation_id="ask",
        summary="Ask for a configuration to train oneself",
        responses=responses(400, 404, 409, 413, 415),
    )
    async def ask(
        study: StudyKey, request: Annotated[AskRequest, Body(openapi_examples=examples.ASK)]
    ) -> AskResponse:
        """Waits up to `wait_seconds` for one, unless the study has ended. Report under the assignment's
        token."""
        nothing: list[AskResponse] = []

        def try_once() -> AskResponse | None:
            with database.write() as session:
                answer = leases.ask(session, study, request, clock())
            nothing[:] = [answer]
            return answer if answer.assignment is not None or answer.ended else None

        return await context.tail.attempt(try_once, request.wait_seconds) or nothing[0]

    return routes
