"""Which runs to add to a fit, as search designs them."""

from __future__ import annotations

import time

from search.errors import Mistake, SearchError
from search.laws.base import Progress, Runs
from search.laws.design import Plan, plan_loss, plan_optimum
from search.laws.loss import LossFit
from search.laws.optimum_law import OptimumLaw
from service import laws
from service.errors import InvalidError
from trimtab.wire.laws import PlannedRun, PlanRequest, PlanResponse
from trimtab.wire.problems import FieldProblem

MOST_SECONDS = 60.0
"""A plan that takes longer is given up. With nine cells of 10 runs it takes a second, with 72 runs six."""


def plan(key: str, law: object, runs: Runs, request: PlanRequest) -> PlanResponse:
    """The runs that shrink the interval at the target most, within the budget.

    Raises :class:`InvalidError` for a budget that pays for nothing, for laws that cannot plan, and if it
    takes too long.
    """
    progress = _until(time.monotonic() + MOST_SECONDS)
    try:
        if isinstance(law, OptimumLaw):
            found = plan_optimum(
                law, runs, request.n, request.d, request.flops, request.runs_per_cell, progress=progress
            )
        elif isinstance(law, LossFit):
            found = plan_loss(law, request.n, request.d, request.flops, progress=progress)
        else:
            message = "runs are planned for the families optimum and loss, not for this one"
            hint = "of a mixture, add shares within the interval of the best share, at larger N and D"
            raise SearchError([Mistake("", message, hint)])
    except SearchError as error:
        raise laws.invalid("The runs cannot be planned.", error) from None
    except ValueError as error:  # the estimator has no surface
        problem = FieldProblem(pointer="", message=str(error))
        raise InvalidError("The runs cannot be planned.", [problem]) from None
    return _response(key, found)


def _until(deadline: float) -> Progress:
    """Progress that gives up after ``deadline``, by the monotonic clock."""

    def progress(_share: float) -> None:
        if time.monotonic() > deadline:
            message = f"the plan takes longer than {MOST_SECONDS:.0f} seconds"
            hint = "fit fewer runs: those far from the optimum of their cell tell little"
            raise SearchError([Mistake("", message, hint)])

    return progress


def _response(key: str, found: Plan) -> PlanResponse:
    last = found.runs[-1]
    return PlanResponse(
        fit=key,
        n=found.n,
        d=found.d,
        runs=[
            PlannedRun(n=run.n, d=run.d, lr=run.lr, batch=run.batch, flops=run.flops) for run in found.runs
        ],
        flops=found.flops,
        lr_now=laws.interval(found.lr),
        lr_then=laws.interval(last.lr_after),
        batch_now=laws.interval(found.batch),
        batch_then=laws.interval(last.batch_after),
        loss_now=laws.interval(found.loss),
        loss_then=laws.interval(last.loss_after),
    )
