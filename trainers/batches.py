"""Which examples a step trains on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trainers.randomness import Purpose, generator


def epoch_batch(seed: int, step: int, *, size: int, of: int) -> npt.NDArray[np.int64]:
    """Indices of step number ``step``: the next ``size`` of an endless row of permutations of ``of``.

    A step never holds more than ``of``.
    """
    size = min(size, of)
    first = step * size
    epochs = range(first // of, (first + size - 1) // of + 1)
    row = np.concatenate([generator(seed, Purpose.DATA, epoch).permutation(of) for epoch in epochs])
    return row[first % of : first % of + size]
