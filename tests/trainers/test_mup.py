"""muP in the GPT: the coordinate check, the table of multipliers, and that nothing else has changed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainers.base import InvalidConfigurationError, Job, Measured
from trainers.gpt import GptTrainer
from trainers.optimizers.table import FAMILIES, LISTED, SQRT_RULE

WIDTHS = (32, 64, 128, 256)
BASE = 32
SMALL: dict[str, Any] = {
    "depth": 2, "heads": 4, "context": 16, "batch_size": 8, "max_bytes": 50_000, "eval_batches": 1,
    "device": "cpu", "schedule": "constant", "warmup_fraction": 0.0, "clip": 0.0,
}  # fmt: skip
RATES = {"adamw": 0.01, "lion": 0.003, "sgd": 0.1}


def trainer(steps: int = 4, seed: int = 0, **config: Any) -> GptTrainer:
    return GptTrainer(Job({**SMALL, **config}, seed=seed, max_step=steps, report_every=steps))


def activations(model: nn.Module, tokens: Tensor) -> dict[str, Tensor]:
    """What embedding, every attention, MLP and block, and the whole model put out."""
    found: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, out, name=name: found.__setitem__(name or "logits", out))
        for name, module in model.named_modules()
        if not name or name == "embedding" or name.split(".")[-1] in ("attention", "up", "down", "qkv")
    ]
    with torch.no_grad():
        model(tokens)
    for hook in hooks:
        hook.remove()
    return found


def slopes(mup: bool, optimizer: str) -> dict[str, float]:
    """By layer: the slope of log(size of a coordinate's change in four steps) against log(width)."""
    tokens = torch.randint(0, 128, (8, 16), generator=torch.Generator().manual_seed(0))
    sizes: dict[str, list[float]] = {}
    for width in WIDTHS:
        changes: dict[str, list[float]] = {}
        for seed in range(3):
            config = {"width": width, "mup_base_width": BASE if mup else 0}
            training = trainer(seed=seed, optimizer=optimizer, lr=RATES[optimizer], **config)
            before = activations(training.model, tokens)
            for _ in training.train(4):
                pass
            after = activations(training.model, tokens)
            for name in before:
                changes.setdefault(name, []).append(float((after[name] - before[name]).abs().mean()))
        for name, values in changes.items():
            sizes.setdefault(name, []).append(float(np.mean(values)))
    return {name: float(np.polyfit(np.log(WIDTHS), np.log(values), 1)[0]) for name, values in sizes.items()}


@pytest.mark.parametrize("optimizer", RATES)
def test_coordinates_change_alike_at_every_width_under_mup_and_not_without(optimizer: str) -> None:
    under_mup = slopes(True, optimizer)
    assert max(map(abs, under_mup.values())) < 0.3, under_mup
    standard = slopes(False, optimizer)
    assert standard["logits"] > 0.5, standard
    assert standard["blocks.1.down"] > 1, standard


def test_multipliers_are_those_of_table_8() -> None:
    config = {"width": 128, "mup_base_width": 32, "weight_decay": 0.1, "lr": 0.01}
    training = trainer(optimizer="adamw", **config)
    named = dict(training.model.named_parameters())
    (part,) = training.optimizer.parts
    part.set_lr(0.01)
    found = {
        id(weight): (group["lr"], group["weight_decay"])
        for group in part.optimizer.param_groups
        for weight in group["params"]
    }
    assert len(found) == len(named)
    assert found[id(named["blocks.0.attention.qkv.weight"])] == pytest.approx((0.0025, 0.4))
    assert found[id(named["blocks.1.down.weight"])] == pytest.approx((0.0025, 0.4))
    assert found[id(named["embedding.weight"])] == pytest.approx((0.01, 0.1))
    assert found[id(named["blocks.0.mlp_norm.weight"])] == pytest.approx((0.01, 0.0))
    standard = dict(trainer(optimizer="adamw", width=128).model.named_parameters())
    for name, weight in named.items():
        m = 4 if name.startswith("blocks.") and weight.ndim == 2 else 1
        torch.testing.assert_close(weight * math.sqrt(m), standard[name])

    descent = trainer(optimizer="sgd", **config)
    (part,) = descent.optimizer.parts
    part.set_lr(0.01)
    rates = {id(w): group["lr"] for group in part.optimizer.param_groups for w in group["params"]}
    named = dict(descent.model.named_parameters())
    assert rates[id(named["blocks.0.up.weight"])] == pytest.approx(0.01)
    assert rates[id(named["embedding.weight"])] == rates[id(named["norm.weight"])] == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("base_heads", "scale"), [(0, (32 / 4) ** 0.5 / 32), (1, 32**0.5 / 32), (2, 4 / 32)]
)
def test_attention_is_scaled_by_the_dimensions_of_a_head(base_heads: int, scale: float) -> None:
    model = trainer(width=128, heads=4, mup_base_width=32, mup_base_heads=base_heads).model
    assert model.blocks[0].attention.scale == pytest.approx(scale)  # type: ignore[union-attr, index]
    assert trainer(width=128).model.blocks[0].attention.scale is None  # type: ignore[union-attr, index]


