"""What attempts report: measurements, checkpoints, signs of life. The service's hot path.

One request carries many reports of many attempts and costs a handful of statements, whatever their
number. What is promised:

* A report under a stale token changes nothing and is answered ``lost``.
* A report with a number (``seq``) not above the attempt's last one was heard before: it renews the lease
  and is answered with the verdict, and nothing else.
* A step that the trial's curve has reached already keeps its first measurement.
* An attempt that begins at or below the step it was to start from found its checkpoint damaged and has
  started from nothing: what it repeats is trained again, and paid for, but not stored.
* Steps must grow within an attempt, and a curve has at most ``MAX_CURVE_POINTS`` points. A report that
  breaks this is refused whole. In an ``external`` study the caller is told by :class:`InvalidError`, with
  nothing of the request stored; a worker is told to stop and the trial fails as ``invalid``, while the
  other reports of the batch are unharmed.
* The metric may be missing from a report: no value is judged. If it is not finite the trial has diverged.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import bindparam, func, insert, or_, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from search import stopping
from service.db import checkpoints, events, facts, processes
from service.db.engine import is_postgresql
from service.db.models import (
    AttemptRow,
    ImprovementRow,
    MeasurementRow,
    ProcessRow,
    RunRow,
    StudyRow,
    TrialRow,
)
from service.db.runs import COMPLETE, STRENGTH
from service.errors import InvalidError
from trimtab.wire import limits
from trimtab.wire.problems import FieldProblem
from trimtab.wire.states import AttemptState, FailureKind, Verdict
from trimtab.wire.work import Measurement, Report, ReportReply, ReportsRequest, ReportsResponse

_TOLD = {
    Verdict.PAUSE.value: Verdict.PAUSE,
    Verdict.STOP.value: Verdict.STOP,
    COMPLETE: Verdict.STOP,
    FailureKind.DIVERGED.value: Verdict.STOP,
    FailureKind.INVALID.value: Verdict.STOP,
}
"""What a worker is told for each wish."""

_ACTION = {"stop": Verdict.STOP.value, "complete": COMPLETE, "fail": FailureKind.DIVERGED.value}
"""The wish for each judgement of the stopping rules."""


@dataclass(slots=True)
class _Attempt:
    """An active attempt as it is read, changed and written back."""

    token: int
    last_seq: int
    start_step: int
    last_step: int
    lease_seconds: float | None
    worker: str
    run_id: int
    wish: str | None
    wish_reason: str
    trial_id: int
    number: int
    step: int
    value: float | None
    best_value: float | None
    best_step: int | None
    first_value: float | None
    since_best: int
    points: int
    trained: int
    to_end: bool
    study_id: int
    study_key: str
    study_best: float | None
    external: bool
    seen_at: datetime | None
    wished: bool = False
    measured: bool = False
    heard: bool = False
    saved: list[Report] = field(default_factory=list)


_Peers = Mapping[tuple[int, int], Sequence[tuple[int, float]]]

_READ = (
    select(
        AttemptRow.token,
        AttemptRow.last_seq,
        AttemptRow.start_step,
        AttemptRow.last_step,
        AttemptRow.lease_seconds,
        AttemptRow.worker,
        RunRow.id.label("run_id"),
        RunRow.wish,
        RunRow.wish_reason,
        TrialRow.id.label("trial_id"),
        TrialRow.number,
        TrialRow.step,
        TrialRow.value,
        TrialRow.best_value,
        TrialRow.best_step,
        TrialRow.first_value,
        TrialRow.since_best,
        TrialRow.points,
        TrialRow.trained,
        TrialRow.to_end,
        StudyRow.id.label("study_id"),
        StudyRow.key.label("study_key"),
        StudyRow.best_value.label("study_best"),
        StudyRow.external,
        ProcessRow.seen_at,
    )
    .join(RunRow, RunRow.id == AttemptRow.run_id)
    .join(TrialRow, TrialRow.id == AttemptRow.trial_id)
    .join(StudyRow, StudyRow.id == AttemptRow.study_id)
    .outerjoin(ProcessRow, ProcessRow.name == AttemptRow.worker)
    .where(
        AttemptRow.token.in_(bindparam("tokens", expanding=True)),
        AttemptRow.state == AttemptState.ACTIVE.value,
    )
    .order_by(AttemptRow.token)
)
_READ_LOCKED = _READ.with_for_update(of=[AttemptRow, TrialRow], key_share=True)

_READ_PEERS = select(
    MeasurementRow.study_id, MeasurementRow.step, MeasurementRow.trial_id, MeasurementRow.best
).where(tuple_(MeasurementRow.study_id, MeasurementRow.step).in_(bindparam("places", expanding=True)))

_ADD_SQLITE = sqlite.insert(MeasurementRow).on_conflict_do_nothing()
_ADD_POSTGRESQL = postgresql.insert(MeasurementRow).on_conflict_do_nothing()

_WRITE_ATTEMPT = (
    update(AttemptRow)
    .where(AttemptRow.token == bindparam("of_token"))
    .values(
        last_seq=bindparam("to_seq"),
        start_step=bindparam("to_start"),
        last_step=bindparam("to_step"),
        lease_expires_at=bindparam("to_expiry"),
    )
)
_WRITE_TRIAL = (
    update(TrialRow)
    .where(TrialRow.id == bindparam("of_trial"))
    .values(
        step=bindparam("to_step"),
        value=bindparam("to_value"),
        best_value=bindparam("to_best"),
        best_step=bindparam("to_best_step"),
        first_value=bindparam("to_first"),
        since_best=bindparam("to_since_best"),
        points=bindparam("to_points"),
        trained=bindparam("to_trained"),
    )
)
_WRITE_WISH = (
    update(RunRow)
    .where(RunRow.id == bindparam("of_run"))
    .values(wish=bindparam("to_wish"), wish_reason=bindparam("to_reason"))
)


def record(session: Session, request: ReportsRequest, now: datetime) -> ReportsResponse:
    """Store what the reports say and answer each, in order, with a verdict.

    Raises :class:`InvalidError` for a refused report of an ``external`` study.
    """
    connection = session.connection()
    on_postgresql = is_postgresql(session)
    tokens = list({report.token for report in request.reports})
    attempts = {
        row.token: _Attempt(**row._mapping)
        for row in connection.execute(_READ_LOCKED if on_postgresql else _READ, {"tokens": tokens})
    }

    peers = _peers(session, attempts, request.reports)

    points: list[dict[str, Any]] = []
    news: list[events.NewEvent] = []
    replies: list[ReportReply] = []
    for place, report in enumerate(request.reports):
        attempt = attempts.get(report.token)
        if attempt is None:
            replies.append(
                ReportReply(
                    token=report.token,
                    verdict=Verdict.LOST,
                    reason="this attempt no longer owns its run: what it reports is not stored",
                )
            )
            continue
        attempt.heard = True
        if report.seq > attempt.last_seq:
            problem = _problem(attempt, report.measurements)
            if problem is None:
                new = _measure(session, attempt, report.measurements, peers, now)
                attempt.last_seq = report.seq
                if new:
                    points += new
                    news.append(_event(attempt, new))
                if report.checkpoint is not None:
                    attempt.saved.append(report)
            elif attempt.external:
                pointer = f"/reports/{place}/measurements{problem[0]}"
                raise InvalidError(problem[1], [FieldProblem(pointer=pointer, message=problem[1])])
            else:
                _wish(attempt, FailureKind.INVALID.value, problem[1])
        replies.append(
            ReportReply(
                token=report.token,
                verdict=Verdict.CONTINUE if attempt.wish is None else _TOLD[attempt.wish],
                reason="" if attempt.wish is None else attempt.wish_reason,
            )
        )

    if points:
        connection.execute(_ADD_POSTGRESQL if on_postgresql else _ADD_SQLITE, points)
    heard = [attempt for attempt in attempts.values() if attempt.heard]
    _write_attempts(session, heard, now)
    _write_trials(session, heard)
    news += _improve_studies(session, heard, now)
    _write_wishes(session, heard)
    events.append_all(session, news, now=now)
    for attempt in attempts.values():
        for report in attempt.saved:
            _save(session, attempt, report, now)
    return ReportsResponse(replies=replies)


def _problem(attempt: _Attempt, measurements: Sequence[Measurement]) -> tuple[str, str] | None:
    """Why a report is refused, as a JSON pointer below ``measurements`` and a message."""
    last = 0 if _restarted(attempt, measurements) else attempt.last_step
    for place, measurement in enumerate(measurements):
        if measurement.step <= last:
            return (
                f"/{place}/step",
                f"step {measurement.step} follows step {last}: steps must grow within an attempt",
            )
        last = measurement.step
    new = sum(measurement.step > attempt.step for measurement in measurements)
    if attempt.points + new > limits.MAX_CURVE_POINTS:
        return (
            "",
            f"the curve would have more than {limits.MAX_CURVE_POINTS} points: report less often",
        )
    return None


def _restarted(attempt: _Attempt, measurements: Sequence[Measurement]) -> bool:
    """Whether the attempt's first measurement shows that it has started from nothing."""
    untouched = attempt.last_step == attempt.start_step
    return untouched and bool(measurements) and measurements[0].step <= attempt.start_step


