"""The surrogates there are, by name: ours, and what is installed beside us.

A package brings one of its own by an entry point of the group ``trimtab.surrogates`` that names a
:class:`~search.surrogates.base.Fit`. Nothing is imported before it is used: names alone are needed where
studies are submitted.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from search.errors import Mistake, SearchError
from search.space import did_you_mean

if TYPE_CHECKING:  # what it needs of scipy takes long to import
    from search.surrogates.base import Fit

GROUP = "trimtab.surrogates"
DEFAULT = "gp"
AUTO = "auto"
"""Not a surrogate: the one with the best held-out score (:mod:`search.surrogates.selection`)."""
POINTER = "/strategy/options/surrogate"

_OURS = {
    DEFAULT: "search.surrogates.curve_gp:fitted",
    "deep-kernel": "search.surrogates.deep_kernel:fitted",
    "ensemble": "search.surrogates.ensemble:fitted",
    "nngp": "search.surrogates.nngp:fitted",
}


@cache
def installed() -> dict[str, EntryPoint]:
    """By name, ours first; another's that takes one of our names, or ``auto``, is not seen."""
    ours = {name: EntryPoint(name, value, GROUP) for name, value in _OURS.items()}
    others = sorted(entry_points(group=GROUP), key=lambda entry: entry.name)
    return ours | {entry.name: entry for entry in others if entry.name not in (*ours, AUTO)}


def names() -> tuple[str, ...]:
    """The names of all surrogates, the default first."""
    return tuple(installed())


def check(name: str) -> None:
    """Raise :class:`~search.errors.SearchError` unless a study may ask for ``name``."""
    known = (*names(), AUTO)
    if name not in known:
        message = f"no surrogate is called {name}; there are {', '.join(known)}"
        raise SearchError([Mistake(POINTER, message, did_you_mean(name, known))])


def load(name: str) -> Fit:
    """The surrogate ``name``. Raises :class:`~search.errors.SearchError` if there is none, or if it cannot
    be imported."""
    if name not in names():
        check(name)
    try:
        fit: Fit = installed()[name].load()
    except (ImportError, AttributeError) as error:
        raise SearchError([Mistake(POINTER, f"the surrogate {name} cannot be loaded: {error}")]) from error
    return fit
