"""Studies over REST."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Query, Response
from pydantic import ValidationError

from service import law_beliefs, specs
from service.db import events, reads, studies
from service.errors import InvalidError, NotFoundError
from service.http import examples, scripts
from service.http.bodies import JsonRoute
from service.http.context import Context
from service.http.parameters import Cursor, EventId, Limit, StudyKey, Text
from service.http.problems import responses
from service.law_answers import Laws
from trimtab import check
from trimtab.wire import limits as largest
from trimtab.wire.problems import FieldProblem
from trimtab.wire.profiles import ProfileBy, ProfileResponse
from trimtab.wire.states import StudyState
from trimtab.wire.study import StudySpec
from trimtab.wire.views import (
    BestTrial,
    CurvesResponse,
    DecisionPage,
    EventPage,
    ExtendRequest,
    FrontResponse,
    ScheduleView,
    StopsReplay,
    StudyDetail,
    StudyPage,
    StudySummary,
)

REPLAYED = "Idempotency-Replayed"

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="Sent again with the same study, it gives the study that was made the first time.",
    ),
]


def router(context: Context) -> APIRouter:
    """The routes below ``/v1/studies`` that are about whole studies."""
    routes = APIRouter(prefix="/v1/studies", tags=["studies"], route_class=JsonRoute)
    database, clock = context.database, context.clock

    def changed(study: str, change: Callable[..., None], *details: ExtendRequest) -> StudyDetail:
        """The study after ``change``, one of those of :mod:`service.db.studies`."""
        with database.write() as session:
            change(session, study, *details, clock())
            return reads.study_detail(session, study, clock())

    @routes.post(
        "",
        operation_id="createStudy",
        summary="Submit a study",
        status_code=201,
        response_model=StudyDetail,
        responses={
            **responses(400, 409, 413, 415),
            200: {
                "model": StudyDetail,
                "description": "The study of an earlier call with this Idempotency-Key.",
                "headers": {REPLAYED: {"schema": {"type": "string"}, "description": "`true`"}},
            },
        },
        openapi_extra={
            "requestBody": {
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/StudySpec"}}}
            }
        },
    )
    def create(
        document: Annotated[Any, Body(openapi_examples=examples.STUDIES)],
        response: Response,
        idempotency_key: IdempotencyKey = None,
    ) -> StudyDetail:
        """It runs from now on. Every mistake in it is named at once."""
        spec = _checked(document, context.laws)
        scripts.check(spec.trainer, context.settings)
        with database.write() as session:
            created = studies.create(
                session, spec, key=context.new_key(), idempotency_key=idempotency_key, now=clock()
            )
            detail = reads.study_detail(session, created.key, clock())
        if not created.new:
            response.status_code = 200
            response.headers[REPLAYED] = "true"
        response.headers["Location"] = f"/v1/studies/{created.key}"
        return detail

    @routes.get("", operation_id="listStudies", summary="List studies, newest first", responses=responses())
    def list_studies(
        cursor: Cursor = None,
        limit: Limit = 50,
        state: Annotated[StudyState | None, Query(description="Studies in this state.")] = None,
        tag: Annotated[Text, Query(description="Studies that carry this tag.")] = None,
        name: Annotated[Text, Query(description="Studies with this in their name, in either case.")] = None,
    ) -> StudyPage:
        with database.read() as session:
            return reads.list_studies(
                session, now=clock(), cursor=cursor, limit=limit, state=state, tag=tag, name=name
            )

    @routes.get("/{study}", operation_id="readStudy", summary="Read a study", responses=responses(404))
    def read(study: StudyKey) -> StudyDetail:
        with database.read() as session:
            return reads.study_detail(session, study, clock())

    @routes.delete(
        "/{study}",
        operation_id="deleteStudy",
        summary="Delete a study and all that belongs to it",
        status_code=204,
        responses=responses(404, 409),
    )
    def delete(study: StudyKey) -> None:
        """Refused while a trial of it is being trained: cancel it first."""
        with database.write() as session:
            studies.delete(session, study)

    @routes.post(
        "/{study}/pause", operation_id="pauseStudy", summary="Pause a study", responses=responses(404, 409)
    )
    def pause(study: StudyKey) -> StudyDetail:
        """Nothing more is started; running trials save a checkpoint and end their runs."""
        return changed(study, studies.pause)

    @routes.post(
        "/{study}/resume",
        operation_id="resumeStudy",
        summary="Let a paused or failed study go on",
        responses=responses(404, 409),
    )
    def resume(study: StudyKey) -> StudyDetail:
        return changed(study, studies.resume)

    @routes.post(
        "/{study}/cancel",
        operation_id="cancelStudy",
        summary="End a study for good",
        responses=responses(404, 409),
    )
    def cancel(study: StudyKey) -> StudyDetail:
        """Queued trials stop at once, running ones at their next report."""
        return changed(study, studies.cancel)

    @routes.post(
        "/{study}/prune",
        operation_id="pruneStudy",
        summary="Let parts of a study's space be left out",
        responses=responses(404, 409),
    )
    def prune(study: StudyKey) -> StudyDetail:
        """As `prune: true` in its file: parameters that do not matter are frozen, ranges narrowed.
        Refused for a study with several objectives."""
        return changed(study, studies.prune)

    @routes.post(
        "/{study}/unprune",
        operation_id="unpruneStudy",
        summary="Search a study's whole space again",
        responses=responses(404),
    )
    def unprune(study: StudyKey) -> StudyDetail:
        """Nothing is frozen or narrowed from now on."""
        return changed(study, studies.unprune)

    @routes.post(
        "/{study}/extend",
        operation_id="extendStudy",
        summary="Raise limits of a study's budget",
        responses=responses(400, 404, 409, 413, 415),
    )
    def extend(
        study: StudyKey, request: Annotated[ExtendRequest, Body(openapi_examples=examples.EXTEND)]
    ) -> StudyDetail:
        """A study that had completed or failed runs again."""
        return changed(study, studies.extend, request)

    @routes.get(
        "/{study}/summary",
        operation_id="summariseStudy",
        summary="A study with its best-so-far curve",
        responses=responses(404),
    )
    def summary(study: StudyKey) -> StudySummary:
        with database.read() as session:
            return reads.summary(session, study, clock())

    @routes.get(
        "/{study}/best",
        operation_id="readBestTrial",
        summary="The best trial so far",
        responses=responses(404),
    )
    def best(study: StudyKey) -> BestTrial:
        """404 while no trial has reported a finite value, or none that keeps the study's limits. Of a study
        with several objectives it is the best by the first of them; see its front for all."""
        with database.read() as session:
            found = reads.best(session, study)
        if found is None:
            raise NotFoundError(
                "No trial of this study has reported a finite value yet, or none that keeps its limits, or "
                "none at the highest value of what mf-bo goes along."
            )
        return found

    @routes.get(
        "/{study}/front",
        operation_id="readFront",
        summary="The Pareto front: the trials that no other dominates",
        responses=responses(404),
    )
    def front(
        study: StudyKey,
        others: Annotated[
            int, Query(ge=0, le=10_000, description="Trials that are not on it: so many of the newest.")
        ] = 0,
    ) -> FrontResponse:
        """A trial dominates another if it is worse in no objective and better in one. Completed trials are
        compared, by their last measurement; those that break a limit are left out.
        With one objective alone it holds the best of them."""
        with database.read() as session:
            return reads.front(session, study, others=others)

    @routes.get(
        "/{study}/curves",
        operation_id="readCurves",
        summary="Learning curves of the tuned metric, thinned for drawing",
        responses=responses(404),
    )
    def curves(
        study: StudyKey,
        max_points: Annotated[int, Query(ge=2, le=20_000, description="Points of a line, at most.")] = 100,
        max_lines: Annotated[
            int | None, Query(ge=1, le=100_000, description="Lines: half the best, half the newest.")
        ] = None,
    ) -> CurvesResponse:
        with database.read() as session:
            lines = reads.curves(session, study, max_points=max_points, max_lines=max_lines)
        return CurvesResponse.model_construct(lines=lines)

    @routes.get(
        "/{study}/stops",
        operation_id="replayStops",
        summary="Every early stop: why, what it saved, and what it would have cost",
        responses=responses(404),
    )
    def stops(study: StudyKey) -> StopsReplay:
        """Where the stopped trials would have ended is predicted from all trials that were trained to the
        end by now: no prediction with fewer than `min_trials` of the `predicted` rule (10 without it)."""
        with database.read() as session:
            return reads.stops(session, study)

    @routes.get(
        "/{study}/schedule",
        operation_id="readSchedule",
        summary="The learning-rate schedule of a trial, over the whole line of its forks",
        responses=responses(404, 409, 422),
    )
    def schedule(
        study: StudyKey,
        trial: Annotated[int | None, Query(ge=1, description="Without it: the best one.")] = None,
        horizon: Annotated[
            int | None, Query(ge=1, le=largest.MAX_STEP, description="Lay it out over so many steps.")
        ] = None,
    ) -> ScheduleView:
        """What `lr-schedule`, `autolrs` or a person's forks have trained with, as a table of steps and
        rates and as a Python file that makes a torch scheduler of it."""
        with database.read() as session:
            return reads.schedule(session, study, number=trial, horizon=horizon)

    @routes.get(
        "/{study}/profile",
        operation_id="readProfile",
        summary="The performance profile of a cross-workload study",
        responses=responses(404, 409),
    )
    def profile(
        study: StudyKey,
        by: Annotated[ProfileBy, Query(description="How times to targets are counted.")] = "steps",
    ) -> ProfileResponse:
        """On which share of the workloads each trial is within a factor of the fastest (Dolan, Moré 2002),
        and the area below as its score, as in AlgoPerf."""
        with database.read() as session:
            return reads.profile(session, study, by=by)

    @routes.get(
        "/{study}/decisions",
        operation_id="listDecisions",
        summary="What search decided and why, newest first",
        responses=responses(404),
    )
    def decisions(study: StudyKey, cursor: Cursor = None, limit: Limit = 50) -> DecisionPage:
        with database.read() as session:
            return reads.decisions(session, study, cursor=cursor, limit=limit)

    @routes.get(
        "/{study}/events",
        operation_id="listEvents",
        summary="A study's history, oldest first",
        responses=responses(404),
    )
    def history(study: StudyKey, after: EventId = 0, limit: Limit = 100) -> EventPage:
        """`next_cursor` is the last event's id: pass it as `after`, here or to `/v1/events`."""
        with database.read() as session:
            reads.find_study(session, study)
            found = events.read(session, after=after, study_key=study, limit=limit)
        return EventPage(items=found, next_cursor=str(found[-1].id) if len(found) == limit else None)

    return routes


def _checked(document: Any, laws: Laws) -> StudySpec:
    """The study in ``document``, with what laws say of its beliefs; the client's checks and search's speak
    together."""
    problems: list[FieldProblem] = []
    spec: StudySpec | None
    try:
        spec = check.study(document)
    except check.InvalidStudyError as error:
        problems = list(error.problems)
        try:
            spec = StudySpec.model_validate(document)
        except ValidationError:
            spec = None  # its mistakes are among the problems
    if spec is not None:
        spec, unanswered = law_beliefs.told(spec, laws)
        problems += unanswered
        try:
            specs.check(spec)
        except InvalidError as error:
            named = {problem.pointer for problem in problems}
            problems += (problem for problem in error.errors if problem.pointer not in named)
    if spec is None or problems:
        count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        raise InvalidError(f"The study has {count}; errors names each.", problems)
    return spec
