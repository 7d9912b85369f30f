"""A transformer that sees a whole window at once, made of the same blocks as the GPT.

Shapes: B windows, T positions, W width, C classes.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from trainers.encoder_config import EncoderConfig
from trainers.gpt_model import VOCABULARY, Block, initialize, rotary_angles


class Encoder(nn.Module):
    """Bytes (B, T) -> logits: (B, T, C) to tag; (B, C) to classify, from the mean over positions."""

    def __init__(self, config: EncoderConfig, classes: int) -> None:
        super().__init__()
        self.per_position = config.task == "tagging"
        self.embedding = nn.Embedding(VOCABULARY, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, causal=False) for _ in range(config.depth))
        self.norm = nn.RMSNorm(config.width)
        self.head = nn.Linear(config.width, classes)
        cos, sin = rotary_angles(config.context, config.width // config.heads)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        initialize(self, config.depth)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.dropout(self.embedding(tokens))
        for block in self.blocks:
            x = block(x, self.get_buffer("cos"), self.get_buffer("sin"))
        x = self.norm(x)
        logits: Tensor = self.head(x if self.per_position else x.mean(1))
        return logits


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy in nats; logits (..., C), labels (...)."""
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))
