"""The scheduler's rounds: what is due is done, in turn, by one thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from service.db.engine import Database, DatabaseError
from service.loops.deciders import Deciders
from service.loops.fitting import Fit
from service.loops.suggest import Suggest
from service.loops.upkeep import Complete, Heartbeat, Learn, Reap

logger = logging.getLogger(__name__)

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
        self._fit = Fit(database)
        self._chores = (
            Chore(Heartbeat(database, name=name, incarnation=incarnation).tick, 2.0),
            Chore(Complete(database).tick, 0.5),
            Chore(Reap(database).tick, 1.0),
            Chore(Learn(database).tick, 0.5),
            Chore(self._fit.tick, 0.2),
        )

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set. A database that is away is waited for; a defect is logged."""
        backoff = FIRST_BACKOFF_SECONDS
        while not stop.is_set():
            try:
                self.step(stop)
                backoff = FIRST_BACKOFF_SECONDS
            except DatabaseError as error:
                logger.warning("database failed, again in %.2f s: %s", backoff, error.orig)
                stop.wait(backoff)
                backoff = min(2 * backoff, LONGEST_BACKOFF_SECONDS)
            except Exception:
                logger.exception("a loop failed, again in %.2f s", backoff)
                stop.wait(backoff)
                backoff = min(2 * backoff, LONGEST_BACKOFF_SECONDS)
        self._fit.close()

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
