"""Batch-size warm-up as pure functions: step -> samples of that step, and of all steps before it.

Early in a training gradients of small batches do, and large ones cost more than they bring (McCandlish et
al. 2018, arXiv:1812.06162; Brown et al. 2020, arXiv:2005.14165, grow the batch like this). Nothing here has
state: a training resumed at any step goes on with the same samples.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainers.settings import Config, setting


@dataclass(frozen=True)
class BatchConfig(Config):
    """The batch, and how it grows to its full size."""

    batch_size: int = setting(32, "Samples per step.", low=1, high=65536)
    batch_start: int = setting(
        0,
        "Samples of the first step; from there the batch grows to batch_size. 0: all from the start.",
        low=0,
        high=65536,
    )
    batch_warmup_fraction: float = setting(
        0.1,
        "Share of a full training in which the batch grows, linearly; used with a batch_start.",
        low=0.0,
        high=1.0,
    )

    def mistakes(self) -> list[str]:
        """A batch that would shrink."""
        found = super().mistakes()
        if self.batch_start > self.batch_size:
            found.append(
                f"batch_start: must be at most batch_size ({self.batch_size}), to which the batch grows, "
                f"not {self.batch_start}"
            )
        return found


def samples_before(config: BatchConfig, step: int, total: int) -> int:
    """Samples of all steps before step number ``step`` (from 0); ``total`` steps are a full training.

    With a start of ``s`` and a size of ``b`` samples it is ``floor(k s + (b - s) k^2 / (2 w))`` after ``k``
    of the ``w = round(batch_warmup_fraction * total)`` steps of the warm-up, and ``b`` more for each step
    behind them.
    """
    start, size = config.batch_start or config.batch_size, config.batch_size
    warmup = round(config.batch_warmup_fraction * total)
    risen = min(step, warmup)
    grown = (size - start) * risen**2 // (2 * warmup) if warmup else 0
    return risen * start + grown + (step - risen) * size


def samples_of(config: BatchConfig, step: int, total: int) -> int:
    """Samples of step number ``step`` (from 0): from ``batch_start`` to ``batch_size``."""
    return samples_before(config, step + 1, total) - samples_before(config, step, total)
