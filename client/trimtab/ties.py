"""Scaling rules between parameters: what ``rule: adam`` stands for, and mistakes about ties.

``tie: {to: batch_size, at: 64, rule: adam}`` on a learning rate says in one go what the square-root rule
says of all of Adam's hyperparameters. A study is submitted with it written out: the rate's tie is ``sqrt``,
and beta1, beta2 and eps get ties of their own. Those that the study does not search become fixed
parameters, with the values that it sets or the optimizer has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from math import inf
from typing import Any, Literal

from trimtab import optimizers
from trimtab.catalogue import EXTERNAL, TrainerEntry, trainers
from trimtab.domain import numbers
from trimtab.draft import Draft
from trimtab.space_check import circles, problem, unknown
from trimtab.wire.base import ParamValue
from trimtab.wire.problems import FieldProblem
from trimtab.wire.space import FixedParameter, FloatParameter, OrderedParameter, Tie, ties

ADAM: Mapping[str, Literal["one-minus", "inverse-sqrt"]] = {
    "beta1": "one-minus",
    "beta2": "one-minus",
    "eps": "inverse-sqrt",
}
"""By the square-root rule: what is scaled beside the learning rate, and how."""


class _CannotError(ValueError):
    """Why ``rule: adam`` cannot be written out: a message, and a way out."""

    def __init__(self, message: str, suggestion: str) -> None:
        super().__init__(message)
        self.message, self.suggestion = message, suggestion


def with_ties(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The study with each ``rule: adam`` written out, where that can be done; :func:`problems` says where
    it cannot. Other documents come back as they are, and so does one that has been through here."""
    draft = Draft.of(document)
    for name, tie in ties(draft.space).items():
        if tie.rule != "adam":
            continue
        try:
            values = _values(draft, name, tie)
        except _CannotError:
            continue
        settings = {} if draft.trainer is None else draft.trainer.settings
        document = _written_out(document, settings, name, tie, values)
    return document


def _written_out(
    document: Mapping[str, Any],
    settings: Mapping[str, ParamValue],
    name: str,
    tie: Tie,
    values: Mapping[str, ParamValue | None],
) -> Mapping[str, Any]:
    """
    :param settings: the trainer's
    :param values: see :func:`_values`
    """
    space = {**document["space"]}
    rate = space[name]
    for key, value in values.items():
        reference = {"to": tie.to, "at": tie.at, "rule": ADAM[key.partition("/")[0]]}
        if value is None:
            space[key] = {**space[key], "tie": reference}
        else:
            when = {"when": rate["when"]} if rate.get("when") else {}
            space[key] = {"type": "fixed", "value": value, "tie": reference, **when}
    space[name] = {**rate, "tie": {**rate["tie"], "rule": "sqrt"}}
    changed = {**document, "space": space}
    if values.keys() & settings.keys():
        kept = {key: value for key, value in settings.items() if key not in values}
        changed["trainer"] = {**document["trainer"], "settings": kept}
    if isinstance(document.get("enqueue"), list):
        fixed = {key: value for key, value in values.items() if value is not None}
        changed["enqueue"] = [_with_fixed(queued, name, fixed) for queued in document["enqueue"]]
    return changed


def _with_fixed(queued: Any, name: str, fixed: Mapping[str, ParamValue]) -> Any:
    """A configuration with the values that were fixed, if it has the rate they go with."""
    params = queued.get("params") if isinstance(queued, Mapping) else None
    if not isinstance(params, Mapping) or name not in params:
        return queued
    return {**queued, "params": {**params, **{k: v for k, v in fixed.items() if k not in params}}}


