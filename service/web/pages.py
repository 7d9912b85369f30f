"""From the service's reads to the contexts of the pages. Each page is read in one transaction."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TypeVar, cast, get_args
from urllib.parse import urlencode

import yaml

from search.strategies.rungs import rung_levels
from service import specs
from service.db import reads
from service.db.engine import Database
from service.db.reads.trials import TrialSort
from service.errors import ConflictError, NotFoundError
from service.web import scaling
from service.web.contexts import (
    Column,
    ImportanceRow,
    ImportancesPage,
    SeedRow,
    Setting,
    StudiesPage,
    StudyFilter,
    StudyPage,
    TrialPage,
)
from trimtab.wire.importances import Importance, ImportancesResponse
from trimtab.wire.space import expanded, ties
from trimtab.wire.states import StudyState, TrialState
from trimtab.wire.study import Direction, StudySpec
from trimtab.wire.views import StudyDetail, TrialDetail

STUDIES_PER_PAGE = 30
TRIALS_PER_PAGE = 50
DECISIONS_SHOWN = 12
CURVES_SHOWN = 300
PARAMETERS_RANKED = 20
LEAST_RESULTS = 10
"""Importances are not asked for with fewer; search refuses, too, but after seconds."""
TRIALS_PER_EXPORT_READ = 500
ACTIVE = (StudyState.RUNNING, StudyState.PAUSED)
"""In these states trials can be stopped."""
T = TypeVar("T")
SORTS: tuple[str, ...] = get_args(TrialSort)


def studies(
    database: Database, now: datetime, chosen: StudyFilter, cursor: str | None, locked: bool
) -> StudiesPage:
    """The list of studies, newest first. Raises :class:`InvalidError` for a bad cursor."""
    known = [state.value for state in StudyState]
    with database.read() as session:
        page = reads.list_studies(
            session,
            now=now,
            cursor=cursor,
            limit=STUDIES_PER_PAGE,
            state=StudyState(chosen.state) if chosen.state in known else None,
            tag=chosen.tag or None,
            name=chosen.name or None,
        )
    kept = {"state": chosen.state, "tag": chosen.tag, "name": chosen.name}
    return StudiesPage(
        title="Studies",
        now=now,
        locked=locked,
        studies=tuple(page.items),
        filter=chosen,
        states=tuple(known),
        first_url=_url("/", **kept) if cursor else None,
        next_url=_url("/", **kept, cursor=page.next_cursor) if page.next_cursor else None,
    )


def study(
    database: Database, now: datetime, key: str, *, sort: str, state: str, cursor: str | None, locked: bool
) -> StudyPage:
    """One study. Raises :class:`NotFoundError`, and :class:`InvalidError` for a bad cursor."""
    with database.read() as session:
        summary = reads.summary(session, key, now)
        detail = summary.study
        best_first = _best_first(detail)
        order = sort if sort in SORTS and sort != "best" else best_first
        trials = reads.list_trials(
            session,
            key,
            cursor=cursor,
            limit=TRIALS_PER_PAGE,
            state=TrialState(state) if state in [known.value for known in TrialState] else None,
            sort=cast(TrialSort, order),
            replicas=False,
        )
        decisions = reads.decisions(session, key, limit=DECISIONS_SHOWN)
        front = reads.front(session, key) if detail.spec.objectives else None
        stops = reads.stops(session, key) if detail.spec.stopping and detail.trials.stopped else None
        profile, no_profile = None, ""
        if detail.spec.trainer.workloads:
            profile, no_profile = _or_reason(lambda: reads.profile(session, key))
        schedule = None
        if detail.savings.useful is not None and detail.best is not None:
            schedule, _ = _or_reason(lambda: reads.schedule(session, key))
    path = f"/studies/{key}"
    kept = {"sort": "" if order == best_first else order, "state": state}
    parameters = tuple(expanded(detail.spec.space))
    outcomes = tuple(name for name in detail.spec.watched if name != detail.metric)
    return StudyPage(
        title=detail.name,
        now=now,
        locked=locked,
        study=detail,
        default=summary.default,
        improvements=tuple(summary.best_so_far),
        curves_shown=CURVES_SHOWN,
        rungs=rungs(detail.spec),
        spec_text=spec_text(detail.spec),
        trials=tuple(trials.items),
        parameters=parameters,
        outcomes=outcomes,
        front=front,
        stops=stops,
        profile=profile,
        no_profile=no_profile,
        schedule=schedule,
        rounds=() if detail.scaling is None else scaling.rows(detail.scaling),
        columns=_columns(path, order, best_first, state, detail, (*outcomes, *parameters)),
        states=tuple(known.value for known in TrialState),
        state=state,
        sort=kept["sort"],
        first_url=_url(path, **kept) if cursor else None,
        next_url=_url(path, **kept, cursor=trials.next_cursor) if trials.next_cursor else None,
        decisions=tuple(decisions.items),
        results=detail.trials.total - detail.trials.queued - detail.trials.running,
        least_results=LEAST_RESULTS,
    )


def trial(database: Database, now: datetime, key: str, number: int, locked: bool) -> TrialPage:
    """One trial. Raises :class:`NotFoundError`."""
    with database.read() as session:
        detail = reads.study_detail(session, key, now)
        shown = reads.trial_detail(session, key, number)
    best = detail.best.params if detail.best is not None else {}
    space = expanded(detail.spec.space)
    names = [name for name in space if name in shown.params]
    names += [name for name in shown.params if name not in space]
    return TrialPage(
        title=f"Trial {number} of {detail.name}",
        now=now,
        locked=locked,
        study=detail,
        trial=shown,
        settings=tuple(
            Setting(
                name,
                shown.params[name],
                best.get(name),
                space[name].doc if name in space else "",
                shown.scaled.get(name),
            )
            for name in names
        ),
        seeds=_seeds(shown),
        metrics=_metrics(shown, detail.metric),
        rungs=rungs(detail.spec),
        previous=number - 1 if number > 1 else None,
        # Numbers count from 1 without gaps.
        next=number + 1 if number < detail.trials.total else None,
    )


def importances(
    database: Database,
    now: datetime,
    key: str,
    found: ImportancesResponse | None,
    missing: str,
    locked: bool,
) -> ImportancesPage:
    """How much each parameter of a study matters. Raises :class:`NotFoundError`."""
    with database.read() as session:
        detail = reads.study_detail(session, key, now)
    space = expanded(detail.spec.space)
    cells: dict[str, list[Importance]] = {}
    for ranking in found.rankings if found is not None else ():
        for row in ranking.importances:
            cells.setdefault(row.parameter, []).append(row)
    rows = [
        ImportanceRow(name, space[name].doc if name in space else "", tuple(own))
        for name, own in cells.items()
    ]
    rows.sort(
        key=lambda row: -sum(cell.importance if cell.total is None else cell.total for cell in row.cells)
    )
    return ImportancesPage(
        title=f"Importances of {detail.name}",
        now=now,
        locked=locked,
        study=detail,
        found=found,
        missing=missing,
        rows=tuple(rows[:PARAMETERS_RANKED]),
        left_out=max(0, len(rows) - PARAMETERS_RANKED),
    )


def spec_text(spec: StudySpec) -> str:
    """The specification as a study file; what is left at its default is not written."""
    document = spec.model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)


def study_spec(database: Database, now: datetime, key: str) -> StudySpec:
    """A study's specification. Raises :class:`NotFoundError`."""
    with database.read() as session:
        return reads.study_detail(session, key, now).spec


