"""The contract of a strategy.

A strategy has no memory: everything it knows, it reads from the :class:`~search.view.StudyView`, so that
any process can make the next decision after any other has died.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

import numpy as np

from search.decision import Answer
from search.space import ParamValue, SearchSpace
from search.strategies.options import Option
from search.view import Fidelity, StudyView


class Strategy(Protocol):
    """Decides what to train next."""

    name: ClassVar[str]
    lookahead: ClassVar[bool]
    """Launches do not depend on results, so some may be decided ahead of free slots."""
    known_options: ClassVar[tuple[Option, ...]]
    conditional: ClassVar[bool]
    """Whether it can search a space with conditional parameters."""
    categorical: ClassVar[bool]
    """Whether it can search parameters whose values have no order."""
    outcomes: ClassVar[bool]
    """Whether it can work for several objectives, and under limits on metrics."""
    forks: ClassVar[bool]
    """Whether it forks: the checkpoint that each run ends with is kept until its trial is stopped or the
    study has ended. One that does not is not shown forked trials (:func:`search.view.unforked`)."""

    @classmethod
    def create(cls, options: Mapping[str, ParamValue], space: SearchSpace, fidelity: Fidelity) -> Strategy:
        """The strategy, set up for a study in a space that it can search.

        Raises :class:`~search.errors.SearchError` if an option is unknown or out of range.
        """
        ...

    def first_target(self, fidelity: Fidelity) -> int:
        """The step to which an enqueued configuration is trained first."""
        ...

    def decide(self, view: StudyView, slots: int, rng: np.random.Generator) -> Answer:
        """At most ``slots`` launches and continuations, for workers that are free now.

        An empty answer means: wait until something ends. With nothing active and nothing left to do
        the answer holds a :class:`~search.decision.Finish`; a strategy never waits for nothing.
        """
        ...
