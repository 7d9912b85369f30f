"""Saved training states: ``meta.json`` and, for trainers with tensors, ``state.pt``.

``meta.json`` names the format's version and the job that the state belongs to; it is written last, so that
a folder without it holds no checkpoint. Each file is written under another name and renamed: whenever the
process dies, a reader sees a whole file or none. Nothing is flushed to the disk, which would cost more than
a short run; a file torn by a power cut is found out by its digest. ``state.pt`` is read with
``weights_only``: loading runs no code from it.

There is no random-number state in it: trainers derive the randomness of each step from the job's seed and
the step's number (see :mod:`trainers.randomness`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.base import InvalidConfigurationError, Job, ParamValue
from trainers.settings import Config, inherited

if TYPE_CHECKING:
    import torch

VERSION = 1
META, STATE = "meta.json", "state.pt"


class CheckpointError(RuntimeError):
    """The folder holds no checkpoint that this training can go on from."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a training has come."""

    step: int
    seconds: float
    """Training seconds since the trial's start, over all its runs."""


def identity(trainer: str, job: Job, config: Mapping[str, ParamValue], *, data: str = "") -> dict[str, Any]:
    """What must be the same for a training to go on from a checkpoint.

    :param config: all settings, defaults included
    :param data: digest of the training data, for trainers that read some
    """
    identity = {
        "trainer": trainer,
        "config": dict(config),
        "seed": job.seed,
        "max_step": job.max_step,
        "report_every": job.report_every,
        "data": data,
    }
    if job.schedule:
        identity["schedule"] = [list(point) for point in job.schedule]
    return identity


def save(
    folder: Path, identity: Mapping[str, Any], position: Position, state: Mapping[str, Any] | None = None
) -> None:
    """Write a checkpoint into an existing, empty folder.

    :param state: nested dicts and lists of tensors and plain values
    """
    meta: dict[str, Any] = {"version": VERSION, "identity": dict(identity), "position": asdict(position)}
    if state is not None:
        import torch  # here, so that trainers without tensors start without torch

        temporary = folder / f".{STATE}.part"
        with temporary.open("wb") as file:
            torch.save(dict(state), file)
        meta["state_sha256"] = _commit(temporary, folder / STATE)
    temporary = folder / f".{META}.part"
    temporary.write_text(json.dumps(meta, indent=1))
    _commit(temporary, folder / META)


def load(folder: Path, identity: Mapping[str, Any], *, fork: type[Config] | None = None) -> Position:
    """Check that the folder holds a checkpoint of this very job, and say how far it had come.

    :param fork: the job goes on from another trial's checkpoint: what a fork may change of this
        configuration class, the seed and the schedule may differ
    :raises CheckpointError: none there, damaged, of another version or of another job
    :raises InvalidConfigurationError: of a fork, that it changes what it cannot
    """
    meta = _meta(folder)
    if meta["version"] != VERSION:
        raise CheckpointError(
            f"{folder}: checkpoint version {meta['version']}, but this program reads {VERSION}"
        )
    if fork is not None:
        _check_fork(meta["identity"], identity, fork)
        identity = {
            **identity,
            **{name: meta["identity"].get(name) for name in ("config", "seed", "schedule")},
        }
    differences = _differences(meta["identity"], identity)
    if differences:
        raise CheckpointError(f"{folder}: checkpoint of another training: " + "; ".join(differences))
    return Position(step=int(meta["position"]["step"]), seconds=float(meta["position"]["seconds"]))


def saved_config(folder: Path) -> dict[str, ParamValue]:
    """The configuration that the checkpoint was trained with. Call :func:`load` first."""
    config: dict[str, ParamValue] = _meta(folder)["identity"]["config"]
    return config


def _check_fork(saved: Mapping[str, Any], wanted: Mapping[str, Any], config: type[Config]) -> None:
    changed = [
        name
        for name in inherited(config)
        if saved["trainer"] == wanted["trainer"] and saved["config"].get(name) != wanted["config"].get(name)
    ]
    if changed:
        raise InvalidConfigurationError(
            "\n".join(
                f"{name}: a fork cannot change it from {saved['config'].get(name)!r} to "
                f"{wanted['config'].get(name)!r}: the checkpoint does not fit"
                for name in changed
            )
        )


def load_state(folder: Path, device: torch.device) -> dict[str, Any]:
    """The tensors of a checkpoint, on ``device``. Call :func:`load` first.

    :raises CheckpointError: the file is missing or damaged
    """
    import torch

    path = folder / STATE
    if not path.is_file() or _sha256(path) != _meta(folder).get("state_sha256"):
        raise CheckpointError(f"{path}: missing or damaged; its bytes are not those that were saved")
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return state


def _meta(folder: Path) -> dict[str, Any]:
    path = folder / META
    try:
        meta = json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{folder}: no checkpoint here ({META} is missing)") from None
    except ValueError as error:
        raise CheckpointError(f"{path}: damaged, not JSON ({error})") from None
    if not isinstance(meta, dict) or not {"version", "identity", "position"} <= meta.keys():
        raise CheckpointError(f"{path}: damaged, version, identity or position is missing")
    return meta


def _differences(saved: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for name in sorted(saved.keys() | wanted.keys()):
        old, new = saved.get(name), wanted.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += _differences(old, new, f"{prefix}{name}.")
        elif old != new:
            found.append(f"{prefix}{name} was {old!r}, is {new!r}")
    return found


def _commit(temporary: Path, final: Path) -> str:
    """Give a written file its name, and return its SHA-256."""
    digest = _sha256(temporary)
    temporary.replace(final)
    return digest


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
