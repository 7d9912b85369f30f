"""Errors of search: each names every field that is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
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


def pointer(*parts: str | int) -> str:
    """A JSON pointer (RFC 6901) to the place named by ``parts``."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A suggestion for a misspelt name; names all that are known if none is close and they are few."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    return f"known are {', '.join(names)}" if 0 < len(names) <= 12 else ""
