"""``scaling``: trains small models to learn the best learning rate and batch of one too large to tune.

1. A first sweep of the cheapest cells (a size and a length of training) that tell a law: three sizes, three
   lengths if there are so many, not all combined, of eight runs each. They are spread over learning rate
   and batch by a Sobol sequence; where the first cell was good, the others look, within a factor of six.
2. When a round has ended, the law of the optimum is fitted to all runs (:mod:`search.laws`). If both 90 %
   intervals at the target are narrow enough and no grave caution stands, the study is done. Otherwise the
   cell that shrinks them most for what is left of the compute (:mod:`search.laws.design`) is the next
   round: six runs about the optimum that is foreseen there.
3. When the compute pays for no further cell, the study ends and says how far it came.

What a round trains depends on the study's seed and on the trials before the round alone, so decisions are
the same for any number of workers, and after a restart. The price is that workers wait for a round's end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from search.decision import Answer
from search.errors import Mistake, SearchError
from search.space import ParamValue, SearchSpace
from search.strategies.options import Option, read_options, words_of
from search.strategies.scaling_space import ScalingSpace, read_space
from search.view import Fidelity, StudyView

SIZE = "size"
"""The option that names the parameter which makes models larger."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """See the module."""

    searched: ScalingSpace
    metrics: tuple[str, str]
    """Of each trial: the parameters N of its model, the tokens D it was trained on."""
    sequence_length: float
    """Tokens in one unit of the batch parameter."""
    target: tuple[float, float]
    """N and D."""
    flops: float
    """Of all runs together, 6 N D each."""
    within: float
    """The study is done when both intervals lie within this factor of their values."""

    name: ClassVar[str] = "scaling"
    lookahead: ClassVar[bool] = False
    known_options: ClassVar[tuple[Option, ...]] = (
        Option(SIZE, word=True, required=True, names="parameter"),
        Option("length", word=True, required=True, names="parameter"),
        Option("lr", word=True, names="parameter", default="lr"),
        Option("batch", word=True, names="parameter", default="batch_size"),
        Option("n", word=True, names="metric", default="parameters"),
        Option("d", word=True, names="metric", default="tokens"),
        Option("sequence_length", whole=True, at_least=1),
        Option("target_n", above=0, required=True),
        Option("target_d", above=0, required=True),
        Option("flops", above=0, required=True),
        Option("within", above=1),
    )
    conditional: ClassVar[bool] = False
    categorical: ClassVar[bool] = False
    outcomes: ClassVar[bool] = False
    forks: ClassVar[bool] = False

    @classmethod
    def create(cls, options: Mapping[str, ParamValue], space: SearchSpace, fidelity: Fidelity) -> Self:
        mistakes: list[Mistake] = []
        given: dict[str, float] = {}
        try:
            given = read_options(cls.name, options, cls.known_options)
        except SearchError as error:
            mistakes.extend(error.mistakes)
        words = words_of(options, cls.known_options)
        roles = {role: (role, words[role]) for role in (SIZE, "length", "lr", "batch") if role in words}
        searched, wrong = read_space(cls.name, roles, space)
        if mistakes or wrong:
            raise SearchError([*mistakes, *wrong])
        assert searched is not None
        return cls(
            searched=searched,
            metrics=(words["n"], words["d"]),
            sequence_length=given.get("sequence_length", 1),
            target=(given["target_n"], given["target_d"]),
            flops=given["flops"],
            within=given.get("within", 1.3),
        )

    def first_target(self, fidelity: Fidelity) -> int:
        return fidelity.max

    def decide(self, view: StudyView, slots: int, rng: np.random.Generator) -> Answer:
        from search.strategies.scaling_rounds import Rounds  # its models are heavy

        return Rounds(self, view).decide(slots)
