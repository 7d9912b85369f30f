"""Units that are mixed up give themselves away.

What no language model could be is an error, what is only unusual a :class:`~search.laws.base.Caution`. The
medians of a table are judged, so that one odd run does not refuse it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from search.errors import Mistake
from search.laws.base import Caution, Runs

TOKENS_PER_PARAMETER = (1e-3, 1e6)
"""D / N of real runs is about 1 to 10,000; a median outside of this is a unit mixed up."""
UNUSUAL_TOKENS_PER_PARAMETER = (0.1, 1e4)
SMALLEST_N = 1e3
"""A median N below is millions or billions of parameters, written as such."""
FEWEST_TOKENS = 256
"""No table of language models has all its batches below so many tokens: that is a few short sequences."""
FEWEST_TOKENS_LARGE = 1_000
"""Nor has one of models of at least ``LARGE_N`` parameters a median below."""
LARGE_N = 1e6
MOST_STEPS = 3e6
"""D / batch: optimizer steps in the median, above which batches are not in tokens."""
UNUSUAL_BATCH = 30.0
"""A median batch so many times under the Step Law's 0.58 D^0.571 is worth a caution."""
PERPLEXITY = 20.0
"""A median loss above is more than a uniform guess over any vocabulary: likely a perplexity."""


def check(
    runs: Runs, batch_unit: Literal["tokens", "sequences"] | None
) -> tuple[list[Mistake], tuple[Caution, ...]]:
    """What is wrong with the units of finished runs.

    Who names the unit of batches is believed, with a caution.
    """
    wrong, cautions = _sizes(runs)
    if not np.isnan(runs.batch).any() and not wrong:
        wrong_batch, cautions_batch = _batches(runs, batch_unit)
        wrong += wrong_batch
        cautions += cautions_batch
    if np.median(runs.loss) > PERPLEXITY:
        cautions.append(
            Caution(
                "perplexity",
                f"the median loss is {np.median(runs.loss):.4g}, more than a guess over any vocabulary "
                "costs; losses are nats per token, the logarithm of the perplexity",
                grave=True,
            )
        )
    return wrong, tuple(cautions)


def _sizes(runs: Runs) -> tuple[list[Mistake], list[Caution]]:
    n, ratio = float(np.median(runs.n)), float(np.median(runs.d / runs.n))
    if n < SMALLEST_N:
        return [
            Mistake(
                "/columns/n",
                f"the median N is {n:.4g} parameters, which is no language model",
                "N is a count, 7e7 rather than 70 (million) or 0.07 (billion)",
            )
        ], []
    low, high = TOKENS_PER_PARAMETER
    if not low <= ratio <= high:
        hint = (
            "is D in millions or billions? It is a count of tokens, 2e10 rather than 20"
            if ratio < low
            else "is N in thousands or millions? It is a count of parameters, 7e7 rather than 70"
        )
        return [
            Mistake(
                "/columns/d" if ratio < low else "/columns/n",
                f"there are {ratio:.3g} tokens to a parameter in the median "
                f"(N {n:.4g}, D {np.median(runs.d):.4g})",
                hint,
            )
        ], []
    low, high = UNUSUAL_TOKENS_PER_PARAMETER
    if low <= ratio <= high:
        return [], []
    return [], [
        Caution(
            "units",
            f"{ratio:.3g} tokens to a parameter in the median is unusual; check the units of N and D",
        )
    ]


def _batches(runs: Runs, batch_unit: str | None) -> tuple[list[Mistake], list[Caution]]:
    steps = runs.d / runs.batch
    median = float(np.median(runs.batch))
    if (steps < 1).any():
        row = int(np.argmin(steps))
        hint = (
            "are batches in tokens already? Then the unit is tokens"
            if batch_unit == "sequences"
            else "batch and D are both in tokens"
        )
        said = (
            f"a batch of {runs.batch[row]:.4g} tokens is more than the whole training, D {runs.d[row]:.4g}"
        )
        return [Mistake("/columns/batch", said, hint)], []
    doubt = ""
    if runs.batch.max() < FEWEST_TOKENS:
        doubt = f"the largest batch is {runs.batch.max():.4g}, fewer tokens than a step can have"
    elif median < FEWEST_TOKENS_LARGE and np.median(runs.n) >= LARGE_N:
        doubt = f"the median batch is {median:.4g} at a median N of {np.median(runs.n):.3g}"
    elif np.median(steps) > MOST_STEPS:
        doubt = f"the median training would have {np.median(steps):.3g} steps (D / batch)"
    if doubt and batch_unit is None:
        return [
            Mistake(
                "/columns/batch",
                f"{doubt}: these look like sequences, not tokens",
                "name the batch unit: sequences, with a sequence length, or tokens if they are tokens",
            )
        ], []
    usual = 0.58 * runs.d**0.571
    if not doubt and np.median(usual / runs.batch) > UNUSUAL_BATCH:
        doubt = (
            f"the median batch is {np.median(usual / runs.batch):.0f} times under the Step Law's optimum "
            "0.58 D^0.571"
        )
    return [], [Caution("units", f"{doubt}; check that batches are in tokens")] if doubt else []
