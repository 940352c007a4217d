"""Runs, studies and plans from Python are those of the command line."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import polars
import pytest
from conftest import ROOT, program

import overbook

FIRST = ROOT / "scenarios/examples/first.yaml"


def written(path: pathlib.Path, scenario: dict) -> pathlib.Path:
    """JSON is YAML."""
    path.write_text(json.dumps(scenario, indent=2))
    return path


def test_a_run_has_the_bytes_of_the_command_line(tmp_path, chat):
    path = written(tmp_path / "chat.yaml", chat)
    out = tmp_path / "out"
    told = program("run", path, "--out", out, "--set", "seed=7")
    assert told.returncode == 0, told.stderr
    for scenario in (path, str(path), chat, json.dumps(chat, indent=2)):
        run = overbook.run(scenario, seed=7)
        assert run.summary_json == (out / "summary.json").read_text()
        assert f"digest {run.digest}" in told.stderr
        assert run.resolved == (out / "scenario.resolved.yaml").read_text()
        for table, name in ((run.requests, "requests"), (run.steps, "steps")):
            file = polars.read_parquet(out / f"{name}.parquet")
            assert len(file) > 100
            assert polars.DataFrame(table).equals(file), name
            assert polars.DataFrame(table).schema == file.schema
    assert run.summary == json.loads(run.summary_json)
    assert run.metric("finished") == 400.0
    assert run.status == "complete" and run.keeps_targets and run.verdicts[0]["metric"] == "ttft_p99"
    with pytest.raises(KeyError, match="no figure is called `tftt`"):
        run.metric("tftt")


def test_changes_are_those_of_set(chat):
    changed = overbook.run(chat, set={"fleet.replicas": 2, "scheduler": {"vllm": {"max_num_seqs": 8}}})
    chat["fleet"] = {"replicas": 2}
    chat["scheduler"] = {"vllm": {"max_num_seqs": 8}}
    assert overbook.run(chat).digest == changed.digest
    assert overbook.run(chat, rows=False).requests is None


def test_classes_stand_in_the_schema_of_requests(tmp_path, chat):
    pyarrow = pytest.importorskip("pyarrow")
    run = overbook.run(chat)
    table = pyarrow.table(run.requests)
    assert json.loads(table.schema.metadata[b"overbook.classes"]) == run.classes
    assert table.num_rows == len(run.requests) == 400
    assert table.column("start_ns").null_count == 0 and table.schema.field("start_ns").nullable
    assert not table.schema.field("end_ns").nullable
    # The same table may be taken twice.
    assert pyarrow.table(run.requests).equals(table)


def test_a_bad_scenario_is_told_as_by_the_command_line(tmp_path, chat):
    chat["gpu"] = "h9000"
    chat["fleet"] = {"replicas": 0}
    path = written(tmp_path / "bad.yaml", chat)
    told = program("run", path, "--set", "seed=x")
    assert told.returncode == 2
    with pytest.raises(overbook.ScenarioError) as raised:
        overbook.run(path, set={"seed": "x"})
    assert isinstance(raised.value, ValueError)
    text = str(raised.value)
    # --set shows what was written there: `x`, and JSON's "x".
    assert text.replace('seed="x"', "seed=x").splitlines()[:12] == told.stderr.strip().splitlines()[:12]
    assert f"{path}:5:10" in text
    places = {problem["path"]: problem for problem in raised.value.problems}
    assert places["gpu"]["line"] == 5 and places["gpu"]["column"] == 10
    assert set(places) == {"gpu", "fleet.replicas", "seed"}


def test_a_bad_dict_is_told_by_paths(chat):
    chat["fleet"] = {"replicas": 0}
    with pytest.raises(overbook.ScenarioError, match=r"^at fleet\.replicas:\n") as raised:
        overbook.run(chat)
    assert "replicas: 0" in str(raised.value) and "--> scenario:" in str(raised.value)
    with pytest.raises(TypeError, match=r"^the scenario: "):
        overbook.run({"version": object()})
    with pytest.raises(TypeError, match="a scenario is a dict, a path or YAML text, not int"):
        overbook.run(1)


def test_other_bad_input_is_the_command_lines_too(tmp_path, chat):
    with pytest.raises(overbook.ScenarioError, match="cannot read the scenario `no-such.yaml`") as raised:
        overbook.run("no-such.yaml")
    assert raised.value.finished is None and raised.value.problems[0]["line"] is None
    assert overbook.ScenarioError("mine").problems == () and overbook.RunError("mine").finished is None
    chat["sweep"] = {"axes": {"fleet.replicas": [1, 2]}}
    with pytest.raises(overbook.ScenarioError, match="this is a study of 2 runs"):
        overbook.run(chat)


def test_a_study_has_the_bytes_of_the_command_line(tmp_path, chat):
    chat["sweep"] = {"axes": {"fleet.replicas": [1, 2]}, "seeds": 2}
    path = written(tmp_path / "study.yaml", chat)
    out = tmp_path / "out"
    told = program("run", path, "--out", out, "--no-progress")
    assert told.returncode == 0, told.stderr
    heard = []
    study = overbook.sweep(path, progress=lambda finished, of: heard.append((finished, of)))
    assert sorted(heard) == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert len(study) == 4
    assert study.csv == (out / "study.csv").read_text()
    assert study.replicates_csv == (out / "replicates.csv").read_text()
    assert polars.DataFrame(study.points).equals(polars.read_parquet(out / "points.parquet"))
    assert study.runs[3]["coordinates"]["fleet.replicas"] == "2"
    one = overbook.run(study.resolved[3])
    assert one.summary["p99_ttft_ms"] == study.runs[3]["summary"]["p99_ttft_ms"]


def test_axes_can_be_added(chat):
    study = overbook.sweep(chat, vary={"fleet.replicas": [1, 2], "scheduler": {"a": "vllm", "b": "orca"}}, jobs=1)
    points = polars.DataFrame(study.points)
    assert points["scheduler"].to_list() == ["a", "b", "a", "b"]
    assert points["fleet.replicas"].to_list() == [1, 1, 2, 2]


def test_a_point_that_cannot_run_loses_no_other(tmp_path, chat):
    """A log with a row that no reader takes at its end: the point that plays it fails, and the other does not play it."""
    rows = ["arrived_at,num_prefill_tokens,num_decode_tokens"] + [f"{at},100,20" for at in range(30)]
    (tmp_path / "good.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "bad.csv").write_text("\n".join([*rows, "31,100,many"]) + "\n")
    chat["workload"] = {"trace": {"path": str(tmp_path / "good.csv")}}
    paths = [str(tmp_path / name) for name in ("good.csv", "bad.csv")]
    with pytest.raises(overbook.ScenarioError, match="point 2 .*many") as raised:
        overbook.sweep(chat, vary={"workload.trace.path": paths})
    assert len(raised.value.finished.runs) == 1


def test_a_plan_is_that_of_the_command_line(tmp_path):
    scenario = {
        "version": 1,
        "name": "small",
        "model": "llama-3.1-8b",
        "gpu": "h100",
        "workload": {
            "generate": {
                "arrivals": {"poisson": {"rate": "40/s"}},
                "lengths": {"fixed": {"prompt": 800, "output": 100}},
                "requests": 600,
            }
        },
        "slo": {"ttft_p99": "1s", "tpot_p99": "30ms"},
        "plan": {"tensor_parallel": [1], "modes": ["together"], "price": "2.5/gpu-h"},
    }
    path = written(tmp_path / "small.yaml", scenario)
    out = tmp_path / "out"
    told = program("plan", path, "--out", out, "--no-progress")
    assert told.returncode == 0, told.stderr
    news = []
    plan = overbook.plan(path, news=news.append)
    assert news and plan.found and plan.status == "complete"
    theirs = json.loads((out / "plan.json").read_text())
    ours = plan.summary
    assert theirs.pop("command") and not ours.pop("command")
    assert ours == theirs
    assert plan.sentence == theirs["sentence"]
    assert polars.DataFrame(plan.ledger).height == polars.read_csv(out / "ledger.csv").height
    answer = overbook.run(plan.answer, rows=False)
    assert answer.keeps_targets


ENDLESS = """
import overbook, sys

