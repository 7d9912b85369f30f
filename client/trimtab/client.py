"""The Python client: one method per route of the REST API, wire models in and out.

Example::

    with Client() as client:
        study = client.create(spec)
        for trial in client.loop(study.id):     # a study with trainer: {name: external}
            with trial:
                for step, loss in train(trial.params):
                    if trial.report(step, val_loss=loss) != "continue":
                        break
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, TypeVar

from pydantic import BaseModel

from trimtab import warm_start
from trimtab.errors import ConflictError, UnknownFitError, UnknownStudyError
from trimtab.explain import closest
from trimtab.loop import AskedTrial
from trimtab.transport import Transport
from trimtab.wire import laws, views, work
from trimtab.wire.base import Wire
from trimtab.wire.importances import ImportanceMethod, ImportancesResponse
from trimtab.wire.limits import MAX_PAGE
from trimtab.wire.profiles import ProfileBy, ProfileResponse
from trimtab.wire.space import FloatParameter, IntParameter
from trimtab.wire.states import StudyState, TrialState
from trimtab.wire.study import StudySpec

M = TypeVar("M", bound=BaseModel)

EARLIER_TRIALS = 20
"""Trials of each earlier study that a warm-starter is told of, the best first."""

DEFAULT_URL = "http://127.0.0.1:8787"
ENDED = frozenset({StudyState.COMPLETED, StudyState.FAILED, StudyState.CANCELLED})
"""States in which nothing happens in a study any more."""


class Client:
    """Talks to one service. Not for use by several threads at once."""

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout_seconds: float = 30.0,
        attempts: int = 5,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``url`` and ``token`` default to the environment's TRIMTAB_URL and TRIMTAB_TOKEN."""
        self.url = (url or os.environ.get("TRIMTAB_URL") or DEFAULT_URL).rstrip("/")
        self._token = token or os.environ.get("TRIMTAB_TOKEN") or None
        self._sleep = sleep
        self._transport = Transport(
            self.url, self._token, timeout_seconds=timeout_seconds, attempts=attempts, sleep=sleep
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    def another(self) -> Client:
        """A second client of the same service, for another thread."""
        return Client(self.url, self._token)

    # Studies

    def create(self, spec: StudySpec, *, key: str | None = None) -> views.StudyDetail:
        """Submit a study. Calls with the same ``key`` make one study.

        Earlier studies of its warm start, and the fits that beliefs ask, may be named by id or by unique
        name. Raises :class:`~trimtab.errors.UnknownStudyError` or
        :class:`~trimtab.errors.UnknownFitError` if none, or more than one, has it.
        """
        if spec.warm_start.studies:
            ids = [self.find(study).id for study in spec.warm_start.studies]
            known = spec.warm_start.model_copy(update={"studies": ids})
            spec = spec.model_copy(update={"warm_start": known})
        spec = self._with_fits(spec)
        headers = {"Idempotency-Key": key or uuid.uuid4().hex}
        return self._transport.call(
            "POST", "/v1/studies", views.StudyDetail, body=spec, headers=headers, safe=True
        )

    def first_configurations(self, spec: StudySpec, function: warm_start.Function) -> warm_start.Asked:
        """Ask a warm-starter (:mod:`trimtab.warm_start`) for first configurations of a study.

        It runs here, in this process, and is told the best trials of the earlier studies that the study
        names. Submit what comes back: ``client.create(asked.spec)``.
        """
        earlier = [self._told(self.find(study)) for study in spec.warm_start.studies]
        return warm_start.ask(spec, function, earlier)

    def _with_fits(self, spec: StudySpec) -> StudySpec:
        """The study with the fits of its beliefs by id."""
        space = {}
        for name, parameter in spec.space.items():
            belief = parameter.belief if isinstance(parameter, FloatParameter | IntParameter) else None
            if belief is not None and belief.law is not None and not belief.told:
                known = belief.model_copy(update={"law": self.find_fit(belief.law).id})
                space[name] = parameter.model_copy(update={"belief": known})
        return spec.model_copy(update={"space": {**spec.space, **space}}) if space else spec

    def _told(self, study: views.StudyItem) -> dict[str, Any]:
        """An earlier study as a warm-starter is told of it."""
        best = self.list_trials(study.id, limit=EARLIER_TRIALS, sort="best", replicas=False).items
        return {
            "study": study.name,
            "metric": study.metric,
            "direction": study.direction.value,
            "trials": [
                {"params": trial.params, "value": trial.best_value, "step": trial.best_step}
                for trial in best
                if trial.best_value is not None
            ],
        }

    def list_studies(
        self,
        *,
        cursor: str | None = None,
        limit: int = 50,
        state: StudyState | None = None,
        tag: str | None = None,
        name: str | None = None,
    ) -> views.StudyPage:
        query = {"cursor": cursor, "limit": limit, "state": state, "tag": tag, "name": name}
        return self._get("/v1/studies", views.StudyPage, **query)

    def studies(
        self, *, state: StudyState | None = None, tag: str | None = None, name: str | None = None
    ) -> Iterator[views.StudyItem]:
        """All studies, page by page."""
        cursor: str | None = None
        while True:
            page = self.list_studies(cursor=cursor, limit=MAX_PAGE, state=state, tag=tag, name=name)
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def study(self, study: str) -> views.StudyDetail:
        return self._get(f"/v1/studies/{study}", views.StudyDetail)

    def find(self, name_or_id: str) -> views.StudyItem:
        """The study with this id or unique name.

        Raises :class:`~trimtab.errors.UnknownStudyError` if none, or more than one, has it.
        """
        studies = list(self.studies())
        for item in studies:
            if item.id == name_or_id:
                return item
        named = [item for item in studies if item.name == name_or_id]
        if len(named) == 1:
            return named[0]
        if named:
            ids = ", ".join(f"{item.id} ({item.state})" for item in named)
            raise UnknownStudyError(f"{len(named)} studies are called {name_or_id}", f"give an id: {ids}")
        known = [item.name for item in studies] + [item.id for item in studies]
        meant = closest(name_or_id, known)
        hint = f"did you mean {meant}?" if meant else "see them all with: trimtab list"
        raise UnknownStudyError(f"there is no study {name_or_id}", hint)

    def delete(self, study: str) -> None:
        self._transport.send("DELETE", f"/v1/studies/{study}")

    def pause(self, study: str) -> views.StudyDetail:
        return self._post(f"/v1/studies/{study}/pause", views.StudyDetail)

    def resume(self, study: str) -> views.StudyDetail:
        return self._post(f"/v1/studies/{study}/resume", views.StudyDetail)

    def cancel(self, study: str) -> views.StudyDetail:
        return self._post(f"/v1/studies/{study}/cancel", views.StudyDetail)

    def extend(self, study: str, limits: views.ExtendRequest) -> views.StudyDetail:
        """Raise limits of the budget; a completed study runs again."""
        return self._transport.call(
            "POST", f"/v1/studies/{study}/extend", views.StudyDetail, body=limits, safe=True
        )

    def prune(self, study: str) -> views.StudyDetail:
        """Let parts of its space be left out, as ``prune: true`` in its file."""
        return self._post(f"/v1/studies/{study}/prune", views.StudyDetail)

    def unprune(self, study: str) -> views.StudyDetail:
        """Search its whole space again, and leave nothing out from now on."""
        return self._post(f"/v1/studies/{study}/unprune", views.StudyDetail)

    def summary(self, study: str) -> views.StudySummary:
        return self._get(f"/v1/studies/{study}/summary", views.StudySummary)

    def best(self, study: str) -> views.BestTrial:
        """The best trial so far; with several objectives by the first of them alone, see :meth:`front`.

        Raises :class:`~trimtab.errors.NotFoundError` while there is none.
        """
        return self._get(f"/v1/studies/{study}/best", views.BestTrial)

    def front(self, study: str, *, others: int = 0) -> views.FrontResponse:
        """The Pareto front: the completed trials that no other one dominates.

        A trial dominates another if it is worse in no objective and better in one. ``others``: so many of
        the newest completed trials that are not on the front are answered, too.
        """
        return self._get(f"/v1/studies/{study}/front", views.FrontResponse, others=others)

    def curves(
        self, study: str, *, max_points: int | None = None, max_lines: int | None = None
    ) -> views.CurvesResponse:
        query = {"max_points": max_points, "max_lines": max_lines}
        return self._get(f"/v1/studies/{study}/curves", views.CurvesResponse, **query)

    def importances(self, study: str, method: ImportanceMethod | None = None) -> ImportancesResponse:
        """How much each parameter matters, by one method or by all; it takes a few seconds.

        Raises :class:`~trimtab.errors.ConflictError` while too few trials have a result.
        """
        return self._transport.call(
            "GET",
            f"/v1/studies/{study}/importances",
            ImportancesResponse,
            query={"method": method},
            safe=True,
            wait_seconds=100.0,
        )

    def schedule(
        self, study: str, *, trial: int | None = None, horizon: int | None = None
    ) -> views.ScheduleView:
        """The learning-rate schedule of a trial (None: the best), laid out over ``horizon`` steps if given.

        Raises :class:`~trimtab.errors.ConflictError` if the trial follows its own settings.
        """
        query = {"trial": trial, "horizon": horizon}
        return self._get(f"/v1/studies/{study}/schedule", views.ScheduleView, **query)

    def profile(self, study: str, *, by: ProfileBy = "steps") -> ProfileResponse:
        """The performance profile of a cross-workload study.

        Raises :class:`~trimtab.errors.ConflictError` while no target is reached, or if it is no such study.
        """
        return self._get(f"/v1/studies/{study}/profile", ProfileResponse, by=by)

    def stops(self, study: str) -> views.StopsReplay:
        """Every early stop: why, what it saved, and what it would have cost with all that is known now."""
        return self._get(f"/v1/studies/{study}/stops", views.StopsReplay)

    # Trials

    def list_trials(
        self,
        study: str,
        *,
        cursor: str | None = None,
        limit: int = 50,
        state: TrialState | None = None,
        sort: str | None = None,
        replicas: bool = True,
    ) -> views.TrialPage:
        """``replicas``: those that repeat a trial with another seed are listed, too."""
        query = {"cursor": cursor, "limit": limit, "state": state, "sort": sort}
        if not replicas:
            query["replicas"] = "false"
        return self._get(f"/v1/studies/{study}/trials", views.TrialPage, **query)

    def trials(
        self,
        study: str,
        *,
        state: TrialState | None = None,
        sort: str | None = None,
        replicas: bool = True,
    ) -> Iterator[views.TrialItem]:
        """All trials, page by page; ``replicas``: those that repeat one with another seed, too."""
        cursor: str | None = None
        while True:
            page = self.list_trials(
                study, cursor=cursor, limit=MAX_PAGE, state=state, sort=sort, replicas=replicas
            )
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def trial(self, study: str, number: int) -> views.TrialDetail:
        return self._get(f"/v1/studies/{study}/trials/{number}", views.TrialDetail)

    def enqueue(self, study: str, request: views.EnqueueRequest) -> views.TrialItem:
        return self._post(f"/v1/studies/{study}/trials", views.TrialItem, body=request)

    def stop_trial(self, study: str, number: int) -> views.TrialItem:
        return self._post(f"/v1/studies/{study}/trials/{number}/stop", views.TrialItem)

    def retry_trial(self, study: str, number: int) -> views.TrialItem:
        return self._post(f"/v1/studies/{study}/trials/{number}/retry", views.TrialItem)

    def continue_trial(self, study: str, number: int, target_step: int) -> views.TrialItem:
        """Train a paused or finished trial on, from its checkpoint to ``target_step``."""
        body = views.ContinueRequest(target_step=target_step)
        return self._post(f"/v1/studies/{study}/trials/{number}/continue", views.TrialItem, body=body)

    def fork_trial(self, study: str, number: int, request: views.ForkRequest) -> views.TrialItem:
        """Start a new trial from a checkpoint of this one, with a changed configuration."""
        return self._post(f"/v1/studies/{study}/trials/{number}/fork", views.TrialItem, body=request)

    def import_trials(self, study: str, request: work.ImportRequest) -> work.ImportResponse:
        return self._post(f"/v1/studies/{study}/import", work.ImportResponse, body=request)

    def decisions(self, study: str, *, cursor: str | None = None, limit: int = 50) -> views.DecisionPage:
        return self._get(f"/v1/studies/{study}/decisions", views.DecisionPage, cursor=cursor, limit=limit)

    # Scaling laws

    def fit(self, request: laws.FitRequest, *, key: str | None = None) -> laws.FitDetail:
        """Fit a scaling law to runs; calls with the same ``key`` make one fit. It is computed in the
        background: :meth:`wait_for_fit`. :mod:`trimtab.laws` makes requests of files."""
        headers = {"Idempotency-Key": key or uuid.uuid4().hex}
        return self._transport.call(
            "POST", "/v1/fits", laws.FitDetail, body=request, headers=headers, safe=True
        )

    def wait_for_fit(
        self, fit: str, *, progress: Callable[[float], None] | None = None, timeout_seconds: float = 900.0
    ) -> laws.FitDetail:
        """The fit, once it is done or has failed. ``progress`` is told the share that is done.

        Raises :class:`TimeoutError` if it is neither by then.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            detail = self.read_fit(fit)
            if detail.state in (laws.FitState.DONE, laws.FitState.FAILED):
                return detail
            if time.monotonic() > deadline:
                raise TimeoutError(f"the fit {fit} is still {detail.state} after {timeout_seconds:.0f} s")
            if progress is not None:
                progress(detail.progress)
            self._sleep(0.3)

    def read_fit(self, fit: str) -> laws.FitDetail:
        return self._get(f"/v1/fits/{fit}", laws.FitDetail)

    def fits(self) -> Iterator[laws.FitItem]:
        """All fits, newest first, page by page."""
        cursor: str | None = None
        while True:
            page = self._get("/v1/fits", laws.FitPage, cursor=cursor, limit=MAX_PAGE)
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def find_fit(self, name_or_id: str) -> laws.FitItem:
        """The fit with this id or unique name.

        Raises :class:`~trimtab.errors.UnknownFitError` if none, or more than one, has it.
        """
        found = list(self.fits())
        for item in found:
            if item.id == name_or_id:
                return item
        named = [item for item in found if item.name == name_or_id]
        if len(named) == 1:
            return named[0]
        if named:
            ids = ", ".join(f"{item.id} ({item.state})" for item in named)
            raise UnknownFitError(f"{len(named)} fits are called {name_or_id}", f"give an id: {ids}")
        meant = closest(name_or_id, [item.name for item in found] + [item.id for item in found])
        hint = f"did you mean {meant}?" if meant else "see them all with: trimtab law list"
        raise UnknownFitError(f"there is no fit {name_or_id}", hint)

    def delete_fit(self, fit: str) -> None:
        self._transport.send("DELETE", f"/v1/fits/{fit}")

    def families(self) -> list[laws.FitFamily]:
        """The families of laws that the service fits."""
        return self._get("/v1/fits/families", laws.FamiliesResponse).families

    def predict(
        self,
        fit: str,
        *,
        n: float,
        d: float,
        lr: float | None = None,
        batch: float | None = None,
        flops: float | None = None,
        share: float | None = None,
    ) -> laws.PredictionResponse:
        """What a fit says at a target; with ``lr`` and ``batch`` also what those would cost.

        Raises :class:`~trimtab.errors.ConflictError` while it is not done.
        """
        query = {"n": n, "d": d, "lr": lr, "batch": batch, "flops": flops, "share": share}
        return self._get(f"/v1/fits/{fit}/prediction", laws.PredictionResponse, **query)

    def plan_runs(self, fit: str, request: laws.PlanRequest) -> laws.PlanResponse:
        """The runs to add that make the fit surest at a target, for a budget in FLOP."""
        return self._transport.call(
            "POST", f"/v1/fits/{fit}/plan", laws.PlanResponse, body=request, safe=True, wait_seconds=90.0
        )

    def fit_figures(
        self, fit: str, *, n: float | None = None, d: float | None = None
    ) -> laws.FiguresResponse:
        """The pictures of a fit, as on its page; a notebook shows each. ``n`` and ``d`` mark a target."""
        return self._transport.call(
            "GET",
            f"/v1/fits/{fit}/figures",
            laws.FiguresResponse,
            query={"n": n, "d": d},
            safe=True,
            wait_seconds=60.0,
        )

    def plotly_script(self) -> str:
        """The JavaScript that draws the pictures, as the server's pages use it (4 MB)."""
        return self._transport.text("/static/plotly.min.js")

    # Events

    def event_page(self, study: str, *, after: int = 0, limit: int = 100) -> views.EventPage:
        return self._get(f"/v1/studies/{study}/events", views.EventPage, after=after, limit=limit)

    def events(
        self, study: str | None = None, *, after: int = 0, patience_seconds: float = 60.0
    ) -> Iterator[views.Event]:
        """Live events with ids above ``after``, without end; a broken stream is taken up where it broke.

        Raises :class:`~trimtab.errors.ConnectionFailedError` when the service is away for longer than
        ``patience_seconds``.
        """
        return self._transport.events({"study": study}, after, patience_seconds)

    # Ask and tell

    def ask(self, study: str, request: work.AskRequest | None = None) -> work.AskResponse:
        """A configuration to train oneself, if there is one now. :meth:`loop` is easier."""
        request = request or work.AskRequest()
        return self._transport.call(
            "POST",
            f"/v1/studies/{study}/ask",
            work.AskResponse,
            body=request,
            wait_seconds=request.wait_seconds,
        )

    def loop(self, study: str, *, lease_seconds: float | None = None) -> Iterator[AskedTrial]:
        """Trials to train oneself, one after the other, until the study has ended.

        A strategy that pauses trials (asha, hyperband, bohb, curve-bo) hands a promising one out again,
        with a later ``target_step``. What to start from is the loop's own affair: ``trial.checkpoint`` is
        the URI that the last ``trial.complete(checkpoint=...)`` of this trial gave, and
        ``trial.start_step`` the step it stands at. Without one ``start_step`` is 0: train from the start,
        or from a state of your own kept by ``trial.number``. Steps reported before keep their first value.
        The service never opens or deletes such a checkpoint.

        ``lease_seconds``: a trial of which nothing is heard for so long is given to another loop.
        """
        while True:
            try:
                answer = self.ask(study, work.AskRequest(lease_seconds=lease_seconds))
            except ConflictError:
                if self.study(study).state in ENDED:
                    return
                raise
            if answer.assignment is not None:
                yield AskedTrial(answer.assignment, self.reports, self.end)
            elif self.study(study).state in ENDED:
                return
            else:
                self._sleep(answer.retry_after_seconds)

    # Workers

    def register(self, request: work.RegisterRequest) -> None:
        self._transport.send("POST", "/v1/work/register", body=request)

    def lease(self, request: work.LeaseRequest) -> work.LeaseResponse:
        return self._transport.call(
            "POST", "/v1/work/lease", work.LeaseResponse, body=request, wait_seconds=request.wait_seconds
        )

    def reports(self, request: work.ReportsRequest) -> work.ReportsResponse:
        return self._transport.call(
            "POST", "/v1/work/reports", work.ReportsResponse, body=request, safe=True
        )

    def end(self, request: work.EndRequest) -> work.EndResponse:
        return self._transport.call("POST", "/v1/work/end", work.EndResponse, body=request, safe=True)

    def garbage(self) -> work.GarbageResponse:
        return self._get("/v1/work/garbage", work.GarbageResponse)

    def garbage_done(self, ids: list[int]) -> None:
        self._transport.send("POST", "/v1/work/garbage", body=work.GarbageDone(ids=ids))

    # The service itself

    def health(self) -> views.Health:
        return self._get("/v1/health", views.Health)

    def ready(self) -> views.Readiness:
        """Which parts of the service are alive; answers while some are not."""
        return self._transport.call("GET", "/v1/ready", views.Readiness, accept=(503,))

    def _get(self, path: str, answer: type[M], **query: str | float | None) -> M:
        return self._transport.call("GET", path, answer, query=query, safe=True)

    def _post(self, path: str, answer: type[M], *, body: Wire | None = None) -> M:
        return self._transport.call("POST", path, answer, body=body)
