"""What stored laws answer: predictions, plans, pictures. Laws are read once and kept: they never change."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.errors import Mistake, SearchError
from search.laws import registry
from search.laws.base import Fitted, LossPrediction, Prediction, Runs
from service import laws
from service.db import reads
from service.db.engine import Database
from service.errors import InvalidError, UnavailableError
from trimtab.wire.laws import (
    FiguresResponse,
    FitFamily,
    FitRequest,
    FormValue,
    PlanRequest,
    PlanResponse,
    PlateauBox,
    PredictionResponse,
)
from trimtab.wire.problems import FieldProblem

KEPT = 16
"""Laws that are kept in memory: some hundred kilobytes each."""
PLAN_WAIT_SECONDS = 20.0
"""A plan waits so long for its turn: who waits holds one of the threads that answer."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A fitted law that is ready to answer."""

    key: str
    name: str
    family: str
    kind: str
    law: Any
    """Of its family: see ``kind``."""
    runs: Runs
    summary: Mapping[str, Any]


def families() -> list[FitFamily]:
    """All families that are installed."""
    found = []
    for name in registry.names():
        family = registry.load(name)
        found.append(FitFamily(name=name, summary=family.summary, kind=family.kind))
    return found


def check(request: FitRequest) -> None:
    """Raise :class:`InvalidError` if there is no such family, or if it does not take the options."""
    try:
        registry.load(request.family).check(request.options)
    except SearchError as error:
        raise laws.invalid("The fit cannot be made.", error) from None


class Laws:
    """The laws of one database. Safe to use from several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: OrderedDict[str, Loaded] = OrderedDict()
        self._lock = threading.Lock()
        self._planning = threading.Lock()

    def predict(
        self,
        key: str,
        *,
        n: float,
        d: float,
        lr: float | None = None,
        batch: float | None = None,
        flops: float | None = None,
        share: float | None = None,
    ) -> PredictionResponse:
        """What the fit says at a target. With a ``batch`` alone, the best learning rate at that batch.

        Raises:
            NotFoundError: there is no such fit.
            ConflictError: it is not done.
            InvalidError: it cannot answer that; the fields are named.
        """
        loaded = self.loaded(key)
        if loaded.kind == "loss":
            return _predicted_loss(loaded, n, d, {"lr": lr, "batch": batch}, flops, share)
        _refuse(
            {"flops": flops, "share": share}, "is asked of a law of the loss; this is one of the optimum"
        )
        if lr is not None and batch is None:
            raise _invalid(
                "batch", "a learning rate costs what it costs at a batch", "say both, or neither"
            )
        return _predicted_optimum(loaded, n, d, lr, batch)

    def plan(self, key: str, request: PlanRequest) -> PlanResponse:
        """Which runs to add; raises as :meth:`predict`, and UnavailableError if others are planned."""
        from service import law_plans

        loaded = self.loaded(key)
        # Seconds of work each: one at a time leaves the other calls room.
        if not self._planning.acquire(timeout=PLAN_WAIT_SECONDS):
            raise UnavailableError("Other plans are being made: ask again in a moment.")
        try:
            return law_plans.plan(loaded.key, loaded.law, loaded.runs, request)
        finally:
            self._planning.release()

    def figures(self, key: str, target: tuple[float, float] | None) -> FiguresResponse:
        """The pictures, with a target marked in them; raises as :meth:`predict`."""
        from service import law_pictures

        loaded = self.loaded(key)
        found = law_pictures.pictures(loaded.law, loaded.runs, loaded.summary, target)
        return FiguresResponse(fit=key, name=loaded.name, figures=found)

    def forget(self, key: str) -> None:
        """The fit has been deleted."""
        with self._lock:
            self._kept.pop(key, None)

    def loaded(self, key: str) -> Loaded:
        """The law of a fit that is done; raises NotFoundError and ConflictError."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
        with self._database.read() as session:
            if found is not None:
                reads.fit_state(session, key)  # it may have been deleted by another process
                return found
            stored = reads.stored_law(session, key)
        try:
            family = registry.load(stored.family)
        except SearchError as error:
            raise laws.invalid("The family of this fit is not installed any more.", error) from None
        law: Fitted = family.load(stored.law)
        loaded = Loaded(
            key=stored.key,
            name=stored.name,
            family=stored.family,
            kind=family.kind,
            law=law,
            runs=laws.runs_from_json(stored.runs),
            summary=stored.summary,
        )
        with self._lock:
            self._kept[key] = loaded
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return loaded