def _measure(
    session: Session, attempt: _Attempt, measurements: Sequence[Measurement], peers: _Peers, now: datetime
) -> list[dict[str, Any]]:
    """Move the trial along its measurements; the points that are new to its curve."""
    if not measurements:
        return []
    if _restarted(attempt, measurements):
        attempt.start_step = attempt.last_step = 0
    last = measurements[-1].step
    attempt.trained += last - attempt.last_step
    attempt.last_step = last
    attempt.measured = True
    about = facts.of(session, attempt.study_key)
    metric = about.spec.metric.name
    new: list[dict[str, Any]] = []
    for measurement in measurements:
        if measurement.step <= attempt.step:
            continue  # repeated after a loss: the first measurement stands
        value = measurement.metrics.get(metric)
        attempt.step = measurement.step
        attempt.points += 1
        attempt.value = value if value is not None and math.isfinite(value) else None
        if value is not None:
            _take(attempt, value, about)
            if STRENGTH.get(attempt.wish or "", 0) < STRENGTH[Verdict.STOP.value]:
                _judge(attempt, value, about, peers if measurement.step == last else None)
        new.append(
            {
                "trial_id": attempt.trial_id,
                "step": measurement.step,
                "study_id": attempt.study_id,
                "token": attempt.token,
                "value": attempt.value,
                "best": attempt.best_value,
                "metrics": {name: jsonable(number) for name, number in measurement.metrics.items()},
                "seconds": measurement.seconds,
                "tokens": measurement.tokens,
                "at": now,
            }
        )
    return new


