"""Figures look alike in the terminal and on the dashboard."""

from __future__ import annotations

import pytest

from trimtab.figures import count, duration, exact, number, parameter, percent, span


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"), (0, "0"), (0.12345678, "0.1235"), (1.2e-4, "1.2e-4"), (12345.678, "12,346"),
        (3.0, "3"),
        (-0.5, "-0.5000"), (float("nan"), "NaN"), (float("inf"), "∞"), (float("-inf"), "−∞"), (1e9, "1e9"),
        (9.99999e-4, "1e-3"), (1e300, "1e300"),
    ],
)  # fmt: skip
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"), (0, "0 s"), (0.004, "4 ms"), (0.44, "0.4 s"), (9.97, "10 s"), (59.7, "1 m"),
        (192, "3 m 12 s"),
        (3600, "1 h"), (7500, "2 h 5 m"), (100_000, "1 d 3 h"),
    ],
)  # fmt: skip
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_percentages() -> None:
    """A little is not nothing, and nearly all is not all."""
    texts = [percent(part) for part in (0, 0.001, 0.374, 0.509, 0.999, 1, 1.2)]
    assert texts == ["0%", "<1%", "37%", "51%", "99%", "100%", "100%"]


def test_parameters() -> None:
    values = (True, 3, 0.1, "a", 1e-5, 0.0031622776601683794, None)
    assert [parameter(value) for value in values] == ["true", "3", "0.1", "a", "1e-5", "0.003162", "–"]
    assert exact(0.0031622776601683794) == "0.0031622776601683794"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (7.2, "7.2"),
        (7_200, "7.2k"),
        (999_900, "1M"),
        (4.3e8, "430M"),
        (1.5e9, "1.5B"),
        (2e13, "20T"),
    ],
)
def test_counts_have_units(value: float | None, text: str) -> None:
    assert count(value) == text


def test_spans() -> None:
    assert span((6e7, 1.1e9)) == "60M to 1.1B"
    assert span((1e9, 1.0004e9)) == "1B"
    assert span(None) == "–"
