"""A peer's side of the conversation with the benchmark: JSON lines over two pipes.

Questions come on stdin; answers go to the file descriptor named by the script's only argument, since many a
library prints to stdout what it has to say.

The scripts beside this file run in the peers' own environments: they know nothing of Trimtab but this file.
The first line is the setup; every further one is a question. It is answered by one line, the answer and the
processor seconds used so far:

    {"ask": true}                     -> [{"trial": 3, "params": {...}, "target": 9}, 1.5], or [null, ...]
    {"report": [trial, epoch, value]}  -> ["continue", 1.5], or "stop", or "pause"

Values are finite: what diverged comes as the value of an untrained model, for all its epochs.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Setup:
    """What a peer is told of a study."""

    method: str
    """Which of the script's methods."""
    dimensions: list[dict[str, Any]]
    """name, low, high, log, whole."""
    max_epochs: int
    maximize: bool
    workers: int
    seed: int


class Peer(Protocol):
    def ask(self) -> tuple[int, dict[str, Any], int] | None:
        """The trial that a free worker trains, its parameters, and to which epoch; None: wait."""
        ...

    def report(self, trial: int, epoch: int, value: float) -> str:
        """The verdict on a trial after an epoch: continue, stop or pause."""
        ...


class FullTrainings:
    """A peer that knows only full trainings: each is told with the best value of its curve."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.best: dict[int, float] = {}

    def suggest(self) -> tuple[int, dict[str, Any]]:
        """A new trial and its parameters."""
        raise NotImplementedError

    def complete(self, trial: int, value: float) -> None:
        """Take the best value of a trial."""
        raise NotImplementedError

    def ask(self) -> tuple[int, dict[str, Any], int]:
        return *self.suggest(), self.setup.max_epochs

    def report(self, trial: int, epoch: int, value: float) -> str:
        pick = max if self.setup.maximize else min
        self.best[trial] = pick(value, self.best.get(trial, value))
        if epoch == self.setup.max_epochs:
            self.complete(trial, self.best[trial])
        return "continue"


def serve(make: Callable[[Setup], Peer]) -> None:
    """Answer the benchmark until it closes the conversation."""
    replies = os.fdopen(int(sys.argv[1]), "w")

    def reply(answer: object) -> None:
        replies.write(
            json.dumps([answer, time.process_time()], default=lambda number: number.item()) + "\n"
        )
        replies.flush()

    peer = make(Setup(**json.loads(sys.stdin.readline())))
    reply("ready")
    for line in sys.stdin:
        question = json.loads(line)
        if "ask" in question:
            job = peer.ask()
            reply(None if job is None else {"trial": job[0], "params": job[1], "target": job[2]})
        else:
            reply(peer.report(*question["report"]))
