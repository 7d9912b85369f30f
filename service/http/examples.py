"""Examples of request bodies, shown in the documentation. A test sends each of them."""

from __future__ import annotations

from typing import Any

from fastapi.openapi.models import Example

_STUDY: dict[str, Any] = {
    "name": "digits: learning rate",
    "trainer": {"name": "synthetic"},
    "space": {
        "lr": {"type": "float", "low": 0.0001, "high": 1.0, "log": True},
    },
    "metric": {"name": "loss", "direction": "minimize"},
    "fidelity": {"unit": "steps", "min": 1, "max": 9},
    "budget": {"trials": 20},
    "parallelism": 2,
    "strategy": {"name": "asha"},
}

_OWN_LOOP: dict[str, Any] = {
    **_STUDY,
    "name": "my own loop",
    "trainer": {"name": "external"},
    "space": {
        "lr": {"type": "float", "low": 0.0001, "high": 1.0, "log": True},
        "optimizer": {"type": "categorical", "choices": ["adamw", "sgd"]},
        "momentum": {"type": "float", "low": 0.0, "high": 0.99, "when": {"optimizer": "sgd"}},
    },
    "strategy": {"name": "random"},
    "enqueue": [{"params": {"lr": 0.01, "optimizer": "adamw"}, "label": "default", "to_end": True}],
    "tags": ["example"],
}


_GOALS: dict[str, Any] = {
    **_OWN_LOOP,
    "name": "good and fast",
    "objectives": [{"name": "latency_ms", "direction": "minimize"}],
    "limits": [{"metric": "memory_mb", "at_most": 512}],
}


def _examples(**named: tuple[str, Any]) -> dict[str, Example]:
    return {name: Example(summary=summary, value=value) for name, (summary, value) in named.items()}


STUDIES = _examples(
    builtin=("A built-in trainer", _STUDY),
    external=("The user's own loop, by ask and tell", _OWN_LOOP),
    goals=("Two objectives, and a limit on a metric", _GOALS),
)
EXTEND = _examples(trials=("More trials", {"trials": 40}))
ENQUEUE = _examples(
    config=(
        "A configuration trained to the end",
        {"params": {"lr": 0.03, "optimizer": "adamw"}, "to_end": True},
    )
)
CONTINUE = _examples(further=("Train up to step 18", {"target_step": 18}))
FORK = _examples(
    slower=("Go on from step 6 with a smaller learning rate", {"step": 6, "params": {"lr": 0.001}}),
)
IMPORT = _examples(
    trials=(
        "One finished trial and one that diverged",
        {
            "trials": [
                {
                    "params": {"lr": 0.01, "optimizer": "adamw"},
                    "curve": [
                        {"step": 1, "metrics": {"loss": 0.9}},
                        {"step": 2, "metrics": {"loss": 0.7}},
                    ],
                },
                {
                    "params": {"lr": 1.0, "optimizer": "sgd", "momentum": 0.9},
                    "curve": [{"step": 1, "metrics": {"loss": "NaN"}}],
                    "state": "failed",
                },
            ]
        },
    )
)
IMPORTANCES: dict[str, Any] = {
    "study": "s1b2c3d4e5f6",
    "basis": {"measured": 9, "predicted": 29, "worst": 2, "left_out": 1},
    "rankings": [
        {
            "method": "sobol",
            "importances": [
                {"parameter": "lr", "importance": 0.71, "total": 0.8},
                {"parameter": "optimizer", "importance": 0.11, "total": 0.19},
                {"parameter": "momentum", "importance": 0.02, "total": 0.05},
            ],
            "explained": 0.84,
            "notes": [],
        }
    ],
    "computed_at": "2026-01-01T00:00:00Z",
}
"""An answer, shown in the documentation. A test holds it to its model."""
ASK = _examples(now=("Without waiting", {"wait_seconds": 0}))
REGISTER = _examples(
    dispatcher=(
        "A dispatcher with two CPUs",
        {"worker": "lab-1", "incarnation": "8f3a", "total": {"cpus": 2}, "trainers": ["synthetic"]},
    )
)
LEASE = _examples(
    one=(
        "One run, without waiting",
        {"worker": "lab-1", "incarnation": "8f3a", "free": {"cpus": 2}, "max_runs": 1, "lease_seconds": 30},
    )
)
REPORTS = _examples(
    measurement=(
        "A measurement",
        {"reports": [{"token": 1, "seq": 1, "measurements": [{"step": 1, "metrics": {"loss": 0.9}}]}]},
    ),
    renewal=("A renewal of the lease", {"reports": [{"token": 1, "seq": 2}]}),
)
END = _examples(
    finished=("The target is reached", {"token": 1, "outcome": "finished", "step": 9}),
    next=(
        "The same, and the next run on what it held",
        {
            "token": 1,
            "outcome": "finished",
            "step": 9,
            "lease": {"worker": "lab-1", "incarnation": "8f3a", "free": {"cpus": 1}},
        },
    ),
)
GARBAGE = _examples(done=("Two checkpoints whose files are gone", {"ids": [3, 4]}))
ORPHANS = _examples(
    found=("One folder found in the store", {"folders": [{"study": "0123456789", "token": 7, "step": 90}]})
)

_RUNS: dict[str, Any] = {
    "N": [70e6, 70e6, 70e6, 160e6, 160e6, 160e6],
    "D": [2e9, 2e9, 2e9, 5e9, 5e9, 5e9],
    "lr": [0.0005, 0.001, 0.002, 0.0003, 0.0006, 0.0012],
    "batch": [131072, 262144, 262144, 262144, 524288, 262144],
    "loss": [3.31, 3.29, 3.30, 2.96, 2.95, "NaN"],
}
_ROLES = {"lr": "lr", "batch": "batch"}
FITS = _examples(
    table=("Columns", {"name": "small runs", "table": _RUNS, "columns": _ROLES}),
    csv=(
        "The text of a CSV file, batches in sequences",
        {
            "name": "runs.csv",
            "csv": "params,tokens,lr,seqs,loss\n70e6,2e9,0.001,128,3.29\n160e6,5e9,0.0006,256,2.95\n",
            "columns": {"n": "params", "d": "tokens", "lr": "lr", "batch": "seqs"},
            "batch_unit": "sequences",
            "sequence_length": 2048,
        },
    ),
    loss=("A law of the loss", {"name": "loss", "family": "loss", "table": _RUNS}),
)
PLANS = _examples(target=("For a model of 1B on 20B tokens", {"flops": 1e20, "n": 1e9, "d": 2e10}))
