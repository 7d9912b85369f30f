"""Models of the worker-facing calls: lease, report, renew, end. Ask and tell uses the same ones.

An attempt's ``token`` is its fencing token: unique over the whole database, growing, never reused.
Everything a worker says carries it; once the attempt is no longer active, what is said under its token
is refused and changes nothing.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trimtab.wire import limits
from trimtab.wire.base import Metrics, Name, ParamValue, Step, Wire
from trimtab.wire.states import FailureKind, Verdict
from trimtab.wire.study import ResourceSpec, TrainerSpec

Token = Annotated[int, Field(ge=1, lt=2**63)]
"""An attempt's fencing token."""
Count = Annotated[int, Field(ge=0, lt=2**63)]
"""As large as databases count."""


class Capacity(Wire):
    """What a dispatcher has free."""

    cpus: Annotated[float, Field(ge=0)] = 0.0
    gpus: Annotated[float, Field(ge=0)] = 0.0
    custom: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)


class RegisterRequest(Wire):
    """A dispatcher says hello. Attempts of its earlier incarnations are lost from now on."""

    worker: Name
    incarnation: Name
    """Differs at every start of the process."""
    total: Capacity = Capacity()
    trainers: list[str] = Field(default_factory=list, max_length=1_000)


class LeaseRequest(Wire):
    """Ask for up to ``max_runs`` runs that fit into ``free``."""

    worker: Name
    incarnation: Name
    free: Capacity
    max_runs: Annotated[int, Field(ge=1, le=256)] = 1
    lease_seconds: Annotated[float, Field(ge=1, le=86_400)] = 30.0
    wait_seconds: Annotated[float, Field(ge=0, le=30)] = 0.0
    """The service may hold the call this long until something can be leased."""


class CheckpointRef(Wire):
    """A saved training state."""

    id: int
    step: Step
    uri: str
    bytes: int | None = None


class Assignment(Wire):
    """A leased run: all that a worker needs to train it."""

    token: int
    study: str
    study_name: str
    trial: int
    """The trial's number within its study, from 1."""
    run: int
    """The run's number within its trial, from 1."""
    params: dict[str, ParamValue]
    trainer: TrainerSpec
    training_seed: int
    """Of the study, or a forked trial's own."""
    schedule: list[tuple[Step, float]] = Field(default_factory=list)
    """The learning rate at every step, whatever the parameters say: (step, rate) points with straight lines
    between them; before the first and beyond the last the rate stays. Empty: as the parameters say."""
    parent: int | None = None
    """The trial that this one was forked from; None: it started from nothing."""
    forked_at: Step = 0
    """The step of the parent's checkpoint that it started from."""
    start_step: Step
    target_step: Step
    max_step: Step
    """A full training (``fidelity.max``): schedules are laid out over this many steps, whatever the run's
    target. A trial that is trained on beyond it keeps the schedule's final value."""
    report_every: int
    checkpoint: CheckpointRef | None = None
    """Where to start from; None: from nothing."""
    checkpoint_every: int | None = None
    save_at_end: bool = True
    metric: str
    resources: ResourceSpec
    hang_after_seconds: float
    lease_seconds: float | None
    """Renew (or report) within this time. None: the lease does not run out (ask and tell)."""


class LeaseResponse(Wire):
    assignments: list[Assignment]


class Measurement(Wire):
    """One point of a learning curve."""

    step: Annotated[int, Field(ge=1, le=limits.MAX_STEP)]
    metrics: Metrics
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Training seconds since the trial's start, over all its runs."""
    tokens: Count | None = None


class SavedCheckpoint(Wire):
    """A checkpoint whose files are in their final place."""

    step: Step
    uri: str = Field(min_length=1, max_length=limits.MAX_TEXT_CHARS)
    bytes: Count | None = None


