"""Optimizers that trainers know by name: what each uses, and the learning rates that make sense with it.

Best rates differ by more than a thousand between optimizers, so one range cannot serve several. A study
that searches ``optimizer`` and says nothing of ``lr`` gets a range for each: parameters ``lr/NAME`` that
are active while the optimizer is ``NAME``. Any setting whose default is the optimizer's own may be written
so.

``optimizers.json`` is printed by ``make catalogue`` from the trainers' own table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import resources
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from trimtab.catalogue import TrainerEntry, entry_of
from trimtab.domain import listed
from trimtab.draft import Draft
from trimtab.explain import enumerate_words, join
from trimtab.wire.problems import FieldProblem

SETTING, RATE = "optimizer", "lr"


class Optimizer(BaseModel):
    """What there is to know of an optimizer."""

    model_config = ConfigDict(frozen=True)

    package: str
    lr: float
    """Learning rate, where none is set."""
    low: float
    """From here ..."""
    high: float
    """... to here, learning rates are searched, on a log scale."""
    uses: tuple[str, ...]
    """Of the settings whose default is the optimizer's own, those that it uses beside ``lr``."""
    once: bool
    """Whether it takes one gradient a step, so that another may be taken for ``sam``."""
    family: Literal["adam", "sgd"] | None
    """Whose multipliers of the learning rate muP has for it; None: they are not known."""
    sqrt_rule: dict[str, float] | None
    """If it is Adam, which the square-root rule of batch sizes is for: its beta1, beta2 and eps where they
    are not set."""


@lru_cache(maxsize=1)
def optimizers() -> dict[str, Optimizer]:
    """All that are listed, by name."""
    text = resources.files("trimtab").joinpath("optimizers.json").read_text(encoding="utf-8")
    return TypeAdapter(dict[str, Optimizer]).validate_json(text)


def with_rates(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The study with a range of learning rates for each optimizer, if it searches optimizers and no rate.

    Enqueued configurations get the optimizer's own rate, or the one they name as ``lr``. Other documents
    come back as they are, and so does one that has been through here.
    """
    draft = Draft.of(document)
    entry = entry_of(draft.trainer)
    searched = draft.parameters.get(SETTING)
    if entry is None or searched is None or draft.trainer is None:
        return document
    written = {*draft.names, *draft.trainer.settings}
    if RATE in written or not _own(entry, RATE):
        return document
    rates = {
        f"{RATE}/{name}": optimizers()[name]
        for name in (listed(searched) or [])
        if isinstance(name, str) and name in optimizers() and f"{RATE}/{name}" not in written
    }
    if not rates:
        return document
    space = dict(document["space"])
    for name, facts in rates.items():
        space[name] = {
            "type": "float",
            "low": facts.low,
            "high": facts.high,
            "log": True,
            "when": {SETTING: name.partition("/")[2]},
        }
    changed = {**document, "space": space}
    if isinstance(document.get("enqueue"), list):
        changed["enqueue"] = [_with_rate(queued, rates) for queued in document["enqueue"]]
    return changed


def _with_rate(queued: Any, rates: Mapping[str, Optimizer]) -> Any:
    """A configuration with its learning rate by the name that the space has for it."""
    params = queued.get("params") if isinstance(queued, Mapping) else None
    if not isinstance(params, Mapping):
        return queued
    name = f"{RATE}/{params.get(SETTING)}"
    if name not in rates or name in params:
        return queued
    others = {key: value for key, value in params.items() if key != RATE}
    return {**queued, "params": {**others, name: params.get(RATE, rates[name].lr)}}


def problems(draft: Draft) -> Iterator[FieldProblem]:
    """Settings that no optimizer of the study uses."""
    entry = entry_of(draft.trainer)
    if entry is None or draft.trainer is None or not _own(entry, RATE):
        return
    names = chosen(draft)
    if names is None:
        return
    known = {name: optimizers()[name] for name in names if name in optimizers()}
    if not known:
        return
    those = enumerate_words(list(known)[:8])
    places = {
        **{name: ("trainer", "settings", name) for name in draft.trainer.settings},
        **{name: ("space", name) for name in draft.parameter_names},
    }
    for name, place in places.items():
        setting, _, only = name.partition("/")
        if only and entry.setting(name) is not None and only not in known:
            yield FieldProblem(
                pointer=join(place),
                message=f"{only} is no optimizer of this study",
                suggestion=f"its optimizer is {those}",
            )
        elif _own(entry, setting) and not any(
            _uses(known[each], setting) for each in ([only] if only else known)
        ):
            alone = only or (those if len(known) == 1 else "")
            yield FieldProblem(
                pointer=join(place),
                message=f"{alone} uses no {setting}"
                if alone
                else f"no optimizer of this study uses {setting}",
                suggestion="leave it out",
            )
        elif setting == "sam" and not any(facts.once for facts in known.values()):
            yield FieldProblem(
                pointer=join(place),
                message=f"sam does not go round {those}",
                suggestion="leave it out, or take an optimizer that takes one gradient a step",
            )
        elif setting == "mup_base_width" and draft.trainer.settings.get(name) != 0:
            without = [each for each, facts in known.items() if facts.family is None]
            if without:
                having = [each for each, facts in optimizers().items() if facts.family is not None]
                yield FieldProblem(
                    pointer=join(place),
                    message=f"muP's learning rates are not known for {enumerate_words(without[:8])}",
                    suggestion=f"leave it out, or take one of {enumerate_words(having)}",
                )


def _uses(facts: Optimizer, setting: str) -> bool:
    return setting == RATE or setting in facts.uses


def chosen(draft: Draft) -> list[str] | None:
    """The optimizers of a study; None if that cannot be told."""
    entry = entry_of(draft.trainer)
    if entry is None or draft.trainer is None or entry.setting(SETTING) is None:
        return None
    if SETTING in draft.parameter_names:
        parameter = draft.parameters.get(SETTING)
        found = None if parameter is None else listed(parameter)
    else:
        setting = entry.setting(SETTING)
        usual = setting.default if setting is not None and setting.default is not None else ""
        found = [draft.trainer.settings.get(SETTING, usual)]
    return None if found is None else [name for name in found if isinstance(name, str)]


def _own(entry: TrainerEntry, name: str) -> bool:
    """Whether the optimizer decides this setting where it is not given."""
    setting = entry.setting(name)
    return setting is not None and setting.default is None
