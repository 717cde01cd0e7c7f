"""The Snakefile on a small repository: what runs again, what a dead kernel says, whom a kill takes along."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import psutil
import pytest

from mlutils import paths

SCRIPT = """
import json, os, pathlib, time

assert corpus != "fails", "as it should"
if corpus == "dies":
    os.kill(os.getpid(), 9)
pathlib.Path(folder, "given.json").write_text(json.dumps([rate, corpus, reads]))
if corpus == "sleeps" and not os.path.exists("awake"):
    time.sleep(120)
"""
PARAMETERS = (
    'corpus: str = "a"  # of documents\nrate: float = 1.0  # 0 to 1; share\nlimit: int = 0  # 0 or more; documents\n'
    'reads: list[str] = []  # folders\nfolder: str = ""  # where results go'
)


@pytest.fixture
def house(tmp_path):
    """A copy of the code with two notebooks of its own."""
    for name in ("mlutils", "profiles", "templates"):
        shutil.copytree(paths.ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(paths.ROOT / "Snakefile", tmp_path)
    (tmp_path / "grids").mkdir()
    (tmp_path / "notebooks").mkdir()
    for name in ("10_ask", "20_read"):
        cells = [nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})]
        cells.append(nbformat.v4.new_code_cell(SCRIPT))
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "notebooks" / f"{name}.ipynb")
    return tmp_path


def command(*more):
    snakemake = [sys.executable, "-m", "snakemake", "--profile", "profiles/local", "--config", "grid=g", "--cores", "1"]
    return [*snakemake, *more]


def environment(house):
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    return os.environ | {"PATH": path, "PYTHONPATH": str(house)}


def snakemake(house, grid, *more):
    (house / "grids" / "g.yaml").write_text(grid, encoding="utf-8")
    run = subprocess.run(command(*more), cwd=house, env=environment(house), capture_output=True, text=True)
    return run.returncode, run.stdout + run.stderr


def test_equal_parameters_are_the_same_run(house):
    """Another order of keys and of blocks, 1 for 1.0, 5e-05 for 0.00005: nothing runs again."""
    grid = "runs:\n  10_ask: {rate: [0.00005, 1], corpus: [a], limit: 2}\n  20_read: {reads: {10_ask: [corpus]}}\n"
    targets = "--until", "analyse"
    code, said = snakemake(house, grid, *targets)
    assert code == 0, said
    given = sorted((house / "results" / "g" / "10_ask").glob("*/given.json"))
    assert [each.read_text() for each in given] == ['[1.0, "a", []]', '[5e-05, "a", []]']
    same = "runs:\n  10_ask: {limit: 2.0, rate: [1.0, 5e-5]}\n  20_read: {reads: {10_ask: [corpus]}}\n"
    for plan in (command(*targets, "-n"), [*command(*targets, "-n")[:3], "--config", "grid=g", "-n", *targets]):
        (house / "grids" / "g.yaml").write_text(same)
        run = subprocess.run(plan, cwd=house, env=environment(house), capture_output=True, text=True)
        assert re.search(r"total\s+0\b|Nothing to be done", run.stdout + run.stderr), run.stdout + run.stderr
    code, said = snakemake(house, same.replace("limit: 2.0", "limit: 3"), *targets, "-n")
    assert re.search(r"ask_model\s+2\b", said) and code == 0


@pytest.mark.parametrize("corpus", ["dies", "fails"])
def test_a_kernel_that_died_is_reported_with_what_to_do(house, corpus):
    code, said = snakemake(house, f"runs:\n  10_ask: {{corpus: {corpus}}}\n")
    (log,) = house.glob("results/g/10_ask/*/attempt.log")
    assert code != 0 and not list(house.glob("results/g/10_ask/*/notebook.ipynb"))
    for text in (said, log.read_text(encoding="utf-8")):
        assert ("its kernel died, most often as memory ran out" in text) == (corpus == "dies")
        assert ("AssertionError" in text) == (corpus == "fails")


@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv (Linux)")
def test_a_killed_snakemake_takes_its_runs_along_and_can_be_unlocked(house):
    (house / "grids" / "g.yaml").write_text("runs:\n  10_ask: {corpus: sleeps}\n")
    process = subprocess.Popen(
        command(), cwd=house, env=environment(house), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until = time.time() + 60
    while not list(house.glob("results/g/10_ask/*/given.json")) and time.time() < until:
        time.sleep(0.1)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2  # papermill and its kernel
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
    again = house, "runs:\n  10_ask: {corpus: sleeps}\n", "--until", "ask_model"
    code, said = snakemake(*again)
    assert code != 0 and "--unlock" in said
    assert snakemake(house, again[1], "--unlock")[0] == 0
    (house / "awake").touch()
    code, said = snakemake(*again)
    assert code == 0, said
