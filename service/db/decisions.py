"""Search's decisions: which studies wait for one, and how an answer becomes trials and runs.

A decision is a function of the view and of its seed. The seed is derived from the study's search seed and
the number of trials created so far, so a study that has the same history decides the same again, in
whichever process. A decision that raised an error is tried again with the next seed of that derivation.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from search.decision import Answer, Continue, Decision, Finish, Launch, Stop
from service.db import completion, events, runs
from service.db.models import DecisionRow, StudyRow, TrialRow
from service.errors import ConflictError
from trimtab.wire.states import StudyState, TrialState, Verdict

ACTIVE = (TrialState.QUEUED.value, TrialState.RUNNING.value)


@dataclass(frozen=True, slots=True)
class Undecided:
    """A running study in which something has happened that search has not seen."""

    study_id: int
    key: str
    version: int
    parallelism: int
    active: int
    """Trials that are queued or running."""


def undecided(session: Session) -> list[Undecided]:
    """The studies that wait for a decision, oldest first."""
    active = (
        select(func.count())
        .where(TrialRow.study_id == StudyRow.id, TrialRow.state.in_(ACTIVE))
        .scalar_subquery()
    )
    rows = session.execute(
        select(StudyRow.id, StudyRow.key, StudyRow.version, StudyRow.parallelism, active)
        .where(StudyRow.state == StudyState.RUNNING.value, StudyRow.decided_version < StudyRow.version)
        .order_by(StudyRow.id)
    )
    return [Undecided(*row) for row in rows]


def seed(study: StudyRow, attempt: int = 0) -> int:
    """The seed of the study's next decision, in [0, 2**63); ``attempt`` counts errors since the last one."""
    trials = study.next_trial - 1
    text = f"{study.spec['seeds']['search']}/{trials}/{attempt}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def apply(
    session: Session,
    study: StudyRow,
    answer: Answer,
    *,
    version: int,
    seed: int,
    seconds: float,
    now: datetime,
) -> bool:
    """Carry out ``answer``, decided from the study at ``version``, and record why.

    False, and nothing is written, if the study has moved on since or does not run any more. What the answer
    starts moves the version too, so search is asked again until it starts nothing more. A Finish takes
    effect once nothing is active. Raises :class:`ConflictError` for a decision that the trial's state
    forbids.
    """
    runs.lock(session, study)
    if study.state != StudyState.RUNNING or study.version != version:
        return False
    study.decided_version = version
    study.decide_error = None
    for decision in answer.decisions:
        if isinstance(decision, Finish):
            if not completion.any_active(session, study):
                _record(session, study, answer, decision, None, version, seed, seconds, now)
                completion.complete(session, study, decision.reason, now)
        else:
            trial = _carry_out(session, study, decision, now)
            _record(session, study, answer, decision, trial, version, seed, seconds, now)
    return True


def note_error(session: Session, study: StudyRow, message: str, *, version: int, now: datetime) -> None:
    """Keep why search could not decide, for people to see; a decision that is applied clears it."""
    runs.lock(session, study)
    if study.decide_error != message:
        study.decide_error = message
        events.append(session, study, "study.decide_error", data={"message": message}, now=now)


def _carry_out(
    session: Session, study: StudyRow, decision: Launch | Continue | Stop, now: datetime
) -> TrialRow:
    if isinstance(decision, Launch):
        return runs.create_trial(
            session,
            study,
            decision.params,
            target=decision.target,
            origin="strategy",
            reason=decision.reason,
            now=now,
        )
    trial = session.scalar(
        select(TrialRow).where(TrialRow.study_id == study.id, TrialRow.number == decision.trial)
    )
    if trial is None:
        raise ConflictError(f"the strategy {study.strategy} names trial {decision.trial}: there is none")
    if isinstance(decision, Stop):
        runs.wish(session, trial, Verdict.STOP, decision.reason, now)
    elif trial.state != TrialState.PAUSED:
        raise ConflictError(
            f"the strategy {study.strategy} continues trial {trial.number}, which is {trial.state}, not paused"
        )
    else:
        runs.queue_run(session, study, trial, target=decision.target, reason=decision.reason, now=now)
    return trial


def _record(
    session: Session,
    study: StudyRow,
    answer: Answer,
    decision: Decision,
    trial: TrialRow | None,
    version: int,
    seed: int,
    seconds: float,
    now: datetime,
) -> None:
    kind = type(decision).__name__.lower()
    target = decision.target if isinstance(decision, Launch | Continue) else None
    session.add(
        DecisionRow(
            study_id=study.id,
            trial_id=None if trial is None else trial.id,
            kind=kind,
            target_step=target,
            reason=decision.reason,
            strategy=study.strategy,
            seed=seed,
            version=version,
            seconds=seconds,
            diagnostics=dict(answer.diagnostics),
            at=now,
        )
    )
    events.append(
        session,
        study,
        "decision",
        trial=None if trial is None else trial.number,
        data={"kind": kind, "target_step": target, "reason": decision.reason},
        now=now,
    )

