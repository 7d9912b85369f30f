"""A user's script that does everything right."""

import json
import os
import time

import trimtab

config = trimtab.params(lr=0.1, pause=0.0)
assert not [name for name in os.environ if name.startswith(("TRIMTAB_TOKEN", "TRIMTAB_URL", "RAY_"))]
state = trimtab.checkpoint_dir() / "state.json"
step = json.loads(state.read_text())["step"] if state.exists() else 0
while True:
    step += 1
    time.sleep(config["pause"])
    if trimtab.report(step, loss=config["lr"] / step, width=config["width"]):
        state.write_text(json.dumps({"step": step}))
        break
