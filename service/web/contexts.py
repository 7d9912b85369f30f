"""What each page shows: one frozen context per template, and nothing else reaches it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from service.web.scaling import RoundRow
from trimtab.wire.base import ParamValue
from trimtab.wire.importances import Importance, ImportancesResponse
from trimtab.wire.laws import Caution, FitDetail, FitItem, PredictionResponse
from trimtab.wire.problems import FieldProblem
from trimtab.wire.profiles import ProfileResponse
from trimtab.wire.study import StudySpec
from trimtab.wire.views import (
    BestPoint,
    BestTrial,
    DecisionView,
    FrontResponse,
    ScheduleView,
    SeedValue,
    StopsReplay,
    StudyDetail,
    StudyItem,
    TrialDetail,
    TrialItem,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What every page knows."""

    template: ClassVar[str]

    title: str
    now: datetime
    locked: bool = False
    """The server has a token: the page offers to log out."""


@dataclass(frozen=True, slots=True)
class StudyFilter:
    """What the list of studies was narrowed to; empty strings narrow nothing."""

    state: str = ""
    tag: str = ""
    name: str = ""

    def __bool__(self) -> bool:
        return bool(self.state or self.tag or self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudiesPage(Page):
    """``/``: all studies."""

    template: ClassVar[str] = "studies.html"

    studies: tuple[StudyItem, ...]
    filter: StudyFilter
    states: tuple[str, ...]
    first_url: str | None
    """Back to the first page; None on it."""
    next_url: str | None


@dataclass(frozen=True, slots=True)
class Column:
    """A heading of the trial table."""

    label: str
    css: str = ""
    url: str | None = None
    """Sorts by this column; None where it cannot be sorted."""
    direction: str = ""
    """``ascending`` or ``descending`` where the table is sorted by this column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPage(Page):
    """``/studies/{id}``: one study."""

    template: ClassVar[str] = "study.html"

    study: StudyDetail
    default: BestTrial | None
    improvements: tuple[BestPoint, ...]
    curves_shown: int
    """So many learning curves are drawn at most."""
    rungs: tuple[int, ...]
    """Steps at which the strategy weighs trials against each other."""
    spec_text: str
    """The specification as a study file."""
    trials: tuple[TrialItem, ...]
    parameters: tuple[str, ...]
    outcomes: tuple[str, ...]
    """The metrics beside the tuned one that objectives and limits name."""
    front: FrontResponse | None
    """Of a study with several objectives."""
    stops: StopsReplay | None
    """Of a study with stopping rules that have stopped a trial."""
    profile: ProfileResponse | None
    """Of a cross-workload study, once a target has been reached."""
    no_profile: str
    """Why a cross-workload study has none; empty for every other."""
    schedule: ScheduleView | None
    """Of a study whose strategy plans the learning rate, once there is a best trial."""
    rounds: tuple[RoundRow, ...]
    """Of a scaling study, once a law has been fitted."""
    columns: tuple[Column, ...]
    states: tuple[str, ...]
    state: str
    """The trial table shows trials in this state; empty: all."""
    sort: str
    first_url: str | None
    next_url: str | None
    decisions: tuple[DecisionView, ...]
    results: int
    """Trials that are neither queued nor running."""
    least_results: int
    """With fewer, importances are not asked for."""

    @property
    def spec(self) -> StudySpec:
        return self.study.spec


@dataclass(frozen=True, slots=True)
class ImportanceRow:
    """How much one parameter matters."""

    parameter: str
    doc: str
    cells: tuple[Importance, ...]
    """By each method, in the order of the answer's rankings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportancesPage(Page):
    """``/studies/{id}/importances``; the panel of it stands on the study's page, too."""

    template: ClassVar[str] = "importances.html"

    study: StudyDetail
    found: ImportancesResponse | None
    missing: str
    """What is missing where nothing was found."""
    rows: tuple[ImportanceRow, ...]
    left_out: int
    """Parameters that matter less than those in ``rows``."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A parameter of a trial, beside what the best trial has."""

    name: str
    value: ParamValue
    best: ParamValue | None
    doc: str
    scaled: ParamValue | None
    """What the trainer is handed instead, where the parameter is tied to another one."""


@dataclass(frozen=True, slots=True)
class SeedRow:
    """The configuration of a trial, trained with one seed."""

    kind: str
    """``tuning`` or ``test``."""
    seed: SeedValue
    line: str
    """Its curve as points of an SVG line, 120 wide and 28 high, on axes that all seeds share; empty without
    a finite value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPage(Page):
    """``/studies/{id}/trials/{n}``: one trial."""

    template: ClassVar[str] = "trial.html"

    study: StudyDetail
    trial: TrialDetail
    settings: tuple[Setting, ...]
    seeds: tuple[SeedRow, ...]
    metrics: tuple[str, ...]
    """Names of all metrics measured, the tuned one first."""
    rungs: tuple[int, ...]
    previous: int | None
    next: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LawsPage(Page):
    """``/laws``: all fits of scaling laws."""

    template: ClassVar[str] = "laws.html"

    fits: tuple[FitItem, ...]
    first_url: str | None
    next_url: str | None


@dataclass(frozen=True, slots=True)
class TargetForm:
    """What a fit is asked, as it was typed; empty strings ask nothing."""

    n: str = ""
    d: str = ""
    lr: str = ""
    batch: str = ""
    share: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LawPage(Page):
    """``/laws/{id}``: one fit, and what it says at a target."""

    template: ClassVar[str] = "law.html"

    fit: FitDetail
    kind: str
    """``optimum`` or ``loss``; empty while it is not done."""
    sources: tuple[str, ...]
    """Studies whose trials it was fitted to."""
    rows: tuple[tuple[str, str], ...]
    """Its summary, as names and texts."""
    target: TargetForm
    prediction: PredictionResponse | None
    target_cautions: tuple[Caution, ...]
    """Those of the prediction that are not of the fit itself."""
    marked: tuple[float, float] | None
    """The target that the pictures mark."""
    mistakes: tuple[str, ...]
    """What is wrong with the target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginPage(Page):
    """``/login``: asks for the server's token."""

    template: ClassVar[str] = "login.html"

    next_url: str
    wrong: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorPage(Page):
    """An error answer for people."""

    template: ClassVar[str] = "error.html"

    status: int
    detail: str
    errors: tuple[FieldProblem, ...]
    """What was wrong where, if the error is about fields."""


@dataclass(frozen=True, slots=True)
class ApiField:
    """A parameter of a call, or a field of a model."""

    name: str
    place: str
    """``path``, ``query`` or ``header``; empty for a field."""
    type: str
    doc: str
    required: bool


@dataclass(frozen=True, slots=True)
class ApiCall:
    """One call of the REST API."""

    method: str
    path: str
    summary: str
    doc: str
    body: str
    """The model of its body; empty where it takes none."""
    answers: tuple[str, ...]
    """Status and model of each good answer."""
    fields: tuple[ApiField, ...]


@dataclass(frozen=True, slots=True)
class ApiModel:
    """A model of the REST API."""

    name: str
    doc: str
    type: str
    fields: tuple[ApiField, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiPage(Page):
    """``/docs``: the reference of the REST API."""

    template: ClassVar[str] = "api.html"

    description: str
    document_url: str
    calls: tuple[ApiCall, ...]
    models: tuple[ApiModel, ...]
