"""The states of studies, trials, runs, attempts and checkpoints, and the kinds of failure."""

from __future__ import annotations

from enum import StrEnum


class StudyState(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class TrialState(StrEnum):
    QUEUED = "queued"
    """A run waits for a worker."""
    RUNNING = "running"
    """A worker trains it."""
    PAUSED = "paused"
    """Trained to a target below the full fidelity; may go on from its checkpoint."""
    COMPLETED = "completed"
    """Trained to the end (or to the target value)."""
    STOPPED = "stopped"
    """Ended early on purpose: by a rule, the strategy or a person."""
    FAILED = "failed"
    """Ended by a failure with no retry left."""


class RunState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


class AttemptState(StrEnum):
    ACTIVE = "active"
    FINISHED = "finished"
    FAILED = "failed"
    LOST = "lost"
    """The lease ran out or the worker said goodbye without an end."""
    RELEASED = "released"
    """Given back unharmed (the dispatcher shuts down); the run is queued again at no cost."""


class CheckpointState(StrEnum):
    READY = "ready"
    GARBAGE = "garbage"
    """Nothing can start from it any more; a dispatcher is to delete its files."""
    DELETED = "deleted"


class FailureKind(StrEnum):
    OUT_OF_MEMORY = "out_of_memory"
    CRASH = "crash"
    HANG = "hang"
    DIVERGED = "diverged"
    LOST = "lost"
    INVALID = "invalid"
    """The trainer refused the configuration or settings."""


class Verdict(StrEnum):
    """What a worker is told after a report."""

    CONTINUE = "continue"
    PAUSE = "pause"
    """Save a checkpoint and end the run; the trial may go on later."""
    STOP = "stop"
    """End the run; the trial is over."""
    LOST = "lost"
    """The token is stale: this attempt no longer owns the run. Save nothing, stop at once."""
