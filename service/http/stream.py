"""The live event stream: server-sent events that resume from the last id."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Header
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from service.db import reads
from service.http.bodies import JsonRoute
from service.http.context import Context
from service.http.parameters import EventId, StudyKeyQuery
from service.http.problems import responses
from service.http.tail import SlowListenerError

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10
"""A comment is sent so often, so that both ends notice a dead connection."""
SEND_TIMEOUT_SECONDS = 30
RETRY_MILLISECONDS = 1_000
"""After what pause a browser connects again."""


def router(context: Context) -> APIRouter:
    """``GET /v1/events``."""
    routes = APIRouter(prefix="/v1", tags=["events"], route_class=JsonRoute)

    @routes.get(
        "/events",
        operation_id="streamEvents",
        summary="Follow events as they happen",
        response_class=EventSourceResponse,
        responses={
            **responses(404),
            200: {
                "description": "Server-sent events, unnamed: `id` is the event's id, `data` the Event.",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            },
        },
    )
    async def stream(
        study: StudyKeyQuery = None,
        after: EventId | None = None,
        last_event_id: Annotated[
            int | None,
            Header(ge=0, lt=2**63, description="Resume behind this event; it goes before `after`."),
        ] = None,
    ) -> EventSourceResponse:
        """With neither `after` nor `Last-Event-ID`: what happens from now on."""
        if study is not None:
            await run_in_threadpool(require, study)
        start = last_event_id if last_event_id is not None else after
        if start is None:
            start = await context.tail.end()
        return EventSourceResponse(
            _messages(start, study), ping=HEARTBEAT_SECONDS, send_timeout=SEND_TIMEOUT_SECONDS
        )

    def require(study: str) -> None:
        with context.database.read() as session:
            reads.find_study(session, study)

    async def _messages(after: int, study: str | None) -> AsyncIterator[ServerSentEvent]:
        yield ServerSentEvent(comment="listening", retry=RETRY_MILLISECONDS)
        try:
            async with aclosing(context.tail.follow(after=after, study=study)) as events:
                async for event in events:
                    yield ServerSentEvent(id=str(event.id), data=event.model_dump_json())
        except SlowListenerError:
            log.info("a listener fell behind and was let go; it can resume by id")

    return routes
