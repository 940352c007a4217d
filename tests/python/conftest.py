"""What the tests of the wheel share: the clone, and the program `overbook` that the wheel has installed."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(sys.executable).parent / "overbook"

CHAT = {
    "version": 1,
    "name": "chat",
    "model": "llama-3.1-8b",
    "gpu": "h100",
    "workload": {
        "generate": {
            "arrivals": {"poisson": {"rate": "20/s"}},
            "lengths": "burstgpt-conversation",
            "requests": 400,
        }
    },
    "scheduler": {"vllm": {"max_num_seqs": 64, "enable_prefix_caching": False}},
    "slo": {"ttft_p99": "2s"},
}


def program(*words: object, cwd: pathlib.Path = ROOT) -> subprocess.CompletedProcess:
    """Runs the program of the wheel."""
    return subprocess.run([str(PROGRAM), *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.fixture
def chat() -> dict:
    """A scenario of 400 requests on one H100."""
    import copy

    return copy.deepcopy(CHAT)
