"""``python -m bench [overhead|reports|big_study|latency|idle ...]``: run benchmarks and print their tables.

The others (``search``, ``analytic``, ...) take long or have options of their own (``--help``): they run
only if they are named, one at a time.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# Before any numerical library is imported: peers and we get one thread per process alike.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

from rich.console import Console  # noqa: E402

from bench import (  # noqa: E402
    analytic,
    big_study,
    calibration,
    forking,
    idle,
    latency,
    law_beliefs,
    law_plans,
    laws,
    loss_laws,
    mixture_laws,
    mixtures,
    mup,
    overhead,
    reports,
    scaling_study,
    schedules,
    seconds,
    stopping,
    surrogates,
    thinning,
    ties,
    transfer,
)
from bench.search import command as search  # noqa: E402

PLAIN: Mapping[str, Callable[[], Sequence[Any]]] = {
    "overhead": overhead.run,
    "reports": lambda: reports.run()[:1],
    "big_study": big_study.run,
    "latency": lambda: [latency.run()],
    "idle": lambda: [idle.run()],
    "forking": lambda: [forking.run()],
    "law_beliefs": lambda: [law_beliefs.run()],
}
"""By name: the tables of one run."""
DEFAULT = ("overhead", "reports", "big_study", "latency", "idle")
"""What runs when none is named."""
OWN: Mapping[str, tuple[Callable[[list[str], Console], int], int]] = {
    "search": (search.main, 150),
    "analytic": (analytic.main, 150),
    "calibration": (calibration.main, 130),
    "laws": (laws.main, 150),
    "law_plans": (law_plans.main, 130),
    "loss_laws": (loss_laws.main, 130),
    "mixture_laws": (mixture_laws.main, 110),
    "mixtures": (mixtures.main, 150),
    "mup": (mup.main, 170),
    "scaling_study": (scaling_study.main, 180),
    "schedules": (schedules.main, 110),
    "seconds": (seconds.main, 150),
    "stopping": (stopping.main, 80),
    "surrogates": (surrogates.main, 110),
    "thinning": (thinning.main, 80),
    "ties": (ties.main, 150),
    "transfer": (transfer.main, 150),
}
"""By name: a command that reads its own options, and the least width of its tables."""


def main(names: list[str]) -> int:
    """Run the named benchmarks, or those that run when none is named."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers are stopped on the way out
    console = Console()
    if names and names[0] in OWN:
        command, width = OWN[names[0]]
        return command(names[1:], Console(width=max(console.width, width)))
    for name in names:
        if name not in PLAIN:
            console.print(f"no benchmark {name!r}; there are: {', '.join((*PLAIN, *OWN))}")
            return 2
    console.print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for name in names or DEFAULT:
        console.print(f"running {name} ...", style="dim")
        console.print(*PLAIN[name](), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
