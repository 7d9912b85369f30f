"""Fits of scaling laws, computed one at a time in a process of their own.

A fit is taken from the database under a lease that is renewed while its process works. If this scheduler is
killed, the lease runs out and the fit is run again; nothing is stored of it before it is done.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from service.db import fits
from service.db.engine import Database, DatabaseError
from service.db.fits import Taken
from service.loops.deciders import end_with_parent
from trimtab.wire.laws import Caution

logger = logging.getLogger(__name__)

MOST_SECONDS = 600.0
"""A fit that takes longer has failed."""
RENEW_SECONDS = 1.0
"""How often the progress of a fit is written."""
_NICENESS = 5
"""Training and decisions come first."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A process has fitted its law."""

    law: dict[str, Any]
    summary: dict[str, Any]
    cautions: list[Caution]


@dataclass(frozen=True, slots=True)
class Refused:
    """The runs cannot carry the fit, or computing it failed."""

    why: str
    defect: bool = False
    """Of ours, not of the data."""


@dataclass(slots=True)
class Work:
    """A fit under way."""

    fit: Taken
    process: BaseProcess
    messages: Connection
    began: float = field(default_factory=time.monotonic)
    progress: float = 0.0
    renewed: float = field(default_factory=time.monotonic)

    def heard(self) -> Fitted | Refused | None:
        """What the process has said by now; its progress is kept."""
        try:
            while self.messages.poll():
                message = self.messages.recv()
                if not isinstance(message, float):
                    return message  # type: ignore[no-any-return]  # Fitted or Refused: see compute()
                self.progress = min(max(message, 0.0), 1.0)
        except EOFError:
            pass
        return None

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.messages.close()


class Fit:
    """Takes fits that wait, and stores what comes of them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._work: Work | None = None

    def tick(self, now: datetime) -> None:
        if self._work is None:
            self._start(now)
        else:
            self._follow(self._work, now)

    def close(self) -> None:
        """End the process; its fit waits for another scheduler."""
        if self._work is not None:
            self._work.end()
            try:
                with self._database.write() as session:
                    fits.give_back(session, self._work.fit)
            except DatabaseError:
                logger.warning("fit key=%s: not given back, its lease will run out", self._work.fit.key)
            self._work = None

    def _start(self, now: datetime) -> None:
        with self._database.read() as session:
            if not fits.waiting(session, now):
                return
        with self._database.write() as session:
            fit = fits.take(session, now)
        if fit is None:
            return
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(
            target=compute,
            args=(theirs, fit.family, dict(fit.options), fit.seed, dict(fit.runs)),
            daemon=True,
        )
        process.start()
        theirs.close()
        self._work = Work(fit, process, ours)
        logger.info("fit key=%s attempt=%d started", fit.key, fit.attempt)

    def _follow(self, work: Work, now: datetime) -> None:
        # Asked for first: what a process says before it ends must be heard.
        alive = work.process.is_alive()
        answer = work.heard()
        if answer is None and alive and time.monotonic() - work.began > MOST_SECONDS:
            answer = Refused(f"It took longer than {MOST_SECONDS:.0f} seconds. Fit fewer runs.")
        if answer is None and alive:
            if time.monotonic() - work.renewed > RENEW_SECONDS:
                work.renewed = time.monotonic()
                with self._database.write() as session:
                    ours = fits.renew(session, work.fit, work.progress, now)
                if not ours:  # it was deleted
                    self._drop(work)
            return
        with self._database.write() as session:
            if isinstance(answer, Fitted):
                fits.finish(
                    session,
                    work.fit,
                    law=answer.law,
                    summary=answer.summary,
                    cautions=answer.cautions,
                    now=now,
                )
            elif answer is not None:
                fits.fail(session, work.fit, answer.why, now)
            else:
                fits.give_back(session, work.fit, died=True)
        self._drop(work)
        logger.info(
            "fit key=%s %s seconds=%.1f",
            work.fit.key,
            type(answer).__name__ if answer is not None else "process died",
            time.monotonic() - work.began,
        )
        if isinstance(answer, Refused) and answer.defect:
            logger.error("fit key=%s: %s", work.fit.key, answer.why)

    def _drop(self, work: Work) -> None:
        work.end()
        self._work = None


def compute(
    messages: Connection, family: str, options: Mapping[str, Any], seed: int, runs: Mapping[str, Any]
) -> None:
    """Fit, in the child process: shares of the work that are done, then the answer, go to ``messages``."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()
    os.nice(_NICENESS)
    from threadpoolctl import threadpool_limits

    from search.errors import SearchError
    from search.laws import registry
    from service import laws

    last = 0.0

    def progress(share: float) -> None:
        nonlocal last
        if time.monotonic() - last > RENEW_SECONDS / 2:
            last = time.monotonic()
            messages.send(float(share))

    try:
        with threadpool_limits(limits=1):
            read = laws.runs_from_json(runs)
            found = registry.load(family).fit(read, options, seed, progress)
            answer: Fitted | Refused = Fitted(
                found.to_json(),
                {**found.summary(), **laws.checks(found, read)},
                [laws.caution(each) for each in found.cautions],
            )
    except SearchError as error:
        answer = Refused(
            " ".join(f"{_sentence(m.message)} {_sentence(m.suggestion)}" for m in error.mistakes)
        )
    except Exception as error:  # whatever it is, it is told; the log has it, too
        logger.exception("the fit failed")
        answer = Refused(f"It could not be computed: {type(error).__name__}: {error}", defect=True)
    messages.send(answer)
    messages.close()


def _sentence(text: str) -> str:
    text = text.strip()
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""