def _take(attempt: _Attempt, value: float, about: facts.Facts) -> None:
    """Move the trial's first, best and count since the best."""
    if stopping.improves(value, attempt.best_value, about.maximize, about.min_delta):
        attempt.since_best = 0
    else:
        attempt.since_best += 1
    if stopping.improves(value, attempt.best_value, about.maximize):
        attempt.best_value, attempt.best_step = value, attempt.step
    if attempt.first_value is None and math.isfinite(value):
        attempt.first_value = value


def _judge(attempt: _Attempt, value: float, about: facts.Facts, peers: _Peers | None) -> None:
    """Let the stopping rules speak; those that compare with peers at a report's last point only."""
    point = stopping.Point(
        step=attempt.step,
        value=value,
        best=attempt.best_value if attempt.best_value is not None else value,
        first=attempt.first_value if attempt.first_value is not None else value,
        since_best=attempt.since_best,
    )
    rules = about.safety_rules if attempt.to_end else about.local_rules if peers is None else about.rules
    judgement = stopping.judge(
        rules,
        point,
        about.maximize,
        lambda: [
            best
            for trial_id, best in (peers or {}).get((attempt.study_id, attempt.step), ())
            if trial_id != attempt.trial_id
        ],
    )
    if judgement.action != "continue":
        _wish(attempt, _ACTION[judgement.action], judgement.reason)


def _peers(session: Session, attempts: Mapping[int, _Attempt], reports: Sequence[Report]) -> _Peers:
    """What median rules compare with: ids and best values so far of the trials that were measured at the
    steps at which the reports end, by study and step. One query, whose every place is a range of one index.
    """
    places = set()
    for report in reports:
        attempt = attempts.get(report.token)
        if attempt is not None and report.measurements:
            about = facts.of(session, attempt.study_key)
            if len(about.rules) > len(about.local_rules):
                places.add((attempt.study_id, report.measurements[-1].step))
    peers: dict[tuple[int, int], list[tuple[int, float]]] = defaultdict(list)
    if places:
        for row in session.connection().execute(_READ_PEERS, {"places": list(places)}):
            study_id, step, trial_id, best = row
            if best is not None:
                peers[study_id, step].append((trial_id, best))
    return peers


def _wish(attempt: _Attempt, wished: str, reason: str) -> None:
    if STRENGTH[wished] > STRENGTH.get(attempt.wish or "", 0):
        attempt.wish, attempt.wish_reason, attempt.wished = wished, reason, True


def _event(attempt: _Attempt, new: Sequence[dict[str, Any]]) -> events.NewEvent:
    metric_points = [[point["step"], point["value"]] for point in new]
    data = {"points": metric_points, "best_value": attempt.best_value, "best_step": attempt.best_step}
    return events.NewEvent(attempt.study_id, attempt.study_key, "measurements", attempt.number, data)


