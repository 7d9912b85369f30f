"""Checks a study document before anything runs: every mistake at once, each with a place and a way out.

Three layers: the wire models (fields and types), what the fields say about each other
(:mod:`trimtab.space_check`, :mod:`trimtab.ties`, :mod:`trimtab.cross_check`,
:mod:`trimtab.outcome_check`, :mod:`trimtab.seed_check`), and what the trainer
(:mod:`trimtab.trainer_check`, :mod:`trimtab.suite_check`, :mod:`trimtab.schedule_check`) and the strategy
(:mod:`trimtab.strategy_check`) understand. A document with a bad field is still checked as far as its other
fields go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from trimtab import (
    cross_check,
    explain,
    optimizers,
    outcome_check,
    schedule_check,
    seed_check,
    space_check,
    strategy_check,
    suite_check,
    ties,
    trainer_check,
)
from trimtab.draft import Draft
from trimtab.wire.problems import FieldProblem
from trimtab.wire.study import StudySpec


class InvalidStudyError(ValueError):
    """The document is no study; ``problems`` holds every mistake."""

    def __init__(self, problems: Iterable[FieldProblem]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(f"{p.pointer or '/'}: {p.message}" for p in self.problems))


def study(document: Any) -> StudySpec:
    """The study that ``document`` (parsed YAML or JSON) describes; what it leaves to us is filled in
    (:func:`trimtab.optimizers.with_rates`, :func:`trimtab.ties.with_ties`).

    Raises :class:`InvalidStudyError` with all mistakes.
    """
    if not isinstance(document, Mapping):
        given = explain.show(document)
        message = f"a study holds named fields (name, trainer, space, ...); this is {given}"
        raise InvalidStudyError([FieldProblem(pointer="", message=message)])
    document = ties.with_ties(optimizers.with_rates(document))
    spec: StudySpec | None = None
    problems: list[FieldProblem] = []
    try:
        spec = StudySpec.model_validate(document)
    except ValidationError as error:
        problems = explain.problems(error, StudySpec, document)
    draft = Draft.of(document)
    problems += [
        *space_check.problems(draft),
        *ties.problems(draft),
        *cross_check.problems(draft),
        *outcome_check.problems(draft),
        *seed_check.problems(draft),
        *trainer_check.problems(draft),
        *suite_check.problems(draft),
        *schedule_check.problems(draft),
        *optimizers.problems(draft),
        *strategy_check.problems(draft),
    ]
    if spec is None or problems:
        raise InvalidStudyError(problems)
    return spec
