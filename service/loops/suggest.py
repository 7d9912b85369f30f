"""Ask search what to train next, wherever something has happened."""

from __future__ import annotations

import logging
from collections.abc import Set
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from datetime import datetime, timedelta

from service.db import decisions
from service.db.engine import Database
from service.db.views import Curves
from service.errors import ServiceError
from service.loops.deciders import Decided, Deciders

logger = logging.getLogger(__name__)

FIRST_RETRY = timedelta(seconds=1)
LONGEST_RETRY = timedelta(minutes=5)
"""A strategy that raised is asked again after 1, 2, 4, ... seconds, at most this long."""
NEWEST = 0.2
"""Weight of the newest decision in a study's pace."""


@dataclass(frozen=True, slots=True)
class Flight:
    """A decision being made."""

    key: str
    question: decisions.Question
    future: Future[Decided]


@dataclass(slots=True)
class Pace:
    """How long a study's decisions take, and how often one is asked for; running means."""

    asked: datetime | None = None
    between: float | None = None
    """Seconds from one question to the next; None before the second."""
    deciding: float | None = None
    """Seconds that a decision takes; None before the first."""

    @property
    def load(self) -> float:
        """The share of the time in which a decision is being made; may be above 1."""
        return self.deciding / self.between if self.deciding and self.between else 0.0

    def ask(self, now: datetime) -> None:
        """A question is asked now."""
        if self.asked is not None:
            self.between = _mean(self.between, (now - self.asked).total_seconds())
        self.asked = now

    def decide(self, seconds: float) -> None:
        """A decision has taken so long."""
        self.deciding = _mean(self.deciding, seconds)


def _mean(before: float | None, newest: float) -> float:
    return newest if before is None else before + NEWEST * (newest - before)


@dataclass(frozen=True, slots=True)
class Failed:
    """A study whose last decision raised an error."""

    times: int
    not_before: datetime


class Suggest:
    """Asks search about every study in which something has happened, and carries the answers out.

    A study has at most one decision under way. What is kept here is only about this process: another
    scheduler may run beside it or take over, and the study's version tells whose answer comes too late.
    """

    def __init__(self, database: Database, deciders: Deciders) -> None:
        self._database = database
        self._deciders = deciders
        self._curves = Curves()
        self._flights: dict[int, Flight] = {}
        self._failed: dict[int, Failed] = {}
        self._paces: dict[int, Pace] = {}
        self._full: dict[int, int] = {}
        """The version at which a study had no free slot: nothing is asked before it moves."""
        self.studies_run = False
        """Whether any study ran at the last tick."""

    def tick(self, now: datetime) -> bool:
        """Carry out answers that have come, ask new questions. True if anything was done."""
        landed = self._land(now)
        asked = self._ask(now)
        return landed or asked

    def wait(self, seconds: float) -> None:
        """Sleep until a decision has been made, at most this long. Needs a decision under way."""
        wait([flight.future for flight in self._flights.values()], seconds, FIRST_COMPLETED)

    @property
    def deciding(self) -> bool:
        """Whether a decision is under way."""
        return bool(self._flights)

    def _land(self, now: datetime) -> bool:
        done = [(key, flight) for key, flight in self._flights.items() if flight.future.done()]
        for study_id, flight in done:
            error = flight.future.exception()
            if error is None:
                try:
                    self._apply(flight, flight.future.result(), now)
                except ServiceError as refused:
                    error = refused
            if error is not None:
                self._fail(study_id, flight.key, error, now)
            del self._flights[study_id]
        return bool(done)

    def _apply(self, flight: Flight, decided: Decided, now: datetime) -> None:
        with self._database.write() as session:
            applied = decisions.apply(
                session, flight.question, decided.answer, seconds=decided.seconds, now=now
            )
        self._failed.pop(flight.question.study_id, None)
        self._paces.setdefault(flight.question.study_id, Pace()).decide(decided.seconds)
        logger.info(
            "decision study=%s version=%d decisions=%d applied=%s seconds=%.3f",
            flight.key,
            flight.question.version,
            len(decided.answer.decisions),
            applied,
            decided.seconds,
        )

    def _fail(self, study_id: int, key: str, error: BaseException, now: datetime) -> None:
        times = self._failed[study_id].times + 1 if study_id in self._failed else 1
        delay = min(FIRST_RETRY * 2 ** min(times - 1, 20), LONGEST_RETRY)
        self._failed[study_id] = Failed(times, now + delay)
        logger.error("decision study=%s failed times=%d", key, times, exc_info=error)
        with self._database.write() as session:
            decisions.note_error(session, study_id, f"{type(error).__name__}: {error}", now=now)

    def _ask(self, now: datetime) -> bool:
        with self._database.read() as session:
            running = decisions.running(session)
        self.studies_run = bool(running)
        self._forget_all_but({study.study_id for study in running})
        asked = False
        for study in running:
            failed = self._failed.get(study.study_id)
            if (
                not study.undecided
                or study.study_id in self._flights
                or self._full.get(study.study_id) == study.version
                or (failed is not None and now < failed.not_before)
            ):
                continue
            try:
                asked |= self._ask_about(study, failed.times if failed is not None else 0, now)
            except ValueError as error:  # the specification: search's SearchError, pydantic's own
                self._fail(study.study_id, study.key, error, now)
        return asked

    def _ask_about(self, study: decisions.RunningStudy, attempt: int, now: datetime) -> bool:
        pace = self._paces.setdefault(study.study_id, Pace())
        with self._database.read() as session:
            question = decisions.question(
                session, study.study_id, curves=self._curves, attempt=attempt, now=now, load=pace.load
            )
        if question is None:
            self._full[study.study_id] = study.version
            return False
        pace.ask(now)
        future = self._deciders.submit(question.view, question.slots, question.seed)
        self._flights[study.study_id] = Flight(study.key, question, future)
        return True

    def _forget_all_but(self, running: Set[int]) -> None:
        self._curves.forget_all_but(running)
        for kept in (self._failed, self._full, self._paces):
            for study_id in kept.keys() - running:
                del kept[study_id]