def _improve_studies(
    session: Session, attempts: Sequence[_Attempt], now: datetime
) -> list[events.NewEvent]:
    """Move the best value of each study that has a better one now; one step per study and request."""
    best: dict[int, _Attempt] = {}
    for attempt in attempts:
        if not attempt.measured or attempt.best_value is None:
            continue
        maximize = facts.of(session, attempt.study_key).maximize
        rival = best.get(attempt.study_id)
        bar = attempt.study_best if rival is None else rival.best_value
        if stopping.improves(attempt.best_value, bar, maximize):
            best[attempt.study_id] = attempt
    news: list[events.NewEvent] = []
    for study_id, attempt in sorted(best.items()):
        assert attempt.best_value is not None
        maximize = facts.of(session, attempt.study_key).maximize
        worse = (
            StudyRow.best_value < attempt.best_value
            if maximize
            else StudyRow.best_value > attempt.best_value
        )
        moved = session.execute(
            update(StudyRow)
            .where(StudyRow.id == study_id, or_(StudyRow.best_value.is_(None), worse))
            .values(best_value=attempt.best_value, best_trial_id=attempt.trial_id)
            .returning(StudyRow.started_at)
            .execution_options(synchronize_session=False)
        ).first()
        if moved is None:
            continue  # another transaction brought a better one meanwhile
        trained = session.scalar(select(func.sum(TrialRow.trained)).where(TrialRow.study_id == study_id))
        session.connection().execute(
            insert(ImprovementRow),
            {
                "study_id": study_id,
                "trial_number": attempt.number,
                "step": attempt.best_step,
                "fidelity": int(trained or 0),
                "seconds": (now - moved.started_at).total_seconds() if moved.started_at else 0.0,
                "value": attempt.best_value,
            },
        )
        data = {"value": attempt.best_value, "step": attempt.best_step}
        news.append(events.NewEvent(study_id, attempt.study_key, "study.best", attempt.number, data))
    return news


def _write_attempts(session: Session, attempts: Sequence[_Attempt], now: datetime) -> None:
    """Renew the leases and, where it is time, the heartbeats of the dispatchers."""
    if not attempts:
        return
    session.connection().execute(
        _WRITE_ATTEMPT,
        [
            {
                "of_token": a.token,
                "to_seq": a.last_seq,
                "to_start": a.start_step,
                "to_step": a.last_step,
                "to_expiry": expiry(now, a.lease_seconds),
            }
            for a in attempts
        ],
    )
    quiet = {a.worker for a in attempts if a.seen_at is not None and now - a.seen_at > processes.HEARTBEAT}
    if quiet:
        processes.beat(session, quiet, now)


def _write_trials(session: Session, attempts: Sequence[_Attempt]) -> None:
    measured = [
        {
            "of_trial": a.trial_id,
            "to_step": a.step,
            "to_value": a.value,
            "to_best": a.best_value,
            "to_best_step": a.best_step,
            "to_first": a.first_value,
            "to_since_best": a.since_best,
            "to_points": a.points,
            "to_trained": a.trained,
        }
        for a in attempts
        if a.measured
    ]
    if measured:
        session.connection().execute(_WRITE_TRIAL, measured)


def _write_wishes(session: Session, attempts: Sequence[_Attempt]) -> None:
    wishes = [
        {"of_run": a.run_id, "to_wish": a.wish, "to_reason": a.wish_reason} for a in attempts if a.wished
    ]
    if wishes:
        session.connection().execute(_WRITE_WISH, wishes)


def _save(session: Session, attempt: _Attempt, report: Report, now: datetime) -> None:
    """Register a checkpoint, which is rare beside measurements: through the ORM, on fresh rows."""
    assert report.checkpoint is not None
    study = session.get_one(StudyRow, attempt.study_id, populate_existing=True)
    trial = session.get_one(TrialRow, attempt.trial_id, populate_existing=True)
    run = session.get_one(RunRow, attempt.run_id, populate_existing=True)
    checkpoints.save(session, study, trial, run, attempt.token, report.checkpoint, now)


def expiry(now: datetime, lease_seconds: float | None) -> datetime | None:
    """When a lease that is renewed now runs out."""
    return None if lease_seconds is None else now + timedelta(seconds=lease_seconds)


def jsonable(number: float) -> float | Literal["NaN", "Infinity", "-Infinity"]:
    """A metric as JSON can hold it: a number that is not finite becomes the string of its name."""
    if math.isfinite(number):
        return number
    if math.isnan(number):
        return "NaN"
    return "Infinity" if number > 0 else "-Infinity"
