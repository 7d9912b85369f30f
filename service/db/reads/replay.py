"""The questions that search was asked, as they stood: from them every decision can be made again.

A view is parts that never change (parameters, the points of curves, the specification) and parts that do:
how far each trial was, what was left of the budget. The second are kept with each answer, compressed (2 to
4 KB for a thousand trials). Earlier studies that a study learns from are read as they stand now; if they
have moved on since, its decisions may come out differently.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, undefer

from search.decision import Schedule
from search.pruning import Pruning
from search.space import ParamValue
from search.view import BudgetLeft, StudyView, TrialView
from service.db import views
from service.db.models import DecisionRow, TrialRow
from service.db.reads.studies import find_study

_KEPT = ("status", "step", "first_target", "target", "resumable", "failure", "outcomes", "seconds")
"""What of a trial changes, beside its checkpoints and its curve, which only grows."""


@dataclass(frozen=True, slots=True)
class Started:
    """A trial that an answer has made."""

    params: Mapping[str, ParamValue]
    parent: int | None
    forked_at: int
    schedule: Schedule


@dataclass(frozen=True, slots=True)
class Answered:
    """A question, and what of its answer was carried out."""

    view: StudyView
    slots: int
    seed: int
    decisions: tuple[tuple[str, int | None, int | None, str], ...]
    """Kind, trial, target and reason of each; a launch or fork has the number that its trial was given."""
    started: tuple[Started, ...]
    """Of each launch and fork, in order."""


def pack(view: StudyView, slots: int) -> bytes:
    """What of a question changes with time."""
    document = {
        "slots": slots,
        "parallelism": view.parallelism,
        "prune": view.prune,
        "pruning": None if view.pruning is None else view.pruning.to_json(),
        "budget": [*astuple(view.budget)],
        "points": [len(trial.steps) for trial in view.everything],
        "checkpoints": [trial.checkpoints for trial in view.everything],
        "spared": [trial.number for trial in view.everything if trial.spared],
        **{name: [getattr(trial, name) for trial in view.everything] for name in _KEPT},
    }
    return zlib.compress(json.dumps(document, separators=(",", ":")).encode(), 6)


def answers(session: Session, key: str) -> Iterator[Answered]:
    """Every answer of search about the study with this id, oldest first, with its question.

    Answers from before questions were kept are left out. Raises
    :class:`~service.errors.NotFoundError` if there is no such study.
    """
    study = find_study(session, key)
    now = views.build(session, study)
    trial_rows = session.execute(select(TrialRow.id, TrialRow.number).where(TrialRow.study_id == study.id))
    numbers = {row.id: row.number for row in trial_rows}
    rows = session.scalars(
        select(DecisionRow)
        .where(DecisionRow.study_id == study.id)
        .order_by(DecisionRow.id)
        .options(undefer(DecisionRow.asked))
    ).all()
    by_number = {trial.number: trial for trial in now.trials}
    firsts = [place for place, row in enumerate(rows) if row.asked is not None]
    for first, end in zip(firsts, [*firsts[1:], len(rows)], strict=True):
        answer = rows[first:end]
        asked = answer[0].asked
        assert asked is not None
        document = json.loads(zlib.decompress(asked))
        trials = [None if row.trial_id is None else numbers[row.trial_id] for row in answer]
        yield Answered(
            view=_unpack(now, document),
            slots=document["slots"],
            seed=answer[0].seed,
            decisions=tuple(
                (row.kind, trial, row.target_step, row.reason)
                for row, trial in zip(answer, trials, strict=True)
            ),
            started=tuple(
                _started(by_number[trial])
                for row, trial in zip(answer, trials, strict=True)
                if row.kind in ("launch", "fork") and trial is not None
            ),
        )


def _started(trial: TrialView) -> Started:
    return Started(dict(trial.params), trial.parent, trial.forked_at, trial.schedule)


def _unpack(now: StudyView, document: dict[str, Any]) -> StudyView:
    """The study as it was asked about; ``now`` is how it stands."""
    points = document["points"]
    everything = (
        replace(
            trial,
            steps=trial.steps[: points[place]],
            values=trial.values[: points[place]],
            bests=trial.bests[: points[place]],
            **{name: document[name][place] for name in _KEPT},
            # Questions from before there were forks say nothing of checkpoints.
            checkpoints=tuple(document["checkpoints"][place] if "checkpoints" in document else ()),
            spared=trial.number in document.get("spared", ()),
            replicas=(),
        )
        for place, trial in enumerate(now.everything[: len(points)])
    )
    return replace(
        now,
        trials=views.families(everything),
        parallelism=document["parallelism"],
        prune=document["prune"],
        pruning=None if document["pruning"] is None else Pruning.from_json(document["pruning"]),
        budget=BudgetLeft(*document["budget"]),
    )
