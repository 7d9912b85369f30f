"""The families of laws there are, by name: ours, and what is installed beside us.

A package brings one of its own by an entry point of the group ``trimtab.laws`` that names a
:class:`~search.laws.base.Family`. Nothing is imported before it is used.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from search.errors import Mistake, SearchError, did_you_mean

if TYPE_CHECKING:  # what it needs of scipy takes long to import
    from search.laws.base import Family

GROUP = "trimtab.laws"
POINTER = "/family"

_OURS = {
    "optimum": "search.laws.optimum:FAMILY",
    "loss": "search.laws.loss:FAMILY",
    "mixture": "search.laws.mixture:FAMILY",
}


@cache
def installed() -> dict[str, EntryPoint]:
    """By name, ours first; another's that takes one of our names is not seen."""
    ours = {name: EntryPoint(name, value, GROUP) for name, value in _OURS.items()}
    others = sorted(entry_points(group=GROUP), key=lambda entry: entry.name)
    return ours | {entry.name: entry for entry in others if entry.name not in ours}


def names() -> tuple[str, ...]:
    """The names of all families."""
    return tuple(installed())


def load(name: str) -> Family:
    """The family ``name``. Raises :class:`~search.errors.SearchError` if there is none, or if it cannot be
    imported."""
    if name not in installed():
        known = names()
        message = f"no family of laws is called {name}; there are {', '.join(known)}"
        raise SearchError([Mistake(POINTER, message, did_you_mean(name, known))])
    try:
        family: Family = installed()[name].load()
    except (ImportError, AttributeError) as error:
        raise SearchError([Mistake(POINTER, f"the family {name} cannot be loaded: {error}")]) from error
    return family
