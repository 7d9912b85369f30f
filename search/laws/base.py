"""What laws are fitted to, and what every fitted law can say.

Units everywhere: ``N`` parameters (total, unless the user says otherwise), ``D`` training tokens, ``C``
FLOP, learning rates are peaks, batches are in tokens, losses in nats per token. Laws are straight lines
in logarithms (base e).

A family of laws (:class:`Family`) turns :class:`Runs` into a :class:`Fitted`; what a fit says of a target
is a :class:`Prediction` (best learning rate and batch) or a :class:`LossPrediction`. Everything here is
frozen, and a fit turns to JSON and back without loss, so that it answers for targets long after.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Progress = Callable[[float], None]
"""Told the share of a fit that is done, 0 to 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Finished training runs, one an entry; all arrays have shape (r,).

    ``lr`` and ``batch`` are NaN throughout where a table has none (a law of the loss needs neither).
    Diverged runs have left ``n`` to ``loss`` and are in ``diverged``, by the same columns without a loss.
    """

    n: Array
    d: Array
    lr: Array
    batch: Array
    loss: Array
    share: Array | None = None
    """The share of the domain that a mixture law speaks of, 0 to 1."""
    diverged: Mapping[str, Array] = field(default_factory=dict)
    """Columns n, d, lr, batch of the runs whose loss is not finite (or that are said to have diverged)."""
    conditions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What must not differ between runs and is known: a column (schedule, optimizer, sequence_length,
    tokenizer) and its distinct values. More than one value is a warning."""
    cautions: tuple[Caution, ...] = ()
    """What reading them raised, such as doubtful units; every fit repeats them."""

    def __len__(self) -> int:
        return len(self.loss)


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with the 90 % interval around it."""

    low: float
    value: float
    high: float


@dataclass(frozen=True, slots=True)
class Caution:
    """Why a number should be believed less, or (``grave``) must not be shown as if it were known."""

    code: str
    """Stable and short, such as ``outside-hull``; docs/LAWS.md lists each with its threshold."""
    message: str
    """What was found, with the figures, and what to do."""
    grave: bool = False


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """``y = exp(constant) * product of x ** exponent``, over the variables N, D, C or B that it has."""

    constant: float
    exponents: Mapping[str, float]

    def __call__(self, **x: float) -> float:
        """Its value at, for example, ``N=1e9, D=2e10``. Raises KeyError when a variable is missing."""
        return float(
            np.exp(self.constant + sum(power * np.log(x[name]) for name, power in self.exponents.items()))
        )


@dataclass(frozen=True, slots=True)
class Box:
    """Learning rates and batches whose loss is within ``excess`` (a share: 0.0025 is 0.25 %) of the
    least."""

    excess: float
    lr: tuple[float, float]
    batch: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Form:
    """The answer of another defensible form or estimator, for the spread across forms."""

    name: str
    lr: float
    batch: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """The learning rate and batch to use at one target (N, D)."""

    n: float
    d: float
    lr: Interval
    batch: Interval
    """The intervals are of the bootstrap over cells, widened to cover as calibrated (docs/LAWS.md)."""
    forms: tuple[Form, ...]
    """Shown apart from the bootstrap: what other forms of law say."""
    plateau: tuple[Box, ...]
    """For 0.1, 0.25 and 1 %; empty when the estimator has no surface."""
    loss: Interval | None
    """The loss there; None where the cells do not tell it (a caution says why), or at a given batch."""
    cautions: tuple[Caution, ...]


@dataclass(frozen=True, slots=True)
class LossForm:
    """The loss by another defensible form or estimator, for the spread across forms."""

    name: str
    loss: float


@dataclass(frozen=True, slots=True)
class LossPrediction:
    """The loss at one target, and (where the law has them) the best N and D for its compute."""

    n: float
    d: float
    share: float | None
    loss: Interval
    best_n: Interval | None
    best_d: Interval | None
    cautions: tuple[Caution, ...]
    best_share: Interval | None = None
    """Of a mixture law: the share with the lowest loss at this N and D."""
    forms: tuple[LossForm, ...] = ()
    """Shown apart from the bootstrap."""


class Fitted(Protocol):
    """A fitted law."""

    @property
    def family(self) -> str:
        """The name in the registry."""

    @property
    def cautions(self) -> tuple[Caution, ...]:
        """Of the fit itself, whatever the target."""

    def summary(self) -> Mapping[str, Any]:
        """Parameters with intervals, figures of merit, counts: plain JSON for tables and pages."""

    def to_json(self) -> dict[str, Any]: ...

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self: ...


@dataclass(frozen=True, slots=True)
class Family:
    """A family of laws."""

    summary: str
    """What it says, in one sentence for people."""
    kind: Literal["optimum", "loss"]
    """Whether its laws answer with a :class:`Prediction` or a :class:`LossPrediction`."""
    fit: Callable[[Runs, Mapping[str, Any], int, Progress], Fitted]
    """Fits runs: ``fit(runs, options, seed, progress)``, the options checked first.

    Raises :class:`~search.errors.SearchError` with every mistake (pointers ``/options/...`` and
    ``/runs/...``) if the options or the runs cannot carry a fit at all: no cells, one cell only, all runs
    diverged."""
    check: Callable[[Mapping[str, Any]], object]
    """Raises :class:`~search.errors.SearchError` with every mistake of the options, before a fit."""
    load: Callable[[Mapping[str, Any]], Fitted]
    """The law that a fit turned to JSON."""