class Orca:
    def __init__(self, place):
        pass

    def plan(self, step):
        step.decode_all()
        head = step.head()
        if head is not None and step.running < 64:
            step.admit(head, head.tokens - head.cached)

class Endless(Orca):
    def plan(self, step):
        super().plan(step)
        while step.executed > 100:
            pass

huge = {
    "version": 1, "name": "huge", "model": "llama-3.1-8b", "gpu": "h100", "scheduler": "orca",
    "workload": {"generate": {"arrivals": {"poisson": {"rate": "20/s"}}, "lengths": "burstgpt-conversation", "requests": 500_000_000}},
}
promise = {"slo.ttft_p99": "1s"}
print("begins", flush=True)
try:
    CALL
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(7)
"""

CALLS = [
    "overbook.run(huge, rows=False)",
    "overbook.run(huge, rows=False, scheduler=Orca)",
    "overbook.run(huge, rows=False, scheduler=Endless)",
    "overbook.sweep(huge, vary={'fleet.replicas': [1, 2, 3]})",
    "overbook.sweep(huge, vary={'fleet.replicas': [1, 2, 3]}, scheduler=Orca)",
    "overbook.plan(huge, set=promise)",
]


@pytest.mark.parametrize("call", CALLS)
def test_ctrl_c_interrupts(call):
    child = subprocess.Popen([sys.executable, "-c", ENDLESS.replace("CALL", call)], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "begins\n"
    try:
        child.wait(timeout=1)
        pytest.fail("it ended by itself")
    except subprocess.TimeoutExpired:
        os.kill(child.pid, signal.SIGINT)
    try:
        out, _ = child.communicate(timeout=60)
    finally:
        child.kill()
    assert (out, child.returncode) == ("interrupted\n", 7)


def test_other_threads_go_on_while_a_run_simulates(chat):
    import threading
    import time

    chat["workload"]["generate"]["requests"] = 20_000
    ticks, stop = [], threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.001)

    ticker = threading.Thread(target=tick)
    ticker.start()
    began = time.monotonic()
    overbook.run(chat, rows=False)
    ended = time.monotonic()
    stop.set()
    ticker.join()
    during = [at for at in ticks if began < at < ended]
    # The lock held throughout would leave none.
    assert len(during) >= 3, (len(during), ended - began)


def test_what_a_callback_raises_is_raised(chat):
    def refuse(finished, of):
        raise RuntimeError(f"enough after {finished}")

    with pytest.raises(RuntimeError, match="enough after 1"):
        overbook.sweep(chat, vary={"fleet.replicas": [1, 2, 3]}, jobs=1, progress=refuse)


def test_the_schema_is_that_of_the_clone():
    assert overbook.schema() == (ROOT / "scenarios/scenario.schema.json").read_text()


def test_the_program_is_in_the_wheel():
    told = program("--version")
    assert told.returncode == 0 and told.stdout.split() == ["overbook", overbook.__version__]
