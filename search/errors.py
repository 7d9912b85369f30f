"""Errors of search: each names every field that is wrong."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing a study asks for that search cannot do."""

    pointer: str
    """JSON pointer within the study specification, such as ``/strategy/options/eta``."""
    message: str
    suggestion: str = ""


class SearchError(ValueError):
    """The study asks for what search cannot do; ``mistakes`` says where and what to do."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__("; ".join(f"{m.pointer}: {m.message}" for m in mistakes))
        self.mistakes = tuple(mistakes)