def trials_csv(database: Database, spec: StudySpec, key: str) -> Iterator[str]:
    """All trials as CSV, a few hundred per piece: one column per parameter, in order of number."""
    parameters = tuple(expanded(spec.space))
    head = ("number", "state", "label", "origin", "step", "target_step", "value", "best_value", "best_step")
    watched = tuple(name for name in spec.watched if name != spec.metric.name)
    seeds = ("replica_of", "seed", "test", "seeds_measured", "spread")
    own = seeds if spec.seeds.several or spec.seeds.test else ()
    tail = (*own, "seconds", "runs", "retries", "failure_kind", "state_reason")
    tied = tuple(ties(spec.space))
    outcomes = (f"outcomes.{name}" for name in watched)
    over = ("over_limits",) if spec.limits else ()
    yield _csv_lines(
        [(*head, *outcomes, *over, *parameters, *(f"{name} as trained" for name in tied), *tail)]
    )
    cursor: str | None = None
    while True:
        try:
            with database.read() as session:
                page = reads.list_trials(session, key, cursor=cursor, limit=TRIALS_PER_EXPORT_READ)
        except NotFoundError:  # deleted meanwhile; the head of the answer is long sent
            return
        yield _csv_lines(
            (
                *(_cell(getattr(item, name)) for name in head),
                *(_cell(item.outcomes.get(name)) for name in watched),
                *("; ".join(item.over_limits) for _ in over),
                *(_cell(item.params.get(name)) for name in parameters),
                *(_cell(item.scaled.get(name)) for name in tied),
                *(_cell(getattr(item, name)) for name in tail),
            )
            for item in page.items
        )
        cursor = page.next_cursor
        if cursor is None:
            return


