"""Written for Ray Tune: a function and a class that learn one number. Nothing here knows of Trimtab."""

import json
import tempfile
import time
from pathlib import Path

from ray import tune
from ray.tune import Checkpoint, get_checkpoint

PAUSE = 0.05  # a training that takes its time, so that it can be interrupted


def train(config):
    step, x = 0, 1.0
    if checkpoint := get_checkpoint():
        with checkpoint.as_directory() as folder:
            step, x = json.loads((Path(folder) / "state.json").read_text())
    while step < 50:
        time.sleep(PAUSE)
        step, x = step + 1, x * (1 - config["lr"])
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "state.json").write_text(json.dumps([step, x]))
            saved = Checkpoint.from_directory(folder) if step % 3 == 0 else None
            tune.report({"loss": x, "step_seen": step, "note": "text", "flag": True}, checkpoint=saved)


class Learner(tune.Trainable):
    def setup(self, config):
        self.lr, self.x = config["lr"], 1.0

    def step(self):
        time.sleep(PAUSE)
        self.x *= 1 - self.lr
        return {"loss": self.x, "step_seen": self.training_iteration + 1}

    def save_checkpoint(self, checkpoint_dir):
        (Path(checkpoint_dir) / "x.json").write_text(json.dumps(self.x))

    def load_checkpoint(self, checkpoint_dir):
        self.x = json.loads((Path(checkpoint_dir) / "x.json").read_text())
