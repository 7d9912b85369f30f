"""``python -m workers.dispatcher``: leases runs, places them on actors, forwards news, obeys verdicts.

One asyncio loop holds all state. Ctrl-C and SIGTERM give every attempt time to save and to be released;
SIGKILL costs what was trained since the last checkpoint.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Coroutine, Iterable, Iterator
from itertools import islice

import ray

from trainers import registry
from trimtab.wire.states import FailureKind
from trimtab.wire.work import (
    Assignment,
    EndRequest,
    LeaseRequest,
    RegisterRequest,
    Report,
    ReportReply,
    UploadedFolder,
)
from workers import cluster, failures
from workers.attempt import Attempt, Killed
from workers.checkpoints import CheckpointStore
from workers.messages import Order
from workers.pool import IDLE_SECONDS, ActorPool, PooledActor, Shape
from workers.scratch import Scratch
from workers.service_link import RefusedError, ServiceLink
from workers.settings import SettingsError, WorkerSettings

log = logging.getLogger(__name__)

LEASE_SECONDS = 30.0
LEASE_WAIT_SECONDS = 1.0
"""The service holds a lease call for so long: short enough that freed resources are offered soon."""
MAX_LEASED_AT_ONCE = 64
REPORT_INTERVAL_SECONDS = 0.05
"""All that was said within so long goes into one call."""
WATCH_SECONDS = 0.5
GARBAGE_SECONDS = 5.0
SWEEP_SECONDS = 300.0
MAX_FOLDERS_PER_CALL = 1_000
CLUSTER_SECONDS = 5.0
SLOW_START_SECONDS = 30.0
SHUTDOWN_SECONDS = 8.0
"""What attempts have to save themselves before the rest is killed."""
SHUTDOWN_END_SECONDS = 3.0
"""And then to be ended at the service."""
BAD_REPORT_STATUS = {400, 409, 413, 422}
"""The service minds what the report says, not who sends it."""
MAX_REPORTS_PER_CALL = 512
MAX_VALUES_PER_CALL = 20_000
SECRETS = ("TRIMTAB_TOKEN", "TRIMTAB_DATABASE_URL")
"""Variables that no training is to see."""
WARM_ACTORS = 2
"""Actors with torch imported that wait for the first runs."""


class Dispatcher:
    """Everything between one service and one Ray cluster."""

    def __init__(
        self,
        settings: WorkerSettings,
        link: ServiceLink,
        pool: ActorPool,
        store: CheckpointStore,
        incarnation: str,
    ) -> None:
        self._settings = settings
        self._link = link
        self._pool = pool
        self._store = store
        self._incarnation = incarnation
        self._attempts: dict[int, Attempt] = {}
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()
        self._leasing: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._freed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._left_alone: set[int] = set()

    def stop(self) -> None:
        """Begin the shutdown; :meth:`run` returns when it is done."""
        self._stopping.set()

    async def run(self) -> None:
        """Work until :meth:`stop`. Raises :class:`RefusedError` if the service does not want it."""
        stopping = asyncio.create_task(self._stopping.wait())
        serving = asyncio.create_task(self._serve())
        await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
        self._stopping.set()
        if not serving.done():
            await self._shut_down()
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving

    async def _serve(self) -> None:
        await self._register()
        try:
            async with self._group as group:
                self._leasing = group.create_task(self._lease())
                group.create_task(self._report())
                group.create_task(self._collect_garbage())
                group.create_task(self._sweep())
                group.create_task(_every(WATCH_SECONDS, self._watch))
                group.create_task(_every(CLUSTER_SECONDS, self._measure_cluster))
        except* RefusedError as refused:
            raise refused.exceptions[0] from None

    async def _register(self) -> None:
        """Say who this is and what it has. Said again by the same incarnation it costs no attempt."""
        total = self._pool.cluster.total
        await self._link.register(
            RegisterRequest(
                worker=self._settings.worker,
                incarnation=self._incarnation,
                total=total,
                trainers=registry.names(),
            )
        )
        log.info("dispatcher %s: %g cpus, %g gpus", self._settings.worker, total.cpus, total.gpus)

    async def _lease(self) -> None:
        """Offer what is free; take what is given."""
        while not self._stopping.is_set():
            free = self._pool.free()
            self._freed.clear()
            if not (free.cpus or free.gpus or any(free.custom.values())):
                await self._freed.wait()
                continue
            request = LeaseRequest(
                worker=self._settings.worker,
                incarnation=self._incarnation,
                free=free,
                max_runs=MAX_LEASED_AT_ONCE,
                lease_seconds=LEASE_SECONDS,
                wait_seconds=LEASE_WAIT_SECONDS,
            )
            assignments = await self._link.lease(request)
            for assignment in assignments:
                self._attend_to(assignment)
            if not assignments:
                # A service that does not hold the call must not be asked without pause.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._freed.wait(), REPORT_INTERVAL_SECONDS)

    def _attend_to(self, assignment: Assignment) -> None:
        attempt = Attempt(assignment, time.monotonic())
        self._attempts[assignment.token] = attempt
        shape = Shape.of(assignment.resources)
        actor: PooledActor | None = None
        if self._stopping.is_set():
            attempt.killed = Killed.SHUTDOWN
            attempt.end_without_actor("")
        elif not self._pool.placeable(shape):
            message = f"no node of the cluster is large enough for {shape}"
            attempt.fail(failures.make(FailureKind.INVALID, message))
            log.warning("%s: %s", _name(attempt), message)
        else:
            # At once: the next offer must not count what this run will hold.
            actor = attempt.actor = self._pool.take(shape)
        task = self._group.create_task(self._see_through(attempt, actor))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _see_through(self, attempt: Attempt, actor: PooledActor | None) -> None:
        """Follow one attempt from its placement to its end."""
        if actor is not None:
            try:
                async for messages in actor.run(attempt.assignment):
                    attempt.take(messages, time.monotonic())
                    self._news.set()
            except ray.exceptions.OutOfMemoryError as error:
                attempt.fail(
                    failures.make(FailureKind.OUT_OF_MEMORY, "Ray killed the worker process", str(error))
                )
            except ray.exceptions.RayTaskError as error:
                attempt.fail(failures.make(FailureKind.CRASH, "the worker itself failed", str(error)))
            except ray.exceptions.RayError as error:
                attempt.end_without_actor(str(error))
            attempt.actor = None
            if _trustworthy(attempt):
                self._pool.give_back(actor)
            else:
                self._pool.discard(actor)
            self._freed.set()
        while attempt.order is not Order.LOST:
            request = attempt.end()
            if request is not None:
                await self._end(attempt, request)
                break
            attempt.answered.clear()
            self._news.set()
            await attempt.answered.wait()
        del self._attempts[attempt.assignment.token]

    async def _end(self, attempt: Attempt, request: EndRequest) -> None:
        failure = request.failure
        if failure is not None:
            log.warning("%s: %s: %s", _name(attempt), failure.kind, failure.message)
        try:
            answer = await self._link.end(request)
        except RefusedError as error:
            # Nothing more can be said for it; the lease runs out and the run is tried again.
            log.error("%s: the service refused its end: %s", _name(attempt), error)
            return
        if not answer.accepted:
            log.info("%s: its end came too late; somebody else has the run", _name(attempt))

    async def _report(self) -> None:
        """Send what attempts have to say, all in one call; pass the verdicts on."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), WATCH_SECONDS)
            self._news.clear()
            if reports := self._due():
                await self._send(reports)
                await asyncio.sleep(REPORT_INTERVAL_SECONDS)

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

    async def _watch(self) -> None:
        """Kill what has not ended in its time; make room for what waits for a place."""
        now = time.monotonic()
        for attempt in self._attempts.values():
            if attempt.actor is None:
                continue
            if attempt.deadline is not None and now > attempt.deadline:
                attempt.killed = attempt.killed or Killed.HUNG
                attempt.actor.kill()
            elif not attempt.started and now - attempt.placed_at > SLOW_START_SECONDS:
                attempt.placed_at = now
                log.warning("%s still waits for %s", _name(attempt), attempt.actor.shape)
                self._pool.retire_idle(older_than=0.0)
        self._pool.retire_idle(older_than=IDLE_SECONDS)

    async def _measure_cluster(self) -> None:
        before = self._pool.cluster.total
        self._pool.cluster = await asyncio.to_thread(cluster.measure)
        if self._pool.cluster.total != before:
            await self._register()
        self._freed.set()

    async def _collect_garbage(self) -> None:
        """Delete the files of checkpoints that nothing can start from any more."""
        while True:
            await asyncio.sleep(GARBAGE_SECONDS)
            done: list[int] = []
            for item in await self._link.garbage():
                if item.id in self._left_alone:
                    continue
                try:
                    await asyncio.to_thread(self._store.delete, item.uri)
                except ValueError as error:
                    self._left_alone.add(item.id)
                    log.warning("a checkpoint is left alone: %s", error)
                except OSError as error:
                    log.warning("could not delete %s: %s", item.uri, error)
                else:
                    done.append(item.id)
            if done:
                await self._link.garbage_done(done)

    async def _sweep(self) -> None:
        """Delete the files that attempts uploaded and, killed at that moment, never registered."""
        while True:
            try:
                uploads = await asyncio.to_thread(self._store.uploads)
                for batch in _batches(uploads):
                    for folder in await self._link.orphans(batch):
                        await asyncio.to_thread(self._store.delete, uploads[folder])
                        log.info("deleted an upload that nobody needs: %s", uploads[folder])
            except OSError as error:
                log.warning("could not look for uploads that nobody needs: %s", error)
            await asyncio.sleep(SWEEP_SECONDS)

    async def _shut_down(self) -> None:
        """Let attempts save and release them; kill those that take too long."""
        self._freed.set()
        now = time.monotonic()
        for token, attempt in self._attempts.items():
            if attempt.order is Order.CONTINUE:
                attempt.order = Order.RELEASE
                if attempt.actor is not None:
                    attempt.actor.order(token, Order.RELEASE)
            attempt.killed = Killed.SHUTDOWN
            attempt.deadline = now + SHUTDOWN_SECONDS
        # A lease call in flight may still bring runs: they are given back as they come.
        end = now + SHUTDOWN_SECONDS + SHUTDOWN_END_SECONDS
        while (
            self._tasks or not (self._leasing is None or self._leasing.done())
        ) and time.monotonic() < end:
            await asyncio.sleep(0.02)