def _predicted_optimum(
    loaded: Loaded, n: float, d: float, lr: float | None, batch: float | None
) -> PredictionResponse:
    excess = None
    try:
        conditional = batch if lr is None else None
        found: Prediction = (
            loaded.law.predict(n, d, conditional) if conditional else loaded.law.predict(n, d)
        )
        if lr is not None and batch is not None:
            excess = laws.interval(loaded.law.excess(n, d, lr, batch))
    except SearchError as error:
        raise laws.invalid("The target cannot be predicted.", error, _query) from None
    except ValueError as error:  # the estimator has no surface
        raise _invalid("batch", str(error), "") from None
    return PredictionResponse(
        fit=loaded.key,
        n=n,
        d=d,
        lr=laws.interval(found.lr),
        batch=laws.interval(found.batch),
        forms=[FormValue(name=form.name, lr=form.lr, batch=form.batch) for form in found.forms],
        plateau=[PlateauBox(excess=box.excess, lr=box.lr, batch=box.batch) for box in found.plateau],
        loss=laws.interval(found.loss),
        excess=excess,
        confident=not any(caution.grave for caution in found.cautions),
        cautions=[laws.caution(caution) for caution in found.cautions],
    )


def _predicted_loss(
    loaded: Loaded,
    n: float,
    d: float,
    own: Mapping[str, float | None],
    flops: float | None,
    share: float | None,
) -> PredictionResponse:
    _refuse(own, "is asked of a law of the optimum; this is one of the loss")
    try:
        found: LossPrediction = (
            loaded.law.predict(n, d, share) if share is not None else loaded.law.predict(n, d)
        )
        best_n, best_d = found.best_n, found.best_d
        if flops is not None and best_n is not None:
            best_n, best_d = loaded.law.compute_optimal(flops)
    except TypeError as error:
        raise _invalid("share", "this law takes no share, or needs one", "") from error
    except SearchError as error:
        raise laws.invalid("The target cannot be predicted.", error, _query) from None
    return PredictionResponse(
        fit=loaded.key,
        n=n,
        d=d,
        lr=None,
        batch=None,
        forms=[FormValue(name=form.name, loss=form.loss) for form in found.forms],
        plateau=[],
        loss=laws.interval(found.loss),
        best_n=laws.interval(best_n),
        best_d=laws.interval(best_d),
        share=found.share,
        best_share=laws.interval(found.best_share),
        confident=not any(caution.grave for caution in found.cautions),
        cautions=[laws.caution(caution) for caution in found.cautions],
    )


def _query(mistake: Mistake) -> FieldProblem:
    return FieldProblem(
        pointer=f"/query{mistake.pointer}", message=mistake.message, suggestion=mistake.suggestion
    )


def _refuse(given: Mapping[str, float | None], why: str) -> None:
    wrong = [
        FieldProblem(pointer=f"/query/{name}", message=f"{name} {why}", suggestion="leave it out")
        for name, value in given.items()
        if value is not None
    ]
    if wrong:
        raise InvalidError("The fit cannot answer that.", wrong)


def _invalid(field: str, message: str, suggestion: str) -> InvalidError:
    problem = FieldProblem(pointer=f"/query/{field}", message=message, suggestion=suggestion)
    return InvalidError("The fit cannot answer that.", [problem])
