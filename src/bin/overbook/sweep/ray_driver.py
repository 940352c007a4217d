"""Runs the shards of a study as tasks of Ray: python3 ray_driver.py

With RAY_ADDRESS the tasks go to that cluster, whose nodes see the study under the same path; without, Ray is started on this machine.
A task whose process is killed is tried again. Points that are done are not run again, so it goes on where it was.
Exits with 0 if all points are done, else with 3.
"""

import os
import subprocess
import sys

import ray

PROGRAM = "@PROGRAM@"
DIR = "@DIR@"
SHARDS = "@SHARDS@"
JOBS = "@JOBS@"
TRIES = 5
INVALID_INPUT = 2


class Killed(Exception):
    """The process of a shard has ended by a signal."""


@ray.remote(num_cpus=JOBS, max_retries=TRIES, retry_exceptions=[Killed])
def run(shard):
    command = [PROGRAM, "sweep", "run", DIR, "--shard", f"{shard}/{SHARDS}", "--jobs", str(JOBS), "--no-progress"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode < 0:
        raise Killed(f"shard {shard}: signal {-done.returncode}")
    return shard, done.returncode, (done.stdout + done.stderr).strip()


ray.init(address=os.environ.get("RAY_ADDRESS"), log_to_driver=False)
waiting = [run.remote(shard) for shard in range(1, SHARDS + 1)]
while waiting:
    [ready], waiting = ray.wait(waiting)
    try:
        shard, code, text = ray.get(ready)
        print(f"shard {shard}: exit code {code}: {text}", flush=True)
        if code == INVALID_INPUT:
            # It is the same for all: trying the others would say it again.
            for task in waiting:
                ray.cancel(task, force=True)
            sys.exit(INVALID_INPUT)
    except ray.exceptions.RayError as error:
        print(f"a shard has failed: {error}", file=sys.stderr, flush=True)
sys.exit(subprocess.run([PROGRAM, "sweep", "status", DIR]).returncode)
