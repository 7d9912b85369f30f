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
* A measurement that breaks a limit on a metric, or does not have it, moves no best value and reaches no
  target; the other rules judge its value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from search import stopping
from service.db import attempts, checkpoints, events, facts, judging, predictors
from service.db.attempts import Attempt
from service.db.engine import is_postgresql
from service.db.models import ImprovementRow, MeasurementRow, RunRow, StudyRow, TrialRow
from service.db.runs import COMPLETE, STRENGTH
from service.errors import InvalidError
from trimtab.wire import limits
from trimtab.wire.problems import FieldProblem
from trimtab.wire.states import FailureKind, Verdict
from trimtab.wire.work import Measurement, Report, ReportReply, ReportsRequest, ReportsResponse

_TOLD = {
    Verdict.PAUSE.value: Verdict.PAUSE,
    Verdict.STOP.value: Verdict.STOP,
    COMPLETE: Verdict.STOP,
    FailureKind.DIVERGED.value: Verdict.STOP,
    FailureKind.INVALID.value: Verdict.STOP,
}
"""What a worker is told for each wish."""


_ADD_SQLITE = sqlite.insert(MeasurementRow).on_conflict_do_nothing()
_ADD_POSTGRESQL = postgresql.insert(MeasurementRow).on_conflict_do_nothing()


def record(session: Session, request: ReportsRequest, now: datetime) -> ReportsResponse:
    """Store what the reports say and answer each, in order, with a verdict.

    Raises :class:`InvalidError` for a refused report of an ``external`` study.
    """
    connection = session.connection()
    on_postgresql = is_postgresql(session)
    active = attempts.read(session, {report.token for report in request.reports})
    peers = judging.read_peers(session, _places(session, active, request.reports))
    outlooks = predictors.read_outlooks(session, _at_checks(session, active, request.reports))

    points: list[dict[str, Any]] = []
    news: list[events.NewEvent] = []
    replies: list[ReportReply] = []
    for place, report in enumerate(request.reports):
        attempt = active.get(report.token)
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
                outlook = outlooks.get(attempt.trial_id)
                new = _measure(session, attempt, report.measurements, peers, outlook, now)
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
                judging.wish(attempt, FailureKind.INVALID.value, problem[1])
        replies.append(
            ReportReply(
                token=report.token,
                verdict=Verdict.CONTINUE if attempt.wish is None else _TOLD[attempt.wish],
                reason="" if attempt.wish is None else attempt.wish_reason,
            )
        )

    if points:
        connection.execute(_ADD_POSTGRESQL if on_postgresql else _ADD_SQLITE, points)
    heard = [attempt for attempt in active.values() if attempt.heard]
    attempts.write_progress(session, heard, now)
    news += _improve_studies(session, heard, now)
    attempts.write_wishes(session, heard)
    events.append_all(session, news, now=now)
    for attempt in active.values():
        for report in attempt.saved:
            _save(session, attempt, report, now)
    return ReportsResponse(replies=replies)


def _problem(attempt: Attempt, measurements: Sequence[Measurement]) -> tuple[str, str] | None:
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


def _restarted(attempt: Attempt, measurements: Sequence[Measurement]) -> bool:
    """Whether the attempt's first measurement shows that it has started from nothing."""
    untouched = attempt.last_step == attempt.start_step
    return untouched and bool(measurements) and measurements[0].step <= attempt.start_step


def _measure(
    session: Session,
    attempt: Attempt,
    measurements: Sequence[Measurement],
    peers: judging.Peers,
    outlook: predictors.Outlook | None,
    now: datetime,
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
    new: list[dict[str, Any]] = []
    for measurement in measurements:
        if measurement.step <= attempt.step:
            continue  # repeated after a loss: the first measurement stands
        point = {"trial_id": attempt.trial_id} | attempt.add(measurement, about, attempt.token, now)
        if attempt.replica_of is not None:
            point["best"] = None  # median rules compare configurations, each of them once
        new.append(point)
        if outlook is not None:
            outlook.add(attempt)
        value = measurement.metrics.get(about.spec.metric.name)
        if value is not None and STRENGTH.get(attempt.wish or "", 0) < STRENGTH[Verdict.STOP.value]:
            rivals = peers if measurement.step == last else None
            judging.judge(attempt, value, about, rivals, outlook, about.counts(measurement.metrics))
    return new


def _places(
    session: Session, active: Mapping[int, Attempt], reports: Sequence[Report]
) -> set[tuple[int, int]]:
    """Study and step of each report's last point, where the study has rules that compare with peers."""
    return {
        (attempt.study_id, report.measurements[-1].step)
        for report in reports
        if report.measurements
        and (attempt := active.get(report.token)) is not None
        and facts.of(session, attempt.study_key).compares
    }


def _at_checks(session: Session, active: Mapping[int, Attempt], reports: Sequence[Report]) -> list[Attempt]:
    """The attempts with new points at steps at which a predicted rule judges. It judges no forks."""
    found: list[Attempt] = []
    for report in reports:
        attempt = active.get(report.token)
        if attempt is not None and not attempt.to_end and attempt.parent is None:
            checks = facts.of(session, attempt.study_key).checks
            if checks and any(m.step in checks and m.step > attempt.step for m in report.measurements):
                found.append(attempt)
    return found


def _event(attempt: Attempt, new: Sequence[dict[str, Any]]) -> events.NewEvent:
    metric_points = [[point["step"], point["value"]] for point in new]
    data = {"points": metric_points, "best_value": attempt.best_value, "best_step": attempt.best_step}
    return events.NewEvent(attempt.study_id, attempt.study_key, "measurements", attempt.number, data)


def _improve_studies(session: Session, heard: Sequence[Attempt], now: datetime) -> list[events.NewEvent]:
    """Move the best value of each study that has a better one now; one step per study and request."""
    best: dict[int, Attempt] = {}
    for attempt in heard:
        if not attempt.measured or attempt.best_value is None or attempt.replica_of is not None:
            continue
        if facts.of(session, attempt.study_key).spec.seeds.several:
            continue  # what counts is a mean over seeds: see service.db.seeds
        maximize = facts.of(session, attempt.study_key).maximize
        rival = best.get(attempt.study_id)
        bar = attempt.study_best if rival is None else rival.best_value
        if stopping.improves(attempt.best_value, bar, maximize) and _counts(session, attempt):
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
        trained = session.scalar(
            select(func.sum(TrialRow.trained)).where(TrialRow.study_id == study_id, ~TrialRow.test)
        )
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


def _counts(session: Session, attempt: Attempt) -> bool:
    """Whether the attempt's trial can be the study's best; a proxy of :mod:`search.along` cannot."""
    along = facts.of(session, attempt.study_key).along
    if along is None:
        return True
    return along.counts(
        session.scalars(select(TrialRow.params).where(TrialRow.id == attempt.trial_id)).one()
    )


def _save(session: Session, attempt: Attempt, report: Report, now: datetime) -> None:
    """Register a checkpoint, which is rare beside measurements: through the ORM, on fresh rows."""
    assert report.checkpoint is not None
    study = session.get_one(StudyRow, attempt.study_id, populate_existing=True)
    trial = session.get_one(TrialRow, attempt.trial_id, populate_existing=True)
    run = session.get_one(RunRow, attempt.run_id, populate_existing=True)
    checkpoints.save(session, study, trial, run, attempt.token, report.checkpoint, now)
