"""``python -m bench [overhead|reports|big_study|latency|idle ...]``: run benchmarks and print their tables.

``python -m bench search``, ``analytic``, ``calibration``, ``mixtures``, ``seconds``, ``stopping``,
``surrogates``, ``thinning`` and ``transfer`` take long and have options of their own (``--help``): they run
only if they are named.
"""

from __future__ import annotations

import os
import platform
import signal
import sys

# Before any numerical library is imported: peers and we get one thread per process alike.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

from rich.console import Console  # noqa: E402

from bench import (  # noqa: E402
    analytic,
    big_study,
    calibration,
    idle,
    latency,
    mixtures,
    overhead,
    reports,
    schedules,
    seconds,
    stopping,
    surrogates,
    thinning,
    transfer,
)
from bench.search import command as search  # noqa: E402

BENCHMARKS = ("overhead", "reports", "big_study", "latency", "idle")


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers are stopped on the way out
    console = Console()
    if names[:1] == ["search"]:
        return search.main(names[1:], Console(width=max(console.width, 150)))
    if names[:1] == ["analytic"]:
        return analytic.main(names[1:], Console(width=max(console.width, 150)))
    if names[:1] == ["stopping"]:
        return stopping.main(names[1:], console)
    if names[:1] == ["surrogates"]:
        return surrogates.main(names[1:], Console(width=max(console.width, 110)))
    if names[:1] == ["transfer"]:
        return transfer.main(names[1:], Console(width=max(console.width, 150)))
    if names[:1] == ["calibration"]:
        return calibration.main(names[1:], Console(width=max(console.width, 130)))
    if names[:1] == ["thinning"]:
        return thinning.main(names[1:], console)
    if names[:1] == ["mixtures"]:
        return mixtures.main(names[1:], Console(width=max(console.width, 150)))
    if names[:1] == ["schedules"]:
        return schedules.main(names[1:], Console(width=max(console.width, 110)))
    if names[:1] == ["seconds"]:
        return seconds.main(names[1:], Console(width=max(console.width, 150)))
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        own = (
            "search",
            "analytic",
            "calibration",
            "mixtures",
            "schedules",
            "seconds",
            "stopping",
            "surrogates",
            "thinning",
            "transfer",
        )
        named = (*BENCHMARKS, *own)
        console.print(f"no benchmark {unknown[0]!r}; there are: {', '.join(named)}")
        return 2
    console.print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for name in names or BENCHMARKS:
        console.print(f"running {name} ...", style="dim")
        if name == "overhead":
            console.print(*overhead.run(), sep="\n")
        elif name == "reports":
            console.print(reports.run()[0])
        elif name == "latency":
            console.print(latency.run())
        elif name == "idle":
            console.print(idle.run())
        else:
            console.print(*big_study.run(), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