def _batches(folders: Iterable[UploadedFolder]) -> Iterator[list[UploadedFolder]]:
    rest = iter(folders)
    while batch := list(islice(rest, MAX_FOLDERS_PER_CALL)):
        yield batch


async def _every(seconds: float, act: Callable[[], Coroutine[None, None, None]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        await act()


def _name(attempt: Attempt) -> str:
    assignment = attempt.assignment
    return f"{assignment.study_name} trial {assignment.trial} run {assignment.run}"


def _trustworthy(attempt: Attempt) -> bool:
    """Whether the actor can train the next run: a training that broke inside it may have left a mess."""
    if attempt.killed is not None or attempt.ended is None:
        return False
    failure = attempt.ended.failure
    if failure is None or failure.kind is FailureKind.INVALID:
        return True
    return attempt.assignment.trainer.name is None and failure.kind is not FailureKind.HANG


async def work(settings: WorkerSettings, incarnation: str) -> None:
    """Run a dispatcher until SIGTERM or SIGINT; Ray must be up."""
    scratch = Scratch.of(settings, incarnation)
    pool = ActorPool(cluster.measure(), settings.checkpoints, scratch)
    pool.warm_up(Shape(1.0), min(WARM_ACTORS, int(pool.cluster.total.cpus)))
    store = CheckpointStore(settings.checkpoints)
    try:
        async with ServiceLink(settings.url, settings.token) as link:
            dispatcher = Dispatcher(settings, link, pool, store, incarnation)
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, dispatcher.stop)
            await dispatcher.run()
    finally:
        pool.close()
        scratch.remove()


def main() -> int:
    """Exit code 0 after a signal, 1 if the service refuses this dispatcher, 2 if its settings are wrong."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        settings = WorkerSettings.read(os.environ)
    except SettingsError as error:
        log.error("%s", error)
        return 2
    # They have been read; the actors, and all that runs in them, inherit what is left.
    for secret in SECRETS:
        os.environ.pop(secret, None)
    try:
        with cluster.connected(settings):
            asyncio.run(work(settings, uuid.uuid4().hex))
    except RefusedError as error:
        log.error("the service refuses this dispatcher: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
