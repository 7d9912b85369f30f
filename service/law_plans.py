"""Which runs to add to a fit, as search designs them."""

from __future__ import annotations

from search.errors import Mistake, SearchError
from search.laws.base import Runs
from search.laws.design import Plan, plan_loss, plan_optimum
from search.laws.loss import LossFit
from search.laws.optimum_law import OptimumLaw
from service import laws
from service.errors import InvalidError
from trimtab.wire.laws import PlannedRun, PlanRequest, PlanResponse
from trimtab.wire.problems import FieldProblem


def plan(key: str, law: object, runs: Runs, request: PlanRequest) -> PlanResponse:
    """The runs that shrink the interval at the target most, within the budget.

    Raises :class:`InvalidError` for a budget that pays for nothing, and for laws that cannot plan.
    """
    try:
        if isinstance(law, OptimumLaw):
            found = plan_optimum(law, runs, request.n, request.d, request.flops, request.runs_per_cell)
        elif isinstance(law, LossFit):
            found = plan_loss(law, request.n, request.d, request.flops)
        else:
            message = "runs are planned for the families optimum and loss"
            raise SearchError([Mistake("", message, "fit one of these to the same runs")])
    except SearchError as error:
        raise laws.invalid("The runs cannot be planned.", error) from None
    except ValueError as error:  # the estimator has no surface
        problem = FieldProblem(pointer="", message=str(error))
        raise InvalidError("The runs cannot be planned.", [problem]) from None
    return _response(key, found)


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
