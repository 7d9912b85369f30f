"""The laws of a scaling study: fits of its trials that are queued with its completion."""

from __future__ import annotations

import hashlib
from datetime import datetime

from sqlalchemy.orm import Session

from search.strategies.scaling import Scaling
from service import laws, specs
from service.db import events, facts, fits
from service.db.models import StudyRow
from service.db.reads.fit_trials import fit_trials
from service.errors import InvalidError
from trimtab.wire import limits
from trimtab.wire.laws import FitColumns, FitRequest

FAMILIES = ("optimum", "loss")


def asked(study_key: str, ended: datetime, family: str) -> str:
    """The idempotency key of the fit that belongs to one completion of a study."""
    return f"study/{study_key}/{ended.isoformat()}/{family}"


def queue(session: Session, study: StudyRow, now: datetime) -> None:
    """Queue the fits of a scaling study that is completed in this transaction, so that a process that is
    killed leaves both or neither. Other studies have none.

    Of runs that carry no law nothing is queued, and an event says why.
    """
    spec = facts.of(session, study.key).spec
    strategy = specs.strategy(spec) if study.strategy == Scaling.name else None
    if not isinstance(strategy, Scaling):
        return
    from search.laws.loss import FEWEST_CELLS  # heavy: only when such a study ends

    n, d = strategy.metrics
    length = round(strategy.sequence_length)
    requests = [
        FitRequest(
            name=name[: limits.MAX_NAME_CHARS],
            family=family,
            studies=[study.key],
            columns=FitColumns(
                n=f"metrics/{n}",
                d=f"metrics/{d}",
                lr=f"params/{strategy.searched.lr.name}",
                batch=f"params/{strategy.searched.batch.name}",
            ),
            batch_unit="tokens" if length == 1 else "sequences",
            sequence_length=None if length == 1 else length,
            seed=spec.seeds.search,
        )
        for name, family in zip((study.name, f"{study.name[:110]} (loss)"), FAMILIES, strict=True)
    ]
    for request in requests:
        try:
            new = laws.read(request, lambda keys: fit_trials(session, keys))
        except InvalidError as error:
            why = "; ".join(problem.message for problem in error.errors)
            data = {"family": request.family, "reason": why}
            events.append(session, study, "study.not_fitted", data=data, now=now)
            continue
        if request.family == "loss" and new.counts.cells < FEWEST_CELLS:
            continue
        once = asked(study.key, now, request.family)
        key = hashlib.sha256(once.encode()).hexdigest()[:12]
        fits.create(session, new, key=key, idempotency_key=once, now=now)