def _values(draft: Draft, name: str, tie: Tie) -> dict[str, ParamValue | None]:
    """Adam's other hyperparameters beside the learning rate ``name``: the value at the reference, or None
    of one that is a parameter of the space.

    :raises _CannotError: ``name`` is no rate, the optimizer is not Adam, or a value is not known
    """
    setting, slash, only = name.partition("/")
    if setting != optimizers.RATE:
        raise _CannotError(
            "the rule adam is for the learning rate, lr, and scales betas and eps with it",
            f"on {name} say sqrt, linear, inverse-sqrt or one-minus",
        )
    settings = {} if draft.trainer is None else draft.trainer.settings
    own = _own(draft, only)
    values: dict[str, ParamValue | None] = {}
    for plain in ADAM:
        key = f"{plain}{slash}{only}"
        if only and (plain in draft.names or plain in settings):
            raise _CannotError(
                f"the rule adam scales {plain} with {name}, and {plain} is that of every optimizer here",
                f"write {key} instead of {plain}",
            )
        parameter = draft.space.get(key)
        if key in draft.names:
            if parameter is not None and not isinstance(
                parameter, FloatParameter | OrderedParameter | FixedParameter
            ):
                raise _CannotError(
                    f"the rule adam scales {key}, too, which is {parameter.type}",
                    f"make {key} a float, ordered or fixed parameter",
                )
            if parameter is not None and parameter.tie is None:
                values[key] = None
        elif key in settings:
            values[key] = settings[key]
        elif plain in own:
            values[key] = own[plain]
        else:
            raise _CannotError(
                f"the rule adam scales {key}, too, and the study does not say what it is",
                f"add {key}: {{type: fixed, value: ...}}, its value at {tie.to} = {tie.at:g}",
            )
    return values


def _own(draft: Draft, only: str) -> Mapping[str, float]:
    """What beta1, beta2 and eps are where nothing is said, as far as the study's optimizers agree; empty
    where they are not known.

    :param only: the optimizer, if the tied learning rate is that of one
    :raises _CannotError: an optimizer is not Adam
    """
    names = optimizers.chosen(draft)
    if names is not None and only:
        names = [only]
    known = [name for name in names or [] if name in optimizers.optimizers()]
    if not known:
        return {}
    for name in known:
        facts = optimizers.optimizers()[name]
        if facts.sqrt_rule is None:
            rule = "linear" if facts.family == "sgd" else "sqrt"
            raise _CannotError(
                f"the rule adam is for Adam and its variants, and {name} is none of them",
                f"say rule: {rule}" if len(known) == 1 else f"tie lr/{name} by itself, by the rule {rule}",
            )
    first, *others = (optimizers.optimizers()[name].sqrt_rule or {} for name in known)
    return {key: value for key, value in first.items() if all(other[key] == value for other in others)}


def problems(draft: Draft) -> Iterator[FieldProblem]:
    """Ties that cannot be kept."""
    found = ties(draft.space)
    for name, tie in found.items():
        yield from _ends(draft, name, tie)
        yield from _rule(draft, name, tie)
    for start, path in circles({name: (tie.to,) for name, tie in found.items()}):
        yield problem(
            "space",
            start,
            "tie",
            "to",
            message="ties go round in a circle: " + " follows ".join([*path, start]),
            suggestion="take one of these ties away",
        )


def _ends(draft: Draft, name: str, tie: Tie) -> Iterator[FieldProblem]:
    """Whether both are numbers, and the other one positive."""
    if numbers(draft.parameters[name]) is None:
        yield problem(
            "space",
            name,
            "tie",
            message=f"{name} is no number: there is nothing to scale",
            suggestion="take the tie away",
        )
    here = ("space", name, "tie", "to")
    if tie.to == name:
        yield problem(*here, message=f"{name} cannot be tied to itself")
    elif tie.to not in draft.parameter_names:
        yield unknown(draft.without(name), tie.to, *here)
    elif tie.to in draft.parameters:
        reach = numbers(draft.parameters[tie.to])
        if reach is None:
            yield problem(
                *here,
                message=f"{tie.to} is no number: nothing can be scaled by it",
                suggestion="tie it to a numeric parameter, such as the batch size",
            )
        elif reach[0] <= 0:
            yield problem(
                *here,
                message=f"{tie.to} may be {reach[0]:g}: nothing can be scaled by that",
                suggestion=f"make {tie.to} positive",
            )


