"""Policies in Python are Rust's policies: equal decisions give equal digests, and nothing that goes wrong is swallowed."""

import importlib.util
import traceback

import polars
import pytest
from conftest import ROOT

import overbook


def with_scheduler(chat, scheduler):
    chat["scheduler"] = scheduler
    return chat


class Static:
    """`static`, as sim/src/schedulers/static_batch.rs has it."""

    batch_size = 32

    def __init__(self, place):
        self.place = place

    def plan(self, step):
        if step.running > 0:
            step.decode_all()
            return overbook.Horizon(wake_on_arrival=False, wake_on_end=False)
        reserved = 0
        for _ in range(self.batch_size):
            head = step.head()
            if head is None:
                break
            request = head.request
            whole = step.blocks_over(request.prompt_tokens, request.prompt_tokens + request.limit - 1)
            if reserved + whole > step.limits.blocks:
                break
            reserved += whole
            step.admit(head, head.tokens - head.cached)
        return None


class StaticWithoutJumps(Static):
    def plan(self, step):
        super().plan(step)


class Orca:
    """`orca`, as sim/src/schedulers/orca.rs has it, without jumps."""

    def __init__(self, place):
        pass

    def plan(self, step):
        step.decode_all()
        blocks = lambda request: step.blocks_over(request.prompt_tokens, request.prompt_tokens + request.limit - 1)
        reserved = sum(map(blocks, step.requests()))
        while step.running < 128:
            head = step.head()
            if head is None or reserved + blocks(head.request) > step.limits.blocks:
                break
            step.admit(head, head.tokens - head.cached)
            reserved += blocks(head.request)


@pytest.mark.parametrize("own", [Static, StaticWithoutJumps])
@pytest.mark.parametrize("replicas", [1, 3])
def test_static_batching_in_python_is_the_built_in(chat, own, replicas):
    chat["workload"]["max_new_tokens"] = {"fixed": 2000}
    scenario = with_scheduler(chat, {"static": {"batch_size": 32}})
    scenario["fleet"] = {"replicas": replicas}
    built_in = overbook.run(scenario)
    mine = overbook.run(scenario, scheduler=own, audit=True)
    assert mine.digest == built_in.digest
    assert polars.DataFrame(mine.requests).equals(polars.DataFrame(built_in.requests))
    assert mine.assumptions["Scheduler"].startswith(f"{own.__name__}, outside the scenario")
    jumps = own is Static
    assert (mine.effort["plans"] < mine.effort["steps"] / 4) == jumps, mine.effort
    # The certificate is true: single steps give the same.
    assert overbook.run(scenario, scheduler=own, step_by_step=True).digest == built_in.digest


def test_orca_in_python_is_the_built_in(chat):
    chat["workload"]["max_new_tokens"] = {"fixed": 2000}
    scenario = with_scheduler(chat, {"orca": {"max_batch_size": 128}})
    assert overbook.run(scenario, scheduler=Orca).digest == overbook.run(scenario).digest


