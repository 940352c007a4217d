#!/usr/bin/env python3
"""The accuracy board: simulates every published run that it can describe, and writes docs/accuracy.md.

    scripts/accuracy.py --data $OVERBOOK_DATA --overbook target/release/overbook [--out docs/accuracy.md] [--keep DIR]

Reads, below --data, `measured` (through `overbook validate`) and `accuracy/{residency,vllm-51,inferencex,pd-h200}`, whose layouts are those
of traces/data/README.md. Needs python3 and zstd alone. With --keep every scenario stays, to be run by hand.
"""
import argparse
import collections
import concurrent.futures
import csv
import io
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile


def table(path):
    """Rows of a CSV file, packed by Zstandard or not."""
    if path.endswith(".zst"):
        text = subprocess.run(["zstd", "-dcq", path], check=True, capture_output=True, text=True).stdout
    else:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    return list(csv.DictReader(io.StringIO(text)))


class Run:
    """A published run: the scenario that has its conditions, and what was measured, by the names of `overbook run --json`."""

    def __init__(self, group, name, scenario, measured, peers=None, split=1):
        self.group, self.name, self.scenario = group, name, scenario
        # None: not published. `split`: GPUs that a throughput is stated for one of.
        self.measured = {key: value for key, value in measured.items() if value is not None}
        self.peers, self.split = peers or {}, split

    def simulate(self, overbook, folder):
        base = os.path.join(folder, re.sub(r"[^A-Za-z0-9.]+", "-", f"{self.group}-{self.name}"))
        with open(base + ".yaml", "w", encoding="utf-8") as file:
            file.write(self.scenario)
        command = [overbook, "run", base + ".yaml", "--json", "--no-report", "--no-rows", "--force", "--out", base]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode not in (0, 1):
            return (done.stderr.strip().splitlines() or ["no message"])[0].removeprefix("error: ")
        figures = json.loads(done.stdout)
        for key in list(figures):
            if key.endswith("_throughput") and figures[key] is not None:
                figures[key] /= self.split
        for name in ("e2el", "ttft"):
            if figures.get(f"mean_{name}_ms") is None:
                return "nothing finished"
        # Of one output length: the mean gap, as the client's two latencies give it.
        if "gap_ms" in self.measured:
            figures["gap_ms"] = (figures["mean_e2el_ms"] - figures["mean_ttft_ms"]) / self.measured["tokens"]
        return figures


def scenario(name, workload, model, gpu, fleet, engine, scheduler):
    name = re.sub(r"[^A-Za-z0-9.]+", "-", name)
    return (f"version: 1\nname: {name}\nworkload: {workload}\nmodel: {model}\ngpu: {gpu}\nfleet: {fleet}\n"
            f"engine: {engine}\nscheduler: {scheduler}\n")


def number(cell, scale=1.0):
    return float(cell) * scale if cell not in ("", None) else None


# --- sets -----------------------------------------------------------------------------------------------------------------------------

INFERENCEX = {
    ("gptoss", "h100", "vllm"): ("gpt-oss-120b", "h100", "mxfp4"),
    ("gptoss", "b200", "vllm"): ("gpt-oss-120b", "b200", "mxfp4"),
    ("dsr1", "b200", "sglang"): ("deepseek-v3", "b200", "fp8"),
    ("dsr1", "mi300x", "sglang"): ("deepseek-v3", "mi300x", "fp8"),
    ("gptoss", "b200-trt", "trt"): ("gpt-oss-120b", "b200", "mxfp4"),
    ("dsr1", "b200", "trt"): ("deepseek-v3", "b200", "fp8"),
}


# Multi-token prediction of DeepSeek-R1 as InferenceX's launch script for it on B200 has it: two drafts, in a chain. Nobody has published
# how many are accepted: ASSUMED, from others' runs. First draft: 0.81 to 0.82, R1 by vLLM (its pull request 12755). Second, if the first was:
# 0.38 of 0.77, DeepSeek-V4-Flash by vLLM with two drafts (pull request 41044). Neither is fitted on the runs here.
MTP = "{ method: mtp, num_speculative_tokens: 2, acceptance: [0.81, 0.49] }"