def rungs(spec: StudySpec) -> tuple[int, ...]:
    """The steps below the full fidelity at which the strategy weighs trials against each other."""
    eta = spec.strategy.options.get("eta", 3)
    halving = spec.strategy.name in ("asha", "bohb", "curve-bo", "hyperband")
    if not halving or not isinstance(eta, int | float):
        return ()
    return rung_levels(specs.fidelity(spec), eta)[:-1]


def _or_reason(ask: Callable[[], T]) -> tuple[T | None, str]:
    """An answer, or why there is none yet."""
    try:
        return ask(), ""
    except ConflictError as error:
        return None, error.detail


def _best_first(study: StudyDetail) -> str:
    return "-best_value" if study.direction is Direction.MAXIMIZE else "best_value"


def _columns(
    path: str, order: str, best_first: str, state: str, study: StudyDetail, names: tuple[str, ...]
) -> tuple[Column, ...]:
    def sortable(label: str, key: str, first: str, css: str = "") -> Column:
        current = order.removeprefix("-") == key
        turned = order.removeprefix("-") if order.startswith("-") else f"-{order}"
        wanted = turned if current else first
        return Column(
            label,
            css,
            url=_url(path, sort="" if wanted == best_first else wanted, state=state) + "#trials",
            direction=("descending" if order.startswith("-") else "ascending") if current else "",
        )

    latest_first = "-value" if study.direction is Direction.MAXIMIZE else "value"
    return (
        sortable("Trial", "number", "number"),
        sortable("State", "state", "state"),
        sortable(f"Best {study.metric}", "best_value", best_first, "num"),
        *([Column("Seeds", "num")] if study.spec.seeds.several else []),
        sortable("Latest", "value", latest_first, "num"),
        sortable(study.spec.fidelity.unit.capitalize(), "step", "-step", "num"),
        *(Column(name, "num") for name in names),
        sortable("Time", "seconds", "-seconds", "num"),
        *([Column("Action")] if study.state in ACTIVE else []),
    )


def _seeds(trial: TrialDetail) -> tuple[SeedRow, ...]:
    rows = [("tuning", seed) for seed in trial.tuning_seeds] + [("test", seed) for seed in trial.test_seeds]
    curves = [
        [p for p in zip(seed.steps, seed.values, strict=True) if math.isfinite(p[1])] for _, seed in rows
    ]
    values = [value for curve in curves for _, value in curve]
    if not values:
        return tuple(SeedRow(kind, seed, "") for kind, seed in rows)
    low, last = min(values), max(step for curve in curves for step, _ in curve)
    unit = max(values) - low or 1.0
    return tuple(
        SeedRow(
            kind,
            seed,
            " ".join(
                f"{120 * step / last:.1f},{26 - 24 * ((value - low) / unit):.1f}" for step, value in curve
            ),
        )
        for (kind, seed), curve in zip(rows, curves, strict=True)
    )


def _metrics(trial: TrialDetail, tuned: str) -> tuple[str, ...]:
    names = dict.fromkeys(itertools.chain.from_iterable(point.metrics for point in trial.curve))
    names.pop(tuned, None)
    return (tuned, *names)


def _url(path: str, **query: str) -> str:
    given = {name: value for name, value in query.items() if value}
    return f"{path}?{urlencode(given)}" if given else path


def _csv_lines(rows: Iterator[tuple[object, ...]] | list[tuple[object, ...]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def _cell(value: object) -> object:
    """Spreadsheets run cells that begin like a formula: such text gets a quote before it."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return "" if value is None else value