def _rule(draft: Draft, name: str, tie: Tie) -> Iterator[FieldProblem]:
    """Whether the rule can be followed over the whole of both ranges."""
    if tie.rule == "adam":
        try:
            _values(draft, name, tie)
        except _CannotError as error:
            here = ("space", name, "tie", "rule")
            yield problem(*here, message=error.message, suggestion=error.suggestion)
        return
    values = numbers(draft.parameters[name])
    others = numbers(draft.parameters[tie.to]) if tie.to in draft.parameters else None
    # Where the other one is tied itself, its own range does not say how far it goes.
    if values is None or others is None or others[0] <= 0 or tie.to in ties(draft.space):
        return
    if tie.rule == "one-minus" and not 0 <= values[0] <= values[1] < 1:
        yield problem(
            "space",
            name,
            "tie",
            "rule",
            message=f"one-minus is for values from 0 to below 1, and {name} is from {values[0]:g} "
            f"to {values[1]:g}",
            suggestion="say sqrt, linear or inverse-sqrt",
        )
    elif tie.rule == "one-minus" and (1 - values[0]) * others[1] >= tie.at:
        yield problem(
            "space",
            name,
            "tie",
            "at",
            message=f"at {tie.to} = {others[1]:g} nothing is left of {name} = {values[0]:g}: "
            f"1 - {name} grows by {others[1] / tie.at:g}, to 1 or more",
            suggestion=f"say at: more than {(1 - values[0]) * others[1]:g}, or end {tie.to} below "
            f"{tie.at / (1 - values[0]):g}",
        )
    else:
        yield from _beyond_the_trainer(draft, name, tie, values, others)
        yield from _warm_up(draft, name, tie, others[1])


def _beyond_the_trainer(
    draft: Draft, name: str, tie: Tie, values: tuple[float, float], others: tuple[float, float]
) -> Iterator[FieldProblem]:
    entry = _entry(draft)
    setting = None if entry is None else entry.setting(name)
    if setting is None:
        return
    for value, other in product(values, others):
        scaled = tie.scaled(value, other)
        low, high = (
            -inf if setting.low is None else setting.low,
            inf if setting.high is None else setting.high,
        )
        if not low <= scaled <= high:
            yield problem(
                "space",
                name,
                "tie",
                message=f"{name} = {value:g} becomes {scaled:.10g} at {tie.to} = {other:g}, "
                f"and this trainer takes {low:g} to {high:g}",
                suggestion=f"narrow {name} or {tie.to}, or move the reference, at",
            )
            return


def _warm_up(draft: Draft, name: str, tie: Tie, highest: float) -> Iterator[FieldProblem]:
    """The linear rule was found with a warm-up, and large batches diverge without."""
    entry = _entry(draft)
    rate = name.partition("/")[0] == optimizers.RATE
    if tie.rule != "linear" or not rate or highest <= tie.at or entry is None or draft.trainer is None:
        return
    fixed = {name: p.value for name, p in draft.parameters.items() if isinstance(p, FixedParameter)}
    told = {**draft.trainer.settings, **fixed}
    if entry.setting("warmup_fraction") is not None and told.get("warmup_fraction") == 0:
        yield problem(
            *(("space",) if "warmup_fraction" in fixed else ("trainer", "settings")),
            "warmup_fraction",
            message=f"the linear rule makes {name} {highest / tie.at:g} times as large, "
            "which diverges without a warm-up (Goyal et al. 2017)",
            suggestion="say 0.05 or more, or leave it out: it is 0.1",
        )


def _entry(draft: Draft) -> TrainerEntry | None:
    name = None if draft.trainer is None else draft.trainer.name
    return None if name is None or name == EXTERNAL else trainers().get(name)
