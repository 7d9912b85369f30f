"""Mistakes inside the workloads of a suite: their names, trainers, settings and targets."""

from __future__ import annotations

from collections.abc import Iterator

from trimtab.catalogue import EXTERNAL, TrainerEntry, entry_of, inside_of, trainers
from trimtab.draft import Draft
from trimtab.explain import did_you_mean, join
from trimtab.trainer_check import setting_problems
from trimtab.wire import limits
from trimtab.wire.problems import FieldProblem
from trimtab.wire.study import SUITE, Workload

PLACE = ("trainer", "workloads")


def problems(draft: Draft) -> Iterator[FieldProblem]:
    """What cannot be done with the workloads of this study; nothing where there are none."""
    workloads = [] if draft.trainer is None else draft.trainer.workloads
    names = [workload.name for workload in workloads]
    inside = inside_of(workloads)
    for at, workload in enumerate(workloads):
        here = (*PLACE, str(at))
        if workload.name in names[:at]:
            yield FieldProblem(
                pointer=join((*here, "name")),
                message=f"another workload is called {workload.name}, too",
                suggestion="their metrics go by their names: give each its own",
            )
        if workload.trainer not in trainers() or workload.trainer == SUITE:
            yield _no_trainer(join((*here, "trainer")), workload.trainer)
            continue
        yield from _workload(draft, here, workload, inside[workload.name])
    yield from _too_many_metrics(draft)


def _no_trainer(pointer: str, name: str) -> FieldProblem:
    known = [each for each in trainers() if each != SUITE]
    if name == SUITE:
        return FieldProblem(
            pointer=pointer,
            message="a suite cannot be a workload of a suite",
            suggestion="name its workloads here",
        )
    if name == EXTERNAL:
        return FieldProblem(
            pointer=pointer,
            message="a workload needs a built-in trainer: nobody could report for an external one",
            suggestion=f"there are {', '.join(known)}",
        )
    return FieldProblem(
        pointer=pointer,
        message=f"no trainer is called {name}",
        suggestion=did_you_mean(name, known, "there are"),
    )


def _workload(
    draft: Draft, here: tuple[str, ...], workload: Workload, entry: TrainerEntry
) -> Iterator[FieldProblem]:
    for name in workload.settings:
        if name in draft.parameter_names:
            yield FieldProblem(
                pointer=join((*here, "settings", name)),
                message=f"{name} is fixed here and searched under space",
                suggestion="keep one of them: what is tuned is the same for all workloads",
            )
    yield from setting_problems((*here, "settings"), workload.settings, workload.trainer, entry)
    if workload.target.metric not in entry.metrics:
        yield FieldProblem(
            pointer=join((*here, "target", "metric")),
            message=f"the {workload.trainer} trainer does not report {workload.target.metric}",
            suggestion=did_you_mean(workload.target.metric, list(entry.metrics), "it reports"),
        )


def _too_many_metrics(draft: Draft) -> Iterator[FieldProblem]:
    entry = entry_of(draft.trainer)
    if entry is not None and draft.trainer is not None and draft.trainer.workloads:
        count = len(entry.metrics)
        if count > limits.MAX_METRICS:
            yield FieldProblem(
                pointer=join(PLACE),
                message=f"they report {count} metrics together; at most {limits.MAX_METRICS} can be kept",
                suggestion="leave some workloads out",
            )
