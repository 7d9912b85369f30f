"""Each way in which training ends badly has its type, which the search learns from."""

from __future__ import annotations

import pytest
import torch

from search.surrogates import feasibility
from trimtab.wire.states import FailureKind
from workers import execution, failures


def test_lack_of_memory_is_told_from_a_crash() -> None:
    out_of_memory = [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried"
        ),
        MemoryError(),
    ]
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55)
    for error in [*out_of_memory, caught.value]:
        assert failures.of_exception(error, "").kind is FailureKind.OUT_OF_MEMORY
    assert (
        failures.of_exception(RuntimeError("CUDA error: device-side assert"), "").kind is FailureKind.CRASH
    )
    assert FailureKind.OUT_OF_MEMORY.value in feasibility.BLAMED


def test_a_part_of_a_gpu_is_that_part_of_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", asked.append)
    for gpus in (0.0, 0.5, 1.0, 2.0):
        execution.share_gpu(gpus)
    assert asked == [0.5]
