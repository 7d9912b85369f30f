"""What a fit of the family ``optimum`` may be told, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.errors import Mistake, SearchError, did_you_mean
from search.laws import estimators, forms

JOINT = "joint"
ESTIMATORS = (JOINT, *estimators.BY_NAME)


@dataclass(frozen=True, slots=True)
class Options:
    """What a fit of the family ``optimum`` may be told."""

    estimator: str = JOINT
    lr: str = forms.N_D
    batch: str = forms.N_D
    draws: int = 200
    forms: bool = True
    """Whether other forms and estimators, and the law of the loss at the optimum, are fitted, too;
    without them a fit takes half as long."""


def checked(options: Mapping[str, Any]) -> Options:
    """Raises :class:`~search.errors.SearchError` with every option that is unknown or out of range."""
    choices = {"estimator": ESTIMATORS, "lr": forms.LR_FORMS, "batch": forms.BATCH_FORMS}
    mistakes = []
    for name, value in options.items():
        at = f"/options/{name}"
        if name in choices:
            if value not in choices[name]:
                message = f"{value!r} is not one of {', '.join(choices[name])}"
                mistakes.append(Mistake(at, message, did_you_mean(str(value), choices[name])))
        elif name == "draws":
            if not isinstance(value, int) or isinstance(value, bool) or not 20 <= value <= 5000:
                mistakes.append(Mistake(at, f"{value!r} is not a whole number from 20 to 5000"))
        elif name == "forms":
            if not isinstance(value, bool):
                mistakes.append(Mistake(at, f"{value!r} is neither true nor false"))
        else:
            message = "the family optimum has no such option"
            mistakes.append(Mistake(at, message, did_you_mean(name, (*choices, "draws", "forms"))))
    if mistakes:
        raise SearchError(mistakes)
    return Options(**options)