class Report(Wire):
    """What one attempt has to say. Resending it changes nothing."""

    token: Token
    seq: Annotated[int, Field(ge=1, lt=2**31)]
    """Grows by 1 with each report of the attempt; a number seen before is not stored twice."""
    measurements: list[Measurement] = Field(default_factory=list, max_length=limits.MAX_POINTS_PER_REPORT)
    """In order of step. Empty: a renewal of the lease."""
    checkpoint: SavedCheckpoint | None = None


class ReportsRequest(Wire):
    reports: list[Report] = Field(min_length=1, max_length=limits.MAX_REPORTS_PER_REQUEST)


class ReportReply(Wire):
    token: int
    verdict: Verdict
    reason: str = ""


class ReportsResponse(Wire):
    replies: list[ReportReply]


class Failure(Wire):
    """Why training ended badly."""

    kind: FailureKind
    message: str = Field(max_length=limits.MAX_TEXT_CHARS)
    output_tail: str = Field(default="", max_length=limits.MAX_OUTPUT_TAIL_CHARS)
    """The last lines the training printed."""


class EndRequest(Wire):
    """An attempt is over. The last measurements and checkpoint may ride along, and a wish for more work."""

    token: Token
    outcome: Literal["finished", "failed", "released"]
    """finished: reached its target or obeyed a verdict. released: given back unharmed."""
    step: Step
    """The step the training stood at."""
    seq: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    measurements: list[Measurement] = Field(default_factory=list, max_length=limits.MAX_POINTS_PER_REPORT)
    checkpoint: SavedCheckpoint | None = None
    failure: Failure | None = None
    lease: LeaseRequest | None = None
    """Lease the next runs once the attempt is closed, which spares a call. `wait_seconds` is not heeded."""


class EndResponse(Wire):
    accepted: bool
    """False: the token was stale and nothing changed."""
    trial_state: str
    assignments: list[Assignment] = Field(default_factory=list)
    """What was leased, also after a stale token. Nothing, if another incarnation of the dispatcher has
    registered since."""


class GarbageItem(Wire):
    id: int
    uri: str


class GarbageResponse(Wire):
    items: list[GarbageItem]


class GarbageDone(Wire):
    """Checkpoints whose files are gone."""

    ids: list[Count] = Field(max_length=1_000)


class UploadedFolder(Wire):
    """A folder of a checkpoint's files as a dispatcher finds it: ``ROOT/STUDY/TRIAL/TOKEN/step-STEP``."""

    study: str = Field(min_length=1, max_length=limits.MAX_NAME_CHARS)
    token: Token
    step: Step


class OrphansRequest(Wire):
    """Which of these folders does nobody need?"""

    folders: list[UploadedFolder] = Field(max_length=1_000)


class OrphansResponse(Wire):
    """Those of ended attempts that never became a checkpoint. They never will: delete them."""

    folders: list[UploadedFolder]


class AskRequest(Wire):
    """Ask for a configuration to train oneself."""

    wait_seconds: Annotated[float, Field(ge=0, le=30)] = 10.0
    lease_seconds: Annotated[float, Field(ge=1, le=30 * 86_400)] | None = None
    """The trial is given up if nothing is heard for so long. None: never."""


class AskResponse(Wire):
    assignment: Assignment | None
    """None: nothing to try right now (all slots taken, or the study waits for results)."""
    reason: str = ""
    ended: bool = False
    """The study has ended: there will be nothing to try any more, unless it is extended."""
    retry_after_seconds: float = 1.0


class ImportedTrial(Wire):
    """A trial finished elsewhere."""

    params: dict[str, ParamValue]
    curve: list[Measurement] = Field(default_factory=list, max_length=limits.MAX_CURVE_POINTS)
    state: Literal["completed", "stopped", "failed"] = "completed"
    label: str | None = Field(default=None, max_length=limits.MAX_NAME_CHARS)


class ImportRequest(Wire):
    trials: list[ImportedTrial] = Field(min_length=1, max_length=limits.MAX_IMPORTED_TRIALS)


class ImportResponse(Wire):
    numbers: list[int]
