"""Maximal update parametrization (muP) of the GPT: a learning rate tuned narrow holds wide.

Yang et al. 2022, "Tensor Programs V" (arXiv:2203.03466), table 8, with the widening m = width / base width;
at m = 1 the model is the standard one::

                            initial variance   multiplier    Adam's rate   SGD's rate
    hidden matrices         1 / m              1             1 / m         1
    embedding, as output    1                  1, 1 / m      1             m
    gains (vectors)         1                  1             1             m

and products of queries and keys are multiplied by sqrt(base D) / D instead of 1 / sqrt(D), with D the
dimensions of a head. It is the table in which one matrix may be both embedding and output. Weight decay is
divided by what the rate is multiplied by, so that a step shrinks weights as much as before (as in the
authors' package, and Wang & Aitchison 2024, arXiv:2405.13698).

The base width is a matter of convention: a study that tunes at width 64 and trains at 1024 sets it to 64 in
both. Depth, batch and length of training are not covered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import nn

from trainers.gpt_config import GptConfig
from trainers.optimizers.table import FAMILIES, Family


def widening(config: GptConfig) -> float:
    """How many times the width is that of the base model; 1 without muP."""
    return config.width / config.mup_base_width if config.mup_base_width else 1.0


def attention_scale(config: GptConfig) -> float | None:
    """What products of queries and keys are multiplied by; None without muP: the usual 1 / sqrt(D)."""
    if not config.mup_base_width:
        return None
    base = config.mup_base_width / (config.mup_base_heads or config.heads)
    return math.sqrt(base) / (config.width / config.heads)


def rates(model: nn.Module, config: GptConfig) -> Mapping[str, float]:
    """By the names of the model's parameters: multiples of the learning rate, where they are not 1."""
    m = widening(config)
    if m == 1:
        return {}
    adam = FAMILIES[config.optimizer] is Family.ADAM
    return {
        name: 1 / m if adam else m
        for name, weight in model.named_parameters()
        if adam == (weight.ndim == 2 and name.startswith("blocks."))
    }