def test_the_example_makes_the_schedule_of_its_sibling_in_rust(capsys):
    spec = importlib.util.spec_from_file_location("own_scheduler", ROOT / "examples/own_scheduler.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    run = overbook.run(example.CHAT, scheduler=example.OneByOne, audit=True)
    assert run.metric("finished") == 3000.0
    example.show("one prompt a step", run)
    # What `cargo run --example own_scheduler` prints.
    assert capsys.readouterr().out == EXAMPLE


EXAMPLE = (
    "one prompt a step  TTFT p50   65.4 ms, p99   645.1 ms; gap between tokens p99  49.2 ms; 3000 finished, 0 preemptions\n"
)


class Ranked:
    """Shortest prompts first, on a queue in the order of keys."""

    def __init__(self, place):
        self.orders = []

    def plan(self, step):
        while (newcomer := step.newcomer()) is not None:
            step.rank(newcomer, newcomer.prompt_tokens)
        waiting = [request.prompt_tokens for request in step.queue()]
        assert waiting == sorted(waiting)
        while step.free_blocks < step.member_blocks:
            step.preempt(step.preemptible()[-1])
        step.decode_all()
        head = step.head()
        if head is not None and step.running < 8 and step.blocks_to_compute(head) <= step.free_blocks - 8:
            assert head.request.prompt_tokens == min(waiting)
            step.admit(head, head.tokens - head.cached)


def test_a_scheduler_may_rank_requests(chat):
    scenario = with_scheduler(chat, {"sjf": {}})
    run = overbook.run(scenario, scheduler=Ranked, audit=True)
    assert run.metric("finished") == 400.0
    with pytest.raises(overbook.InfeasiblePlan, match="no order of keys here"):
        overbook.run(with_scheduler(chat, "orca"), scheduler=Ranked)


def test_an_exception_ends_the_run_with_its_traceback(chat):
    class Broken(Orca):
        plans = 0

        def plan(self, step):
            Broken.plans += 1
            if Broken.plans == 50:
                raise ZeroDivisionError("in the fiftieth plan")
            super().plan(step)

    with pytest.raises(ZeroDivisionError, match="in the fiftieth plan") as raised:
        overbook.run(with_scheduler(chat, "orca"), scheduler=Broken)
    frames = [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)]
    assert frames[-1] == "plan"
    assert Broken.plans == 50, "no plan is made after it"


def test_an_exception_where_a_scheduler_is_made_ends_the_run(chat):
    def make(place):
        raise LookupError("no scheduler today")

    with pytest.raises(LookupError, match="no scheduler today"):
        overbook.run(chat, scheduler=make)
    with pytest.raises(AttributeError, match="plan"):
        overbook.run(chat, scheduler=lambda place: object())
    with pytest.raises(TypeError, match="a policy is a class or function that makes one, not Orca"):
        overbook.run(chat, scheduler=Orca(None))


class Greedy:
    """Admits whatever comes, whether it fits or not: a planted fault."""

    swallows = False

    def __init__(self, place):
        pass

    def plan(self, step):
        if step.free_blocks >= step.member_blocks:
            step.decode_all()
        while (head := step.head()) is not None:
            try:
                step.admit(head, head.tokens - head.cached)
            except overbook.InfeasiblePlan:
                if not self.swallows:
                    raise
                break


class Swallower(Greedy):
    swallows = True


@pytest.mark.parametrize("own", [Greedy, Swallower])
def test_a_scheduler_that_admits_what_does_not_fit_is_an_error(chat, own):
    chat["workload"]["generate"]["arrivals"] = {"poisson": {"rate": "5000/s"}}
    chat["engine"] = {"kv_tokens": 16000, "max_model_len": 8192}
    with pytest.raises(overbook.InfeasiblePlan, match=r"cannot be admitted with \d+ tokens: \d+ blocks needed, \d+ free"):
        overbook.run(chat, scheduler=own)


def misuse(what):
    """A scheduler that does one wrong thing when it can."""

    class Misuser(Orca):
        kept = {}

        def plan(self, step):
            super().plan(step)
            what(self, step)

    return Misuser


def decode_twice(self, step):
    if step.members:
        step.decode_all()


def preempt_the_decoding(self, step):
    decoding = [request for request in step.requests() if request.phase == "decode"]
    if decoding:
        step.preempt(decoding[0])


def admit_twice(self, step):
    head = step.head()
    if head is not None and step.running < 100:
        step.admit(head, head.tokens - head.cached)
        step.admit(head, head.tokens - head.cached)


def too_many_tokens(self, step):
    head = step.head()
    if head is not None:
        step.admit(head, 2**32 - 1)


def a_request_that_has_gone(self, step):
    if step.running and "request" not in self.kept:
        self.kept["request"] = step.running_at(0)
    elif step.executed > 2000:
        step.view(self.kept["request"])


def beyond_the_list(self, step):
    step.running_at(step.running)


