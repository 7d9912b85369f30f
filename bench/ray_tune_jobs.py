"""The peer of ``bench.overhead``: Ray Tune running N sleeping trials. Prints ``{"seconds": ...}``."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from typing import Any

import ray
from ray import tune


def main(jobs: int, slots: int, seconds: float) -> None:
    """Run ``jobs`` trials of ``seconds`` on ``slots`` CPUs."""

    def job(config: dict[str, Any]) -> None:
        time.sleep(seconds)
        tune.report({"loss": config["lr"]})

    ray.init(
        "local",  # whatever cluster may run on this machine
        num_cpus=slots,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=80_000_000,
    )
    ray.get(ray.remote(lambda: None).remote())  # warm: the first worker is up
    with tempfile.TemporaryDirectory(prefix="trimtab-bench-") as scratch:
        tuner = tune.Tuner(
            tune.with_resources(job, {"cpu": 1}),
            param_space={"lr": tune.loguniform(1e-4, 1e-1)},
            tune_config=tune.TuneConfig(
                num_samples=jobs, metric="loss", mode="min", max_concurrent_trials=slots, reuse_actors=True
            ),
            run_config=tune.RunConfig(storage_path=scratch, verbose=0),
        )
        begin = time.perf_counter()
        results = tuner.fit()
        elapsed = time.perf_counter() - begin
    if results.errors or len(results) != jobs:
        raise RuntimeError(f"{len(results)} results, errors: {results.errors}")
    print(json.dumps({"seconds": elapsed}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
