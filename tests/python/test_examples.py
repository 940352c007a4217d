"""The notebook, the page and the types, as a user meets them."""

import pathlib
import re
import subprocess
import sys

import nbformat
import nbclient
from conftest import ROOT


def test_the_notebook_runs_and_draws(tmp_path, monkeypatch):
    notebook = nbformat.read(ROOT / "examples/read-a-run.ipynb", as_version=4)
    # What is in the clone has no outputs: they are made here.
    assert not any(cell.get("outputs") for cell in notebook.cells)
    monkeypatch.setenv("PATH", str(pathlib.Path(sys.executable).parent), prepend=":")
    client = nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(ROOT / "examples")}})
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    figures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(figures) == 2
    text = "".join(output.get("text", "") for output in outputs)
    # The percentile that is computed from the rows is that of summary.json.
    assert re.search(r"TTFT p99 of the rows \d+\.\d ms, of summary\.json \d+\.\d ms", text), text


def test_the_page_is_what_a_user_may_type(tmp_path):
    page = (ROOT / "docs/python.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) >= 5
    # One session: each block goes on where the one before ended.
    session = tmp_path / "session.py"
    session.write_text("\n".join(blocks))
    done = subprocess.run([sys.executable, str(session)], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def test_the_types_hold():
    for file in ("examples/own_scheduler.py",):
        done = subprocess.run(
            [sys.executable, "-m", "mypy", "--strict", "--cache-dir=/dev/null", file], cwd=ROOT, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout


def test_the_stub_lists_what_the_module_has():
    import ast

    from overbook import _overbook

    stub = ast.parse((pathlib.Path(_overbook.__file__).parent / "_overbook.pyi").read_text())
    for node in stub.body:
        if isinstance(node, ast.ClassDef):
            kind = getattr(_overbook, node.name)
            written = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
            written |= {item.target.id for item in node.body if isinstance(item, ast.AnnAssign)}
            there = {name for name in vars(kind) if not name.startswith("__")}
            assert there <= written, (node.name, there - written)
            assert {name for name in written if not name.startswith("__")} <= there, (node.name, written - there)
    listed = {node.name for node in stub.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    public = {name for name in vars(_overbook) if not name.startswith("__")}
    assert public == listed, public ^ listed