def a_step_that_is_over(self, step):
    self.kept.setdefault("steps", {})[self] = step
    for other in self.kept["steps"].values():
        other.running


MISUSES = [
    (decode_twice, overbook.InfeasiblePlan, "decode in this step already"),
    (preempt_the_decoding, overbook.InfeasiblePlan, "preempt before `decode_all`"),
    (admit_twice, overbook.InfeasiblePlan, "does not wait"),
    (too_many_tokens, overbook.InfeasiblePlan, "tokens to compute, not 4294967295"),
    (a_request_that_has_gone, overbook.InfeasiblePlan, "is not on this replica any more"),
    (beyond_the_list, IndexError, "of the running list"),
    (a_step_that_is_over, RuntimeError, "this step is over"),
]


@pytest.mark.parametrize("what, error, text", MISUSES, ids=[what.__name__ for what, *_ in MISUSES])
def test_misuse_is_an_error_and_no_crash(chat, what, error, text):
    chat["workload"]["max_new_tokens"] = {"fixed": 2000}
    chat["workload"]["generate"]["arrivals"] = {"poisson": {"rate": "500/s"}}
    chat["fleet"] = {"replicas": 2}
    chat["engine"] = {"kv_tokens": 64000, "max_model_len": 8192}
    with pytest.raises(error, match=text):
        overbook.run(with_scheduler(chat, "orca"), scheduler=misuse(what))


def test_a_step_cannot_be_used_after_the_run(chat):
    kept = []

    class Keeper(Orca):
        def plan(self, step):
            kept.append(step)
            super().plan(step)

    overbook.run(with_scheduler(chat, "orca"), scheduler=Keeper)
    assert repr(kept[0]) == "Step(over)"
    with pytest.raises(RuntimeError, match="this step is over"):
        kept[0].head()


def test_a_plan_returns_a_horizon_or_nothing(chat):
    class Wrong(Orca):
        def plan(self, step):
            super().plan(step)
            return 5

    with pytest.raises(TypeError, match="Horizon"):
        overbook.run(with_scheduler(chat, "orca"), scheduler=Wrong)


def test_a_scheduler_that_plans_nothing_is_told_with_what_there_is(chat):
    class Idle:
        def __init__(self, place):
            pass

        def plan(self, step):
            pass

    with pytest.raises(overbook.RunError, match="stalled") as raised:
        overbook.run(chat, scheduler=Idle)
    assert raised.value.finished.status == "failed"


class RoundRobin:
    def __init__(self, seed):
        self.next = 0

    def route(self, request, fleet):
        at = self.next % len(fleet)
        self.next = at + 1
        return at


class LeastOutstanding:
    def __init__(self, seed):
        pass

    def route(self, request, fleet):
        return min(range(len(fleet)), key=lambda at: (fleet[at].outstanding, at))


@pytest.mark.parametrize("own, name", [(RoundRobin, "round-robin"), (LeastOutstanding, "least-outstanding")])
def test_routers_in_python_are_the_built_in_ones(chat, own, name):
    chat["fleet"] = {"replicas": 3, "router": name}
    built_in = overbook.run(chat)
    mine = overbook.run(chat, set={"fleet.router": "random"}, router=own)
    assert mine.digest == built_in.digest
    assert mine.assumptions["Router"].startswith(f"{own.__name__}, outside the scenario")


def test_a_router_sees_requests_and_replicas(chat):
    seen = []

    class Looks:
        def __init__(self, seed):
            assert seed == 5

        def route(self, request, fleet):
            assert [replica.number for replica in fleet] == [0, 1]
            assert fleet.hits(-1) == 0 and request.prefix == []
            with pytest.raises(IndexError):
                fleet[2]
            seen.append((request.prompt_tokens, request, fleet))
            return 1

    run = overbook.run(chat, set={"fleet": {"replicas": 2}}, seed=5, router=Looks)
    rows = polars.DataFrame(run.requests).sort("request")
    assert rows["replica"].unique().to_list() == [1]
    assert rows["prompt_tokens"].to_list() == [tokens for tokens, *_ in seen]
    with pytest.raises(RuntimeError, match="this is over"):
        len(seen[0][2])


