"""Images with classes: scikit-learn's digits, or a folder of the user's. Nothing is downloaded."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from trainers.base import InvalidConfigurationError

VALIDATION_SHARE = 0.2
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
_SPLIT_SEED = 0
"""All trials of all studies train and validate on the same digits."""


@dataclass(frozen=True)
class Images:
    """Images to train on, then images to validate with."""

    pixels: Tensor
    """(images, channels, height, width) in 0..1"""
    labels: Tensor
    """(images,)"""
    training: int
    """The first so many train, the others validate."""
    classes: tuple[str, ...]
    digest: str
    """SHA-256 of pixels and labels."""


@lru_cache(maxsize=1)
def digits() -> Images:
    """1,797 handwritten digits of 8 x 8, shuffled once; four fifths train."""
    data = load_digits()
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(data.target))
    pixels = torch.from_numpy(data.images[order].astype(np.float32) / 16.0)[:, None]
    labels = torch.from_numpy(data.target[order].astype(np.int64))
    return _images(pixels, labels, round(len(labels) * (1 - VALIDATION_SHARE)), tuple("0123456789"))


@lru_cache(maxsize=2)
def folder(source: str, size: int, *, gray: bool) -> Images:
    """The images below ``source``, whose subfolders are the classes, scaled to ``size`` x ``size``.

    Within a class images are taken in the order of a hash of their name; the last fifth, and at least one,
    validates. Hidden files and what has no image's suffix are left out. They are kept in memory as 32-bit
    floats.

    :raises InvalidConfigurationError: no such folder, less than two classes, a class of less than two
        images, a file that is no image, or no pillow to read them with
    """
    # os.path: a ~user whom nobody knows stays as it is, and then does not exist.
    root = Path(os.path.expanduser(source))  # noqa: PTH111
    if not root.is_dir():
        raise InvalidConfigurationError(f"data: {root} is not a folder")
    classes = sorted(
        path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    if len(classes) < 2:
        there_is = f"there is only {classes[0]}" if classes else "there is none"
        raise InvalidConfigurationError(
            f"data: {root} needs a subfolder of images for each of two classes or more; {there_is}"
        )
    parts: tuple[list[tuple[int, Path]], list[tuple[int, Path]]] = [], []
    for label, name in enumerate(classes):
        paths = sorted(
            (path for path in (root / name).rglob("*") if _is_image(path)),
            key=lambda path: hashlib.sha256(os.fsencode(path.relative_to(root))).digest(),
        )
        if len(paths) < 2:
            raise InvalidConfigurationError(
                f"data: {root / name} holds {len(paths) or 'no'} image; a class needs two: "
                f"one to train on, one to validate with ({', '.join(sorted(SUFFIXES))})"
            )
        validating = max(1, round(len(paths) * VALIDATION_SHARE))
        parts[0].extend((label, path) for path in paths[:-validating])
        parts[1].extend((label, path) for path in paths[-validating:])
    found = [*parts[0], *parts[1]]
    pixels = np.stack([_read(path, size, gray=gray) for _, path in found])
    labels = torch.tensor([label for label, _ in found])
    return _images(torch.from_numpy(pixels), labels, len(parts[0]), tuple(classes))


def _images(pixels: Tensor, labels: Tensor, training: int, classes: tuple[str, ...]) -> Images:
    digest = hashlib.sha256(pixels.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
    return Images(pixels, labels, training, classes, digest)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _read(path: Path, size: int, *, gray: bool) -> np.ndarray[tuple[int, int, int], np.dtype[np.float32]]:
    """(channels, size, size) in 0..1."""
    try:
        from PIL import Image
    except ImportError as error:
        raise InvalidConfigurationError(
            "data: reading images needs the package pillow beside the worker: pip install pillow"
        ) from error
    try:
        with Image.open(path) as image:
            scaled = image.convert("L" if gray else "RGB").resize((size, size), Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidConfigurationError(f"data: {path} is no image that can be read: {error}") from error
    values = np.asarray(scaled, dtype=np.float32) / 255.0
    return values[None] if gray else values.transpose(2, 0, 1)
