"""What the stopping rules say to new measurements, and what they compare them with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import bindparam, select, tuple_
from sqlalchemy.orm import Session

from search import stopping
from service.db.attempts import Attempt
from service.db.facts import Facts
from service.db.models import MeasurementRow
from service.db.predictors import Outlook
from service.db.runs import COMPLETE, STRENGTH
from trimtab.wire.states import FailureKind, Verdict

_ACTION = {"stop": Verdict.STOP.value, "complete": COMPLETE, "fail": FailureKind.DIVERGED.value}
"""The wish for each judgement of the stopping rules."""

Peers = Mapping[tuple[int, int], Sequence[tuple[int, float]]]
"""By study and step: the trials that were measured there, each with its best value so far."""

_READ_PEERS = select(
    MeasurementRow.study_id, MeasurementRow.step, MeasurementRow.trial_id, MeasurementRow.best
).where(tuple_(MeasurementRow.study_id, MeasurementRow.step).in_(bindparam("places", expanding=True)))


def read_peers(session: Session, places: Collection[tuple[int, int]]) -> Peers:
    """The peers at each of these places (study and step): trials and their best values so far.

    One query, whose every place is a range of one index.
    """
    peers: dict[tuple[int, int], list[tuple[int, float]]] = defaultdict(list)
    if places:
        rows = session.connection().execute(_READ_PEERS, {"places": list(places)})
        for study_id, step, trial_id, best in rows:
            if best is not None:
                peers[study_id, step].append((trial_id, best))
    return peers


def judge(
    attempt: Attempt,
    value: float,
    about: Facts,
    peers: Peers | None,
    outlook: Outlook | None = None,
    counts: bool = True,
) -> None:
    """Let the stopping rules speak; those that compare with peers at a report's last point only.

    ``counts``: the measurement keeps the study's limits.
    """
    point = stopping.Point(
        step=attempt.step,
        value=value,
        best=attempt.best_value if attempt.best_value is not None else value,
        first=attempt.first_value if attempt.first_value is not None else value,
        since_best=attempt.since_best,
        counts=counts,
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
        lambda: None if outlook is None else outlook.forecast(attempt),
    )
    if judgement.action != "continue":
        wish(attempt, _ACTION[judgement.action], judgement.reason)


def wish(attempt: Attempt, wished: str, reason: str) -> None:
    """Wish the attempt's run this, unless something as strong is wished already."""
    if STRENGTH[wished] > STRENGTH.get(attempt.wish or "", 0):
        attempt.wish, attempt.wish_reason, attempt.wished = wished, reason, True
