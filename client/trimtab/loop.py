"""Ask and tell: one trial that the user's own loop trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType

from trimtab.wire import work
from trimtab.wire.base import ParamValue
from trimtab.wire.limits import MAX_TEXT_CHARS
from trimtab.wire.states import FailureKind, Verdict


class AskedTrial:
    """A trial to train. As a context manager it completes on leaving, or fails if an exception leaves."""

    def __init__(
        self,
        assignment: work.Assignment,
        reports: Callable[[work.ReportsRequest], work.ReportsResponse],
        end: Callable[[work.EndRequest], work.EndResponse],
    ) -> None:
        self.assignment = assignment
        self.verdict = Verdict.CONTINUE
        self.reason = ""
        """Why the last verdict was given."""
        self._reports = reports
        self._end = end
        self._step = assignment.start_step
        self._seq = 0
        self._over = False

    @property
    def number(self) -> int:
        """The trial's number in its study."""
        return self.assignment.trial

    @property
    def params(self) -> Mapping[str, ParamValue]:
        return self.assignment.params

    @property
    def start_step(self) -> int:
        """Where training goes on from: the step of ``checkpoint``; 0 without one, also for a trial that was
        trained before."""
        return self.assignment.start_step

    @property
    def target_step(self) -> int:
        """Train to this step, then complete."""
        return self.assignment.target_step

    @property
    def checkpoint(self) -> work.CheckpointRef | None:
        return self.assignment.checkpoint

    def report(self, step: int, **metrics: float) -> Verdict:
        """Record metrics measured at ``step``; they may be NaN or infinite. Go on only on ``continue``."""
        self._seq += 1
        measured = work.Measurement(step=step, metrics={n: float(v) for n, v in metrics.items()})
        report = work.Report(token=self.assignment.token, seq=self._seq, measurements=[measured])
        reply = self._reports(work.ReportsRequest(reports=[report])).replies[0]
        self._step = max(self._step, step)
        self.verdict, self.reason = reply.verdict, reply.reason
        return reply.verdict

    def complete(self, checkpoint: str | None = None) -> None:
        """Trained to the target, or ended as the verdict said; ``checkpoint`` is the saved state's URI."""
        saved = None if checkpoint is None else work.SavedCheckpoint(step=self._step, uri=checkpoint)
        self._finish(
            work.EndRequest(
                token=self.assignment.token, outcome="finished", step=self._step, checkpoint=saved
            )
        )

    def fail(self, message: str, kind: FailureKind = FailureKind.CRASH) -> None:
        """Training ended badly; whether it is tried again is up to the study's ``retries``."""
        failure = work.Failure(kind=kind, message=message[:MAX_TEXT_CHARS])
        self._finish(
            work.EndRequest(token=self.assignment.token, outcome="failed", step=self._step, failure=failure)
        )

    def release(self) -> None:
        """Give the trial back unharmed; it will be asked for again."""
        self._finish(work.EndRequest(token=self.assignment.token, outcome="released", step=self._step))

    def _finish(self, request: work.EndRequest) -> None:
        if not self._over:
            self._over = True
            self._end(request)

    def __enter__(self) -> AskedTrial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.verdict == Verdict.LOST:
            return
        if error is None:
            self.complete()
        elif isinstance(error, Exception):
            memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
            self.fail(repr(error), FailureKind.OUT_OF_MEMORY if memory else FailureKind.CRASH)
        else:
            self.release()
