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
from collections.abc import Callable, Coroutine

import ray

from trainers import registry
from trimtab.wire.states import FailureKind
from trimtab.wire.work import (
    Assignment,
    Capacity,
    EndRequest,
    LeaseRequest,
    RegisterRequest,
)
from workers import cluster, failures
from workers.attempt import Attempt, Killed
from workers.checkpoints import CheckpointStore
from workers.cleaner import Cleaner
from workers.messages import Order
from workers.pool import IDLE_SECONDS, ActorPool, PooledActor, Shape
from workers.reporter import Reporter
from workers.scratch import Scratch
from workers.service_link import RefusedError, ServiceLink
from workers.settings import SettingsError, WorkerSettings

log = logging.getLogger(__name__)

LEASE_SECONDS = 30.0
LEASE_WAIT_SECONDS = 1.0
"""The service holds a lease call for so long: short enough that freed resources are offered soon."""
LEASE_PAUSE_SECONDS = 0.05
"""Between two lease calls that bring nothing."""
MAX_LEASED_AT_ONCE = 64
WATCH_SECONDS = 0.5
CLUSTER_SECONDS = 5.0
SLOW_START_SECONDS = 30.0
SHUTDOWN_SECONDS = 8.0
"""What attempts have to save themselves before the rest is killed."""
SHUTDOWN_END_SECONDS = 3.0
"""And then to be ended at the service."""
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
        self._incarnation = incarnation
        self._attempts: dict[int, Attempt] = {}
        self._reporter = Reporter(link, self._attempts)
        self._cleaner = Cleaner(link, store)
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()
        self._leasing: asyncio.Task[None] | None = None
        self._freed = asyncio.Event()
        self._stopping = asyncio.Event()

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
                group.create_task(self._reporter.run())
                group.create_task(self._cleaner.collect_garbage())
                group.create_task(self._cleaner.sweep())
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
            if _is_nothing(free):
                await self._freed.wait()
                continue
            assignments = await self._link.lease(self._offer(free))
            for assignment in assignments:
                self._attend_to(assignment)
            if not assignments:
                # A service that does not hold the call must not be asked without pause.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._freed.wait(), LEASE_PAUSE_SECONDS)

    def _offer(self, free: Capacity) -> LeaseRequest:
        return LeaseRequest(
            worker=self._settings.worker,
            incarnation=self._incarnation,
            free=free,
            max_runs=MAX_LEASED_AT_ONCE,
            lease_seconds=LEASE_SECONDS,
            wait_seconds=LEASE_WAIT_SECONDS,
        )

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
        """Follow one attempt from its placement to its end, and see to what follows on its place."""
        offer: LeaseRequest | None = None
        if actor is not None:
            await self._train(attempt, actor)
            if not self._stopping.is_set() and _is_nothing(self._pool.free()):
                # All that becomes free is this place: the end call offers it and brings the next run along.
                # Until it is answered the place counts as held, so that no lease call offers it as well.
                offer = self._offer(actor.shape.capacity())
            else:
                self._free(attempt, actor)
        following: list[Assignment] = []
        while attempt.order is not Order.LOST:
            request = attempt.end(offer)
            if request is not None:
                following = await self._end(attempt, request)
                break
            attempt.answered.clear()
            self._reporter.wake()
            await attempt.answered.wait()
        del self._attempts[attempt.assignment.token]
        if actor is not None and offer is not None:
            self._free(attempt, actor)
        for assignment in following:
            self._attend_to(assignment)

    async def _train(self, attempt: Attempt, actor: PooledActor) -> None:
        """Let the actor train until it has nothing more to say; end its process if it may be broken."""
        try:
            async for messages in actor.run(attempt.assignment):
                attempt.take(messages, time.monotonic())
                self._reporter.wake()
        except ray.exceptions.OutOfMemoryError as error:
            attempt.fail(
                failures.make(FailureKind.OUT_OF_MEMORY, "Ray killed the worker process", str(error))
            )
        except ray.exceptions.RayTaskError as error:
            attempt.fail(failures.make(FailureKind.CRASH, "the worker itself failed", str(error)))
        except ray.exceptions.RayError as error:
            attempt.end_without_actor(str(error))
        attempt.actor = None
        if not _trustworthy(attempt):
            actor.kill()

    def _free(self, attempt: Attempt, actor: PooledActor) -> None:
        """What ``actor`` holds can be offered again."""
        if _trustworthy(attempt):
            self._pool.give_back(actor)
        else:
            self._pool.discard(actor)
        self._freed.set()

    async def _end(self, attempt: Attempt, request: EndRequest) -> list[Assignment]:
        """Tell the service; the runs it leases in answer to the offer."""
        failure = request.failure
        if failure is not None:
            log.warning("%s: %s: %s", _name(attempt), failure.kind, failure.message)
        try:
            answer = await self._link.end(request)
        except RefusedError as error:
            # Nothing more can be said for it; the lease runs out and the run is tried again.
            log.error("%s: the service refused its end: %s", _name(attempt), error)
            return []
        if not answer.accepted:
            log.info("%s: its end came too late; somebody else has the run", _name(attempt))
        return answer.assignments

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


async def _every(seconds: float, act: Callable[[], Coroutine[None, None, None]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        await act()


def _is_nothing(free: Capacity) -> bool:
    return not (free.cpus or free.gpus or any(free.custom.values()))


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
