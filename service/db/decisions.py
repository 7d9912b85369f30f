"""Search's decisions: what search is asked about a study, and how its answer becomes trials and runs.

A decision is a function of the view, the slots and the seed. The seed is derived from the study's search
seed and the number of trials created so far, so a study that has the same history decides the same again,
in whichever process. A decision that raised an error is tried again with the next seed of that derivation.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from search.decision import Answer, Continue, Decision, Finish, Fork, Launch, Repeat, Spare, Stop
from search.pruning import Pruning
from search.view import StudyView
from service import specs
from service.db import budget, checkpoints, completion, events, runs, views
from service.db.models import DecisionRow, StudyRow, TrialRow
from service.db.reads import replay
from service.errors import ConflictError
from trimtab.wire.states import StudyState, TrialState, Verdict
from trimtab.wire.study import SeedSpec, StudySpec

MAX_SLOTS = 64
"""Slots that search is asked to fill at once: the transaction that writes its answer stays short."""

_IDLE = 0.01
"""The share of their time that workers may wait for decisions before some are made ahead."""


@dataclass(frozen=True, slots=True)
class RunningStudy:
    """A study that runs."""

    study_id: int
    key: str
    version: int
    undecided: bool
    """Something has happened in it that search has not seen."""


@dataclass(frozen=True, slots=True)
class Question:
    """All that search is asked, and the state of the study that it is asked about."""

    study_id: int
    version: int
    decided_version: int
    view: StudyView
    slots: int
    seed: int
    ahead: int
    """How many of the slots are not free yet."""


def running(session: Session) -> list[RunningStudy]:
    """The studies that run, oldest first."""
    rows = session.execute(
        select(StudyRow.id, StudyRow.key, StudyRow.version, StudyRow.decided_version < StudyRow.version)
        .where(StudyRow.state == StudyState.RUNNING.value)
        .order_by(StudyRow.id)
    )
    return [RunningStudy(*row) for row in rows]


def question(
    session: Session,
    study_id: int,
    *,
    curves: views.Curves,
    attempt: int,
    now: datetime,
    load: float = 0.0,
) -> Question | None:
    """What to ask search about a study; None if it has no slot to fill, or search is over in it.

    Strategies whose launches do not depend on results fill as many slots again ahead of time, so that a
    worker that falls free finds its next run queued. Of the others some are filled ahead if runs are so
    short that workers would wait for decisions: ``load`` is the time that deciding takes, as a share of the
    time from one question to the next. ``attempt`` counts errors since the last decision.
    """
    study = session.get_one(StudyRow, study_id)
    spec = StudySpec.model_validate(study.spec)
    ahead = _ahead(spec, load)
    slots = spec.parallelism + ahead - completion.count_active(session, study)
    if study.state != StudyState.RUNNING or study.finals is not None:
        return None
    if slots <= 0 or budget.over(session, study, now):
        return None
    return Question(
        study_id=study_id,
        version=study.version,
        decided_version=study.decided_version,
        view=views.build(session, study, curves, now=now),
        slots=min(slots, MAX_SLOTS),
        seed=seed(study, attempt),
        ahead=ahead,
    )


def seed(study: StudyRow, attempt: int = 0) -> int:
    """The seed of the study's next decision, in [0, 2**63); ``attempt`` counts errors on the way to it."""
    search_seed = SeedSpec.model_validate(study.spec.get("seeds", {})).search
    text = f"{search_seed}/{study.next_trial - 1}/{attempt}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def apply(session: Session, question: Question, answer: Answer, *, seconds: float, now: datetime) -> bool:
    """Carry out the answer to ``question`` and record each decision with its reason.

    False, and nothing is written, if the study does not run any more, or has moved on so that the answer
    is not sound any more. What the answer starts moves the version on, too: search is asked again until it
    has nothing more to start. A Finish takes effect once nothing is active. Raises :class:`ConflictError`
    for a decision that the trial's state forbids.
    """
    study = session.get(StudyRow, question.study_id)
    if study is None:
        return False
    runs.lock(session, study)
    if study.state != StudyState.RUNNING or study.finals is not None:
        return False
    if not _still_sound(session, study, question, answer):
        return False
    study.decided_version = question.version
    study.decide_error = None
    if answer.pruning is not None and study.spec.get("prune"):  # nobody has switched it off meanwhile
        _prune(session, study, answer.pruning, now)
    asked: bytes | None = replay.pack(question.view, question.slots)
    for decision in answer.decisions:
        trial = None
        if not isinstance(decision, Finish):
            trial = _carry_out(session, study, decision, now)
        elif completion.count_active(session, study):
            continue
        _record(session, study, question, answer, decision, trial, asked, seconds, now)
        asked = None  # once is enough
        if isinstance(decision, Finish):
            completion.end(session, study, decision.reason, now)
    return True


def _prune(session: Session, study: StudyRow, pruning: Pruning, now: datetime) -> None:
    """Keep what of the space is searched from now on; an event says what has changed."""
    before = Pruning.from_json(study.pruning) if study.pruning is not None else Pruning(0)
    study.pruning = pruning.to_json()
    if (before.frozen, before.ranges) != (pruning.frozen, pruning.ranges):
        events.append(session, study, "study.pruned", data=study.pruning, now=now)


def note_error(session: Session, study_id: int, message: str, *, now: datetime) -> None:
    """Keep why search could not decide, for people to see; a decision that is applied clears it."""
    study = session.get(StudyRow, study_id)
    if study is None:
        return
    runs.lock(session, study)
    if study.decide_error != message:
        study.decide_error = message
        events.append(session, study, "study.decide_error", data={"message": message}, now=now)


