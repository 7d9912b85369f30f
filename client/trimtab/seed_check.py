"""Mistakes about tuning seeds and test seeds: overlaps, and what a trial of several seeds leaves no
sense."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from trimtab.draft import Draft
from trimtab.explain import enumerate_words
from trimtab.space_check import problem
from trimtab.strategy_check import strategies
from trimtab.wire.problems import FieldProblem
from trimtab.wire.study import SeedSpec, TargetRule


def problems(draft: Draft) -> Iterator[FieldProblem]:
    """What is said twice, what would test on a tuning seed, and what cannot be done with several seeds."""
    seeds = draft.seeds
    if seeds is None:
        return iter(())
    named = chain(
        _twice("tuning", seeds.tuning), _twice("test", seeds.test), _overlap(seeds), _unused(seeds)
    )
    if not seeds.several and not seeds.test:
        return named
    return chain(named, _strategy(draft), _single_value(draft), _budget(draft, seeds))


def _twice(field: str, seeds: Sequence[int]) -> Iterator[FieldProblem]:
    for at, seed in enumerate(seeds):
        if seed in seeds[:at]:
            yield problem(
                "seeds",
                field,
                at,
                message=f"{seed} is there already (number {seeds.index(seed) + 1} of the list)",
                suggestion="name another seed, or leave it out",
            )


def _overlap(seeds: SeedSpec) -> Iterator[FieldProblem]:
    what = (
        "a tuning seed" if seeds.tuning else "the training seed, which tunes when no tuning seeds are named"
    )
    for at, seed in enumerate(seeds.test):
        if seed in (seeds.tuning or [seeds.training]):
            yield problem(
                "seeds",
                "test",
                at,
                message=f"{seed} is {what}: a score on it would not be a test",
                suggestion="test on seeds that nothing was chosen by, such as 100, 101, 102",
            )


def _unused(seeds: SeedSpec) -> Iterator[FieldProblem]:
    if seeds.tuning and seeds.training not in (0, seeds.tuning[0]):
        yield problem(
            "seeds",
            "training",
            message=f"never used: trials are trained with the tuning seeds, {seeds.tuning[0]} first",
            suggestion="leave it out",
        )
    if _finalists_asked(seeds) and not seeds.test:
        yield problem(
            "seeds",
            "finalists",
            message="nothing is tested: no test seeds are named",
            suggestion="say test: [100, 101, 102], or leave finalists out",
        )


def _finalists_asked(seeds: SeedSpec) -> bool:
    """A whole study, as the service shows it, names the default, too."""
    return seeds.finalists != SeedSpec().finalists


def _strategy(draft: Draft) -> Iterator[FieldProblem]:
    entry = None if draft.strategy is None else strategies().get(draft.strategy.name)
    if draft.strategy is None or entry is None or entry.seeds:
        return
    able = [name for name, each in strategies().items() if each.seeds]
    yield problem(
        "strategy",
        "name",
        message=f"{draft.strategy.name} cannot work with tuning or test seeds: its trials do not stand for "
        "their configuration alone, so that they cannot be repeated with another seed",
        suggestion=f"use {enumerate_words(able)}, or leave the seeds out",
    )


def _single_value(draft: Draft) -> Iterator[FieldProblem]:
    """What goes by more, or by less, than one value per trial."""
    for field, named in (("objectives", draft.objectives), ("limits", draft.limits)):
        if named:
            yield problem(
                field,
                message="tuning and test seeds go by the mean of one metric over seeds",
                suggestion=f"leave the {field} out, or the seeds",
            )
    ends = "a trial ends with a target reached on one seed, and would have no mean over several at any step"
    if draft.budget is not None and draft.budget.target is not None:
        yield problem("budget", "target", message=ends, suggestion="limit trials or fidelity instead")
    for at, rule in draft.stopping.items():
        if isinstance(rule, TargetRule):
            yield problem("stopping", at, message=ends, suggestion="leave the rule out, or the seeds")


def _budget(draft: Draft, seeds: SeedSpec) -> Iterator[FieldProblem]:
    budget, fidelity = draft.budget, draft.fidelity
    if budget is None:
        return
    count = max(1, len(seeds.tuning))
    if budget.fidelity is not None and fidelity is not None and seeds.several:
        whole = count * fidelity.max
        if budget.fidelity < whole:
            yield problem(
                "budget",
                "fidelity",
                message=f"{budget.fidelity} {fidelity.unit} in all do not pay for one configuration with "
                f"{count} tuning seeds ({whole} {fidelity.unit})",
                suggestion=f"allow at least {whole}, better some {10 * whole}",
            )
    asked = _finalists_asked(seeds) and seeds.test
    if asked and budget.trials is not None and seeds.finalists > budget.trials:
        yield problem(
            "seeds",
            "finalists",
            message=f"{seeds.finalists} finalists of {budget.trials} trials",
            suggestion=f"say {budget.trials} or less",
        )
