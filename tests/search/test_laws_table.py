"""Reading runs for laws: roles, units, diverged runs, and every kind of bad input."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.errors import SearchError
from search.laws.table import columns_from_trials, runs_from_columns

ROLES = {"n": "N", "d": "D", "lr": "lr", "batch": "B", "loss": "loss"}


def table(**changes: Any) -> dict[str, list[Any]]:
    """Two cells of three runs each."""
    columns: dict[str, list[Any]] = {
        "N": [1e8] * 3 + [4e8] * 3,
        "D": [2e9] * 3 + [8e9] * 3,
        "lr": [5e-4, 1e-3, 2e-3] * 2,
        "B": [131072, 262144, 524288] * 2,
        "loss": [3.1, 3.0, 3.05, 2.7, 2.6, 2.65],
    }
    return columns | changes


def refused(columns: dict[str, list[Any]], roles: dict[str, str] = ROLES, **options: Any) -> dict[str, str]:
    """Pointer to message and suggestion."""
    with pytest.raises(SearchError) as error:
        runs_from_columns(columns, roles, **options)
    return {
        mistake.pointer: f"{mistake.message} | {mistake.suggestion}" for mistake in error.value.mistakes
    }


def test_numbers_may_be_text_and_columns_may_be_missing() -> None:
    columns = {name: [str(cell) for cell in cells] for name, cells in table().items()}
    runs = runs_from_columns(columns, {"n": "N", "d": "D", "loss": "loss"})
    assert runs.loss.tolist() == table()["loss"]
    assert np.isnan(runs.lr).all()
    assert np.isnan(runs.batch).all()


def test_batches_in_sequences_become_tokens_by_a_constant_or_a_column() -> None:
    sequences = table(B=[64, 128, 256] * 2)
    constant = runs_from_columns(sequences, ROLES, batch_unit="sequences", sequence_length=2048)
    assert constant.batch.tolist() == table()["B"]
    assert constant.conditions == {"sequence_length": ("2048",)}
    column = runs_from_columns(
        sequences | {"T": [2048] * 6}, ROLES | {"sequence_length": "T"}, batch_unit="sequences"
    )
    assert column.batch.tolist() == table()["B"]


def test_what_must_not_differ_is_kept_with_its_values() -> None:
    columns = table(decay=["cosine", "wsd"] * 3)
    runs = runs_from_columns(columns, ROLES | {"schedule": "decay"})
    assert runs.conditions["schedule"] == ("cosine", "wsd")


@pytest.mark.parametrize("lost", [math.nan, math.inf, "nan", None, ""])
def test_a_run_without_a_finite_loss_has_diverged(lost: object) -> None:
    runs = runs_from_columns(table(loss=[3.1, 3.0, lost, 2.7, 2.6, 2.65]), ROLES)
    assert len(runs) == 5
    assert runs.diverged["lr"].tolist() == [2e-3]
    assert runs.diverged["n"].tolist() == [1e8]


def test_a_column_says_which_runs_diverged_and_then_a_loss_must_not_be_missing() -> None:
    columns = table(failed=["false", "False", "true", 0, 1, False])
    roles = ROLES | {"diverged": "failed"}
    assert len(runs_from_columns(columns, roles).diverged["n"]) == 2
    assert "has no loss" in refused(columns | {"loss": [None, 3, 3, 3, 3, 3]}, roles)["/runs/0/loss"]
    assert "neither true nor false" in refused(columns | {"failed": ["maybe"] * 6}, roles)["/runs/0/failed"]


def test_a_loss_far_above_its_cell_has_diverged_only_at_a_higher_learning_rate() -> None:
    high = runs_from_columns(table(loss=[3.1, 3.0, 6.5, 2.7, 2.6, 2.65]), ROLES)
    assert high.diverged["lr"].tolist() == [2e-3]
    low = runs_from_columns(table(loss=[6.5, 3.0, 3.1, 2.7, 2.6, 2.65]), ROLES)
    assert len(low) == 6  # too low a rate learns slowly, it does not diverge


def test_every_wrong_name_is_said_at_once() -> None:
    found = refused(table(), {"n": "M", "d": "D", "los": "loss", "lr": "losss"})
    assert set(found) == {"/columns/los", "/columns/loss", "/columns/n", "/columns/lr"}
    assert "did you mean loss?" in found["/columns/los"]
    assert "did you mean loss?" in found["/columns/lr"]
    assert "known are" in found["/columns/n"]


@pytest.mark.parametrize(
    ("changes", "at", "words"),
    [
        (
            {"N": ["1e8", "big", "x", 4e8, 4e8, 4e8]},
            "/runs/1/N",
            "row 2, column N: 'big' is not a number (and 1 m",
        ),
        ({"N": [1e8, 0, 1e8, 4e8, 4e8, 4e8]}, "/runs/1/N", "is 0"),
        ({"N": [1e8, 1e8, 1e8, -4e8, 4e8, 4e8]}, "/runs/3/N", "is -4e+08"),
        ({"D": [2e9, None, 2e9, 8e9, 8e9, 8e9]}, "/runs/1/D", "is missing"),
        ({"D": [2e9, True, 2e9, 8e9, 8e9, 8e9]}, "/runs/1/D", "True is not a number"),
        ({"D": [2e9, math.inf, 2e9, 8e9, 8e9, 8e9]}, "/runs/1/D", "is inf"),
        ({"lr": [-3.0, -2.5, -2] * 2}, "/runs/0/lr", "are these logarithms?"),
        ({"loss": [math.nan] * 6}, "/runs", "all 6 runs diverged"),
        ({"N": [1e8] * 6, "D": [2e9] * 6}, "/runs", "one cell only"),
        ({"N": [1e8, 4e8]}, "/runs", "differ in length"),
        ({"N": [], "D": [], "lr": [], "B": [], "loss": []}, "/runs", "no runs"),
        ({"B": [64, 128, 256] * 2}, "/columns/batch", "look like sequences"),
        ({"B": [1e10] * 6}, "/columns/batch", "more than the whole training"),
        ({"D": [2] * 3 + [8] * 3}, "/columns/d", "is D in millions or billions?"),
        ({"N": [100] * 3 + [400] * 3}, "/columns/n", "no language model"),
        ({"N": [0.1] * 3 + [0.4] * 3, "D": [2] * 3 + [8] * 3}, "/columns/n", "no language model"),
    ],
)
def test_bad_input_is_refused_in_words(changes: dict[str, Any], at: str, words: str) -> None:
    assert words in refused(table(**changes))[at]


def test_shares_in_per_cent_are_noticed() -> None:
    found = refused(table(code=[10, 20, 30] * 2), ROLES | {"share": "code"})
    assert "per cent" in found["/runs/0/code"]


def test_sequences_need_a_length_and_units_are_two() -> None:
    assert set(refused(table(), batch_unit="sequences")) == {"/sequence_length"}
    assert set(refused(table(), batch_unit="samples")) == {"/batch_unit"}
    assert set(refused(table(), sequence_length=0)) == {"/sequence_length"}


def test_who_says_tokens_is_believed_with_a_caution() -> None:
    runs = runs_from_columns(table(B=[64, 128, 256] * 2), ROLES, batch_unit="tokens")
    assert [caution.code for caution in runs.cautions] == ["units"]
    assert not runs_from_columns(table(), ROLES).cautions


def test_perplexities_are_noticed() -> None:
    runs = runs_from_columns(table(loss=[math.exp(loss) for loss in [4, 3.9, 3.8, 3.7, 3.6, 3.5]]), ROLES)
    assert [caution.code for caution in runs.cautions] == ["perplexity"]


@given(st.lists(st.sampled_from([3.0, 2.9, math.nan, math.inf, None, "inf"]), min_size=6, max_size=6))
def test_no_run_is_lost(losses: list[Any]) -> None:
    columns = table(loss=losses, N=[1e8, 2e8, 3e8, 4e8, 5e8, 6e8])
    try:
        runs = runs_from_columns(columns, ROLES)
    except SearchError:
        assert sum(isinstance(loss, float) and math.isfinite(loss) for loss in losses) < 2
    else:
        assert len(runs) + len(runs.diverged["n"]) == 6


def test_trials_become_columns_by_paths_and_products() -> None:
    trials = [
        {
            "params": {"lr": lr},
            "metrics": {"val_loss": loss, "steps": 1000},
            "settings": {"batch_size": 16, "data": {"context": 64}},
        }
        for lr, loss in [(1e-3, 2.0), (2e-3, None)]
    ]
    roles = {
        "lr": "params/lr",
        "loss": "metrics/val_loss",
        "d": "metrics/steps * settings/batch_size * settings/data/context",
        "batch": "settings/batch_size * 64",
    }
    columns = columns_from_trials(trials, roles)
    assert columns[roles["lr"]] == [1e-3, 2e-3]
    assert columns[roles["loss"]] == [2.0, None]
    assert columns[roles["d"]] == [1_024_000, 1_024_000]
    assert columns[roles["batch"]] == [1024, 1024]
    with pytest.raises(SearchError) as error:
        columns_from_trials(trials, {"lr": "params/lrr"})
    assert error.value.mistakes[0].suggestion == "did you mean params/lr?"
    with pytest.raises(SearchError, match="no trials"):
        columns_from_trials([], {})
