"""Sends what attempts have to say, all in one call, and passes the verdicts on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping

from trimtab.wire.work import Report, ReportReply
from workers.attempt import Attempt
from workers.messages import Order
from workers.service_link import RefusedError, ServiceLink

GATHER_SECONDS = 0.05
"""All that was said within so long goes into one call, and a run's last words into its end call."""
LOOK_SECONDS = 0.5
"""Renewals are looked for so often."""
BAD_REPORT_STATUS = {400, 409, 413, 422}
"""The service minds what the report says, not who sends it."""
MAX_REPORTS_PER_CALL = 512
MAX_VALUES_PER_CALL = 20_000


class Reporter:
    """The only one who sends reports. ``attempts``, by token, belongs to the dispatcher."""

    def __init__(self, link: ServiceLink, attempts: Mapping[int, Attempt]) -> None:
        self._link = link
        self._attempts = attempts
        self._news = asyncio.Event()

    def wake(self) -> None:
        """An attempt has something to say."""
        self._news.set()

    async def run(self) -> None:
        """Report until cancelled. Raises :class:`RefusedError` if the service does not want the sender."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), LOOK_SECONDS)
                await asyncio.sleep(GATHER_SECONDS)
            self._news.clear()
            if reports := self._due():
                await self._send(reports)

    def _due(self) -> list[Report]:
        now = time.monotonic()
        reports: list[Report] = []
        values = 0
        for attempt in self._attempts.values():
            if len(reports) == MAX_REPORTS_PER_CALL or values > MAX_VALUES_PER_CALL:
                self._news.set()
                break
            if report := attempt.report(now):
                reports.append(report)
                values += sum(len(measurement.metrics) for measurement in report.measurements)
        return reports

    async def _send(self, reports: list[Report]) -> None:
        try:
            replies = await self._link.report(reports)
        except RefusedError as error:
            if error.status not in BAD_REPORT_STATUS:
                raise
            if len(reports) > 1:
                # One of them is the cause; the others must not suffer for it.
                for report in reports:
                    await self._send([report])
            else:
                self._give_up(self._attempts[reports[0].token], error)
            return
        for reply in replies:
            self._obey(reply)

    def _obey(self, reply: ReportReply) -> None:
        attempt = self._attempts[reply.token]
        order = attempt.acknowledge(reply, time.monotonic())
        if order is not None and attempt.actor is not None:
            attempt.actor.order(reply.token, order)
        if attempt.has_news():
            self._news.set()

    def _give_up(self, attempt: Attempt, error: RefusedError) -> None:
        """What the attempt says is refused: its training is of no use."""
        attempt.refuse(f"the service refused a report: {error}", time.monotonic())
        if attempt.actor is not None:
            attempt.actor.order(attempt.assignment.token, Order.LOST)
