"""What the dispatcher knows of one attempt, and what it still has to tell the service about it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from enum import Enum, auto

from trimtab.wire import limits
from trimtab.wire.states import FailureKind, Verdict
from trimtab.wire.work import (
    Assignment,
    EndRequest,
    Failure,
    LeaseRequest,
    Measurement,
    Report,
    ReportReply,
    SavedCheckpoint,
)
from workers import failures
from workers.messages import Ended, Message, Order, Started
from workers.pool import PooledActor

RENEW_SECONDS = 3.0
"""An attempt with nothing new to say renews its lease, and hears of wishes, so often."""
HANG_MARGIN_SECONDS = 15.0
"""The actor notices a hang itself; if it is silent for so much longer, it is killed from here."""
OBEY_SECONDS = 10.0
"""An attempt that is lost is killed if it has not ended after so long."""
MAX_VALUES_PER_REPORT = 10_000
"""Metric values in one report; with names of full length this stays well below the largest body."""

_ORDERS = {
    Verdict.CONTINUE: Order.CONTINUE,
    Verdict.PAUSE: Order.PAUSE,
    Verdict.STOP: Order.STOP,
    Verdict.LOST: Order.LOST,
}


class Killed(Enum):
    """Why the dispatcher killed the actor of an attempt."""

    HUNG = auto()
    SHUTDOWN = auto()


class Attempt:
    """One leased run on one actor. Its news is sent in order, one report at a time.

    A report stays as it is until it is acknowledged: resent with the same number, it changes nothing.
    """

    def __init__(self, assignment: Assignment, now: float) -> None:
        self.assignment = assignment
        self.actor: PooledActor | None = None
        self.started = False
        self.order = Order.CONTINUE
        self.ended: Ended | None = None
        self.killed: Killed | None = None
        """Whose fault it is if the actor dies from now on; None: its own."""
        self.deadline: float | None = None
        """When to kill the actor; None while it has not started."""
        self.placed_at = now
        self.answered = asyncio.Event()
        """Set when the service has answered a report."""
        self._refused = False
        self._news: deque[Measurement | SavedCheckpoint] = deque()
        self._unacknowledged: Report | None = None
        self._seq = 0
        self._step = assignment.start_step
        self._sent_at = now

    def take(self, messages: Sequence[Message], now: float) -> None:
        """Note what the actor said."""
        self.started = True
        for message in messages:
            if self._refused or isinstance(message, Started):
                continue
            if isinstance(message, Ended):
                self.ended = message
            else:
                self._news.append(message)
                self._step = message.step
        if self.deadline is None or (self.order is Order.CONTINUE and not self._refused):
            self.deadline = now + self.assignment.hang_after_seconds + HANG_MARGIN_SECONDS

    def report(self, now: float) -> Report | None:
        """The next report, if one is due: the unacknowledged one again, news, or a renewal."""
        if self.order is Order.LOST:
            return None
        if self._unacknowledged is None:
            idle = now - self._sent_at < RENEW_SECONDS
            if (not self._news and idle) or (self.ended is not None and self._fits_end()):
                return None
            measurements, checkpoint = self._next()
            self._seq += 1
            self._unacknowledged = Report(
                token=self.assignment.token, seq=self._seq, measurements=measurements, checkpoint=checkpoint
            )
        self._sent_at = now
        return self._unacknowledged

    def acknowledge(self, reply: ReportReply, now: float) -> Order | None:
        """Note the answer to the last report. The order to pass on, if it is a new one."""
        self._unacknowledged = None
        self.answered.set()
        order = _ORDERS[reply.verdict]
        # What was ordered stands: a pause is not taken back, a release not turned into a stop. Only the
        # loss of the token overrides everything.
        if order is Order.CONTINUE or order is self.order:
            return None
        if self.order is not Order.CONTINUE and order is not Order.LOST:
            return None
        self.order = order
        if order is Order.LOST:
            self.deadline = now + OBEY_SECONDS
        elif self.deadline is not None:
            self.deadline = now + self.assignment.hang_after_seconds + HANG_MARGIN_SECONDS
        return order

    def end(self, offer: LeaseRequest | None) -> EndRequest | None:
        """How the attempt ends, with an offer for the next run.

        None while reports must go first, or for ever if the token is lost.
        """
        if self.order is Order.LOST or self.ended is None or self._unacknowledged or not self._fits_end():
            return None
        measurements, checkpoint = self._next()
        self._seq += 1
        return EndRequest(
            token=self.assignment.token,
            outcome=self.ended.outcome,
            step=self.ended.step,
            seq=self._seq,
            measurements=measurements,
            checkpoint=self.ended.checkpoint or checkpoint,
            failure=self.ended.failure,
            lease=offer,
        )

    def fail(self, failure: Failure) -> None:
        """End it as failed, where the training stood, unless that was done before."""
        if not self._refused:
            self.ended = Ended("failed", self._step, failure=failure)

    def end_without_actor(self, cause: str) -> None:
        """End it after its actor has died; ``cause`` is what Ray says of it."""
        if self.killed is Killed.SHUTDOWN and not self._refused:
            self.ended = Ended("released", self._step)
        elif self.killed is Killed.HUNG:
            seconds = self.assignment.hang_after_seconds
            ends = None
            if self.order in (Order.PAUSE, Order.STOP):
                seconds, ends = seconds + HANG_MARGIN_SECONDS, f"the verdict to {self.order}"
            self.fail(failures.make(FailureKind.HANG, failures.hang(seconds, step=self._step, ends=ends)))
        else:
            self.fail(failures.make(FailureKind.LOST, "the worker process died", cause))

    def refuse(self, reason: str, now: float) -> None:
        """The service refuses what it says: it ends as a crash, whatever the actor says from now on."""
        self._news.clear()
        self._unacknowledged = None
        self.fail(failures.make(FailureKind.CRASH, reason))
        self._refused = True
        self.deadline = now + OBEY_SECONDS
        self.answered.set()

    def has_news(self) -> bool:
        """Whether anything waits to be sent."""
        return bool(self._news)

    def _fits_end(self) -> bool:
        """Whether all that is left fits into the end call: some points, then one checkpoint at most."""
        assert self.ended is not None
        items = [*self._news, *([self.ended.checkpoint] if self.ended.checkpoint else [])]
        return (
            not any(isinstance(item, SavedCheckpoint) for item in items[:-1])
            and self._values() <= MAX_VALUES_PER_REPORT
            and len(items) <= limits.MAX_POINTS_PER_REPORT
        )

    def _values(self) -> int:
        return sum(len(item.metrics) for item in self._news if isinstance(item, Measurement))

    def _next(self) -> tuple[list[Measurement], SavedCheckpoint | None]:
        """Take the oldest news: measurements up to the first checkpoint, within the limits."""
        measurements: list[Measurement] = []
        values = 0
        while self._news:
            item = self._news[0]
            if isinstance(item, SavedCheckpoint):
                self._news.popleft()
                return measurements, item
            values += len(item.metrics)
            if len(measurements) == limits.MAX_POINTS_PER_REPORT or values > MAX_VALUES_PER_REPORT:
                break
            measurements.append(item)
            self._news.popleft()
        return measurements, None
