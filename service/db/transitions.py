"""What may become what: the states of studies, trials, runs, attempts and checkpoints.

Trials (the letters name the causes)::

                 a                  b
    (created) ─────► queued ◄──────────────► running
                     │  ▲ ▲                 │ │ │ │
                     │  │ └─ f ◄ c ─ paused◄─┘ │ │
                   d │  │ e          │ d    d │ │ │
                     ▼  │            ▼        ▼ │ │
                   stopped ◄──────────────────┘ │ │
                   completed ◄──────────────────┘ │      (e leads back from each of the three ends)
                   failed ◄───────────────────────┘

    a  search, a person or an import of settings makes a trial with its first run
    b  a worker leases the run; it goes back to the queue when the worker is lost, gives it back, fails
       with a retry left, or pauses it below its target
    c  the run reached a target below the full fidelity: paused; search continues it: queued
    f  the study's budget was spent before the run's target: paused, from the queue or while it was trained
    d  a rule, search or a person stops it
    e  a person retries it, or continues it for more steps

Runs::

    queued ──lease──► running ──► finished | failed | cancelled
      ▲  └──cancel──────┼────────────────────► cancelled
      └────requeue──────┘

Attempts go once from active to finished, failed, lost or released. Checkpoints go from ready to garbage
(nothing can start from them) to deleted (their files are gone,
or were never the service's own).

Studies::

    running ◄──► paused
       │  ▲         │
       ▼  │ extend  ▼
    completed    cancelled | failed ──resume──► running
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from service.db.models import AttemptRow, CheckpointRow, RunRow, StudyRow, TrialRow
from service.errors import ConflictError
from trimtab.wire.states import AttemptState, CheckpointState, RunState, StudyState, TrialState

Row = StudyRow | TrialRow | RunRow | AttemptRow | CheckpointRow
Table = Mapping[StrEnum, frozenset[StrEnum]]

STUDY: Table = {
    StudyState.RUNNING: frozenset(
        {StudyState.PAUSED, StudyState.COMPLETED, StudyState.FAILED, StudyState.CANCELLED}
    ),
    StudyState.PAUSED: frozenset(
        {StudyState.RUNNING, StudyState.COMPLETED, StudyState.FAILED, StudyState.CANCELLED}
    ),
    StudyState.COMPLETED: frozenset({StudyState.RUNNING}),
    StudyState.FAILED: frozenset({StudyState.RUNNING, StudyState.CANCELLED}),
    StudyState.CANCELLED: frozenset(),
}

TRIAL: Table = {
    TrialState.QUEUED: frozenset({TrialState.RUNNING, TrialState.PAUSED, TrialState.STOPPED}),
    TrialState.RUNNING: frozenset(
        {
            TrialState.QUEUED,
            TrialState.PAUSED,
            TrialState.COMPLETED,
            TrialState.STOPPED,
            TrialState.FAILED,
        }
    ),
    TrialState.PAUSED: frozenset({TrialState.QUEUED, TrialState.STOPPED}),
    TrialState.COMPLETED: frozenset({TrialState.QUEUED}),
    TrialState.STOPPED: frozenset({TrialState.QUEUED}),
    TrialState.FAILED: frozenset({TrialState.QUEUED}),
}

RUN: Table = {
    RunState.QUEUED: frozenset({RunState.RUNNING, RunState.CANCELLED}),
    RunState.RUNNING: frozenset({RunState.QUEUED, RunState.FINISHED, RunState.FAILED, RunState.CANCELLED}),
    RunState.FINISHED: frozenset(),
    RunState.FAILED: frozenset(),
    RunState.CANCELLED: frozenset(),
}

ATTEMPT: Table = {
    AttemptState.ACTIVE: frozenset(
        {AttemptState.FINISHED, AttemptState.FAILED, AttemptState.LOST, AttemptState.RELEASED}
    ),
    AttemptState.FINISHED: frozenset(),
    AttemptState.FAILED: frozenset(),
    AttemptState.LOST: frozenset(),
    AttemptState.RELEASED: frozenset(),
}

CHECKPOINT: Table = {
    CheckpointState.READY: frozenset({CheckpointState.GARBAGE}),
    CheckpointState.GARBAGE: frozenset({CheckpointState.DELETED}),
    CheckpointState.DELETED: frozenset(),
}

ENDED_TRIAL = frozenset({TrialState.COMPLETED, TrialState.STOPPED, TrialState.FAILED})
"""A trial in one of these takes no resources and starts only when a person asks for it."""


def move(row: Row, state: StrEnum, reason: str | None = None) -> None:
    """Change the state of ``row``; ``reason`` is kept where the row has a place for it.

    Raises :class:`ConflictError` when that cannot follow on the present state.
    """
    table, name = _table_of(row)
    if state not in next((after for before, after in table.items() if before == row.state), ()):
        raise ConflictError(f"{name} is {row.state} and cannot become {state.value}")
    row.state = state.value
    if reason is not None and isinstance(row, (StudyRow, TrialRow)):
        row.state_reason = reason


def move_study(study: StudyRow, state: StudyState, reason: str, now: datetime) -> None:
    """Change a study's state and keep its clock: seconds are counted while it runs.

    Raises :class:`ConflictError` when the state cannot follow on the present one.
    """
    move(study, state, reason)
    if state is StudyState.RUNNING:
        study.active_since = now
        study.started_at = study.started_at or now
        study.ended_at = None
        return
    if study.active_since is not None:
        study.active_seconds += (now - study.active_since).total_seconds()
        study.active_since = None
    if state is not StudyState.PAUSED:
        study.ended_at = now


def _table_of(row: Row) -> tuple[Table, str]:
    if isinstance(row, StudyRow):
        return STUDY, f"the study {row.name!r}"
    if isinstance(row, TrialRow):
        return TRIAL, f"trial {row.number}"
    if isinstance(row, RunRow):
        return RUN, f"run {row.number}"
    if isinstance(row, AttemptRow):
        return ATTEMPT, f"attempt {row.token}"
    return CHECKPOINT, f"checkpoint {row.id}"
