#!/usr/bin/env bash
# Runs a study's shards on clusters that nobody here wrote, on this machine: Ray, and Slurm. Workers are killed in the middle; what is
# merged must have the bytes of a run without shards.
#
#   tests/clients/clusters.sh [ray|slurm] [WORK]       OVERBOOK=target/release/overbook, REQUESTS=200000 (of each point)
#
# Ray comes from PyPI into WORK (default: a temporary folder). Slurm must be there and be run by root:
#   apt-get install slurmd slurmctld slurm-client munge
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
overbook=$(realpath "${OVERBOOK:-$here/../../target/release/overbook}")
which=${1:-ray}
work=${2:-$(mktemp -d)}
requests=${REQUESTS:-200000}
mkdir -p "$work"
cd "$work"

cat > study.yaml <<YAML
version: 1
name: clusters
workload: { generate: { arrivals: { poisson: { rate: 10/s } }, lengths: { fixed: { prompt: 200, output: 50 } }, requests: $requests } }
model: llama-3.1-8b
gpu: h200
sweep: { axes: { fleet.replicas: [1, 2, 3, 4] }, seeds: 2 }
YAML
rm -rf shards whole
"$overbook" sweep plan study.yaml --out shards --no-estimate -q > /dev/null

# Waits until a point is done, then kills a process of overbook that runs a shard of ours.
kill_a_worker() {
    until ls shards/parts 2> /dev/null | grep -q 'json$'; do sleep 0.05; done
    local tries process
    for tries in $(seq 200); do
        process=$(pgrep -f "^$overbook sweep run $PWD/shards " | head -n 1)
        [ -n "$process" ] && kill -KILL "$process" && echo "killed a worker: process $process" && return
        sleep 0.05
    done
    echo "no worker was left to kill: make REQUESTS larger" && return 1
}

same() {
    "$overbook" sweep merge shards -q > /dev/null
    "$overbook" run study.yaml --out whole -q > /dev/null
    diff -r --exclude manifest.json whole shards/results && echo "$1: the same bytes as without shards"
    "$overbook" sweep status shards
}

on_ray() {
    [ -x ray/bin/python ] || { python3 -m venv ray && ray/bin/pip -q install ray==2.60.0; }
    kill_a_worker &
    killer=$!
    trap 'kill $killer 2> /dev/null || true' EXIT
    # A busy machine starts it slowly.
    RAY_raylet_start_wait_time_s=300 RAY_USAGE_STATS_ENABLED=0 "$overbook" sweep launch shards --on ray --shards 4 --python "$PWD/ray/bin/python"
    wait $killer
    same ray
}

on_slurm() {
    local state=$work/slurm
    # What an earlier Slurm had in its queue is none of this one's.
    rm -rf "$state"
    mkdir -p "$state"
    cat > "$state/slurm.conf" <<CONF
ClusterName=one
SlurmctldHost=$(hostname -s)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
StateSaveLocation=$state/ctld
SlurmdSpoolDir=$state/d
SlurmctldPidFile=$state/ctld.pid
SlurmdPidFile=$state/d.pid
SlurmctldLogFile=$state/ctld.log
SlurmdLogFile=$state/d.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
ReturnToService=2
NodeName=$(hostname -s) CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
    export SLURM_CONF=$state/slurm.conf
    mkdir -p "$state/ctld" "$state/d" /run/munge && chown munge: /run/munge
    [ -S /run/munge/munge.socket.2 ] || runuser -u munge -- munged
    slurmctld && slurmd
    trap 'kill $(cat "$work"/slurm/d.pid "$work"/slurm/ctld.pid)' EXIT
    until sinfo -h -o %T | grep -q -e idle -e mixed; do sleep 0.5; done
    "$overbook" sweep launch shards --on slurm --shards 4
    kill_a_worker
    until [ -z "$(squeue -h)" ]; do sleep 0.5; done
    cat shards/launch/slurm-*.log
    same slurm
}

"on_$which"
