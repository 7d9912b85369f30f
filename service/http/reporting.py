"""Group commit of reports: those that come while a transaction runs go into the next one together.

A commit costs about as much for thirty reports as for one, and SQLite has one writer at a time anyway.
Each caller is answered after the commit that holds its report, and never hears of the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy.exc import OperationalError
from starlette.concurrency import run_in_threadpool

from service.db import reports
from service.db.engine import Database
from trimtab.wire import limits
from trimtab.wire.work import ReportsRequest, ReportsResponse


class Reporting:
    """Writes reports, one transaction at a time. Belongs to one event loop."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._waiting: list[tuple[ReportsRequest, asyncio.Future[ReportsResponse]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def record(self, request: ReportsRequest) -> ReportsResponse:
        """As :func:`service.db.reports.record`, in a transaction shared with whoever waits as well."""
        future: asyncio.Future[ReportsResponse] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        return await future

    async def _write(self) -> None:
        while self._waiting:
            group = self._waiting[: self._fitting()]
            del self._waiting[: len(group)]
            answers = await run_in_threadpool(self._record, [request for request, _ in group])
            for (_, future), answer in zip(group, answers, strict=True):
                if future.cancelled():
                    continue  # the caller went away
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)

    def _fitting(self) -> int:
        """How many of the waiting requests go into the next transaction: at least one."""
        count = reports_in_all = 0
        for request, _ in self._waiting:
            reports_in_all += len(request.reports)
            if count and reports_in_all > limits.MAX_REPORTS_PER_REQUEST:
                break
            count += 1
        return count

    def _record(self, requests: Sequence[ReportsRequest]) -> list[ReportsResponse | Exception]:
        """The answer to each request, or the error that is for its caller."""
        try:
            return list(self._transaction(requests))
        except OperationalError as error:  # the database is away: for all of them
            return [error for _ in requests]
        except Exception as error:
            if len(requests) == 1:
                return [error]
        # One of them is the cause; the others must not suffer for it.
        return [answer for request in requests for answer in self._record([request])]

    def _transaction(self, requests: Sequence[ReportsRequest]) -> list[ReportsResponse]:
        together = [report for request in requests for report in request.reports]
        with self._database.write() as session:
            # Every report has been checked already; together they may be more than one request may hold.
            merged = ReportsRequest.model_construct(reports=together)
            replies = iter(reports.record(session, merged, self._clock()).replies)
        return [ReportsResponse(replies=[next(replies) for _ in request.reports]) for request in requests]
