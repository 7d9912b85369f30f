"""Runs a built-in trainer inside the actor."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from trainers import registry
from trainers.base import Job, Trainer, Workload
from trimtab.wire.study import TrainerSpec
from trimtab.wire.work import Assignment, Measurement, SavedCheckpoint
from workers.checkpoints import CheckpointStore, DamagedCheckpointError, place
from workers.messages import Channel, Ended, Order

CHUNK_SECONDS = 0.2
"""Orders are looked up about so often, if steps are shorter than this, and at each measurement."""


def train(assignment: Assignment, store: CheckpointStore, channel: Channel) -> Ended:
    """Train to the target, or until an order to end; measurements and checkpoints go to ``channel``.

    A damaged checkpoint is not loaded: training starts from nothing and repeats the steps up to it, which
    gives the same curve at the cost of time. A forked trial cannot, since its start is its parent's: it
    fails. Raises whatever the trainer raises.
    """
    trainer = _prepare(assignment, store, channel)
    every = assignment.checkpoint_every or assignment.target_step
    saved = trainer.step
    chunk = 1
    while trainer.step < assignment.target_step and channel.order is Order.CONTINUE:
        began = time.monotonic()
        next_save = (trainer.step // every + 1) * every
        until = min(trainer.step + chunk, next_save, assignment.target_step)
        for measured in trainer.train(until):
            channel.send(
                Measurement(
                    step=measured.step,
                    metrics=dict(measured.metrics),
                    seconds=measured.seconds,
                    tokens=measured.tokens,
                )
            )
            if channel.order is not Order.CONTINUE:
                break
        channel.step = trainer.step
        if trainer.step == next_save < assignment.target_step:
            channel.send(_save(trainer, assignment, store))
            saved = trainer.step
        took = time.monotonic() - began
        chunk = (
            chunk * 2 if took < CHUNK_SECONDS / 2 else max(1, chunk // 2) if took > CHUNK_SECONDS else chunk
        )
    return _end(trainer, saved, assignment, store, channel.order)


def _prepare(assignment: Assignment, store: CheckpointStore, channel: Channel) -> Trainer:
    """A trainer that stands where the run starts."""
    checkpoint = assignment.checkpoint
    job = Job(
        config={**assignment.trainer.settings, **assignment.params},
        seed=assignment.training_seed,
        max_step=assignment.max_step,
        report_every=assignment.report_every,
        target_step=assignment.target_step,
        schedule=tuple(assignment.schedule),
        # Its own checkpoints lie behind the fork.
        forked=assignment.parent is not None
        and checkpoint is not None
        and checkpoint.step == assignment.forked_at,
        workloads=workloads(assignment.trainer),
    )
    assert assignment.trainer.name is not None
    share_gpu(assignment.resources.gpus)
    trainer = registry.create(assignment.trainer.name, job)
    if checkpoint is not None:
        with tempfile.TemporaryDirectory(prefix="trimtab-") as scratch:
            try:
                store.load(checkpoint.uri, Path(scratch))
            except DamagedCheckpointError as error:
                if assignment.parent is not None:
                    raise
                channel.output.write(f"{error}; training starts from nothing\n")
            else:
                trainer.load(Path(scratch))
    channel.step = trainer.step
    return trainer


def workloads(trainer: TrainerSpec) -> tuple[Workload, ...]:
    """What a suite trains; empty for every other trainer."""
    return tuple(
        Workload(
            name=each.name,
            trainer=each.trainer,
            settings=each.settings,
            steps=each.steps,
            metric=each.target.metric,
            target=each.target.bound,
            maximize=not each.target.upper,
        )
        for each in trainer.workloads
    )


def share_gpu(gpus: float) -> None:
    """A run that holds a part of a GPU gets that part of its memory: if it needs more, it is the one that
    fails, as out of memory, and not its neighbour."""
    if 0 < gpus < 1:
        import torch

        if torch.cuda.is_available():
            torch.cuda.set_per_process_memory_fraction(gpus)


def _end(
    trainer: Trainer, saved: int, assignment: Assignment, store: CheckpointStore, order: Order
) -> Ended:
    reached = trainer.step >= assignment.target_step
    wanted = assignment.save_at_end if reached else order in (Order.PAUSE, Order.RELEASE)
    checkpoint = None
    if wanted and order is not Order.LOST and trainer.step > saved:
        checkpoint = _save(trainer, assignment, store)
    released = order is Order.RELEASE and not reached
    return Ended("released" if released else "finished", trainer.step, checkpoint)


def _save(trainer: Trainer, assignment: Assignment, store: CheckpointStore) -> SavedCheckpoint:
    with tempfile.TemporaryDirectory(prefix="trimtab-") as scratch:
        trainer.save(Path(scratch))
        return store.save(Path(scratch), place=place(assignment, trainer.step), step=trainer.step)