def _ahead(spec: StudySpec, load: float) -> int:
    """Slots that are filled before they are free.

    A worker waits for a decision for ``load / parallelism`` of its time; where that is little, it is better
    to know the results of what is running first.
    """
    if specs.strategy(spec).lookahead:
        return spec.parallelism
    if load <= _IDLE * spec.parallelism:
        return 0
    return min(spec.parallelism, math.ceil(2 * load))


def _still_sound(session: Session, study: StudyRow, question: Question, answer: Answer) -> bool:
    """Whether the answer may be carried out in the study as it is now.

    A checkpoint that it forks must still be there. Then it may when nothing has happened. Launches and
    forks may, too, when trials have ended meanwhile, so that a slow strategy is not overtaken for ever by
    quick trials: unless another scheduler has decided, or a person has used up the slots or the budget.
    """
    if not all(_start(session, study, d) for d in answer.decisions if isinstance(d, Fork)):
        return False
    if study.version == question.version:
        return True
    if study.decided_version != question.decided_version:
        return False
    launches = [decision for decision in answer.decisions if isinstance(decision, Launch | Fork)]
    if not launches or len(launches) < len(answer.decisions):
        return False
    units = sum(d.target - (d.step if isinstance(d, Fork) else 0) for d in launches)
    active = completion.count_active(session, study)
    left = budget.left(session, study)
    return (
        active + len(launches) <= StudySpec.model_validate(study.spec).parallelism + question.ahead
        and (left.trials is None or len(launches) <= left.trials)
        and (left.fidelity is None or units <= left.fidelity)
    )


def _start(session: Session, study: StudyRow, fork: Fork) -> runs.Start | None:
    """Where a fork starts from; None if that is gone. It stays until the transaction ends."""
    parent = _trial(session, study, fork.parent)
    checkpoint = None if parent is None else checkpoints.at(session, parent, fork.step)
    return None if parent is None or checkpoint is None else runs.Start(parent, checkpoint)


def _trial(session: Session, study: StudyRow, number: int) -> TrialRow | None:
    return session.scalar(select(TrialRow).where(TrialRow.study_id == study.id, TrialRow.number == number))


def _carry_out(
    session: Session,
    study: StudyRow,
    decision: Launch | Fork | Continue | Stop | Repeat | Spare,
    now: datetime,
) -> TrialRow:
    """The trial that it is about."""
    if isinstance(decision, Launch | Fork):
        start = _start(session, study, decision) if isinstance(decision, Fork) else None
        if isinstance(decision, Fork) and start is None:
            raise ConflictError(
                f"the strategy {study.strategy} forks trial {decision.parent} at step {decision.step}: "
                "there is no checkpoint any more"
            )
        return runs.create_trial(
            session,
            study,
            decision.params,
            target=decision.target,
            origin="strategy",
            reason=decision.reason,
            now=now,
            fork=start,
            schedule=decision.schedule,
        )
    trial = _trial(session, study, decision.trial)
    if trial is None:
        raise ConflictError(f"the strategy {study.strategy} names trial {decision.trial}: there is none")
    if isinstance(decision, Repeat):
        _repeat(session, study, trial, decision, now)
    elif isinstance(decision, Spare):
        trial.spared = decision.reason
        study.version += 1
        data = {"reason": decision.reason}
        events.append(session, study, "trial.spared", trial=trial.number, data=data, now=now)
    elif isinstance(decision, Stop):
        if trial.to_end:
            raise ConflictError(
                f"the strategy {study.strategy} stops trial {trial.number}, "
                "which is to be trained to the end"
            )
        runs.wish(session, trial, Verdict.STOP, decision.reason, now)
    elif trial.state != TrialState.PAUSED:
        raise ConflictError(
            f"the strategy {study.strategy} continues trial {trial.number}, which is {trial.state}: "
            "only a paused trial can go on"
        )
    else:
        runs.queue_run(session, study, trial, target=decision.target, reason=decision.reason, now=now)
    return trial


def _repeat(session: Session, study: StudyRow, trial: TrialRow, decision: Repeat, now: datetime) -> None:
    if trial.state != TrialState.COMPLETED:
        raise ConflictError(
            f"search repeats trial {trial.number}, which is {trial.state}: only a completed one may be"
        )
    trial.spared = None
    runs.create_trial(
        session,
        study,
        trial.params,
        target=decision.target,
        origin="strategy",
        to_end=True,
        reason=f"trial {trial.number} {decision.reason}",
        now=now,
        replica=runs.Replica(trial.number, decision.seed, test=False),
    )


def _record(
    session: Session,
    study: StudyRow,
    question: Question,
    answer: Answer,
    decision: Decision,
    trial: TrialRow | None,
    asked: bytes | None,
    seconds: float,
    now: datetime,
) -> None:
    kind = type(decision).__name__.lower()
    target = decision.target if isinstance(decision, Launch | Fork | Continue | Repeat) else None
    session.add(
        DecisionRow(
            study_id=study.id,
            trial_id=None if trial is None else trial.id,
            kind=kind,
            target_step=target,
            reason=decision.reason,
            strategy=study.strategy,
            seed=question.seed,
            version=question.version,
            seconds=seconds,
            diagnostics=dict(answer.diagnostics),
            asked=asked,
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
