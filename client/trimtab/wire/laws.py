"""Scaling laws: what is fitted, what a fit says at a target, which runs to add.

Units: ``n`` parameters, ``d`` training tokens, learning rates at their peak, batches in tokens, losses in
nats per token, budgets in FLOP. An ``excess`` is a share of the least loss: 0.0025 is 0.25 %.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

from trimtab.wire import limits
from trimtab.wire.base import Name, Wire

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
ColumnName = Annotated[str, Field(min_length=1, max_length=limits.MAX_TEXT_CHARS)]
Cell = StrictBool | StrictInt | StrictFloat | StrictStr | None
"""A cell of a table: a number, a number as text, ``NaN`` or nothing for the loss of a run that diverged."""


class FitState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    """A process fits it; ``progress`` says how far it is."""
    DONE = "done"
    FAILED = "failed"
    """The runs cannot carry the fit, or it could not be computed; ``error`` says why. Nothing is stored."""


class FitColumns(Wire):
    """Which column of a table has what, by name.

    Of studies, a column is a parameter as the trainer got it (`params/lr`), a setting of the trainer
    (`settings/width`), a metric at the last measurement (`metrics/val_loss`), or `step`, `tokens` or
    `study`; the plain name is enough where only one of them has it. A product may be written:
    `12 * depth * width * width`.
    """

    n: ColumnName | None = None
    """Parameters of the model; `N` if nothing is said."""
    d: ColumnName | None = None
    """Training tokens; `D` if nothing is said, of studies `tokens`."""
    loss: ColumnName | None = None
    """`loss` if nothing is said, of studies their metric."""
    lr: ColumnName | None = None
    """Peak learning rate; a law of the optimum needs it, a law of the loss does not."""
    batch: ColumnName | None = None
    """Batch, as a law of the optimum needs it; in `batch_unit`."""
    share: ColumnName | None = None
    """Share of a domain, 0 to 1, of a law of mixtures."""
    diverged: ColumnName | None = None
    """True for runs that diverged; without it, those whose loss is missing or not finite did."""
    schedule: ColumnName | None = None
    """What should not differ between runs, as the three below: values are compared, and a difference is
    a caution."""
    optimizer: ColumnName | None = None
    sequence_length: ColumnName | None = None
    """Tokens of a sequence; with `batch_unit: sequences` batches are multiplied by it."""
    tokenizer: ColumnName | None = None

    @property
    def named(self) -> dict[str, str]:
        """The columns that are named, by role."""
        return {role: name for role, name in self if name is not None}


class FitRequest(Wire):
    """Runs to fit, from exactly one of `table`, `csv`, `parquet` and `studies`, and what to fit to them."""

    name: Name
    family: Annotated[str, Field(min_length=1, max_length=limits.MAX_NAME_CHARS)] = "optimum"
    """`GET /v1/fits/families` lists them."""
    options: Annotated[dict[str, JsonValue], Field(max_length=limits.MAX_PARAMETERS)] = Field(
        default_factory=dict
    )
    """What the family understands."""
    table: Annotated[dict[ColumnName, list[Cell]], Field(max_length=limits.MAX_PARAMETERS)] | None = None
    """Columns by name, all of one length."""
    csv: str | None = None
    """A CSV file as text: a line of names, then a line for each run."""
    parquet: str | None = None
    """A Parquet file in base64."""
    studies: Annotated[list[str], Field(max_length=limits.MAX_FITTED_STUDIES)] = Field(default_factory=list)
    """Ids of studies whose trials are the runs: those trained to the end, and those that diverged."""
    columns: FitColumns = FitColumns()
    batch_unit: Literal["tokens", "sequences"] | None = None
    """What batches count; if nothing is said, tokens, and what cannot be tokens is refused."""
    sequence_length: Annotated[int, Field(ge=1, le=limits.MAX_STEP)] | None = None
    """Tokens of a sequence, the same in all runs."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Of the bootstrap: the same runs and seed give the same fit."""

    @model_validator(mode="after")
    def _check(self) -> FitRequest:
        given = [name for name in ("table", "csv", "parquet", "studies") if getattr(self, name)]
        if len(given) != 1:
            said = "none is given" if not given else f"{' and '.join(given)} are given"
            raise ValueError(f"runs come from one of table, csv, parquet and studies; {said}")
        return self


class FitFamily(Wire):
    """A family of laws."""

    name: str
    summary: str
    kind: Literal["optimum", "loss"]
    """`optimum`: says which learning rate and batch are best. `loss`: says what the loss will be."""


class FamiliesResponse(Wire):
    families: list[FitFamily]


class FitSource(Wire):
    """Where the runs of a fit were read from."""

    kind: Literal["table", "csv", "parquet", "studies"]
    studies: list[str]
    columns: dict[str, str]
    """The column of each role."""
    batch_unit: Literal["tokens", "sequences"] | None
    sequence_length: int | None


class FitCounts(Wire):
    """How many runs a fit has, and what they span."""

    runs: int
    diverged: int
    """Kept apart: they have no loss."""
    cells: int
    """Distinct pairs of `n` and `d`."""
    left_out: int = 0
    """Trials that were neither trained to the end nor diverged."""
    n: tuple[float, float] | None
    """Smallest and largest."""
    d: tuple[float, float] | None


