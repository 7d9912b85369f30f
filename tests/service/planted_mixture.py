"""Runs of a planted mixture law, as tables."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench import mixture_laws

MIXTURE_COLUMNS = {"n": "params", "d": "tokens", "loss": "loss", "share": "code_share"}


def mixture_runs() -> dict[str, list[Any]]:
    """Columns of runs at nine sizes times six shares, of a loss that is lowest in between."""
    runs = mixture_laws.runs(np.random.default_rng(0))
    return {column: getattr(runs, role).tolist() for role, column in MIXTURE_COLUMNS.items()}
