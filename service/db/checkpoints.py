"""Which checkpoints are kept, and whose files a dispatcher is to delete.

A checkpoint is referred to by every unfinished run that starts from it, by its trial while it is the
newest one there and the trial may go on, and by every trial that was forked from it, may go on and has no
checkpoint of its own yet. Where the strategy forks, a trial that may go on also keeps the checkpoint that
each of its runs ended with, until the study has ended. What nobody refers to becomes garbage, and nothing
starts from garbage. Rows outlive their study, so that deleting a study leaves no files behind.

A run may be queued from a checkpoint while its trial saves a newer one: both lock the checkpoint's row, so
that one of them sees what the other did.

The files of an ``external`` study (ask and tell) belong to the user's own loop: no dispatcher is ever told
to delete them, and what would be garbage is only forgotten.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, aliased

from service.db import events, facts, outcomes
from service.db.models import AttemptRow, CheckpointRow, RunRow, StudyRow, TrialRow
from service.db.transitions import move
from trimtab.wire.states import AttemptState, CheckpointState, RunState, StudyState, TrialState
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


def start_of(session: Session, trial: TrialRow, *, at_most: int | None = None) -> CheckpointRow | None:
    """Where a run of the trial can start from: its newest checkpoint, else the one that it was forked from.

    None: from nothing; of a forked trial, that the checkpoint is gone: it cannot be trained any more.
    """
    own = newest(session, trial.id, at_most=at_most)
    if own is not None or trial.parent is None:
        return own
    parent = parent_of(session, trial)
    return None if parent is None else at(session, parent, trial.forked_at)


def at(session: Session, trial: TrialRow, step: int) -> CheckpointRow | None:
    """The trial's checkpoint at this very step, if a run can start from it; it stays so until the
    transaction ends."""
    return session.scalar(
        select(CheckpointRow)
        .where(
            CheckpointRow.trial_id == trial.id,
            CheckpointRow.step == step,
            CheckpointRow.state == CheckpointState.READY.value,
        )
        .order_by(CheckpointRow.id.desc())
        .limit(1)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )


def steps_of(session: Session, trial: TrialRow) -> list[int]:
    """The steps of the trial's checkpoints that a run can start from, increasing."""
    return sorted(
        set(
            session.scalars(
                select(CheckpointRow.step).where(
                    CheckpointRow.trial_id == trial.id, CheckpointRow.state == CheckpointState.READY.value
                )
            )
        )
    )


def parent_of(session: Session, trial: TrialRow) -> TrialRow | None:
    """The trial that this one was forked from, if it was."""
    if trial.parent is None:
        return None
    return session.scalar(
        select(TrialRow).where(TrialRow.study_id == trial.study_id, TrialRow.number == trial.parent)
    )


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
    start = start_of(session, trial, at_most=run.target_step)
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
    """Count the references to a trial's checkpoints, and to those of its parent, anew; those without any
    become garbage."""
    _recount(session, trial)
    parent = parent_of(session, trial)
    if parent is not None:
        _recount(session, parent)


def _recount(session: Session, trial: TrialRow) -> None:
    ready = session.scalars(
        select(CheckpointRow)
        .where(CheckpointRow.trial_id == trial.id, CheckpointRow.state == CheckpointState.READY.value)
        .order_by(CheckpointRow.step.desc(), CheckpointRow.id.desc())
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).all()
    if not ready:
        return
    study = session.get_one(StudyRow, trial.study_id)
    starts = _starts(session, [checkpoint.id for checkpoint in ready])
    waiting = _waiting_forks(session, trial)
    ends = _ends(session, trial) if _keeps_ends(session, study) else set()
    for place, checkpoint in enumerate(ready):
        kept = trial.state in _MAY_GO_ON and (place == 0 or checkpoint.step in ends)
        checkpoint.refs = starts.get(checkpoint.id, 0) + waiting[checkpoint.step] + kept
        if checkpoint.refs == 0:
            _discard(study, checkpoint)
    session.flush()


def release(session: Session, study: StudyRow, now: datetime) -> None:
    """The study has ended: free what its policy does not keep.

    ``resumable`` keeps the newest checkpoint of each trial that could be continued, which is what is left
    by then anyway, unless the strategy forks; ``best`` keeps that of the best trial alone, or those of the
    Pareto front.
    """
    spec = StudySpec.model_validate(study.spec)
    if facts.of(session, study.key).forks:
        kept = select(CheckpointRow.trial_id).where(CheckpointRow.state == CheckpointState.READY.value)
        for trial in session.scalars(
            select(TrialRow).where(TrialRow.study_id == study.id, TrialRow.id.in_(kept))
        ).all():
            _recount(session, trial)
    if spec.checkpoints.keep != "best":
        return
    best = outcomes.read(session, study.id, spec).front if spec.objectives else _best(session, study)
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


def _best(session: Session, study: StudyRow) -> tuple[int | None, ...]:
    """The best trial by row id, and the winner on test seeds if there is one."""
    winner = None if study.finals is None else study.finals["winner"]
    if winner is None:
        return (study.best_trial_id,)
    won = select(TrialRow.id).where(TrialRow.study_id == study.id, TrialRow.number == winner)
    return (study.best_trial_id, session.scalar(won))


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


def _waiting_forks(session: Session, trial: TrialRow) -> Counter[int]:
    """By step: how many trials were forked there, may go on, and have no checkpoint of their own."""
    own = aliased(CheckpointRow)
    has_own = (
        select(own.id).where(own.trial_id == TrialRow.id, own.state == CheckpointState.READY.value).exists()
    )
    return Counter(
        session.scalars(
            select(TrialRow.forked_at).where(
                TrialRow.study_id == trial.study_id,
                TrialRow.parent == trial.number,
                TrialRow.state.in_([state.value for state in _MAY_GO_ON]),
                ~has_own,
            )
        )
    )


def _keeps_ends(session: Session, study: StudyRow) -> bool:
    """Whether its strategy may still fork a trial at the end of any of its runs."""
    return study.state in (StudyState.RUNNING, StudyState.PAUSED) and facts.of(session, study.key).forks


def _ends(session: Session, trial: TrialRow) -> set[int]:
    """The steps at which runs of the trial have ended well."""
    ended = select(RunRow.end_step).where(RunRow.trial_id == trial.id, RunRow.end_step.is_not(None))
    return {step for step in session.scalars(ended) if step is not None}
