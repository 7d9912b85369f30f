"""The Ray actor: trains one run after the other, warm."""

from __future__ import annotations

import gc
import logging
import os
import queue
import sys
import threading
from collections.abc import Iterator

from trimtab.wire.states import FailureKind
from trimtab.wire.work import Assignment
from workers import failures
from workers.checkpoints import CheckpointStore
from workers.messages import Channel, Ended, Message, Order, Started
from workers.output import OutputTail, capture
from workers.scratch import Scratch

HANG_JOIN_SECONDS = 5.0


class TrainingActor:
    """Holds a resource request's worth of the cluster and trains what is given to it.

    ``run`` streams; ``order`` is called while it does, in another thread (Ray's ``max_concurrency``).
    """

    def __init__(self, checkpoints: str, threads: int, scratch: Scratch) -> None:
        # Before torch is imported: its thread pools are laid out then.
        for variable in (
            "OMP_NUM_THREADS",
            "MKL_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
            "NUMEXPR_NUM_THREADS",
        ):
            os.environ[variable] = str(threads)
        logging.getLogger().setLevel(logging.INFO)
        scratch.use()
        self._store = CheckpointStore(checkpoints)
        self._orders: dict[int, Order] = {}

    def prepare(self) -> None:
        """Import what takes seconds to import (torch) ahead of the first run."""
        import trainers.torch_trainer  # noqa: F401

    def order(self, token: int, order: Order) -> None:
        """Tell the run under ``token`` what to do."""
        self._orders[token] = order

    def run(self, assignment: Assignment) -> Iterator[list[Message]]:
        """Train; what comes is streamed as it comes, the last message is :class:`Ended`.

        A training that has nothing to say for the study's limit is given up as hung: it may be stuck
        where no thread of this process can stop it, so the caller must kill the actor then.
        """
        token = assignment.token
        self._orders = {t: order for t, order in self._orders.items() if t == token}
        channel = Channel(
            OutputTail(), lambda: self._orders.get(token, Order.CONTINUE), assignment.start_step
        )
        yield [Started()]
        training = threading.Thread(target=self._work, args=(assignment, channel), daemon=True)
        training.start()
        while True:
            try:
                messages = channel.receive(timeout=assignment.hang_after_seconds)
            except queue.Empty:
                ends = "its target" if channel.step >= assignment.target_step else None
                message = failures.hang(assignment.hang_after_seconds, step=channel.step, ends=ends)
                failure = failures.make(FailureKind.HANG, message, channel.output.text())
                # A script can be stopped from here; a trainer that is stuck ends with its actor.
                self._orders[token] = Order.LOST
                if assignment.trainer.name is None:
                    training.join(timeout=HANG_JOIN_SECONDS)
                yield [Ended("failed", channel.step, failure=failure)]
                return
            yield messages
            if isinstance(messages[-1], Ended):
                if assignment.resources.gpus:
                    _free_gpu_memory()
                return

    def _work(self, assignment: Assignment, channel: Channel) -> None:
        channel.send(self._train(assignment, channel))

    def _train(self, assignment: Assignment, channel: Channel) -> Ended:
        try:
            if assignment.trainer.name is None:
                from workers import script

                return script.train(assignment, self._store, channel)
            with capture(channel.output):
                # Not at the top: torch is heavy, and an actor for scripts never needs it.
                from workers import execution

                return execution.train(assignment, self._store, channel)
        except (
            BaseException
        ) as error:  # Whatever training raises is the trial's result, not the actor's end.
            return Ended(
                "failed", channel.step, failure=failures.of_exception(error, channel.output.text())
            )


def _free_gpu_memory() -> None:
    """Give cached GPU memory back, for the others on the same GPU."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()
