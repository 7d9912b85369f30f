"""A decoder-only transformer in the plain modern form.

Pre-norm residual blocks with RMSNorm, rotary positions (Su et al. 2021, arXiv:2104.09864), causal
attention, a GELU MLP of four times the width, no biases, and one matrix for both embedding and output.

Shapes: B sequences, T positions, W width, H heads, D = W / H, V = 256 byte values.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainers import mup
from trainers.gpt_config import GptConfig

VOCABULARY = 256
_INITIAL_STD = 0.02


class Shape(Protocol):
    """What a block must know of its model's configuration."""

    @property
    def width(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def dropout(self) -> float: ...


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions: (B, T, W) -> (B, T, W).

    A causal one sees no later positions. ``scale`` multiplies the products of queries and keys;
    None: 1 / sqrt(D).
    """

    def __init__(self, config: Shape, *, causal: bool, scale: float | None = None) -> None:
        super().__init__()
        self.causal = causal
        self.heads = config.heads
        self.dropout = config.dropout
        self.scale = scale
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """``cos`` and ``sin``: (T, D / 2), see :func:`rotary_angles`."""
        B, T, W = x.shape
        q, k, v = (
            self.qkv(x).view(B, T, 3, self.heads, W // self.heads).permute(2, 0, 3, 1, 4)
        )  # (B, H, T, D)
        attended = F.scaled_dot_product_attention(
            rotate(q, cos, sin),
            rotate(k, cos, sin),
            v,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=self.causal,
            scale=self.scale,
        )
        merged: Tensor = self.out(attended.transpose(1, 2).reshape(B, T, W))
        return merged


class Block(nn.Module):
    """Attention and MLP, each on the normed residual stream and added to it."""

    def __init__(self, config: Shape, *, causal: bool = True, scale: float | None = None) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.width)
        self.attention = Attention(config, causal=causal, scale=scale)
        self.mlp_norm = nn.RMSNorm(config.width)
        self.up = nn.Linear(config.width, 4 * config.width, bias=False)
        self.down = nn.Linear(4 * config.width, config.width, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), cos, sin))
        out: Tensor = x + self.dropout(self.down(F.gelu(self.up(self.mlp_norm(x)))))
        return out


class Gpt(nn.Module):
    """Bytes (B, T) -> logits of the next byte (B, T, V); for ``mup_base_width`` see :mod:`trainers.mup`."""

    def __init__(self, config: GptConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(config, scale=mup.attention_scale(config)) for _ in range(config.depth)
        )
        self.norm = nn.RMSNorm(config.width)
        cos, sin = rotary_angles(config.context, config.width // config.heads)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.widening = mup.widening(config)
        initialize(self, config.depth, self.widening)

    def forward(self, tokens: Tensor) -> Tensor:
        T = tokens.shape[1]
        cos, sin = self.get_buffer("cos")[:T], self.get_buffer("sin")[:T]
        x = self.dropout(self.embedding(tokens))
        for block in self.blocks:
            x = block(x, cos, sin)
        x = self.norm(x)
        if self.widening != 1:
            x = x / self.widening
        logits: Tensor = F.linear(x, self.embedding.weight)
        return logits


def initialize(model: nn.Module, depth: int, widening: float = 1.0) -> None:
    """Small normal weights. What writes into the residual stream is smaller still, so that its
    variance does not grow with depth (Radford et al. 2019, GPT-2). Matrices between hidden states that are
    ``widening`` times as wide as those of a base model have that much less variance."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            into_stream = name.endswith(("out.weight", "down.weight"))
            std = _INITIAL_STD / (2 * depth) ** 0.5 if into_stream else _INITIAL_STD
            if name.startswith("blocks."):
                std /= widening**0.5
            nn.init.normal_(parameter, std=std)


def rotary_angles(context: int, dims: int, base: float = 10000.0) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (context, dims / 2): pair i turns by ``base ** (-2 i / dims)`` a position."""
    speeds = base ** (-torch.arange(0, dims, 2, dtype=torch.float32) / dims)
    angles = torch.outer(torch.arange(context, dtype=torch.float32), speeds)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x[i], x[i + D / 2]) of the last dimension by its position's angle."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1).type_as(x)
