"""The scheduler: ``python -m service.scheduler``.

It asks search what to train next, takes runs back from workers that have gone silent, and ends studies
whose budget is spent. All it knows is in the database: it may be killed at any moment, and a second one
beside it does no harm.
"""

from __future__ import annotations

import logging
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.exc import DBAPIError

from service.db.engine import Database
from service.loops.deciders import DeciderProcesses, Deciders
from service.loops.suggest import Suggest
from service.loops.upkeep import Complete, Heartbeat, Reap
from service.settings import Settings, SettingsError

logger = logging.getLogger("service.scheduler")

BUSY_SECONDS = 0.02
"""Between two looks at the database while studies run: what a free worker waits for a decision at most."""
IDLE_SECONDS = 0.2
"""Between two looks while no study runs."""
FIRST_BACKOFF_SECONDS = 0.25
LONGEST_BACKOFF_SECONDS = 5.0


@dataclass(slots=True)
class Chore:
    """Something to be done at regular intervals."""

    tick: Callable[[datetime], None]
    every_seconds: float
    due: float = 0.0


class Scheduler:
    """The loops, run in turn by one thread; decisions are made in processes of their own."""

    def __init__(self, database: Database, deciders: Deciders, *, name: str, incarnation: str) -> None:
        self._suggest = Suggest(database, deciders)
        self._chores = (
            Chore(Heartbeat(database, name=name, incarnation=incarnation).tick, 2.0),
            Chore(Complete(database).tick, 0.5),
            Chore(Reap(database).tick, 1.0),
        )

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set. A database that is away is waited for; a defect is logged."""
        backoff = FIRST_BACKOFF_SECONDS
        while not stop.is_set():
            try:
                self.step(stop)
                backoff = FIRST_BACKOFF_SECONDS
            except DBAPIError as error:
                logger.warning("database failed, again in %.2f s: %s", backoff, error.orig)
                stop.wait(backoff)
                backoff = min(2 * backoff, LONGEST_BACKOFF_SECONDS)
            except Exception:
                logger.exception("a loop failed, again in %.2f s", backoff)
                stop.wait(backoff)
                backoff = min(2 * backoff, LONGEST_BACKOFF_SECONDS)

    def step(self, stop: threading.Event) -> None:
        """One round of whatever is due, and the pause after it."""
        for chore in self._chores:
            if time.monotonic() >= chore.due:
                chore.tick(datetime.now(UTC))
                chore.due = time.monotonic() + chore.every_seconds
        self._suggest.tick(datetime.now(UTC))
        if self._suggest.deciding:
            self._suggest.wait(BUSY_SECONDS)
        else:
            stop.wait(BUSY_SECONDS if self._suggest.studies_run else IDLE_SECONDS)


def main() -> int:
    """Run until SIGTERM or SIGINT."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    try:
        settings = Settings.from_environment()
    except SettingsError as error:
        logger.error("%s", error)
        return 2
    stop = _stop_on_signals()
    database = Database(settings.database_url)
    deciders = DeciderProcesses()
    incarnation = uuid.uuid4().hex
    name = f"scheduler@{socket.gethostname()}"
    try:
        deciders.warm()
        logger.info("started name=%s incarnation=%s", name, incarnation)
        Scheduler(database, deciders, name=name, incarnation=incarnation).run(stop)
    finally:
        deciders.close()
        database.dispose()
    logger.info("stopped")
    return 0


def _stop_on_signals() -> threading.Event:
    """An event that SIGTERM or SIGINT sets.

    A thread waits for the signals: a handler would run inside the main thread, where setting an event that
    is being waited for can deadlock. Child processes inherit that these signals are blocked.
    """
    ending = {signal.SIGTERM, signal.SIGINT}
    stop = threading.Event()
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)

    def wait_for_signal() -> None:
        signal.sigwait(ending)
        stop.set()

    threading.Thread(target=wait_for_signal, name="signals", daemon=True).start()
    return stop


if __name__ == "__main__":
    sys.exit(main())
