"""Contexts of the pages about scaling laws."""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import datetime
from urllib.parse import urlencode

from service.db import reads
from service.db.engine import Database
from service.errors import InvalidError
from service.law_answers import Laws
from service.web.contexts import LawPage, LawsPage, TargetForm
from trimtab.laws import summary_rows
from trimtab.wire.laws import FitState, PredictionResponse

FITS_PER_PAGE = 30
_LABELS = {"n": "N", "d": "D", "lr": "the learning rate", "batch": "the batch", "share": "the share"}


def laws(database: Database, now: datetime, cursor: str | None, locked: bool) -> LawsPage:
    """The list of fits, newest first. Raises :class:`InvalidError` for a bad cursor."""
    with database.read() as session:
        page = reads.list_fits(session, cursor=cursor, limit=FITS_PER_PAGE)
    return LawsPage(
        title="Scaling laws",
        now=now,
        locked=locked,
        fits=tuple(page.items),
        first_url="/laws" if cursor else None,
        next_url=f"/laws?{urlencode({'cursor': page.next_cursor})}" if page.next_cursor else None,
    )


def law(
    database: Database, laws: Laws, now: datetime, key: str, target: TargetForm, locked: bool
) -> LawPage:
    """One fit, with its answer if it is asked something. Raises :class:`NotFoundError`."""
    with database.read() as session:
        detail = reads.fit_detail(session, key)
    prediction: PredictionResponse | None = None
    mistakes: list[str] = []
    kind = ""
    if detail.state is FitState.DONE:
        kind = laws.loaded(key).kind
        asked = _numbers(target, mistakes)
        if not mistakes and asked:
            try:
                prediction = laws.predict(key, **asked)
            except InvalidError as error:
                mistakes += [f"{problem.message}. {problem.suggestion}".strip() for problem in error.errors]
    known = {caution.message for caution in detail.found}
    return LawPage(
        title=detail.name,
        now=now,
        locked=locked,
        fit=detail,
        kind=kind,
        sources=tuple(detail.source.studies),
        rows=tuple(summary_rows(detail.summary)),
        target=target,
        prediction=prediction,
        target_cautions=()
        if prediction is None
        else tuple(caution for caution in prediction.cautions if caution.message not in known),
        marked=None if prediction is None else (prediction.n, prediction.d),
        mistakes=tuple(mistakes),
    )


def _numbers(target: TargetForm, mistakes: list[str]) -> dict[str, float]:
    """What was typed as numbers; nothing where nothing was typed."""
    found: dict[str, float] = {}
    for name, text in asdict(target).items():
        if not text:
            continue
        try:
            value = float(text.replace(",", "").replace("_", ""))
        except ValueError:
            value = math.nan
        if math.isfinite(value) and value > 0:
            found[name] = value
        else:
            mistakes.append(f"{_LABELS[name]} is {text!r}: write a number above 0, such as 1e9.")
    if found and not mistakes and not {"n", "d"} <= found.keys():
        mistakes.append("Say both N and D of the target.")
    return found
