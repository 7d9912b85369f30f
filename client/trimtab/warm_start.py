"""Warm start by a function of the user's own: it names first configurations, perhaps by asking a model.

The function is the user's code, so it runs where the study is submitted, never in the service. It is called
as ``function(card, space)``, where ``card`` says what is tuned (:func:`card`) and ``space`` is the space as
the study file says it, and returns configurations: mappings of parameter names to values. Each is checked
like one under ``enqueue``; what is illegal is dropped and reported, the rest is enqueued. Whatever it does,
the study can still be submitted.

Example::

    def configurations(card, space):
        best = [trial["params"] for study in card["earlier"] for trial in study["trials"][:3]]
        return [*best, {"lr": 3e-4, "schedule": "cosine"}]
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trimtab import configuration_check, explain
from trimtab.draft import Draft
from trimtab.errors import TrimtabError
from trimtab.explain import show
from trimtab.wire.base import ParamValue
from trimtab.wire.limits import MAX_ENQUEUED
from trimtab.wire.problems import FieldProblem
from trimtab.wire.space import FixedParameter
from trimtab.wire.study import QueuedConfig, StudySpec

Function = Callable[[dict[str, Any], dict[str, Any]], Iterable[Mapping[str, ParamValue]]]
"""A warm-starter: task card and space in, configurations out."""


class NotLoadedError(TrimtabError):
    """The warm-starter cannot be imported, or is no function."""


@dataclass(frozen=True)
class Dropped:
    """A configuration that was named and is not tried."""

    number: int
    """From 1, in the order in which the function named them."""
    problems: tuple[FieldProblem, ...]
    """Why; pointers are within the configuration."""

    def __str__(self) -> str:
        return f"number {self.number}: " + "; ".join(map(_words, self.problems))


@dataclass(frozen=True)
class Asked:
    """What became of asking a warm-starter."""

    spec: StudySpec
    """The study, with the legal configurations enqueued behind its own; ready to be submitted."""
    added: int
    dropped: tuple[Dropped, ...]
    error: str
    """Why the function named nothing more, if it failed; else empty."""

    @property
    def troubled(self) -> bool:
        """Whether anything went wrong."""
        return bool(self.dropped or self.error)


def load(name: str, folder: Path) -> Function:
    """The function that ``MODULE:FUNCTION`` names, the module being looked for in ``folder`` first.

    Raises :class:`NotLoadedError` if it cannot be imported or is no function.
    """
    module_name, _, function_name = name.partition(":")
    sys.path.insert(0, str(folder))
    try:
        with redirect_stdout(sys.stderr):
            module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise NotLoadedError(
            f"{name} cannot be imported: {_said(error)}",
            f"put {module_name.partition('.')[0]}.py beside the study file, or install it",
        ) from error
    finally:
        sys.path.remove(str(folder))
    function: Any = getattr(module, function_name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise NotLoadedError(
            f"{module_name} has no function {function_name}", explain.did_you_mean(function_name, known)
        )
    loaded: Function = function
    return loaded


def card(spec: StudySpec, earlier: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """The task card: what is tuned, as plain data.

    It has the fields of the study file that say so (name, notes, trainer with its settings, metric with its
    direction, objectives, limits, fidelity, budget, parallelism, constraints, forbid, enqueue) and
    ``earlier``, which has the name, metric, direction and best trials of each earlier study.
    """
    told = {
        "name",
        "notes",
        "trainer",
        "metric",
        "objectives",
        "limits",
        "fidelity",
        "budget",
        "parallelism",
        "constraints",
        "forbid",
        "enqueue",
    }
    return {**spec.model_dump(mode="json", include=told, exclude_none=True), "earlier": list(earlier)}


def ask(spec: StudySpec, function: Function, earlier: Sequence[dict[str, Any]] = ()) -> Asked:
    """Ask ``function`` for first configurations, and enqueue the legal ones.

    What it prints goes to the standard error. An exception that leaves it is reported, not raised;
    :class:`KeyboardInterrupt` is raised.
    """
    space = spec.model_dump(mode="json", include={"space"}, exclude_unset=True)["space"]
    named: list[Any] = []
    error = ""
    try:
        with redirect_stdout(sys.stderr):
            answer: Any = function(card(spec, earlier), space)
            if isinstance(answer, str | bytes | Mapping) or not isinstance(answer, Iterable):
                error = f"it returned {_kind(answer)}, not a list of configurations"
            else:
                for one in islice(answer, MAX_ENQUEUED):
                    named.append(one)
    except (Exception, SystemExit) as raised:
        error = f"it failed: {_said(raised)}"
    label = getattr(function, "__name__", "warm start")[:100]
    return _checked(spec, label, named, error)


def nothing(spec: StudySpec, error: str) -> Asked:
    """The answer where there was nobody to ask."""
    return _checked(spec, "", [], error)


def _checked(spec: StudySpec, label: str, named: list[Any], error: str) -> Asked:
    draft = Draft.of(spec.model_dump(mode="json", exclude_unset=True))
    room = MAX_ENQUEUED if spec.budget.trials is None else min(MAX_ENQUEUED, spec.budget.trials)
    labels = {config.label for config in spec.enqueue}
    known = {_key(config.params): "is enqueued in the study already" for config in spec.enqueue}
    added: list[QueuedConfig] = []
    dropped: list[Dropped] = []
    for number, given in enumerate(named, start=1):
        config, problems = _config(draft, given)
        if config is not None and not problems:
            key = _key(config.params)
            if key in known:
                problems = [FieldProblem(pointer="", message=known[key])]
            elif len(spec.enqueue) + len(added) >= room:
                problems = [FieldProblem(pointer="", message=f"the study has room for {room} only")]
            known.setdefault(key, f"is the same as number {number}")
        if config is None or problems:
            dropped.append(Dropped(number, tuple(problems)))
            continue
        own = f"{label} {number}"
        added.append(config.model_copy(update={"label": None if own in labels else own}))
    warm_start = spec.warm_start.model_copy(update={"function": None})
    enqueue = [*spec.enqueue, *added]
    return Asked(
        spec.model_copy(update={"enqueue": enqueue, "warm_start": warm_start}),
        len(added),
        tuple(dropped),
        error,
    )


def _config(draft: Draft, given: Any) -> tuple[QueuedConfig | None, list[FieldProblem]]:
    """The configuration, if it can be read as one, and what is wrong with it."""
    if not isinstance(given, Mapping):
        message = f"is {_kind(given)}, not a mapping of parameters to values"
        return None, [FieldProblem(pointer="", message=message)]
    # Numbers of NumPy know their plain value.
    plain = {key: value.item() if hasattr(value, "item") else value for key, value in given.items()}
    document = {"params": plain}
    try:
        config = QueuedConfig.model_validate(document)
    except ValidationError as error:
        found = explain.problems(error, QueuedConfig, document)
        return None, [p.model_copy(update={"pointer": p.pointer.removeprefix("/params")}) for p in found]
    fixed = {
        name: parameter.value
        for name, parameter in draft.parameters.items()
        if isinstance(parameter, FixedParameter)
        and configuration_check.is_active(draft.parameters, name, config.params)
    }
    config = QueuedConfig(params={**fixed, **config.params})
    return config, list(configuration_check.problems(draft, config, ()))


def _key(params: Mapping[str, ParamValue]) -> frozenset[tuple[str, bool, ParamValue]]:
    """Equal for equal configurations; True is not 1."""
    return frozenset((name, isinstance(value, bool), value) for name, value in params.items())


def _words(problem: FieldProblem) -> str:
    """The message, with the parameter named where it does not name it itself."""
    name = "/".join(explain.split(problem.pointer))
    return problem.message if name in problem.message else f"{name} {problem.message}"


def _kind(value: Any) -> str:
    return show(value) if value is None or isinstance(value, str | Mapping) else f"a {type(value).__name__}"


def _said(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
