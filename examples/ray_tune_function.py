"""A training written for Ray Tune. Nothing here knows of Trimtab; ray-tune.yaml tunes it as it is."""

import json
import tempfile
from pathlib import Path

from ray import tune


def train(config):
    """Gradient descent with momentum on a narrow valley; ``config`` has lr and momentum."""
    position, velocity, iteration = [4.0, 1.0], [0.0, 0.0], 0
    checkpoint = tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            position, velocity, iteration = json.loads((Path(folder) / "state.json").read_text())
    while iteration < 54:
        iteration += 1
        gradient = [position[0], 20 * position[1]]
        velocity = [
            config["momentum"] * v - config["lr"] * g for v, g in zip(velocity, gradient, strict=True)
        ]
        position = [p + v for p, v in zip(position, velocity, strict=True)]
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "state.json").write_text(json.dumps([position, velocity, iteration]))
            loss = (position[0] ** 2 + 20 * position[1] ** 2) / 2
            tune.report({"loss": loss}, checkpoint=tune.Checkpoint.from_directory(folder))
