"""The built-in trainers by name. Importing this imports no torch; creating a trainer may."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from trainers import (
    digits_config,
    encoder_config,
    finetune_config,
    gpt_config,
    rl_config,
    suite_config,
    synthetic,
    tabular_config,
    vision_config,
)
from trainers.base import InvalidConfigurationError, Job, Trainer
from trainers.settings import Config


@dataclass(frozen=True, slots=True)
class Entry:
    """What there is to know of a trainer without making one."""

    config: type[Config]
    """Its settings; the class's docstring says what the trainer does."""
    metrics: Mapping[str, str]
    """Metrics it reports, each with what it means."""
    metric: str
    """The one usually tuned."""
    direction: str
    """``minimize`` or ``maximize`` that metric."""
    fidelity_unit: str
    make: Callable[[Job], Trainer]


def _gpt(job: Job) -> Trainer:
    from trainers.gpt import GptTrainer

    return GptTrainer(job)


def _digits(job: Job) -> Trainer:
    from trainers.digits import DigitsTrainer

    return DigitsTrainer(job)


def _encoder(job: Job) -> Trainer:
    from trainers.encoder import EncoderTrainer

    return EncoderTrainer(job)


def _tabular(job: Job) -> Trainer:
    from trainers.tabular import TabularTrainer

    return TabularTrainer(job)


def _boosting(job: Job) -> Trainer:
    from trainers.boosting import BoostingTrainer

    return BoostingTrainer(job)


def _vision(job: Job) -> Trainer:
    from trainers.vision import VisionTrainer

    return VisionTrainer(job)


def _rl(job: Job) -> Trainer:
    from trainers.rl import RlTrainer

    return RlTrainer(job)


def _finetune(job: Job) -> Trainer:
    from trainers.finetune import FinetuneTrainer

    return FinetuneTrainer(job)


def _suite(job: Job) -> Trainer:
    from trainers.suite import SuiteTrainer

    return SuiteTrainer(job, create)


ENTRIES: Mapping[str, Entry] = {
    "gpt": Entry(gpt_config.GptConfig, gpt_config.METRICS, "val_loss", "minimize", "steps", _gpt),
    "encoder": Entry(
        encoder_config.EncoderConfig, encoder_config.METRICS, "val_loss", "minimize", "steps", _encoder
    ),
    "finetune": Entry(
        finetune_config.FinetuneConfig, finetune_config.METRICS, "val_loss", "minimize", "steps", _finetune
    ),
    "tabular": Entry(
        tabular_config.TabularConfig, tabular_config.NET_METRICS, "val_loss", "minimize", "steps", _tabular
    ),
    "boosting": Entry(
        tabular_config.BoostingConfig, tabular_config.METRICS, "val_loss", "minimize", "trees", _boosting
    ),
    "vision": Entry(
        vision_config.VisionConfig, vision_config.METRICS, "val_loss", "minimize", "steps", _vision
    ),
    "rl": Entry(rl_config.RlConfig, rl_config.METRICS, "val_return", "maximize", "steps", _rl),
    "digits": Entry(
        digits_config.DigitsConfig, digits_config.METRICS, "accuracy", "maximize", "steps", _digits
    ),
    "synthetic": Entry(
        synthetic.SyntheticConfig,
        synthetic.METRICS,
        "loss",
        "minimize",
        "steps",
        synthetic.SyntheticTrainer,
    ),
    "suite": Entry(suite_config.SuiteConfig, suite_config.METRICS, "score", "minimize", "rounds", _suite),
}


def names() -> list[str]:
    """The trainers that :func:`create` knows."""
    return list(ENTRIES)


def create(name: str, job: Job) -> Trainer:
    """Set up a trainer at step 0.

    :raises InvalidConfigurationError: no trainer of this name, or settings that it cannot use (all named)
    """
    if name not in ENTRIES:
        close = difflib.get_close_matches(name, names(), n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise InvalidConfigurationError(f"no trainer {name!r}{hint}; there are: {', '.join(names())}")
    return ENTRIES[name].make(job)
