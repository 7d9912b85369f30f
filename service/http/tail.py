"""The end of the event table, followed once per process for everybody who listens.

While somebody listens, one task reads new events every 50 ms and hands them out; while nobody does, the
database is left alone. Listeners cost no thread and no transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from starlette.concurrency import run_in_threadpool

from service.db import events
from service.db.engine import Database
from trimtab.wire.views import Event

log = logging.getLogger(__name__)

POLL_SECONDS = 0.05
RETRY_SECONDS = 1.0
"""Pause after the database could not be read."""
BATCH = 500
MAX_WAITING = 2_000
"""Events that may wait for a slow listener before it is dropped; it can resume by id."""

QUIET = frozenset({"measurements", "decision", "checkpoint.saved"})
"""Events after which there is no more to lease than before: they wake nobody who waits for a run."""

T = TypeVar("T")


class SlowListenerError(Exception):
    """The listener fell behind and was dropped."""


class _Listener:
    def __init__(self, study: str | None) -> None:
        self.study = study
        self.queue: asyncio.Queue[Event | None] = asyncio.Queue(MAX_WAITING)
        """None wakes the listener to see that it is over."""
        self.dropped = False

    def offer(self, event: Event | None) -> None:
        if event is not None and self.study is not None and event.study != self.study:
            return
        try:
            self.queue.put_nowait(event)
        except asyncio.QueueFull:
            self.dropped = True


class Tail:
    """Follows the event table. All methods belong to one event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._listeners: set[_Listener] = set()
        self._waiters: set[asyncio.Event] = set()
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._cursor = 0
        self._closed = False

    async def follow(self, *, after: int, study: str | None) -> AsyncGenerator[Event, None]:
        """Events with an id above ``after``, of one study or of all, until the service stops.

        Raises:
            SlowListenerError: more than ``MAX_WAITING`` events wait to be taken.
        """
        async for event in self._stored(after, study):
            yield event
            after = event.id
        # What is stored before we listen is read now, what comes later is handed to us: nothing is
        # lost in between, and what comes both ways is known by its id.
        with self._listen(study) as listener:
            await self._ready.wait()
            async for event in self._stored(after, study):
                yield event
                after = event.id
            while not self._closed:
                if listener.dropped:
                    raise SlowListenerError
                handed = await listener.queue.get()
                if handed is not None and handed.id > after:
                    yield handed
                    after = handed.id

    async def end(self) -> int:
        """Where to begin for who wants news alone."""
        return await run_in_threadpool(self._end)

    async def attempt(self, call: Callable[[], T | None], seconds: float) -> T | None:
        """What ``call`` (run in a thread) gives, tried again whenever something has happened.

        None after so many seconds. Between two tries the caller holds no thread and no transaction.
        """
        deadline = time.monotonic() + seconds
        result = await run_in_threadpool(call)
        if result is not None or seconds <= 0:
            return result
        waiter = asyncio.Event()
        self._waiters.add(waiter)
        self._start()
        try:
            await self._wait(self._ready, deadline)
            while result is None and not self._closed and time.monotonic() < deadline:
                waiter.clear()
                result = await run_in_threadpool(call)
                if result is None:
                    await self._wait(waiter, min(deadline, time.monotonic() + RETRY_SECONDS))
        finally:
            self._waiters.discard(waiter)
        return result

    def wake(self) -> None:
        """This process has just made something free: whoever waits tries now, not after the next poll."""
        for waiter in self._waiters:
            waiter.set()

    async def close(self) -> None:
        """Stop following; whoever listens or waits is let go at once."""
        self._closed = True
        for waiter in (self._ready, *self._waiters):
            waiter.set()
        for listener in self._listeners:
            listener.offer(None)
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    @staticmethod
    async def _wait(event: asyncio.Event, deadline: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), max(0.0, deadline - time.monotonic()))

    async def _stored(self, after: int, study: str | None) -> AsyncIterator[Event]:
        while batch := await run_in_threadpool(self._read, after, study):
            for event in batch:
                yield event
            after = batch[-1].id

    @contextmanager
    def _listen(self, study: str | None) -> Iterator[_Listener]:
        listener = _Listener(study)
        self._listeners.add(listener)
        self._start()
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    def _start(self) -> None:
        if self._task is None or self._task.done():
            self._ready.clear()
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        located = False
        while self._listeners or self._waiters:
            try:
                if not located:
                    self._cursor = await run_in_threadpool(self._end)
                    located = True
                    self._ready.set()
                batch = await run_in_threadpool(self._read, self._cursor, None)
            except Exception:
                log.exception("the event table cannot be read; trying again in %g s", RETRY_SECONDS)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            for event in batch:
                self._cursor = event.id
                for listener in self._listeners:
                    listener.offer(event)
            if any(event.kind not in QUIET for event in batch):
                for waiter in self._waiters:
                    waiter.set()
            if len(batch) < BATCH:
                await asyncio.sleep(POLL_SECONDS)

    def _read(self, after: int, study: str | None) -> list[Event]:
        with self._database.read() as session:
            return events.read(session, after=after, study_key=study, limit=BATCH)

    def _end(self) -> int:
        with self._database.read() as session:
            return events.settled(session)
