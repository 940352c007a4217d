#!/usr/bin/env python3
"""Cuts this folder from the whole files: OVERBOOK_DATA=/path/to/whole/files python3 cut.py

Every rule of README.md is one function here. Needs zstd (the program) and pyarrow (for the kernel tables alone)."""

import csv
import io
import json
import os
import pathlib
import shutil
import statistics
import subprocess

WHOLE = pathlib.Path(os.environ["OVERBOOK_DATA"])
HERE = pathlib.Path(__file__).parent


def unpacked(path):
    """The text of a whole file, plain or packed."""
    if path.endswith(".zst"):
        return subprocess.run(["zstd", "-dqc", WHOLE / path], check=True, capture_output=True).stdout.decode()
    return (WHOLE / path).read_bytes().decode()


def write(path, data):
    (HERE / path).parent.mkdir(parents=True, exist_ok=True)
    (HERE / path).write_bytes(data)


def pack(path, text):
    command = ["zstd", "-q", "--ultra", "-22", "-c"]
    write(path, subprocess.run(command, check=True, input=text.encode(), capture_output=True).stdout)


def same(path):
    """A whole file, byte for byte."""
    write(path, (WHOLE / path).read_bytes())


def whole(path):
    """A whole file, packed: `zstd -d` gives back its bytes."""
    pack(f"{path}.zst", unpacked(path))


def servegen(workload, start_s, end_s):
    """All clients of a workload over a part of its time [s]: the rates of the windows that begin in it, and of each client
    the lengths that are in force in it: from the last window that begins no later than the part (or else its first)."""
    header, *rows = unpacked("servegen/client_rates.csv.zst").splitlines()
    kept = [row for row in rows if row.split(",")[0] == workload and start_s <= int(row.split(",")[2]) < end_s]
    lines = [line for line in unpacked("servegen/length_pmfs.jsonl.zst").splitlines() if f'"{workload}"' in line]
    starts = {}
    for line in lines:
        window = json.loads(line)
        starts.setdefault(window["client"], set()).add(window["window_start_s"])
    first = {c: max((s for s in begun if s <= start_s), default=min(begun)) for c, begun in starts.items()}

    def in_force(line):
        window = json.loads(line)
        begin, client_first = window["window_start_s"], first[window["client"]]
        return begin == client_first or client_first < begin < end_s

    return header, kept, [line for line in lines if in_force(line)]


def measured():
    """Runs of three sets whose origins state a licence; of the set vtc four runs."""
    vtc = ["fcfs-on-off-less", "fcfs-increase", "vtc-overload", "vtc-proportional"]
    vtc = {f"vtc-a10g-7b-{run}" for run in vtc}
    rows = list(csv.reader(io.StringIO((WHOLE / "measured/runs.csv").read_text(), newline="")))
    at = {name: index for index, name in enumerate(rows[0])}
    sets = ("llmservingsim", "kubecon-inference-perf")
    kept = [row for row in rows[1:] if row[at["set"]] in sets or row[at["run_id"]] in vtc]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([rows[0], *kept])
    write("measured/runs.csv", text.getvalue().encode())
    for row in kept:
        for folder in ("requests", "series"):
            if row[at[f"has_{folder}"]] == "1":
                same(f"measured/{folder}/{row[at['run_id']]}.csv.zst")


def kernels():
    """Times of bf16 matrices and of bf16 attention with heads of 128 on one H100, as AIConfigurator writes them."""
    import pyarrow
    import pyarrow.parquet

    def table(name, columns):
        count = len(columns["latency"])
        constant = {"framework": "VLLM", "version": "0.24.0", "device": "NVIDIA H100 80GB HBM3"}
        columns = {**{key: [value] * count for key, value in constant.items()}, **columns}
        path = HERE / f"kernels/h100_sxm/vllm/0.24.0/{name}_perf.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.table(columns), path, compression="zstd", compression_level=22)

    def rows(path):
        return list(csv.DictReader(io.StringIO(unpacked(path))))

    def ints(kept, column):
        return [int(row[column]) for row in kept]

    def ms(kept):
        return [float(row["us"]) / 1e3 for row in kept]

    kept = [row for row in rows("kernels/gemm/h100_sxm.csv.zst") if row["dtype"] == "bf16"]
    sizes = {name: ints(kept, name) for name in ("m", "n", "k")}
    table("gemm", {"gemm_dtype": ["bfloat16"] * len(kept), **sizes, "latency": ms(kept)})
    for source, name in (("attn_decode", "generation_attention"), ("attn_prefill", "context_attention")):
        kept = rows(f"kernels/{source}/h100_sxm.csv.zst")
        kept = [row for row in kept if row["head_dim"] == "128" and row["kv_dtype"] == "bf16"]
        count = len(kept)
        decode = source == "attn_decode"
        # A decode step reads `isl + step` tokens, its own included.
        isl, step = ([1] * count, [n - 1 for n in ints(kept, "context")]) if decode else (ints(kept, "seq"), [0] * count)
        heads = {"num_heads": ints(kept, "heads"), "num_key_value_heads": ints(kept, "kv_heads")}
        shape = {"batch_size": ints(kept, "batch"), "isl": isl, **heads, "head_dim": [128] * count, "beam_width": [1] * count}
        formats = {"attn_dtype": ["bfloat16"] * count, "kv_cache_dtype": ["bfloat16"] * count}
        table(name, {**shape, **formats, "step": step, "latency": ms(kept)})


