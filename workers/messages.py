"""What an actor and the dispatcher say to each other about one attempt."""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from trimtab.wire.work import Failure, Measurement, SavedCheckpoint
from workers.output import OutputTail


class Order(StrEnum):
    """What the dispatcher wants of a training."""

    CONTINUE = "continue"
    PAUSE = "pause"
    """Save, end."""
    STOP = "stop"
    """End; nothing need be saved."""
    RELEASE = "release"
    """The dispatcher shuts down: save, end, another attempt goes on."""
    LOST = "lost"
    """The attempt is no longer ours: end at once, save nothing."""


@dataclass(frozen=True, slots=True)
class Started:
    """The actor is up and has taken the run."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The last message of an attempt."""

    outcome: Literal["finished", "failed", "released"]
    step: int
    checkpoint: SavedCheckpoint | None = None
    failure: Failure | None = None


Message = Started | Measurement | SavedCheckpoint | Ended


class Channel:
    """A training's connection to the world: it sends messages and looks up its orders."""

    def __init__(self, output: OutputTail, order: Callable[[], Order], start_step: int) -> None:
        self.output = output
        """The last lines that the training printed."""
        self.step = start_step
        """The last step known to be reached."""
        self._order = order
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()

    @property
    def order(self) -> Order:
        """What the dispatcher wants by now."""
        return self._order()

    def send(self, message: Message) -> None:
        """Hand a message on; never blocks."""
        if isinstance(message, Measurement):
            self.step = message.step
        self._messages.put(message)

    def receive(self, timeout: float) -> list[Message]:
        """Wait for a message; take it and all that came with it.

        Raises ``queue.Empty`` after ``timeout`` seconds.
        """
        messages = [self._messages.get(timeout=timeout)]
        while not self._messages.empty():
            messages.append(self._messages.get())
        return messages
