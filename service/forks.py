"""What a person asks of a fork, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from search.parameters import is_active
from search.space import ParamValue, SearchSpace
from service import specs
from trimtab.wire.problems import FieldProblem
from trimtab.wire.study import StudySpec
from trimtab.wire.views import ForkRequest

Params = Mapping[str, ParamValue]


def configuration(space: SearchSpace, parent: Params, changes: Params) -> dict[str, ParamValue]:
    """The parent's configuration with ``changes``, without what they make inactive."""
    merged = {**parent, **changes}
    active: dict[str, ParamValue] = {}
    for parameter in space.parents_first:
        if parameter.name in merged and is_active(parameter, active):
            active[parameter.name] = merged[parameter.name]
    # What was asked for stays, even where it makes no sense: it is answered in words.
    return {name: value for name, value in merged.items() if name in active or name in changes}


def mistakes(
    spec: StudySpec, parent: Params, params: Params, request: ForkRequest
) -> Iterator[FieldProblem]:
    """Why the study's trainer cannot go on from the parent's checkpoint with ``params``."""
    for mistake in specs.space(spec).check(params):
        yield FieldProblem(
            pointer=f"/params{mistake.pointer}", message=mistake.message, suggestion=mistake.suggestion
        )
    for name in sorted(specs.inherited(spec)):
        if name in request.params and request.params[name] != parent.get(name):
            yield FieldProblem(
                pointer=f"/params/{name}",
                message=f"a fork cannot change {name}: a checkpoint with {parent.get(name)!r} does not fit",
                suggestion="enqueue the configuration to train it from the start",
            )


def late(request: ForkRequest, step: int, target: int) -> Iterator[FieldProblem]:
    """What is wrong with the steps of the request: ``step`` is where the fork starts."""
    if target <= step:
        yield FieldProblem(
            pointer="/target_step",
            message=f"the checkpoint is at step {step}, and the target {target} not beyond it",
            suggestion=f"name a target beyond {step}",
        )
    for place, ((before, _), (after, _)) in enumerate(pairwise(request.schedule), start=1):
        if after <= before:
            yield FieldProblem(
                pointer=f"/schedule/{place}/0",
                message=f"step {after} does not lie behind step {before}",
                suggestion="name the points in order of their steps",
            )