def curve(training: GptTrainer, until: int) -> list[Measured]:
    return list(training.train(until))


def test_at_the_base_width_nothing_changes() -> None:
    ends = [curve(trainer(width=32, mup_base_width=base, lr=0.01), 4)[-1].metrics for base in (0, 32)]
    assert ends[0]["val_loss"] == pytest.approx(ends[1]["val_loss"], rel=1e-6)


@pytest.mark.parametrize("optimizer", sorted(FAMILIES))
def test_every_optimizer_of_a_family_trains_and_goes_on_bit_for_bit(optimizer: str, tmp_path: Path) -> None:
    config: dict[str, Any] = {
        "width": 16,
        "heads": 2,
        "depth": 1,
        "mup_base_width": 8,
        "optimizer": optimizer,
    }
    if LISTED[optimizer].package.value == "bitsandbytes":
        pytest.importorskip("bitsandbytes")
    whole = trainer(6, **config)
    before = {name: weight.clone() for name, weight in whole.model.named_parameters()}
    curve(whole, 3)
    whole.save(tmp_path)
    curve(whole, 6)
    again = trainer(6, **config)
    again.load(tmp_path)
    curve(again, 6)
    for name, weight in whole.model.named_parameters():
        assert torch.equal(weight, dict(again.model.named_parameters())[name]), name
        assert not torch.equal(weight, before[name]), name


def test_optimizers_whose_rates_are_not_known_are_refused() -> None:
    with pytest.raises(InvalidConfigurationError, match=r"mup_base_width: .* muon"):
        trainer(width=32, mup_base_width=16, optimizer="muon")
    assert trainer(width=32, optimizer="muon").step == 0


@pytest.mark.parametrize("name", SQRT_RULE)
def test_what_the_square_root_rule_scales_is_what_the_optimizer_has(name: str) -> None:
    (part,) = trainer(width=32, optimizer=name).optimizer.parts
    group = part.optimizer.param_groups[0]
    own = SQRT_RULE[name]
    assert (*group["betas"][:2], group["eps"]) == (own["beta1"], own["beta2"], own["eps"])
    assert {"beta1", "beta2", "eps"} <= set(LISTED[name].uses)


def test_sizes_are_told_for_scaling_laws() -> None:
    training = trainer(4, width=32, depth=2, context=16, batch_size=8)
    (point,) = curve(training, 4)
    # Each block: 3 + 1 matrices of width squared in attention, 4 + 4 in the MLP, and two norms.
    blocks = 2 * (12 * 32**2 + 2 * 32) + 32
    assert point.metrics["non_embedding_parameters"] == blocks
    assert point.metrics["parameters"] == blocks + 256 * 32
    assert point.metrics["tokens"] == point.tokens == 4 * 8 * 16


TOKENS: dict[str, Any] = {"train_tokens": 960, "lr": 0.01, "schedule": "linear", "width": 16, "context": 16}


@pytest.mark.parametrize(("batch", "updates"), [(4, 15), (8, 8), (12, 5)])
def test_a_training_on_so_many_tokens_has_them_whatever_the_batch(
    batch: int, updates: int, tmp_path: Path
) -> None:
    whole = trainer(5, batch_size=batch, **TOKENS)
    curve(whole, 2)
    whole.save(tmp_path)
    (point,) = curve(whole, 5)
    assert point.tokens == updates * batch * 16
    assert point.metrics["lr"] == pytest.approx(0.01 / updates)  # the last of so many on a straight line
    again = trainer(5, batch_size=batch, **TOKENS)
    again.load(tmp_path)
    assert curve(again, 5)[0].metrics["train_loss"] == point.metrics["train_loss"]
    # The same updates, a step each.
    plain = trainer(updates, batch_size=batch, **{**TOKENS, "train_tokens": 0})
    assert curve(plain, updates)[-1].metrics["val_loss"] == point.metrics["val_loss"]


def test_too_few_tokens_for_the_steps_are_refused() -> None:
    with pytest.raises(InvalidConfigurationError, match="train_tokens: 960 tokens are 4 updates of 256"):
        trainer(5, batch_size=16, **TOKENS)
    with pytest.raises(InvalidConfigurationError, match="batch_start: "):
        trainer(5, batch_size=4, batch_start=2, **TOKENS)
