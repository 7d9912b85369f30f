"""The engines of others: each in an environment of its own, as a child that talks JSON lines.

An environment is made the first time it is needed, under ``.bench`` in the repository's root, from the
pinned requirements beside the peer's script in ``peers/``; it needs nothing of ours. ``peers/wire.py``
says what is said.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import tempfile
import venv
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.search.problems import REPOSITORY, Params, Problem
from bench.search.protocol import Job, Verdict

SCRIPTS = Path(__file__).parent / "peers"
CACHE = REPOSITORY / ".bench"


@dataclass(frozen=True, slots=True)
class PeerSpec:
    """Where a peer lives."""

    package: str
    """``peers/PACKAGE.txt`` are its requirements, ``peers/PACKAGE_peer.py`` its script."""
    method: str = ""
    """Which of the script's methods."""


PEERS: Mapping[str, PeerSpec] = {
    "optuna-tpe-hb": PeerSpec("optuna", "tpe-hyperband"),
    "optuna-gp": PeerSpec("optuna", "gp"),
    "ax": PeerSpec("ax"),
    "syne-asha": PeerSpec("syne", "asha"),
    "syne-asha-stopping": PeerSpec("syne", "asha-stopping"),
    "syne-bohb": PeerSpec("syne", "bohb"),
    "syne-mobster": PeerSpec("syne", "mobster"),
    "syne-hypertune": PeerSpec("syne", "hypertune"),
    "syne-hypertune-1": PeerSpec("syne", "hypertune-1"),
    "smac-hb": PeerSpec("smac"),
    "hebo": PeerSpec("hebo"),
}


class PeerError(Exception):
    """A peer cannot be installed, or broke down."""


def python_of(package: str, cache: Path = CACHE) -> Path:
    """The interpreter of a package's environment, which is made (again) if its requirements changed.

    Raises :class:`PeerError` with pip's complaint.
    """
    requirements = SCRIPTS / f"{package}.txt"
    folder = cache / package
    python, stamp = folder / "bin" / "python", folder / "requirements.sha256"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    options = ("--quiet", "--disable-pip-version-check", "-r", str(requirements))
    install = [str(python), "-m", "pip", "install", *options]
    done = subprocess.run(install, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise PeerError(f"{package} cannot be installed:\n{done.stdout[-2000:]}")
    stamp.write_text(wanted)
    return python


class PeerEngine:
    """A peer in a child process; use it as a context manager.

    A training that diverges is answered, for the epochs it was to have, with the value of an untrained
    model: at once, and paid by nobody. Finite values worse than that are told as that: an engine is not to
    be ruined by one loss of 1e7, and a careful user would cut it too.
    """

    def __init__(self, name: str, problem: Problem, workers: int, seed: int) -> None:
        """Raises :class:`PeerError` if the peer cannot be installed or does not start."""
        self.name = name
        self.problem = problem
        self.targets: dict[int, int] = {}
        self.diverged: set[int] = set()
        self.trained: dict[int, int] = {}
        self.seconds = 0.0
        """Processor time of the child at its last answer."""
        spec = PEERS[name]
        single = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115, it lives as long as the child
        read, write = os.pipe()
        self.replies = os.fdopen(read)
        self.child = subprocess.Popen(
            [python_of(spec.package), SCRIPTS / f"{spec.package}_peer.py", str(write)],
            stdin=subprocess.PIPE,
            stdout=self.log,
            stderr=self.log,
            text=True,
            pass_fds=(write,),
            env=os.environ | single | {"PYTHONPATH": ""},
        )
        os.close(write)
        self._say(
            {
                "method": spec.method,
                "dimensions": [asdict(d) for d in problem.dimensions],
                "max_epochs": problem.max_epochs,
                "maximize": problem.maximize,
                "workers": workers,
                "seed": seed,
            }
        )

    def __enter__(self) -> PeerEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.child.kill()
        self.child.communicate()
        self.replies.close()
        self.log.close()

    def ask(self) -> Job | None:
        while True:
            answer = self._say({"ask": True})
            if answer is None:
                return None
            job = Job(answer["trial"], self._whole(answer["params"]), answer["target"])
            self.targets[job.trial] = job.target
            if job.trial not in self.diverged:
                return job
            self._tell_diverged(job.trial)

    def report(self, trial: int, epoch: int, value: float) -> Verdict:
        self.trained[trial] = epoch
        if not math.isfinite(value):
            self.diverged.add(trial)
            self.trained[trial] = epoch - 1
            self._tell_diverged(trial)
            return "stop"
        worst = self.problem.worst
        told = max(value, worst) if self.problem.maximize else min(value, worst)
        return self._tell(trial, epoch, told)

    def processor_seconds(self) -> float:
        return self.seconds

    def _tell(self, trial: int, epoch: int, value: float) -> Verdict:
        verdict: Verdict = self._say({"report": [trial, epoch, value]})
        if verdict not in ("continue", "stop", "pause"):
            raise PeerError(f"{self.name} answers {verdict!r} to a report")
        return verdict

    def _tell_diverged(self, trial: int) -> None:
        """Let a diverged trial be as bad as an untrained model up to its target."""
        for epoch in range(self.trained[trial] + 1, self.targets[trial] + 1):
            self.trained[trial] = epoch
            if self._tell(trial, epoch, self.problem.worst) != "continue":
                return

    def _whole(self, params: Mapping[str, float]) -> Params:
        whole = {d.name for d in self.problem.dimensions if d.whole}
        return {name: int(value) if name in whole else float(value) for name, value in params.items()}

    def _say(self, message: Mapping[str, Any]) -> Any:
        """Send one line and read the answer. Raises :class:`PeerError` if there is none."""
        assert self.child.stdin is not None
        try:
            self.child.stdin.write(json.dumps(message) + "\n")
            self.child.stdin.flush()
            line = self.replies.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.log.seek(0)
            raise PeerError(f"{self.name} broke down:\n{self.log.read()[-2000:]}")
        answer, self.seconds = json.loads(line)
        return answer