class Caution(Wire):
    """Why a number should be believed less."""

    code: str
    """docs/LAWS.md lists each with its threshold."""
    message: str
    grave: bool
    """The data cannot carry the number: it must not be shown as if it were known."""


class FitItem(Wire):
    """A row of the list of fits."""

    id: str
    name: str
    family: str
    state: FitState
    progress: float
    """The share that is done, 0 to 1."""
    error: str | None
    """Why it failed."""
    counts: FitCounts
    cautions: int | None
    """How many there are of the fit itself; None before it is done."""
    grave: bool
    """One of them says that the data cannot carry the law."""
    created_at: datetime
    ended_at: datetime | None


class FitPage(Wire):
    items: list[FitItem]
    next_cursor: str | None


class FitDetail(FitItem):
    options: dict[str, JsonValue]
    seed: int
    source: FitSource
    started_at: datetime | None
    found: list[Caution]
    """The cautions of the fit itself, whatever the target."""
    summary: dict[str, Any]
    """What the family says of its fit: parameters with intervals, figures of merit. Empty before it is
    done."""


class Range(Wire):
    """A value with its 90 % interval."""

    low: float
    value: float
    high: float

    @property
    def factor(self) -> float:
        """By how much the value may be off, either way."""
        return max(self.high / self.value, self.value / self.low)


class ScalingRound(Wire):
    """What the runs of a scaling study said of its target when a round of them had ended."""

    round: int
    """0: the first sweep."""
    trials: int
    """Of the study by then."""
    flops: float
    """Spent by then."""
    lr: Range
    batch: Range
    """In tokens."""
    cautions: list[str]
    """Codes of the grave ones: with any, the numbers must not be taken for known."""


class StudyFit(Wire):
    """A fit that the service made of a study when it was completed."""

    id: str
    family: str
    state: FitState


class ScalingProgress(Wire):
    """How far a scaling study has come."""

    n: float
    d: float
    """The target."""
    within: float
    """It is done when both intervals lie within this factor of their values."""
    flops: float
    """That may be spent."""
    rounds: list[ScalingRound]
    fits: list[StudyFit]
    """Of its newest completion; of the optimum first."""


class PlateauBox(Wire):
    """Learning rates and batches whose loss is within `excess` of the least."""

    excess: float
    lr: tuple[float, float]
    batch: tuple[float, float]


class FormValue(Wire):
    """What another defensible form of the law says."""

    name: str
    lr: float | None = None
    batch: float | None = None
    loss: float | None = None


class PredictionResponse(Wire):
    """What a fit says at one target."""

    fit: str
    n: float
    d: float
    lr: Range | None
    """The best learning rate; None of a law of the loss."""
    batch: Range | None
    """The best batch in tokens."""
    forms: list[FormValue]
    """The spread across forms: not a part of the intervals."""
    plateau: list[PlateauBox]
    loss: Range | None
    """Of a law of the optimum: the loss there; None where too few cells tell it (a caution says
    so), or at a batch that was asked about."""
    excess: Range | None = None
    """What the learning rate and batch that were asked about cost, as a share of the least loss."""
    best_n: Range | None = None
    """Of a law of the loss: the size on which the same compute would be best spent."""
    best_d: Range | None = None
    share: float | None = None
    """Of a law of mixtures: the share that the loss is of."""
    best_share: Range | None = None
    confident: bool
    """False with a grave caution: show the interval and why, not the value."""
    cautions: list[Caution]


class PlanRequest(Wire):
    """What may be spent to be surer of what."""

    flops: Positive
    """All the runs together, by 6 N D each."""
    n: Positive
    """The target."""
    d: Positive
    runs_per_cell: Annotated[int, Field(ge=5, le=9)] = 6
    """Learning rates and batches tried at each size, of a law of the optimum."""


class PlannedRun(Wire):
    """A run to add."""

    n: float
    d: float
    lr: float | None
    batch: float | None
    flops: float


class PlanResponse(Wire):
    """Runs to add, and the 90 % intervals at the target: as they are, and as they are expected then."""

    fit: str
    n: float
    """The target."""
    d: float
    runs: list[PlannedRun]
    """In the order in which they are worth training."""
    flops: float
    """What they cost in all."""
    lr_now: Range | None
    lr_then: Range | None
    batch_now: Range | None
    batch_then: Range | None
    loss_now: Range | None
    loss_then: Range | None


class FitFigure(Wire):
    """A picture of a fit, as plotly reads it: `plotly.graph_objects.Figure(figure.data, figure.layout)`.
    A notebook shows it as it is."""

    id: str
    group: Literal["laws", "cells", "checks"]
    title: str
    caption: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    height: int
    """In pixels."""

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """Notebooks draw it by this, without a library."""
        layout = {**self.layout, "height": self.height, "title": {"text": self.title}}
        return {
            "application/vnd.plotly.v1+json": {"data": self.data, "layout": layout},
            "text/plain": f"{self.title}: {self.caption}",
        }


class FiguresResponse(Wire):
    fit: str
    name: str
    figures: list[FitFigure]