# Workloads of SGLang's recorded schedules that are kept: all kinds, overlapped and not, both page sizes, and lines enough to see each
# fault that the tests plant.
SGLANG_GOLDEN = (50, 58, 64, 80, 82, 84, 88, 118, 120, 130, 144, 146, 156, 158, 160, 166, 188)


def sglang_golden():
    for name in ("workloads.jsonl.zst", "steps.jsonl.zst"):
        lines = unpacked(f"sglang-golden/{name}").splitlines(True)
        pack(f"sglang-golden/{name}", "".join(line for line in lines if json.loads(line)["w"] in SGLANG_GOLDEN))


# Models of ML.ENERGY's runs whose shapes the catalog has, by their names there.
MLENERGY = {
    "Qwen3-14B": "qwen3-14b",
    "Qwen3-235B-A22B": "qwen3-235b-a22b",
    "Qwen3-30B-A3B": "qwen3-30b-a3b",
    "Qwen3-Coder-30B-A3B": "qwen3-30b-a3b",
    "Qwen3-32B": "qwen3-32b",
    "Qwen3-8B": "qwen3-8b",
    "DeepSeek-V3.1": "deepseek-v3",
    "Llama-3.1-405B": "llama-3.1-405b",
    "Llama-3.1-70B": "llama-3.1-70b",
    "Llama-3.1-8B": "llama-3.1-8b",
    "gpt-oss-120b": "gpt-oss-120b",
    "gpt-oss-20b": "gpt-oss-20b",
}


def mlenergy():
    """Power of ML.ENERGY's runs of models that the catalog has: the columns that a power law needs."""
    header = "run_id,model,gpu,gpus,weights,task,running_mean,output_tok_per_s,output_tokens_mean,watts_per_gpu"
    lines = [header]
    for row in csv.DictReader(io.StringIO((WHOLE / "measured/runs.csv").read_text(), newline="")):
        published = row["model"].split("/")[-1].removesuffix("-FP8")
        for end in ("-Instruct-2507", "-Thinking-2507", "-Instruct"):
            published = published.removesuffix(end)
        if row["set"] != "mlenergy" or not row["power_w_per_gpu_mean"] or published not in MLENERGY:
            continue
        weights = {"bfloat16": "bf16"}.get(row["weight_dtype"], row["weight_dtype"])
        task = row["prompt_spec"].split()[0]
        output = row["output_spec"].removeprefix("mean ").split()[0]
        cells = (row["gpu"].lower(), row["n_gpus"], weights, task, row["running_mean"], row["output_tok_per_s"], output)
        lines.append(",".join((row["run_id"], MLENERGY[published], *cells, row["power_w_per_gpu_mean"])))
    write("power/mlenergy.csv", "".join(f"{line}\n" for line in lines).encode())


def splitwise():
    """Power and times of Splitwise's A100: rows with 128 tokens of output whose power is there (many are zeros, and the mean of
    Llama prompts of 8,192 tokens is broken), medians of the repeats."""
    runs = {}
    for row in csv.DictReader(io.StringIO(unpacked("power/perf_model.csv"))):
        mean = float(row["average_power"])
        if row["hardware"] == "a100-80gb" and row["token_size"] == "128" and mean > 0.2:
            key = (row["model"], *(int(row[name]) for name in ("tensor_parallel", "prompt_size", "batch_size")))
            runs.setdefault(key, []).append(row)
    lines = ["model,tensor_parallel,prompt_tokens,batch,peak_of_tdp,mean_of_tdp,prompt_ms,token_ms"]
    for key, rows in sorted(runs.items()):
        middle = {name: statistics.median(float(row[name]) for row in rows) for name in rows[0] if name.endswith(("_power", "_time"))}
        power = (f"{middle[name]:.4f}" for name in ("peak_power", "average_power"))
        times = (f"{middle[name]:.4g}" for name in ("prompt_time", "token_time"))
        lines.append(",".join((*map(str, key), *power, *times)))
    write("power/splitwise-a100.csv", "".join(f"{line}\n" for line in lines).encode())


def main():
    for folder in HERE.iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
    whole("azure/AzureLLMInferenceTrace_conv.csv")
    whole("mooncake/conversation_trace.jsonl")
    for name in ("1_first400", "2_api_burst_excerpt", "3_first400", "1_hourly"):
        same(f"burstgpt/burstgpt_{name}.csv")
    # Two morning hours of one workload; an hour of another with attachments.
    parts = [servegen("m-small", 36_000, 43_200), servegen("mm-image", 0, 3_600)]
    pack("servegen/client_rates.csv.zst", "\n".join([parts[0][0], *(row for part in parts for row in part[1])]) + "\n")
    pack("servegen/length_pmfs.jsonl.zst", "".join(f"{line}\n" for part in parts for line in part[2]))
    pack("agentic/claude-code.jsonl.zst", "".join(unpacked("agentic/claude-code.jsonl.zst").splitlines(True)[:24]))
    for name in ("workloads.jsonl.zst", "steps.jsonl.zst", "summary.csv"):
        same(f"vllm-golden/{name}")
    sglang_golden()
    tables = ("op-token-tables", "attn-decode-table", "attn-prefill-table", "cost-grid", "requests-1k-q4", "batches-1k-q4")
    for name in ("conv-1k-q4", "conv-5k-q4", *(f"vidur-{table}" for table in tables)):
        whole(f"peers/{name}.csv")
    measured()
    mlenergy()
    splitwise()
    kernels()


main()
