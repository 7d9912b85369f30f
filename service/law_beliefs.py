"""What fitted laws say of where a study's parameters are best, as beliefs with numbers.

The numbers are stored in the study, so nothing it decides later needs the fit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from service.errors import ServiceError
from service.law_answers import Laws
from trimtab.wire.laws import PredictionResponse
from trimtab.wire.problems import FieldProblem
from trimtab.wire.space import Belief, FloatParameter, IntParameter
from trimtab.wire.study import StudySpec

PLATEAU = 0.0025
"""Values that cost no more than this are held for equally good."""
NARROWEST = 1.15
"""No law is believed to be surer than a factor of this."""
_DEVIATIONS = 1.645
"""Of a normal distribution, half the width of a 90 % interval."""


def told(spec: StudySpec, laws: Laws) -> tuple[StudySpec, list[FieldProblem]]:
    """The study with numbers in its beliefs, and what laws could not say (such a belief is left out)."""
    problems: list[FieldProblem] = []
    space = dict(spec.space)
    for name, parameter in spec.space.items():
        if not isinstance(parameter, FloatParameter | IntParameter):
            continue
        belief = parameter.belief
        if belief is None or belief.told:
            continue
        found = list(_mistakes(name, parameter))
        answer: Belief | None = None
        if not found:
            try:
                answer = _told(name, belief, laws)
            except ServiceError as error:
                found.append(_problem(name, "law", error.detail))
            except _UnsureError as error:
                found.append(_problem(name, "law", str(error), "give a belief of your own, or none"))
        problems += found
        space[name] = parameter.model_copy(update={"belief": answer})
    return spec.model_copy(update={"space": space}), problems


class _UnsureError(Exception):
    """The law does not know."""


def _told(name: str, belief: Belief, laws: Laws) -> Belief:
    assert belief.law is not None
    assert belief.n is not None
    assert belief.d is not None
    prediction = laws.predict(belief.law, n=belief.n, d=belief.d)
    of = belief.of or ("batch" if "batch" in name else "lr")
    if not prediction.confident:
        grave = " ".join(caution.message for caution in prediction.cautions if caution.grave)
        raise _UnsureError(f"the law cannot carry a number there: {grave}")
    between, factor = around(prediction, of)
    unit = belief.sequence_length or 1.0
    resolved = {"between": [round_to(value / unit) for value in between], "factor": round_to(factor)}
    return belief.model_copy(update=resolved)


def around(prediction: PredictionResponse, of: str) -> tuple[tuple[float, float], float]:
    """The plateau, and how far off it may be, as a factor of one standard deviation: of the law's own
    interval and of the spread across its forms together. ``of``: ``lr`` or ``batch``."""
    best = prediction.lr if of == "lr" else prediction.batch
    if best is None:
        raise _UnsureError("a law of the loss says nothing of learning rates and batches")
    boxes = [box for box in prediction.plateau if box.excess == PLATEAU]
    box = (boxes[0].lr if of == "lr" else boxes[0].batch) if boxes else (best.value, best.value)
    values = [form.lr if of == "lr" else form.batch for form in prediction.forms]
    forms = [math.log(value / best.value) for value in values if value]
    own = math.log(best.high / best.low) / (2 * _DEVIATIONS)
    return box, max(NARROWEST, math.exp(math.hypot(own, float(np.std([0.0, *forms])))))


def _mistakes(name: str, parameter: FloatParameter | IntParameter) -> Iterator[FieldProblem]:
    if parameter.low <= 0:
        yield _problem(
            name, "law", f"{name} may be {parameter.low:g}, and laws speak of positive values", ""
        )


def round_to(value: float, digits: int = 4) -> float:
    """To so many significant digits."""
    return float(f"{value:.{digits}g}")


def _problem(name: str, field: str, message: str, suggestion: str = "") -> FieldProblem:
    place = name.replace("~", "~0").replace("/", "~1")
    return FieldProblem(pointer=f"/space/{place}/belief/{field}", message=message, suggestion=suggestion)
