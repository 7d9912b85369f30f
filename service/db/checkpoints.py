"""Which checkpoints are kept, and whose files a dispatcher is to delete.

A checkpoint is referred to by every unfinished run that starts from it, and by its trial while it is the
newest one there and the trial may go on. What nobody refers to becomes garbage, and nothing starts from
garbage. Rows outlive their study, so that deleting a study leaves no files behind.

The files of an ``external`` study (ask and tell) belong to the user's own loop: no dispatcher is ever told
to delete them, and what would be garbage is only forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from service.db import events, outcomes
from service.db.models import AttemptRow, CheckpointRow, RunRow, StudyRow, TrialRow
from service.db.transitions import move
from trimtab.wire.states import AttemptState, CheckpointState, RunState, TrialState
from trimtab.wire.study import StudySpec
from trimtab.wire.work import GarbageItem, SavedCheckpoint, UploadedFolder

MAX_GARBAGE = 100
"""Items a dispatcher is given at a time."""

_MAY_GO_ON = frozenset({TrialState.QUEUED, TrialState.RUNNING, TrialState.PAUSED, TrialState.COMPLETED})


def newest(session: Session, trial_id: int, *, at_most: int | None = None) -> CheckpointRow | None:
    """The trial's checkpoint at the highest step (not above ``at_most``) that a run can start from."""
    query = select(CheckpointRow).where(
        CheckpointRow.trial_id == trial_id, CheckpointRow.state == CheckpointState.READY.value
    )
    if at_most is not None:
        query = query.where(CheckpointRow.step <= at_most)
    return session.scalar(query.order_by(CheckpointRow.step.desc(), CheckpointRow.id.desc()).limit(1))


def save(
    session: Session,
    study: StudyRow,
    trial: TrialRow,
    run: RunRow,
    token: int,
    saved: SavedCheckpoint,
    now: datetime,
) -> None:
    """Register a checkpoint of a running run: its next attempt starts there. Repeating it is harmless."""
    if not add(session, study, trial, token, saved, now):
        return
    start = newest(session, trial.id, at_most=run.target_step)
    run.checkpoint_id = start.id if start is not None else None
    session.flush()
    recount(session, trial)


def add(
    session: Session, study: StudyRow, trial: TrialRow, token: int, saved: SavedCheckpoint, now: datetime
) -> bool:
    """Register a checkpoint whose references the caller counts anew. False if it was known already."""
    known = session.scalar(
        select(CheckpointRow.id).where(
            CheckpointRow.trial_id == trial.id,
            CheckpointRow.step == saved.step,
            CheckpointRow.uri == saved.uri,
        )
    )
    if known is not None:
        return False
    session.add(
        CheckpointRow(
            study_id=study.id,
            trial_id=trial.id,
            token=token,
            step=saved.step,
            uri=saved.uri,
            bytes=saved.bytes,
            state=CheckpointState.READY.value,
            refs=0,
            at=now,
        )
    )
    session.flush()
    data = {"step": saved.step, "bytes": saved.bytes}
    events.append(session, study, "checkpoint.saved", trial=trial.number, data=data, now=now)
    return True


def recount(session: Session, trial: TrialRow) -> None:
    """Count the references to a trial's checkpoints anew; those without any become garbage."""
    ready = session.scalars(
        select(CheckpointRow)
        .where(CheckpointRow.trial_id == trial.id, CheckpointRow.state == CheckpointState.READY.value)
        .order_by(CheckpointRow.step.desc(), CheckpointRow.id.desc())
    ).all()
    if not ready:
        return
    starts = _starts(session, [checkpoint.id for checkpoint in ready])
    study = session.get_one(StudyRow, trial.study_id)
    for place, checkpoint in enumerate(ready):
        kept = place == 0 and trial.state in _MAY_GO_ON
        checkpoint.refs = starts.get(checkpoint.id, 0) + kept
        if checkpoint.refs == 0:
            _discard(study, checkpoint)
    session.flush()


