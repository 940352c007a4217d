"""A scheduler of one's own in Python, beside vLLM's, on the same requests: `python examples/own_scheduler.py`

`OneByOne` is that of own_scheduler.rs: both make the same schedule, to the last step.
"""

import overbook

CHAT = """
version: 1
name: chat
model: llama-3.1-8b
gpu: h100
workload:
  generate: { arrivals: { poisson: { rate: 20/s } }, lengths: burstgpt-conversation, requests: 3000 }
scheduler: { vllm: { max_num_seqs: 128, enable_prefix_caching: false } }
"""


class OneByOne:
    """Whole prompts, one a step, and only while the running requests leave a tenth of the KV pool free: first tokens wait, tokens
    after the first come evenly."""

    name = "one prompt a step"

    def __init__(self, place: overbook.Place, max_running: int = 128) -> None:
        self.max_running = max_running

    def plan(self, step: overbook.Step) -> None:
        # Where the decodes need more blocks than are free, the request that joined last gives way.
        while step.free_blocks < step.member_blocks:
            step.preempt(step.running_at(-1))
        step.decode_all()
        head = step.head() if step.running < self.max_running else None
        if head is not None:
            reserve = step.limits.blocks // 10
            if step.running == 0 or step.free_blocks > step.blocks_for(head.tokens) + reserve:
                step.admit(head, head.tokens - head.cached)
        # Nothing is returned: every step is planned anew, which is right for any policy. A `Horizon` would make it faster.


def show(name: str, run: overbook.Run) -> None:
    ms = {figure: (run.metric(figure) or float("nan")) * 1e3 for figure in ("ttft_p50", "ttft_p99", "itl_p99")}
    print(
        f"{name:<18} TTFT p50 {ms['ttft_p50']:>6.1f} ms, p99 {ms['ttft_p99']:>7.1f} ms; gap between tokens p99 {ms['itl_p99']:>5.1f} ms; "
        f"{run.metric('finished'):.0f} finished, {run.metric('preemptions'):.0f} preemptions"
    )


if __name__ == "__main__":
    show("vLLM", overbook.run(CHAT, audit=True))
    show(OneByOne.name, overbook.run(CHAT, scheduler=OneByOne, audit=True))