def published_flags(row, gpu, weights):
    """Scheduler and engine as the public launch scripts set them (benchmarks/*.sh of InferenceX)."""
    clients, prompt, gpus = int(row["concurrency"]), int(row["isl"]), int(row["decode_tp"])
    if row["engine"] == "vllm":
        seqs = clients if gpu == "h100" else 512
        return (f"{{ vllm: {{ max_num_seqs: {seqs}, max_num_batched_tokens: 8192, enable_prefix_caching: false }} }}",
                f"{{ weights: {weights}, kv: {'fp8' if gpu == 'b200' else 'bf16'}, gpu_memory_utilization: 0.9 }}")
    if row["engine"] == "trt":
        # Limits of one rank; all ranks have `ranks` times as many.
        ranks = gpus if row["decode_dp_attention"] == "1" else 1
        if row["model"] == "gptoss":
            seqs, tokens, free, held = 512, 20000, 0.85, 61 / gpus / 178
        else:
            tokens, held = max(8192, (clients + prompt + 127) // 64 * 64), 645 / gpus / 178
            seqs, free = 2048, 0.7 if clients >= 256 and prompt == 1024 else 0.75 if gpus == 4 else 0.8
        # Its share is of what the weights leave; ours of the whole memory.
        share = round(held + free * (1 - held), 3)
        longest = max(8192, prompt + int(row["osl"]) + 256)
        return (f"{{ trtllm: {{ max_batch_size: {seqs * ranks}, max_num_tokens: {max(tokens, longest) * ranks} }} }}",
                f"{{ weights: {weights}, kv: fp8, gpu_memory_utilization: {share}, max_model_len: {longest} }}")
    if row["spec"] == "mtp":
        # The script sets SGLANG_ENABLE_SPEC_V2 and does not export it: without it SGLang does not plan ahead where it speculates.
        return ("{ sglang: { max_running_requests: 512, chunked_prefill_size: 16384, max_prefill_tokens: 16384, "
                "enable_radix_cache: false, enable_overlap_schedule: false } }",
                f"{{ weights: {weights}, kv: fp8, gpu_memory_utilization: 0.82, speculation: {MTP} }}")
    if gpu == "mi300x":
        limits, share = "chunked_prefill_size: 131072, max_prefill_tokens: 131072", 0.8
    elif gpus == 8:
        limits, share = "max_running_requests: 128, chunked_prefill_size: 32768, max_prefill_tokens: 32768", 0.82
    else:
        limits, share = "max_running_requests: 32, chunked_prefill_size: 8192, max_prefill_tokens: 8192", 0.95
    return (f"{{ sglang: {{ {limits}, enable_radix_cache: false }} }}",
            f"{{ weights: {weights}, kv: fp8, gpu_memory_utilization: {share} }}")


def inferencex(data):
    """One node; speculation where a script says how many drafts, its acceptance assumed. The client states temperature 0 and sends the next
    request when one ends."""
    runs, left = [], collections.Counter()
    for at, row in enumerate(table(f"{data}/accuracy/inferencex/runs.csv.zst")):
        key = INFERENCEX.get((row["model"], row["hardware"], row["engine"]))
        drafts = row["spec"] == "mtp"
        why = next((why for there, why in [
            (row["disagg"] == "1", "prompts and decodes on workers of their own, over several nodes"),
            (row["precision"] == "fp4" and row["model"] == "dsr1", "NVFP4 weights"),
            (key is None, "GPU or engine without measured kernels"),
            (drafts and (row["hardware"], row["engine"]) != ("b200", "sglang"), "speculative decoding, with how many drafts is not known"),
        ] if there), None)
        if why:
            left[why] += 1
            continue
        model, gpu, weights = key
        clients, prompt, output, gpus = (int(row[c]) for c in ("concurrency", "isl", "osl", "decode_tp"))
        length = lambda most: f"{{ quantiles: [[0, {math.ceil(most * 0.8)}], [1, {most}]] }}"
        workload = (f"{{ generate: {{ arrivals: {{ constant: {{ rate: 1/s }} }}, requests: {10 * clients}, lengths: {{ independent: "
                    f"{{ prompt: {length(prompt)}, output: {length(output)} }} }} }}, clients: {{ count: {clients}, think_time: 0s }}, "
                    "max_new_tokens: true, ignore_eos: true, temperature: 0 }")
        scheduler, engine = published_flags(row, gpu, weights)
        # No script asks for an all-to-all: SGLang and TensorRT-LLM all-reduce, or gather and scatter under data-parallel attention. Of
        # gpt-oss with both, the script's environment asks for MNNVL's, whose kernels are not known.
        experts = int(row["decode_ep"] or 1)
        ranks = gpus if row["decode_dp_attention"] == "1" else 1
        fleet = f"{{ tensor_parallel: {gpus}" + (f", dp_attention: {ranks}" if ranks > 1 else "")
        fleet += (", expert_parallel: {}" if experts > 1 else "") + " }"
        fitted = row["engine"] == "vllm" and gpus in ((2, 4) if gpu == "h100" else (1, 4))
        group = f"{model} by {row['engine']} on {gpu}" + (f", {'fitted on' if fitted else 'judged'}" if row["engine"] == "vllm" else "")
        group += ", data-parallel attention" if ranks > 1 else ", experts spread" if experts > 1 else ""
        group += ", MTP, acceptance assumed" if drafts else ""
        # These were told to send every tenth to thirtieth token only: their times of first tokens are those of that one.
        first = None if row["engine"] in ("sglang", "trt") else number(row["ttft_median_s"], 1e3)
        runs.append(Run(group, f"{at}", scenario(f"{group} {at}", workload, model, gpu, fleet, engine, scheduler), {
            "output_throughput": number(row["output_tput_per_gpu"]),
            "p50_tpot_ms": number(row["tpot_median_s"], 1e3),
            "p50_ttft_ms": first,
            "p50_e2el_ms": number(row["e2el_median_s"], 1e3),
        }, split=gpus))
    return "InferenceX, one node", runs, left


VLLM_51 = {"llama-2-7b": "llama-2-7b", "llama-2-70b": "llama-2-70b", "mixtral-8x7b": "mixtral-8x7b", "codellama-34b": "codellama-34b"}
PEERS_51 = {"e2e_mean": "mean_e2el_ms", "e2e_p99": "p99_e2el_ms", "ttft_mean": "mean_ttft_ms", "ttft_p99": "p99_ttft_ms", "itl_mean": "gap_ms"}


def vllm_51(data):
    """vLLM 0.15.1 on H100: constant rates in stages, 100 prompts in ten groups over and over. Peers' predictions of the same runs."""
    runs, left = [], collections.Counter()
    said = collections.defaultdict(dict)
    for row in table(f"{data}/accuracy/vllm-51/predictions.csv.zst"):
        metric = PEERS_51.get(row["metric"])
        if row["stage"] == "-1" and metric:
            key = (row["model"].lower(), row["workload"])
            said[key].setdefault(row["simulator"], {})[metric] = float(row["error_pct"]) / 100
    with open(f"{data}/accuracy/vllm-51/conditions.jsonl", encoding="utf-8") as file:
        for line in file:
            run = json.loads(line)
            profile, name = json.loads(run["profile"]), run["experiment"][16:]
            config = dict(part.split(": ", 1) for part in run["exp-config"].strip().splitlines())
            model = next(catalog for known, catalog in VLLM_51.items() if known in name)
            prompts, stages = profile["data"]["shared_prefix"], profile["load"]["stages"]
            done = run.get("summary_lifecycle_metrics") or run["stage_0_lifecycle_metrics"]
            rates, seconds, output = [stage["rate"] for stage in stages], stages[0]["duration"], prompts["output_len"]
            # A shape of 10,000: gaps alike.
            arrivals = (f"{{ profile: {{ rates: [{', '.join(f'{rate}/s' for rate in rates)}], window: {seconds}s, shape: 10000 }} }}"
                        if len(rates) > 1 else f"{{ constant: {{ rate: {rates[0]}/s }} }}")
            workload = (f"{{ generate: {{ arrivals: {arrivals}, duration: {seconds * len(rates)}s, lengths: {{ fixed: {{ prompt: "
                        f"{round(done['successes']['prompt_len']['mean'])}, output: {output} }} }}, repeats: {{ prompts: 100, groups: 10, "
                        f"shared_prefix_tokens: {prompts['system_prompt_len']} }} }}, max_new_tokens: true, ignore_eos: true, "
                        # The client gives up after 300 s (aiohttp's default; failures have it), and only successes count.
                        "limits: { deadline: 300s } }")
            latency = done["successes"]["latency"]
            end, first = latency["request_latency"], latency["time_to_first_token"]
            scheduler = (f"{{ vllm: {{ max_num_seqs: {config['max_num_seqs']}, "
                         f"max_num_batched_tokens: {config['max_num_batched_tokens']} }} }}")
            text = scenario(name, workload, model, "h100", f"{{ tensor_parallel: {config['tensor_parallelism']} }}",
                            f"{{ max_model_len: {config['max_model_len']} }}", scheduler)
            overload = "reasoning" in name
            runs.append(Run("overloads" if overload else "below saturation", name, text, {
                "mean_e2el_ms": end["mean"] * 1e3, "p99_e2el_ms": end["p99"] * 1e3,
                "mean_ttft_ms": first["mean"] * 1e3, "p99_ttft_ms": first["p99"] * 1e3,
                "gap_ms": (end["mean"] - first["mean"]) * 1e3 / (output - 1), "tokens": output - 1,
            }, peers=said.get((config["model"].lower(), profile_name(name)), {})))
    return "vLLM 0.15.1 by inference-perf", runs, left


def profile_name(name):
    return name.rsplit("-", 1)[1]


def residency(data):
    """vLLM 0.23, Qwen3-14B on one H100, request by request; at most 256 under way."""
    runs, cells = [], collections.defaultdict(list)
    for row in table(f"{data}/accuracy/residency/requests.csv.zst"):
        cells[row["cell"]].append(row)
    for cell in table(f"{data}/accuracy/residency/cells.csv"):
        rows = sorted(((int(row["arrival_us"]), row) for row in cells[cell["cell"]]), key=lambda one: one[0])
        lines = ["arrived_at,num_prefill_tokens,num_decode_tokens"]
        start = rows[0][0]
        lines += [f"{(at - start) / 1e6:.6f},{row['server_input_tokens']},{row['output_tokens']}" for at, row in rows]
        runs.append(Run("saturated" if "agg24" in cell["cell"] or "agg18" in cell["cell"] else "below saturation", cell["cell"],
                        ("\n".join(lines) + "\n", scenario(
            cell["cell"], "{ trace: { path: TRACE, format: vidur }, max_concurrency: 256, max_new_tokens: true, ignore_eos: true }",
            "qwen3-14b", "h100", "{}", "{ kv_tokens: 288608 }", "{ vllm: { max_num_seqs: 256, max_num_batched_tokens: 8192 } }")), {
            "mean_ttft_ms": number(cell["ttft_mean_ms"]), "p99_ttft_ms": number(cell["ttft_p99_ms"]),
            "mean_tpot_ms": number(cell["tpot_mean_ms"]), "mean_e2el_ms": number(cell["e2e_mean_ms"]),
            "p99_e2el_ms": number(cell["e2e_p99_ms"]),
        }))
    return "vLLM 0.23, Qwen3-14B on one H100", runs, collections.Counter()


def pd_h200(data):
    """SGLang, gpt-oss-120b on 8 H200 in groups of two: prompts and decodes apart. Outputs all of the mean length."""
    runs, left = [], collections.Counter()
    for at, row in enumerate(table(f"{data}/accuracy/pd-h200/runs.csv")):
        clients, requests = int(row["max_concurrency"]), int(row["completed"])
        prompt, output = (round(int(row[column]) / requests) for column in ("total_input_tokens", "total_output_tokens"))
        prefill, decode = int(row["prefill"]), int(row["decode"])
        workload = (f"{{ generate: {{ arrivals: {{ constant: {{ rate: 1/s }} }}, requests: {requests}, lengths: {{ fixed: {{ prompt: {prompt}, "
                    f"output: {output} }} }} }}, clients: {{ count: {clients}, think_time: 0s }} }}")
        fleet = (f"{{ replicas: {prefill + decode}, tensor_parallel: 2, router: join-shortest-queue, controllers: {{ disaggregation: "
                 f"{{ prefill: {prefill}, link: nvlink4 }} }} }}")
        group = f"{prefill} workers for prompts, {decode} that decode"
        runs.append(Run(group, f"{at}", scenario(f"pd {at}", workload, "gpt-oss-120b", "h200", fleet, "{ weights: mxfp4 }", "sglang"), {
            "output_throughput": number(row["output_throughput"]), "mean_tpot_ms": number(row["mean_tpot_ms"]),
            "mean_ttft_ms": number(row["mean_ttft_ms"]), "p99_ttft_ms": number(row["p99_ttft_ms"]),
        }))
    return "SGLang, prompts and decodes apart on H200", runs, left


# --- judging --------------------------------------------------------------------------------------------------------------------------

WORDS = {"output_throughput": "throughput", "gap_ms": "ITL", "tokens": None}


def words(metric):
    if metric in WORDS:
        return WORDS[metric]
    statistic, latency, _ = metric.split("_")
    return f"{latency.upper()} {statistic}"


def judge(run, figures):
    """Relative errors by metric."""
    return {key: figures[key] / value - 1 for key, value in run.measured.items() if words(key) and value and figures.get(key) is not None}


def spread(errors):
    errors = sorted(abs(error) for error in errors)
    return statistics.median(errors), errors[min(len(errors) - 1, math.ceil(0.9 * len(errors)) - 1)]


def percent(error):
    return f"{100 * error:.1f}" if error < 0.1 else f"{100 * error:.0f}"


def section(title, note, runs, left, results):
    """One set as Markdown."""
    lines = [f"## {title}", "", note, ""]
    refused = collections.Counter(result for result in results if isinstance(result, str))
    metrics = list(dict.fromkeys(key for run in runs for key in run.measured if words(key)))
    lines += ["| runs | | " + " | ".join(words(metric) for metric in metrics) + " |", "|---|---:|" + "---:|" * len(metrics)]
    groups = list(dict.fromkeys(run.group for run in runs))
    for group in groups:
        cells, counted = [], 0
        judged = [(run, judge(run, result)) for run, result in zip(runs, results) if run.group == group and not isinstance(result, str)]
        counted = len(judged)
        for metric in metrics:
            errors = [errors[metric] for _, errors in judged if metric in errors]
            measured = [run.measured[metric] for run, errors in judged if metric in errors]
            if not errors:
                cells.append("–")
                continue
            median, ninth = spread(errors)
            bias, unit = statistics.median(errors), "tok/s" if metric == "output_throughput" else "ms"
            cells.append(f"{percent(median)} ({percent(ninth)}), {100 * bias:+.1f}; of {statistics.median(measured):.3g} {unit}")
        lines.append(f"| {group} | {counted} | " + " | ".join(cells) + " |")
    peers = sorted({peer for run in runs for peer in run.peers})
    if peers:
        lines += ["", "Other simulators on the same runs, as published with them: median of the absolute errors [%], beside ours on just "
                  "those runs.", "", "| simulator | runs | " + " | ".join(f"{words(metric)}, theirs / ours" for metric in metrics) + " |",
                  "|---|---:|" + "---:|" * len(metrics)]
        for peer in peers:
            cells, counted = [], 0
            both = [(run, judge(run, result)) for run, result in zip(runs, results) if not isinstance(result, str) and peer in run.peers]
            for metric in metrics:
                pairs = [(run.peers[peer][metric], errors[metric]) for run, errors in both if metric in run.peers[peer] and metric in errors]
                counted = max(counted, len(pairs))
                cells.append(f"{percent(spread(p for p, _ in pairs)[0])} / {percent(spread(o for _, o in pairs)[0])}" if pairs else "–")
            lines.append(f"| {peer} | {counted} | " + " | ".join(cells) + " |")
    whole = len(runs) + sum(left.values())
    simulated = sum(1 for result in results if not isinstance(result, str))
    lines += ["", f"{simulated} of {whole} runs are simulated."]
    lines += [f"- not simulated, {count}: {why}" for why, count in (left + refused).most_common()]
    return lines + [""]


def measured(data, overbook, folder):
    """The runs of `measured`, through `overbook validate`: those that nothing was fitted on, by set."""
    out = os.path.join(folder, "measured")
    subprocess.run([overbook, "validate", "--measured", f"{data}/measured", "--training", "scenarios/validation/training.txt", "--out", out],
                   check=True, capture_output=True)
    rows = table(os.path.join(out, "validation.csv"))
    with open("scenarios/validation/training.txt", encoding="utf-8") as file:
        fitted = {line.split()[0] for line in file if line.strip() and not line.startswith("#")}
    ids = {row["run_id"] for row in table(f"{data}/measured/runs.csv")}
    metrics = ["output_throughput", "ttft_mean", "tpot_mean", "itl_mean", "itl_p50", "itl_p90", "e2el_mean"]
    # Runs whose lengths are those of a public data set, as others counted it, are a class of their own.
    classes = {"A": "all of grade A", "data set": "all with the lengths of a public data set", "other": "all others"}
    errors, simulated = collections.defaultdict(lambda: collections.defaultdict(list)), set()
    for row in rows:
        simulated.add(row["run_id"].split(", ")[0])
        if row["run_id"] in fitted or row["metric"] not in metrics:
            continue
        kind = "data set" if row["quality"].endswith("lengths of the data set") else "A" if row["quality"] == "A" else "other"
        errors[classes[kind]][row["metric"]].append(float(row["error"]))
        errors[row["set"]][row["metric"]].append(float(row["error"]))
    lines = ["## Published runs of 2024 to 2026 (`measured`)", "",
             "Runs that no constant was fitted on. [validation.md](validation.md) has them set by set, and with whole sets left out of the fit.",
             "", "| runs | " + " | ".join(metric.replace("_", " ") for metric in metrics) + " |", "|---|" + "---:|" * len(metrics)]
    for group in [*classes.values(), *sorted(set(errors) - set(classes.values()))]:
        cells = []
        for metric in metrics:
            found = errors[group][metric]
            cells.append(f"{percent(spread(found)[0])} ({percent(spread(found)[1])}), {len(found)} runs" if found else "–")
        lines.append(f"| {group} | " + " | ".join(cells) + " |")
    return lines + ["", f"{len(simulated)} of {len(ids)} runs are simulated; `overbook validate` names what the others lack.", ""]


SETS = [
    (residency, "Nothing is fitted on these runs (github inference-sim/residency-vllm); the front end's time is fitted on others."),
    (vllm_51, "Nothing is fitted on these runs (github inference-sim/sim-to-real-accuracy-validation). The requests repeat 100 prompts."),
    (inferencex, "Greedy tokens, closed loops (github SemiAnalysisAI/InferenceX). For MXFP4 experts floor, fraction of the peak and fraction of the "
     "bandwidth were fitted on the TPOT of the groups named so, the skew of the router on those of the H100. The 3.1 µs a prompt token of the front "
     "end come from the TTFT of all groups of gpt-oss on both GPUs, so that TTFT is no independent check there. Schedulers and engines have the flags of "
     "the public launch scripts. Runs by TensorRT-LLM have vLLM's constants: its steps of gpt-oss are 30 % shorter, and no table has its MXFP4 kernels."),
    (pd_h200, "Nothing is fitted on these runs (github dstackai/benchmarks). Output lengths are known by their mean alone; that gpt-oss draws tokens without sorting was settled with them in view, from its generation_config."),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("OVERBOOK_DATA"), help="folder of the whole files; by default $OVERBOOK_DATA")
    parser.add_argument("--overbook", default="target/release/overbook", help="the binary")
    parser.add_argument("--out", default="docs/accuracy.md", help="the page to write")
    parser.add_argument("--keep", help="folder for the scenarios; by default they go")
    options = parser.parse_args()
    if not options.data:
        parser.error("name the folder of the whole files with --data")
    with tempfile.TemporaryDirectory() as passing:
        folder = options.keep or passing
        os.makedirs(folder, exist_ok=True)
        lines = ["# Accuracy", "", "Simulated against measured, over all published runs that can be described; written by `scripts/accuracy.py`.",
                 "A cell: median of the absolute errors (ninth decile), then the median error with its sign, all in percent; and the median of what was",
                 "measured. Every run is an ordinary scenario, and nothing is tuned run by run.", ""]
        for read, note in SETS:
            title, runs, left = read(options.data)
            for at, run in enumerate(runs):
                if isinstance(run.scenario, tuple):
                    requests, text = run.scenario
                    path = os.path.join(os.path.abspath(folder), f"{read.__name__}-{at}.csv")
                    with open(path, "w", encoding="utf-8") as file:
                        file.write(requests)
                    run.scenario = text.replace("TRACE", path)
            with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
                results = list(pool.map(lambda run: run.simulate(options.overbook, folder), runs))
            lines += section(title, note, runs, left, results)
            print(f"{title}: {len(runs)} runs", file=sys.stderr)
        lines += measured(options.data, options.overbook, folder)
    with open(options.out, "w", encoding="utf-8") as file:
        file.write("\n".join(lines))


if __name__ == "__main__":
    main()