def release(session: Session, study: StudyRow, now: datetime) -> None:
    """The study has ended: free what its policy does not keep.

    ``resumable`` keeps the newest checkpoint of each trial that could be continued, which is what is left
    by then anyway; ``best`` keeps that of the best trial alone, or those of the Pareto front.
    """
    spec = StudySpec.model_validate(study.spec)
    if spec.checkpoints.keep != "best":
        return
    best = outcomes.read(session, study.id, spec).front if spec.objectives else (study.best_trial_id,)
    freed = session.scalars(
        select(CheckpointRow)
        .join(TrialRow, TrialRow.id == CheckpointRow.trial_id)
        .where(TrialRow.study_id == study.id, CheckpointRow.state == CheckpointState.READY.value)
    ).all()
    starts = _starts(session, [checkpoint.id for checkpoint in freed])
    count = 0
    for checkpoint in freed:
        if checkpoint.trial_id in best:
            continue
        checkpoint.refs = starts.get(checkpoint.id, 0)
        if checkpoint.refs == 0:
            _discard(study, checkpoint)
            count += 1
    session.flush()
    if count:
        events.append(session, study, "checkpoint.released", data={"count": count}, now=now)


def abandon(session: Session, study: StudyRow) -> None:
    """The study is about to be deleted: all its checkpoints are garbage. Call before deleting it."""
    state = CheckpointState.DELETED if study.external else CheckpointState.GARBAGE
    trials = select(TrialRow.id).where(TrialRow.study_id == study.id)
    session.execute(
        update(RunRow)
        .where(RunRow.study_id == study.id, RunRow.checkpoint_id.is_not(None))
        .values(checkpoint_id=None)
    )
    session.execute(
        update(CheckpointRow)
        .where(CheckpointRow.trial_id.in_(trials), CheckpointRow.state == CheckpointState.READY.value)
        .values(state=state.value, refs=0)
        .execution_options(synchronize_session="fetch")
    )


def garbage(session: Session, *, limit: int = MAX_GARBAGE) -> list[GarbageItem]:
    """Checkpoints whose files may be deleted, oldest first."""
    rows = session.execute(
        select(CheckpointRow.id, CheckpointRow.uri)
        .where(CheckpointRow.state == CheckpointState.GARBAGE.value)
        .order_by(CheckpointRow.id)
        .limit(limit)
    )
    return [GarbageItem(id=row.id, uri=row.uri) for row in rows]


def orphans(session: Session, folders: Sequence[UploadedFolder]) -> list[UploadedFolder]:
    """Those of ``folders`` whose attempt has ended without registering them: nothing can refer to them.

    An attempt registers a checkpoint while it is active or with its end, and never again; so what is not
    registered when the attempt has ended never will be. Folders of attempts that are not known here are
    left alone: another service may share the store.
    """
    ended = {
        row.token: row
        for row in session.execute(
            select(AttemptRow.token, AttemptRow.trial_id, StudyRow.key)
            .join(StudyRow, StudyRow.id == AttemptRow.study_id)
            .where(
                AttemptRow.token.in_({folder.token for folder in folders}),
                AttemptRow.state != AttemptState.ACTIVE.value,
            )
        )
    }
    # After the attempts: a checkpoint that is registered in between belongs to one that was active then.
    registered = {
        (row.token, row.step)
        for row in session.execute(
            select(CheckpointRow.token, CheckpointRow.step).where(
                CheckpointRow.trial_id.in_({attempt.trial_id for attempt in ended.values()}),
                CheckpointRow.state != CheckpointState.DELETED.value,
            )
        )
    }
    return [
        folder
        for folder in folders
        if folder.token in ended
        and ended[folder.token].key == folder.study
        and (folder.token, folder.step) not in registered
    ]


def done(session: Session, ids: Sequence[int]) -> None:
    """Their files are gone. Ids that are not garbage are left alone: saying it twice is harmless."""
    session.execute(
        update(CheckpointRow)
        .where(CheckpointRow.id.in_(ids), CheckpointRow.state == CheckpointState.GARBAGE.value)
        .values(state=CheckpointState.DELETED.value)
    )


def _discard(study: StudyRow, checkpoint: CheckpointRow) -> None:
    move(checkpoint, CheckpointState.GARBAGE)
    if study.external:
        move(checkpoint, CheckpointState.DELETED)


def _starts(session: Session, ids: Sequence[int]) -> dict[int, int]:
    """How many unfinished runs start from each of these checkpoints."""
    if not ids:
        return {}
    counts = session.execute(
        select(RunRow.checkpoint_id, func.count())
        .where(
            RunRow.checkpoint_id.in_(ids),
            RunRow.state.in_((RunState.QUEUED.value, RunState.RUNNING.value)),
        )
        .group_by(RunRow.checkpoint_id)
    )
    return {checkpoint_id: count for checkpoint_id, count in counts if checkpoint_id is not None}