@pytest.mark.parametrize(
    "answer, error, text",
    [(2, overbook.RunError, "chose replica 2"), (-1, IndexError, "chose replica -1"), ("x", TypeError, "str"), (None, TypeError, "None")],
)
def test_a_wrong_choice_of_a_router_is_an_error(chat, answer, error, text):
    class Wrong:
        def __init__(self, seed):
            pass

        def route(self, request, fleet):
            return answer

    with pytest.raises(error, match=text):
        overbook.run(chat, set={"fleet.replicas": 2}, router=Wrong)


def cached() -> dict:
    """Sessions whose prompts grow, on a small pool: blocks are evicted all the time."""
    return {
        "version": 1,
        "name": "cached",
        "model": "llama-3.1-8b",
        "gpu": "h100",
        "workload": {
            "trace": {"path": str(ROOT / "traces/data/mooncake/conversation_trace.jsonl.zst"), "requests": 300},
        },
    }


class Lru:
    """The engine's own: least recently used, of a request's blocks the last one first."""

    def __init__(self, place):
        self.order = {}

    def admit(self, block, view):
        pass

    def hit(self, block, view):
        pass

    def evictable(self, block):
        self.order[block] = None

    def pinned(self, block):
        self.order.pop(block, None)

    def victim(self):
        if not self.order:
            return None
        block = next(iter(self.order))
        del self.order[block]
        return block

    def gone(self, block):
        self.order.pop(block, None)


class Mru(Lru):
    def victim(self):
        return self.order.popitem()[0] if self.order else None


def test_lru_in_python_is_the_built_in():
    built_in = overbook.run(cached())
    mine = overbook.run(cached(), eviction=Lru, audit=True)
    assert polars.DataFrame(mine.requests).equals(polars.DataFrame(built_in.requests))
    assert mine.digest == built_in.digest
    assert mine.assumptions["Eviction"].startswith("Lru, outside the scenario")
    other = overbook.run(cached(), eviction=Mru)
    assert other.digest != built_in.digest, "the pool is too large to tell them apart"


def test_a_wrong_victim_is_an_error():
    class Wrong(Lru):
        def victim(self):
            return 4_000_000

    with pytest.raises(overbook.RunError, match="chose block 4000000, which may not go"):
        overbook.run(cached(), eviction=Wrong)

    class Stingy(Lru):
        def victim(self):
            return None

    with pytest.raises(overbook.RunError, match=r"chose no block, and \d+ may go"):
        overbook.run(cached(), eviction=Stingy)

    class Broken(Lru):
        def hit(self, block, view):
            raise OSError(f"at depth {view.depth}")

    with pytest.raises(OSError, match="at depth 0"):
        overbook.run(cached(), eviction=Broken)


def test_an_eviction_policy_that_nothing_asks_is_refused(chat):
    with pytest.raises(overbook.ScenarioError, match="would never be asked: prefix caching is off"):
        overbook.run(chat, eviction=Lru)


def test_policies_run_in_every_point_of_a_study(chat):
    study = overbook.sweep(chat, vary={"fleet.replicas": [1, 2]}, set={"scheduler": "orca"}, scheduler=Orca, router=RoundRobin)
    built_in = overbook.sweep(chat, vary={"fleet.replicas": [1, 2]}, set={"scheduler": "orca"})
    figure = lambda study: [run["summary"]["p99_ttft_ms"] for run in study.runs]
    assert figure(study) == figure(built_in)

    class Broken(Orca):
        def plan(self, step):
            raise ZeroDivisionError("here")

    with pytest.raises(ZeroDivisionError, match="here"):
        overbook.sweep(chat, vary={"fleet.replicas": [1, 2]}, scheduler=Broken)
