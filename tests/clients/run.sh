#!/usr/bin/env bash
# Runs clients that nobody here wrote against `overbook serve`: NVIDIA's AIPerf and the vLLM project's GuideLLM.
#
#   tests/clients/run.sh [WORK]       OVERBOOK=target/release/overbook, MODEL=small, RATE=2 (requests/s), REQUESTS=60,
#                                     CORE= (a core for the clients alone, e.g. 1)
#
# Installs them from PyPI into WORK (default: a temporary folder; never this repository), serves a preset on this CPU,
# and prints what each client measured beside the server's own rows of the same requests.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
overbook=$(realpath "${OVERBOOK:-$here/../../target/release/overbook}")
work=${1:-$(mktemp -d)}
model=${MODEL:-small}
rate=${RATE:-2}
requests=${REQUESTS:-60}
pinned=${CORE:+taskset -c $CORE}
mkdir -p "$work"
cd "$work"

if [ ! -x aiperf/bin/aiperf ]; then
    python3 -m venv aiperf && python3 -m venv guidellm
    aiperf/bin/pip -q install uv
    aiperf/bin/uv pip install -q --python aiperf/bin/python aiperf==0.13.0
    aiperf/bin/uv pip install -q --python guidellm/bin/python guidellm==0.8.1
fi
aiperf/bin/python "$here/tokenizer.py" tokenizer 2>/dev/null

cat > model.yaml <<YAML
version: 1
name: outside-clients
workload: { generate: { arrivals: { poisson: { rate: 1/s } }, lengths: { fixed: { prompt: 128, output: 32 } }, requests: 1 } }
model: $model
gpu: h100
engine: { kv_tokens: 32768, max_model_len: 4096, cost: { constant: { device: 1ms } } }
scheduler: vllm
YAML

# served NAME COMMAND...: starts a server, runs the command with its address, and prints the server's own figures.
served() {
    local name=$1
    shift
    rm -f "serve-$name.txt"
    "$overbook" serve model.yaml --on cpu --port 0 --out "rows-$name" --force 2> "serve-$name.txt" > "rows-$name.txt" &
    local server=$!
    until grep -q '^serving' "serve-$name.txt" 2>/dev/null; do sleep 0.2; done
    url=$(grep -o 'http://[^/]*' "serve-$name.txt")
    echo "== $name"
    "$@" || echo "$name failed"
    kill -TERM $server
    wait $server
    echo "-- the server's rows"
    sed -n '/latency/,/throughput/p' "rows-$name.txt"
}

with_aiperf() {
    $pinned aiperf/bin/aiperf profile --model "$model" --url "$url" --endpoint-type completions --streaming --tokenizer ./tokenizer \
        --isl 128 --isl-stddev 0 --osl 32 --osl-stddev 0 --extra-inputs ignore_eos:true --extra-inputs temperature:0 \
        --use-server-token-count --request-rate "$rate" --request-count "$requests" --random-seed 1 \
        --artifact-dir artifacts --ui simple > aiperf.txt 2>&1
    aiperf/bin/python - <<'PYTHON'
import json
run = json.load(open("artifacts/profile_export_aiperf.json"))
for name in ["time_to_first_token", "inter_token_latency", "request_latency"]:
    metric = run[name]
    print(f"  {name:24} mean {metric['avg']:9.2f}  p50 {metric['p50']:9.2f}  p99 {metric['p99']:9.2f} {metric['unit']}")
print("  requests", run["request_count"]["avg"])
PYTHON
}

with_guidellm() {
    HF_HUB_OFFLINE=1 $pinned guidellm/bin/guidellm run --backend "kind=openai_http,target=$url,model=$model,request_format=/v1/completions" \
        --profile "kind=poisson,rate=$rate" --constraint "kind=max_requests,count=$requests" \
        --tokenizer "kind=hf_auto,model=./tokenizer" \
        --data "kind=synthetic_text,prompt_tokens=128,output_tokens=32" \
        --output kind=json,path=guidellm.json --disable-console > guidellm.txt 2>&1
    guidellm/bin/python - <<'PYTHON'
import json
run = json.load(open("guidellm.json"))["benchmarks"][0]["metrics"]
for name in ["time_to_first_token_ms", "inter_token_latency_ms", "request_latency"]:
    good = run[name]["successful"]
    print(f"  {name:24} mean {good['mean']:9.3f}  p50 {good['median']:9.3f}  p99 {good['percentiles']['p99']:9.3f}")
print("  requests", run["request_totals"])
PYTHON
}

served aiperf with_aiperf
served guidellm with_guidellm
