"""Mistakes about the trainer: its name, its settings, the ranges searched, the metric tuned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath

from trimtab.catalogue import EXTERNAL, Setting, TrainerEntry, entry_of, trainers
from trimtab.domain import listed, same
from trimtab.draft import Draft
from trimtab.explain import did_you_mean, enumerate_words, join, show
from trimtab.wire.base import ParamValue
from trimtab.wire.problems import FieldProblem
from trimtab.wire.space import FloatParameter, IntParameter, Parameter


def problems(draft: Draft) -> Iterator[FieldProblem]:
    """What the trainer cannot do with this study."""
    yield from _searched_and_fixed(draft)
    name = None if draft.trainer is None else draft.trainer.name
    if name is None or name == EXTERNAL:
        return
    entry = entry_of(draft.trainer)
    if entry is None:
        yield FieldProblem(
            pointer="/trainer/name",
            message=f"no trainer is called {name}",
            suggestion=_suggest_trainer(name),
        )
        return
    settings = {} if draft.trainer is None else draft.trainer.settings
    yield from setting_problems(("trainer", "settings"), settings, name, entry)
    yield from _space(draft, name, entry)
    yield from _metrics(draft, name, entry)


def _suggest_trainer(name: str) -> str:
    if PurePath(name).suffix == ".py":
        return f"to run a script of your own, say trainer: {{script: {name}}}"
    return did_you_mean(name, [*trainers(), EXTERNAL], "there are")


def _searched_and_fixed(draft: Draft) -> Iterator[FieldProblem]:
    for name in draft.trainer.settings if draft.trainer is not None else ():
        if name in draft.parameter_names:
            yield FieldProblem(
                pointer=join(("trainer", "settings", name)),
                message=f"{name} is fixed here and searched under space",
                suggestion="keep one of them",
            )


def _metrics(draft: Draft, trainer: str, entry: TrainerEntry) -> Iterator[FieldProblem]:
    named = {} if draft.metric is None else {"/metric/name": draft.metric.name}
    named |= {f"/objectives/{at}/name": goal.name for at, goal in draft.objectives.items()}
    named |= {f"/limits/{at}/metric": limit.metric for at, limit in draft.limits.items()}
    for pointer, metric in named.items():
        if metric not in entry.metrics:
            yield FieldProblem(
                pointer=pointer,
                message=f"the {trainer} trainer does not report {metric}",
                suggestion=did_you_mean(metric, list(entry.metrics), "it reports"),
            )


def setting_problems(
    place: tuple[str, ...], settings: Mapping[str, ParamValue], trainer: str, entry: TrainerEntry
) -> Iterator[FieldProblem]:
    """What the trainer cannot do with the fixed settings that stand at ``place``."""
    for name, value in settings.items():
        pointer = join((*place, name))
        setting = entry.setting(name)
        if setting is None:
            yield _unknown(pointer, name, trainer, entry)
            continue
        reason = _refusal(setting, value)
        if reason:
            yield FieldProblem(
                pointer=pointer, message=f"{name} {reason}", suggestion=_suggest(setting, value)
            )


def _space(draft: Draft, trainer: str, entry: TrainerEntry) -> Iterator[FieldProblem]:
    for name in draft.parameter_names:
        pointer = join(("space", draft.written.get(name, name)))
        setting = entry.setting(name)
        if setting is None:
            yield _unknown(pointer, name, trainer, entry)
        elif name in draft.parameters:
            yield from _parameter(pointer, name, draft.parameters[name], setting)


def _unknown(pointer: str, name: str, trainer: str, entry: TrainerEntry) -> FieldProblem:
    if name in entry.partly:
        return FieldProblem(
            pointer=pointer,
            message=f"not every workload knows {name}, only {enumerate_words(entry.partly[name])}",
            suggestion="what is tuned is the same for all: say it in the settings of those workloads",
        )
    return FieldProblem(
        pointer=pointer,
        message=f"the {trainer} trainer has no setting {name}",
        suggestion=did_you_mean(name, [setting.name for setting in entry.settings], "it has"),
    )


def _parameter(pointer: str, name: str, parameter: Parameter, setting: Setting) -> Iterator[FieldProblem]:
    if isinstance(parameter, FloatParameter | IntParameter):
        if isinstance(parameter, FloatParameter) and setting.kind == "int":
            yield FieldProblem(
                pointer=f"{pointer}/type",
                message=f"{name} is a whole number for this trainer",
                suggestion="say type: int",
            )
            return
        if setting.kind in ("bool", "choice", "text"):
            kinds = "bool" if setting.kind == "bool" else "categorical"
            yield FieldProblem(
                pointer=f"{pointer}/type",
                message=f"{name} is not a number for this trainer",
                suggestion=f"say type: {kinds}{_choices(setting)}",
            )
            return
        bounds: dict[str, ParamValue] = {"low": parameter.low, "high": parameter.high}
        for end, bound in bounds.items():
            reason = _refusal(setting, bound)
            if reason:
                yield FieldProblem(pointer=f"{pointer}/{end}", message=f"{name} {reason}")
        return
    values = listed(parameter) or []
    where = _VALUE_FIELDS[parameter.type]
    for at, value in enumerate(values):
        reason = _refusal(setting, value)
        if reason:
            yield FieldProblem(
                pointer=f"{pointer}/{where.format(at)}",
                message=f"{name} {reason}",
                suggestion=_suggest(setting, value),
            )
            if parameter.type == "bool":
                return


def _refusal(setting: Setting, value: ParamValue) -> str:
    """Why the trainer does not take this value; empty if it does."""
    if setting.choices is not None:
        if any(same(value, choice) for choice in setting.choices):
            return ""
        return f"must be {_one_of(setting.choices)}, not {show(value)}"
    if not _KINDS[setting.kind](value):
        return f"must be {_KIND_NAMES[setting.kind]}, not {show(value)}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        if setting.low is not None and value < setting.low:
            return f"must be at least {setting.low:g} for this trainer, not {value:g}"
        if setting.high is not None and value > setting.high:
            return f"must be at most {setting.high:g} for this trainer, not {value:g}"
    return ""


def _suggest(setting: Setting, value: ParamValue) -> str:
    if setting.kind == "bool" and isinstance(value, str) and value.lower() in ("yes", "on", "no", "off"):
        return f"write {'true' if value.lower() in ('yes', 'on') else 'false'}"
    if isinstance(value, str) and setting.choices:
        meant = did_you_mean(value, [str(choice) for choice in setting.choices])
        return meant if meant.startswith("did") else ""
    return ""


def _choices(setting: Setting) -> str:
    return (
        f" with choices among {_one_of(setting.choices).removeprefix('one of ')}" if setting.choices else ""
    )


def _one_of(choices: tuple[str, ...]) -> str:
    """What there is; of very many, the beginning."""
    if len(choices) <= _MANY:
        return f"one of {enumerate_words([show(c) for c in choices])}"
    return f"one of {', '.join(show(c) for c in choices[:_MANY])} and {len(choices) - _MANY} others"


_MANY = 12
_VALUE_FIELDS = {"categorical": "choices/{}", "ordered": "values/{}", "fixed": "value", "bool": "type"}
_KINDS: dict[str, Callable[[ParamValue], bool]] = {
    "float": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "bool": lambda value: isinstance(value, bool),
    "choice": lambda value: isinstance(value, str),
    "text": lambda value: isinstance(value, str),
}
_KIND_NAMES = {
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "choice": "text",
    "text": "text",
}
