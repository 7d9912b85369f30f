"""Go on from a checkpoint in this process, as a worker would: NAME JOB.json FROM UNTIL INTO.

Prints the measurements as JSON and saves the state at UNTIL into the folder INTO.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from trainers.base import Job
from trainers.registry import create

name, job, source, until, into = sys.argv[1:]
trainer = create(name, Job(**json.loads(job)))
trainer.load(Path(source))
print(json.dumps([asdict(point) for point in trainer.train(int(until))]))
trainer.save(Path(into))
