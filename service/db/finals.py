"""The end of a study with test seeds: its best few are trained with those, and only that score is final.

When search is over, one transaction writes into ``StudyRow.finals`` why, and which trials are tested, and
queues a replica of each for each test seed; from then on search is asked nothing. When none of them is
active any more, another transaction names the winner and completes the study. A study that is extended, or
in which a person queues something, is searched again: ``finals`` is emptied, what was tested stays, and is
not trained again if its trial is among the best few once more.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from search.replicas import finalists
from service.db import events, facts, runs, tested, views
from service.db.models import StudyRow, TrialRow


def begin(session: Session, study: StudyRow, reason: str, now: datetime) -> None:
    """Search is over, for ``reason``: queue the test runs of the best few. The study must be locked."""
    spec = facts.of(session, study.key).spec
    chosen = finalists(views.build(session, study))
    known = {
        (row.replica_of, row.seed) for row in tested.replicas(session, study, [one.trial for one in chosen])
    }
    study.finals = {
        "reason": reason,
        "finalists": [
            {"trial": one.trial, "step": one.score.step, "tuning": one.score.mean} for one in chosen
        ],
        "winner": None,
    }
    data = {
        "reason": reason,
        "finalists": [one.trial for one in chosen],
        "seeds": spec.seeds.test,
        "units": len(chosen) * len(spec.seeds.test) * spec.fidelity.max,
    }
    events.append(session, study, "study.testing", data=data, now=now)
    session.flush()
    # Seed by seed: if the study is cancelled half-way, all finalists have been tested alike.
    for seed in spec.seeds.test:
        for one in chosen:
            if (one.trial, seed) in known:
                continue
            trial = session.scalars(
                select(TrialRow).where(TrialRow.study_id == study.id, TrialRow.number == one.trial)
            ).one()
            runs.create_trial(
                session,
                study,
                trial.params,
                target=spec.fidelity.max,
                origin="strategy",
                to_end=True,
                reason=f"trial {one.trial} with test seed {seed}: {one.reason}",
                now=now,
                replica=runs.Replica(one.trial, seed, test=True),
            )


def conclude(session: Session, study: StudyRow) -> str:
    """All test runs have ended: name the winner; why the study is complete, in words. It must be locked."""
    assert study.finals is not None, "the study is being tested"
    reason = str(study.finals["reason"])
    ranked = tested.read(session, study)
    best = ranked[0] if ranked and ranked[0].score is not None else None
    if best is None:
        nothing = "no trial was there to be tested" if not ranked else "no test run was measured"
        return f"{reason}; {nothing}"
    assert best.score is not None
    study.finals = {**study.finals, "winner": best.trial.number, "mean": best.score.mean}
    session.flush()
    count = len(ranked)
    return f"{reason}; trial {best.trial.number} is the best on test seeds" + (
        f" of {count} finalists" if count > 1 else ""
    )


def search_on(study: StudyRow) -> None:
    """Search is not over after all. The study must be locked."""
    study.finals = None
