"""What is trained: that it learns, that steps and schedules are right, that divergence is data."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainers import text
from trainers.base import InvalidConfigurationError, Job, Measured
from trainers.digits import DigitsTrainer
from trainers.digits_config import TRAINING_DIGITS
from trainers.gpt import GptTrainer
from trainers.gpt_config import GptConfig
from trainers.gpt_model import Gpt
from trainers.registry import create
from trainers.synthetic import START, SyntheticConfig, mean_loss

TINY = {
    "width": 32,
    "depth": 1,
    "heads": 2,
    "context": 32,
    "batch_size": 16,
    "max_bytes": 300_000,
    "device": "cpu",
}


def last(name: str, steps: int, **config: Any) -> Measured:
    *_, point = create(name, Job(config, seed=0, max_step=steps, report_every=steps)).train(steps)
    return point


def test_gpt_learns() -> None:
    point = last("gpt", 150, **TINY, lr=0.01)
    assert point.metrics["val_loss"] < 0.55 * math.log(256)
    assert point.metrics["train_loss"] < math.log(256)
    assert point.tokens == 150 * 16 * 32
    assert point.metrics["tokens_per_second"] == pytest.approx(point.tokens / point.seconds)


def test_digits_learns_and_label_noise_hurts() -> None:
    clean = last("digits", 150, lr=0.01, device="cpu").metrics
    noisy = last("digits", 150, lr=0.01, label_noise=0.9, device="cpu").metrics
    assert clean["accuracy"] > 0.9
    assert noisy["accuracy"] < clean["accuracy"] - 0.05


@pytest.mark.parametrize("name", ["gpt", "digits"])
def test_divergence_is_data(name: str) -> None:
    config: dict[str, Any] = {
        "optimizer": "sgd",
        "lr": 1000.0,
        "clip": 0.0,
        "weight_decay": 100.0,
        "device": "cpu",
    }
    config |= TINY if name == "gpt" else {}
    metrics = last(name, 40, **config, warmup_fraction=0.0).metrics
    assert not math.isfinite(metrics["train_loss"])
    assert not math.isfinite(metrics["val_loss"])
    if name == "digits":
        assert math.isnan(metrics["accuracy"])


def test_gradient_accumulation_is_the_full_batch() -> None:
    def gradient(micro_batch: int) -> dict[str, torch.Tensor]:
        trainer = GptTrainer(Job({**TINY, "micro_batch": micro_batch}, 0, 10, 10))
        trainer._backward(0)
        return {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}

    whole = gradient(0)
    for micro_batch in (4, 5):  # five does not divide the sixteen of a batch
        parts = gradient(micro_batch)
        assert whole.keys() == parts.keys()
        for name, grad in whole.items():
            torch.testing.assert_close(parts[name], grad, rtol=1e-4, atol=1e-6)


def test_the_transformer_is_causal_and_sees_positions() -> None:
    torch.manual_seed(0)
    model = Gpt(GptConfig(width=32, depth=2, heads=4, context=16)).eval()
    tokens = torch.randint(0, 256, (1, 16))
    changed = tokens.clone()
    changed[0, 10] = (changed[0, 10] + 1) % 256
    with torch.no_grad():
        before, after = model(tokens), model(changed)
        swapped = model(tokens[:, [1, 0, *range(2, 16)]])
    torch.testing.assert_close(before[:, :10], after[:, :10])
    assert not torch.allclose(before[:, 10:], after[:, 10:])
    assert not torch.allclose(before[:, -1], swapped[:, -1], atol=1e-7)


def test_a_growing_batch_goes_through_the_same_digits() -> None:
    """In the same order, each of them once in every epoch."""
    growth = {"batch_size": 40, "batch_start": 10, "batch_warmup_fraction": 0.5}
    grown = DigitsTrainer(Job({**growth, "device": "cpu"}, 3, 100, 100))
    even = DigitsTrainer(Job({"batch_size": 40, "device": "cpu"}, 3, 100, 100))
    batches = [grown._batch(step) for step in range(100)]
    assert [len(batches[step]) for step in (0, 24, 49, 50, 99)] == [10, 25, 40, 40, 40]
    row = np.concatenate(batches)
    assert (row == np.concatenate([even._batch(step) for step in range(100)])[: len(row)]).all()
    assert sorted(row[:TRAINING_DIGITS].tolist()) == list(range(TRAINING_DIGITS))


def test_the_tokens_of_a_growing_batch_are_counted() -> None:
    growth = {"batch_size": 4, "batch_start": 1, "batch_warmup_fraction": 0.5}
    schedule = {"schedule": "table", "schedule_table": "0:0, 7:0.5"}
    trainer = GptTrainer(Job({**TINY, **growth, **schedule}, 1, 8, 4))
    seen: list[int] = []
    windows = trainer._windows

    def counted(source: Any, starts: Any) -> Any:
        seen.append(len(starts))
        return windows(source, starts)

    trainer._windows = counted  # type: ignore[method-assign]
    points = list(trainer.train(8))
    assert seen == [1, 2, 3, 4, 4, 4, 4, 4]
    context = trainer.config.context
    assert [point.tokens for point in points] == [10 * context, 26 * context]
    assert points[-1].metrics["lr"] == pytest.approx(0.5 * trainer.config.peak_lr)


def test_trials_validate_on_the_same_windows() -> None:
    a = GptTrainer(Job({**TINY, "batch_size": 3}, 1, 10, 10))
    b = GptTrainer(Job({**TINY, "batch_size": 7, "lr": 0.5}, 2, 10, 10))
    assert all(torch.equal(x, y) for x, y in zip(a._validation, b._validation, strict=True))


def test_measuring_more_often_changes_nothing_but_the_curve() -> None:
    rare, often = (GptTrainer(Job({**TINY, "dropout": 0.2}, 0, 12, every)) for every in (12, 1))
    rare_end, often_end = list(rare.train(12))[-1], list(often.train(12))[-1]
    assert rare_end.metrics["val_loss"] == often_end.metrics["val_loss"]


def test_an_epoch_of_digits_meets_each_digit_once() -> None:
    trainer = DigitsTrainer(Job({"batch_size": 100, "device": "cpu"}, 0, 100, 100))
    row = np.concatenate([trainer._batch(step) for step in range(100)])
    for epoch in range(len(row) // TRAINING_DIGITS):
        part = row[epoch * TRAINING_DIGITS : (epoch + 1) * TRAINING_DIGITS]
        assert sorted(part) == list(range(TRAINING_DIGITS))


def test_the_standard_library_is_split_by_file() -> None:
    found = text.load("", 2_000_000)
    assert 0.03 < len(found.validation) / (len(found.train) + len(found.validation)) < 0.3
    assert len(found.train) + len(found.validation) <= 2_000_000
    assert b"import " in found.train.tobytes()


def test_folders_files_and_what_is_left_out(tmp_path: Path) -> None:
    for number in range(60):
        (tmp_path / f"{number}.txt").write_text(f"file {number}\n" * 20)
    (tmp_path / ".hidden").write_text("secret")
    (tmp_path / "binary").write_bytes(b"\x00\x01")
    found = text.load(str(tmp_path), 10**6)
    train, validation = found.train.tobytes(), found.validation.tobytes()
    assert b"secret" not in train + validation
    files = [set(part.split(b"\x00")) - {b""} for part in (train, validation)]
    assert len(files[0]) + len(files[1]) == 60
    assert not files[0] & files[1]
    single = text.load(str(tmp_path / "1.txt"), 10**6)
    assert single.train.tobytes() + single.validation.tobytes() == b"file 1\n" * 20 + b"\x00"
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidConfigurationError, match="holds no text"):
        text.load(str(tmp_path / "empty"), 10**6)


def test_synthetic_has_the_optimum_it_says() -> None:
    best = SyntheticConfig(lr=0.01, width=64, dropout=0.1)
    assert mean_loss(best, 10**9) == pytest.approx(best.floor, abs=1e-4)
    assert mean_loss(best, 0) == START
    for change in ({"lr": 0.02}, {"lr": 0.005}, {"width": 128}, {"dropout": 0.2}, {"optimizer": "sgd"}):
        config: dict[str, Any] = {"lr": 0.01, "width": 64, "dropout": 0.1, **change}
        assert mean_loss(SyntheticConfig(**config), 10**9) > best.floor + 0.01


def test_synthetic_failures_are_planted_at_their_step() -> None:
    def trainer(fail: str, **config: Any) -> Any:
        return create("synthetic", Job({"fail": fail, "fail_at": 4, **config}, 0, 10, 1))

    for fail, error in (("crash", RuntimeError), ("oom", MemoryError)):
        broken = trainer(fail)
        with pytest.raises(error, match="step 4"):
            list(broken.train(10))
        assert broken.step == 3
    losses = [point.metrics["loss"] for point in trainer("diverge").train(10)]
    assert all(math.isfinite(loss) for loss in losses[:3])
    assert all(math.isnan(loss) for loss in losses[3:])
    assert math.isnan(last("synthetic", 10, lr=2.0).metrics["loss"])


def test_synthetic_hangs() -> None:
    from trainers.synthetic import SyntheticTrainer

    class WokenError(Exception):
        pass

    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            raise WokenError

    trainer = SyntheticTrainer(Job({"fail": "hang", "fail_at": 2}, 0, 10, 1), sleep=sleep)
    with pytest.raises(WokenError):
        list(trainer.train(10))
    assert trainer.step == 1
    assert naps == [60.0] * 3


def test_bfloat16_comes_close_to_float32() -> None:
    half, full = (last("gpt", 10, **TINY, precision=p).metrics["val_loss"] for p in ("bfloat16", "float32"))
    assert half == pytest.approx(full, rel=0.01)
    assert half != full


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_gpt_learns_in_bfloat16_on_cuda() -> None:
    metrics = last("gpt", 150, **{**TINY, "device": "cuda"}, lr=0.01).metrics
    assert metrics["val_loss"] < 0.6 * math.log(256)
    assert metrics["peak_memory_mb"] > 0
