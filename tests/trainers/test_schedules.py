"""Schedules: as torch has them where it has them, in range, and constant beyond a full training."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn, optim

from trainers import schedules
from trainers.base import InvalidConfigurationError
from trainers.batch_sizes import BatchConfig, samples_before, samples_of
from trainers.schedules import SCHEDULES, ScheduleConfig, points, share
from trainers.settings import parse
from trimtab import schedule_check

lr_scheduler = optim.lr_scheduler
Theirs = Callable[[optim.Optimizer], lr_scheduler.LRScheduler]
FRACTIONS = st.floats(0.0, 1.0)


@st.composite
def configs(draw: st.DrawFn) -> ScheduleConfig:
    return ScheduleConfig(
        schedule=draw(st.sampled_from(SCHEDULES)),
        warmup_fraction=draw(FRACTIONS),
        final_fraction=draw(FRACTIONS),
        start_fraction=draw(FRACTIONS),
        power=draw(st.floats(0.0, 9.0)),
        decay_fraction=draw(FRACTIONS),
        decay_shape=draw(st.sampled_from(["linear", "cosine", "sqrt", "square"])),
        cycles=draw(st.integers(1, 9)),
        cycle_growth=draw(st.floats(1.0, 3.0)),
        drops=draw(st.integers(1, 9)),
        drop_factor=draw(FRACTIONS),
        schedule_table="0:0.1, 30:1, 60:0",
    )


def torch_rates(theirs: Theirs, steps: int) -> list[float]:
    """The rates with which torch makes the first steps, of a peak of 1."""
    optimizer = optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = theirs(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return rates


def agrees(config: ScheduleConfig, total: int, theirs: Theirs) -> None:
    """Warm-up and all, at every step."""
    warmup = round(config.warmup_fraction * total)

    def warmed(optimizer: optim.Optimizer) -> lr_scheduler.LRScheduler:
        rising = lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) / warmup)
        return lr_scheduler.SequentialLR(optimizer, [rising, theirs(optimizer)], [warmup])

    expected = torch_rates(warmed if warmup else theirs, total)
    ours = [share(config, step, total) for step in range(total)]
    np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-9)


quickly = settings(max_examples=20, deadline=None)
totals = st.integers(2, 60)
some = st.sampled_from([0.0, 0.05, 0.1, 0.5])


@quickly
@given(totals, some, FRACTIONS)
def test_constant_linear_and_cosine_are_torchs(total: int, warmup: float, final: float) -> None:
    left = total - round(warmup * total)
    for name, theirs in (
        ("constant", lambda o: lr_scheduler.ConstantLR(o, factor=1.0)),
        ("linear", lambda o: lr_scheduler.LinearLR(o, 1.0, final, left)),
        ("cosine", lambda o: lr_scheduler.CosineAnnealingLR(o, left, eta_min=final)),
    ):
        config = ScheduleConfig(schedule=name, warmup_fraction=warmup, final_fraction=final)
        agrees(config, total, theirs)


@quickly
@given(totals, some, st.floats(0.1, 5.0))
def test_polynomial_is_torchs(total: int, warmup: float, power: float) -> None:
    left = total - round(warmup * total)
    config = ScheduleConfig(schedule="polynomial", warmup_fraction=warmup, power=power)
    agrees(config, total, lambda o: lr_scheduler.PolynomialLR(o, left, power))


@quickly
@given(st.integers(3, 60), st.integers(2, 59), FRACTIONS, FRACTIONS)
def test_one_cycle_is_torchs(total: int, peak: int, start: float, final: float) -> None:
    peak = min(peak, total - 1)
    start = max(start, 0.01)
    config = ScheduleConfig(
        schedule="one-cycle", warmup_fraction=peak / total, start_fraction=start, final_fraction=final
    )

    ours = [share(config, step, total) for step in range(total)]
    optimizer = optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = lr_scheduler.OneCycleLR(
        optimizer, 1.0, total_steps=total, pct_start=peak / total, cycle_momentum=False,
        div_factor=1 / start, final_div_factor=1e300 if final == 0 else start / final,
    )  # fmt: skip
    expected = []
    for step in range(total):
        expected.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if step < total - 1:  # theirs refuses to go on beyond its end
            scheduler.step()
    np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-9)


@quickly
@given(st.integers(1, 6), st.integers(1, 3), st.integers(1, 4), some, FRACTIONS)
def test_restarts_are_torchs(first: int, growth: int, cycles: int, warmup: float, final: float) -> None:
    left = first * sum(growth**cycle for cycle in range(cycles))
    # A warm-up of so many steps that the cycles have whole ones.
    total = next(n for n in range(left, 4 * left + 4) if n - round(warmup * n) == left)
    config = ScheduleConfig(
        schedule="restarts",
        warmup_fraction=warmup,
        final_fraction=final,
        cycles=cycles,
        cycle_growth=float(growth),
    )
    agrees(config, total, lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, first, growth, final))


@quickly
@given(st.integers(1, 12), st.integers(1, 4), st.floats(0.01, 1.0))
def test_step_is_torchs(every: int, drops: int, factor: float) -> None:
    config = ScheduleConfig(schedule="step", warmup_fraction=0.0, drops=drops, drop_factor=factor)
    agrees(config, every * (drops + 1), lambda o: lr_scheduler.StepLR(o, every, factor))


@quickly
@given(st.integers(10, 60), st.sampled_from([0.1, 0.3, 0.7]), FRACTIONS)
def test_warmup_stable_decay_is_torchs_in_sequence(total: int, decay: float, final: float) -> None:
    falling = round(decay * total)
    for name, shape in (
        ("linear", lambda o: lr_scheduler.LinearLR(o, 1.0, final, falling)),
        ("cosine", lambda o: lr_scheduler.CosineAnnealingLR(o, falling, eta_min=final)),
    ):

        def theirs(optimizer: optim.Optimizer, shape: Theirs = shape) -> lr_scheduler.LRScheduler:
            stable = lr_scheduler.ConstantLR(optimizer, factor=1.0)
            return lr_scheduler.SequentialLR(optimizer, [stable, shape(optimizer)], [total - falling])

        config = ScheduleConfig(
            schedule="wsd",
            warmup_fraction=0.0,
            decay_fraction=decay,
            decay_shape=name,
            final_fraction=final,
        )
        agrees(config, total, theirs)


def test_shapes_of_the_decay() -> None:
    """The last 40 of 100 steps, to a tenth; a quarter, a half and all of the way."""
    wanted = {
        "linear": (0.775, 0.55, 0.1),
        "cosine": (1 - 0.9 * (1 - math.sqrt(0.5)) / 2, 0.55, 0.1),
        "sqrt": (0.55, 1 - 0.9 * math.sqrt(0.5), 0.1),
        "square": (1 - 0.9 / 16, 1 - 0.9 / 4, 0.1),
    }
    for shape, shares in wanted.items():
        config = ScheduleConfig(schedule="wsd", decay_fraction=0.4, decay_shape=shape, final_fraction=0.1)
        assert [share(config, step, 100) for step in (5, 9, 10, 59, 60)] == pytest.approx([0.6, 1, 1, 1, 1])
        assert [share(config, step, 100) for step in (70, 80, 100)] == pytest.approx(shares)


def test_the_inverse_square_root_of_the_steps() -> None:
    config = ScheduleConfig(schedule="inverse-sqrt", warmup_fraction=0.1)
    assert [share(config, step, 1000) for step in (0, 49, 99, 399, 899)] == pytest.approx(
        [0.01, 0.5, 1, 0.5, 1 / 3]
    )
    cold = ScheduleConfig(schedule="inverse-sqrt", warmup_fraction=0.0)
    assert [share(cold, step, 100) for step in (0, 3)] == [1, 0.5]


@given(
    st.lists(st.tuples(st.integers(0, 99), st.floats(0, 10)), min_size=1, max_size=6), st.integers(0, 99)
)
def test_a_table_is_straight_lines_between_its_points(given: list[tuple[int, float]], step: int) -> None:
    table = sorted(dict(given).items())
    text = ", ".join(f"{at}:{value!r}" for at, value in table)
    assert points(text) == tuple(table)
    config = ScheduleConfig(schedule="table", schedule_table=text)
    expected = np.interp(step, [at for at, _ in table], [value for _, value in table])
    assert share(config, step, 50) == pytest.approx(float(expected))


@given(configs(), st.integers(2, 300), st.integers(0, 400))
def test_shares_stay_in_range_and_keep_the_last_one(config: ScheduleConfig, total: int, step: int) -> None:
    found = share(config, step, total)
    assert 0 <= found <= 1 + 1e-12
    assert share(config, max(total, 60) + step, total) == share(config, max(total, 60), total)
    falls = ("linear", "cosine", "polynomial", "one-cycle", "restarts")
    only_rises = config.schedule == "one-cycle" and round(config.warmup_fraction * total) == total
    if (
        config.schedule in falls
        and not only_rises
        and not (config.schedule == "polynomial" and config.power == 0)
    ):
        assert share(config, total, total) == pytest.approx(config.final_fraction)


@pytest.mark.parametrize(
    ("table", "wrong"),
    [
        ("", "'' is no point"),
        ("0:0.1, 300", "'300' is no point"),
        ("0:0.1, x:1", "'x:1' is no point"),
        ("0:1,,5:1", "'' is no point"),
        ("0:0.1, 300:1, 300:0", "step 300 follows step 300"),
        ("-1:1", "are not negative"),
        ("0:-0.5", "are not negative"),
        ("0:nan", "are not negative, shares finite"),
        ("0:inf", "shares finite"),
    ],
)
def test_a_table_that_cannot_be_read_is_named(table: str, wrong: str) -> None:
    with pytest.raises(InvalidConfigurationError, match=f"schedule_table: .*{wrong}"):
        parse(ScheduleConfig, {"schedule": "table", "schedule_table": table})
    assert parse(ScheduleConfig, {"schedule": "cosine", "schedule_table": table})


@given(st.text("0123456789:,.- en", max_size=20))
def test_the_client_reads_tables_by_the_same_rules(table: str) -> None:
    wrong = schedule_check.mistake(table)
    if wrong:
        with pytest.raises(ValueError, match=re.escape(wrong)):
            points(table)
    else:
        assert points(table)


@given(st.integers(1, 300), st.integers(0, 300), FRACTIONS, st.integers(1, 200), st.integers(0, 250))
def test_batches_grow_to_their_size(size: int, start: int, warmup: float, total: int, step: int) -> None:
    start = min(start, size)
    config = BatchConfig(batch_size=size, batch_start=start, batch_warmup_fraction=warmup)
    sizes = [samples_of(config, each, total) for each in range(step + 1)]
    assert sum(sizes[:step]) == samples_before(config, step, total)
    assert all((start or size) <= found <= size for found in sizes)
    assert all(later >= found - 1 for found, later in pairwise(sizes))
    if not start or step >= round(warmup * total):
        assert sizes[-1] == size


def test_a_batch_grows_linearly() -> None:
    config = BatchConfig(batch_size=32, batch_start=8, batch_warmup_fraction=0.12)
    assert [samples_of(config, step, 100) for step in range(14)] == [
        9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31, 32, 32,
    ]  # fmt: skip
    with pytest.raises(InvalidConfigurationError, match=r"batch_start: must be at most batch_size \(32\)"):
        parse(BatchConfig, {"batch_start": 33})


def test_no_schedule_is_unknown() -> None:
    for name in SCHEDULES:
        config = parse(schedules.ScheduleConfig, {"schedule": name, "schedule_table": "0:1"})
        assert math.isfinite(share(config, 3, 10))
