"""Worker processes in which search decides, so that fitting a model never holds anything else up.

There are two, each started when first needed: strategies that fit models may think for many seconds and
load heavy libraries, so they have a process of their own and the quick strategies never queue behind them.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from search.decide import decide
from search.decision import Answer
from search.view import StudyView

FITS_MODELS = frozenset({"bo", "bohb", "cmaes", "curve-bo", "scaling", "tpe"})
"""Strategies that decide in the slow process; studies that prune their space do, too."""


@dataclass(frozen=True, slots=True)
class Decided:
    """An answer of search, and how long it took to find."""

    answer: Answer
    seconds: float


class Deciders(Protocol):
    """Where decisions are made."""

    def submit(self, view: StudyView, slots: int, seed: int) -> Future[Decided]:
        """Ask for a decision. The future raises what the strategy raised."""
        ...


class DeciderProcesses:
    """The two worker processes. A process that dies fails its decisions; the next one starts another."""

    def __init__(self) -> None:
        self._pools: dict[bool, ProcessPoolExecutor] = {}

    def warm(self) -> None:
        """Start the quick process now, so that the first decision need not wait for its imports."""
        self._pool(fits_models=False).submit(os.getpid)

    def submit(self, view: StudyView, slots: int, seed: int) -> Future[Decided]:
        # Earlier studies are learned from by a model, whatever the strategy.
        fits_models = view.strategy in FITS_MODELS or view.prune or bool(view.sources)
        try:
            return self._pool(fits_models).submit(timed_decide, view, slots, seed)
        except BrokenExecutor:
            self._pools.pop(fits_models).shutdown(wait=False)
            return self._pool(fits_models).submit(timed_decide, view, slots, seed)

    def close(self) -> None:
        """End the processes at once, in the middle of a decision, too: it will be made again."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        self._pools.clear()
        for child in multiprocessing.active_children():
            child.kill()

    def _pool(self, fits_models: bool) -> ProcessPoolExecutor:
        if fits_models not in self._pools:
            self._pools[fits_models] = ProcessPoolExecutor(
                max_workers=1,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_initialise,
            )
        return self._pools[fits_models]


def timed_decide(view: StudyView, slots: int, seed: int) -> Decided:
    """Decide, and time it. Runs in the worker process."""
    start = time.perf_counter()
    answer = decide(view, slots, seed)
    return Decided(answer, time.perf_counter() - start)


def _initialise() -> None:
    """A worker process ends when the scheduler ends it or is gone, not by signals to the whole group."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()


def end_with_parent() -> None:
    """From now on this child process ends when its parent does, however that ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "this is a child process"

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="end-with-parent", daemon=True).start()
