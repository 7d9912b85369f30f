"""Which examples a step trains on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trainers.batch_sizes import BatchConfig, samples_before
from trainers.randomness import Purpose, generator


def epoch_batch(config: BatchConfig, step: int, *, seed: int, total: int, of: int) -> npt.NDArray[np.int64]:
    """Indices of step number ``step``: the next ones of an endless row of permutations of ``of`` examples.

    :param total: steps of a full training, over which the batch may grow
    """
    first, behind = (samples_before(config, each, total) for each in (step, step + 1))
    epochs = range(first // of, (behind - 1) // of + 1)
    row = np.concatenate([generator(seed, Purpose.DATA, epoch).permutation(of) for epoch in epochs])
    return row[first % of : first % of + behind - first]
