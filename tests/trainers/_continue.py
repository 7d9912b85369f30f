"""Go on from checkpoints in this process, as a worker would: FOLDER, and jobs by name as JSON on stdin.

Trains each from FOLDER/NAME/at8 to its full length, saves it in FOLDER/NAME/resumed, and prints all
measurements as one line of JSON.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from trainers.base import Job, Workload
from trainers.registry import create

folder = Path(sys.argv[1])
found = {}
for name, fields in json.load(sys.stdin).items():
    job = Job(**{**fields, "workloads": tuple(Workload(**each) for each in fields["workloads"])})
    trainer = create(name, job)
    trainer.load(folder / name / "at8")
    found[name] = [asdict(point) for point in trainer.train(job.max_step)]
    (folder / name / "resumed").mkdir()
    trainer.save(folder / name / "resumed")
print(json.dumps(found))
