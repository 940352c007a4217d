"""Logits of Hugging Face transformers for small random models, to compare the engine's with.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0 numpy
    venv/bin/python engine/tests/goldens/make.py

Weights come from the engine's own counter-based generator (engine/src/weights/dummy.rs), written again here, so that
only logits need to be stored; all but norms are multiplied by FACTOR, without which attention would be nearly flat. One
model is also stored as transformers itself writes it: bf16, in shards with an index. Everything is computed in float32
on the CPU, with the plain ("eager") attention.
"""

import json
import pathlib
import sys

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

HERE = pathlib.Path(__file__).parent
SEED = 5
FACTOR = 10
MASK = (1 << 64) - 1


def draw(key, index):
    """Output `index + 1` of SplitMix64 seeded with `key`; arrays of uint64."""
    with np.errstate(over="ignore"):
        z = np.uint64(key) + (index + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def dummy(name, shape):
    """The tensor of a name, as the engine draws it."""
    key = int(draw(SEED, np.zeros(1, np.uint64))[0])
    for byte in name.encode():
        key = ((key ^ byte) * 0x100000001B3) & MASK
    bits = (draw(key, np.arange(int(np.prod(shape)), dtype=np.uint64)) >> np.uint64(41)).astype(np.int64)
    unit = ((2 * bits + 1 - (1 << 23)).astype(np.float32) / np.float32(1 << 23)).astype(np.float32)
    values = np.float32(0.034641016) * unit
    values = np.float32(1) + values if name.endswith("norm.weight") else np.float32(FACTOR) * values
    return torch.from_numpy(values.reshape(shape))


def shape(model_type, **changes):
    return {
        "model_type": model_type,
        "hidden_act": "silu",
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "vocab_size": 100,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "sliding_window": None,
        **changes,
    }


def rope(rope_type, theta, **others):
    return {"rope_parameters": {"rope_type": rope_type, "rope_theta": theta, **others}}


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
CASES = {
    "llama": shape("llama", **rope("default", 10000.0)),
    "llama-3.1": shape("llama", num_attention_heads=8, num_key_value_heads=1, **rope("llama3", 500000.0, **LLAMA3)),
    "llama-linear": shape("llama", tie_word_embeddings=True, **rope("linear", 10000.0, factor=4.0)),
    "mistral": shape("mistral", num_key_value_heads=4, **rope("default", 1000000.0)),
    "qwen2": shape("qwen2", tie_word_embeddings=True, use_sliding_window=False, **rope("default", 1000000.0)),
    "qwen3": shape("qwen3", rms_norm_eps=1e-6, use_sliding_window=False, **rope("default", 1000000.0)),
}
STORED = shape(
    "llama", hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
    vocab_size=64, **rope("default", 10000.0),
)  # fmt: skip


def build(fields):
    """A model with the engine's numbers."""
    config = AutoConfig.for_model(**fields)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(dummy(name, parameter.shape))
    return model.eval()


def logits(model, vocab):
    """Tokens of a prompt and the logits after some of its positions."""
    tokens = [(7 * i * i + 31 * i + 3) % vocab for i in range(70)]
    positions = [0, 1, 15, 16, 40, 69]
    with torch.no_grad():
        out = model(torch.tensor([tokens])).logits[0]
    rows = [[float(np.format_float_positional(value, 6)) for value in out[at].tolist()] for at in positions]
    return {"tokens": tokens, "positions": positions, "logits": rows}


def main():
    cases = [{"name": name, "config": fields, **logits(build(fields), 100)} for name, fields in CASES.items()]
    model = build(STORED).to(torch.bfloat16)
    folder = HERE / "llama-bf16"
    model.save_pretrained(folder, max_shard_size="20KB")
    (folder / "generation_config.json").unlink(missing_ok=True)
    # Not model.float(): its rotary frequencies were rounded to bf16 too.
    stored = {"name": "llama-bf16", **logits(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), 64)}
    versions = {"python": sys.version.split()[0], "torch": torch.__version__, "transformers": transformers.__version__}
    document = {"versions": versions, "seed": SEED, "factor": FACTOR, "cases": cases, "stored": stored}
    text = json.dumps(document, separators=(",", ":")).replace('{"name"', '\n{"name"').replace("],[", "],\n[")
    (HERE / "logits.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
