"""Precision, compilation and memory, as far as a machine without a GPU can tell."""

from __future__ import annotations

from typing import Any

import pytest

from trainers.base import InvalidConfigurationError, Job, Measured
from trainers.registry import create

GPT = {
    "width": 16, "depth": 1, "heads": 2, "context": 16, "batch_size": 8, "max_bytes": 50_000,
    "eval_batches": 1, "device": "cpu", "lr": 0.01,
}  # fmt: skip


def last(name: str, steps: int = 6, **config: Any) -> Measured:
    *_, point = create(name, Job({"device": "cpu", **config}, 0, steps, steps)).train(steps)
    return point


@pytest.mark.parametrize("name", ["digits", "tabular", "vision"])
def test_any_net_trains_in_bfloat16(name: str) -> None:
    half, full = (
        last(name, precision=precision).metrics["val_loss"] for precision in ("bfloat16", "float32")
    )
    assert half == pytest.approx(full, rel=0.03)
    assert half != full


@pytest.mark.parametrize("name", ["digits", "tabular"])
@pytest.mark.parametrize("optimizer", ["nadamw", "adahessian", "mezo", "lbfgs"])
def test_a_batch_in_parts_is_the_same_batch(name: str, optimizer: str) -> None:
    whole, parts = (
        last(name, 3, optimizer=optimizer, batch_size=32, micro_batch=micro).metrics for micro in (0, 12)
    )
    assert parts["train_loss"] == pytest.approx(whole["train_loss"], rel=2e-3)


def test_memory_is_reported_without_a_gpu() -> None:
    assert 50 < last("digits").metrics["peak_memory_mb"] < 100_000


def test_compiling_without_a_compiler_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(InvalidConfigurationError, match=r"compile: torch.compile needs a C\+\+ compiler"):
        last("digits", compile=True)


@pytest.mark.slow
def test_a_compiled_model_learns_the_same() -> None:
    plain, compiled = (last("gpt", **GPT, compile=each).metrics["val_loss"] for each in (False, True))
    assert compiled == pytest.approx(plain, rel=1e-3)
