"""The Snakefile on a small repository: what runs again, what a dead kernel says, whom a kill takes along."""

import json
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
TIMES = """
import json, pathlib, time

began = time.time()
time.sleep(4)
pathlib.Path(folder, "times.json").write_text(json.dumps([model, began, time.time()]))
"""
PARAMETERS = (
    'corpus: str = "a"  # of documents\nrate: float = 1.0  # 0 to 1; share\nlimit: int = 0  # 0 or more; documents\n'
    'reads: list[str] = []  # folders\nfolder: str = ""  # where results go'
)


@pytest.fixture
def house(tmp_path):
    """A copy of the code with notebooks of its own; 10_trace is one that asks a model."""
    for name in ("mlutils", "profiles", "templates"):
        shutil.copytree(paths.ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(paths.ROOT / "Snakefile", tmp_path)
    (tmp_path / "grids").mkdir()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "data").mkdir()
    shutil.copy(paths.DATA / "sources.yaml", tmp_path / "data")
    for name, given, script in (
        ("10_ask", PARAMETERS, SCRIPT),
        ("10_trace", f'model: str = ""  # its name\n{PARAMETERS}', TIMES),
        ("20_read", PARAMETERS, SCRIPT),
    ):
        cells = [nbformat.v4.new_code_cell(given, metadata={"tags": ["parameters"]})]
        cells.append(nbformat.v4.new_code_cell(script))
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


LARGE, MIDDLE, SMALL = "qwen2.5-coder-1.5b-instruct", "qwen2.5-coder-0.5b-instruct", "smollm2-135m-instruct"


def planned(house, models, megabytes):
    """Returns by model the threads and megabytes that a run which asks it is planned with, on four cores."""
    (house / "grids" / "g.yaml").write_text(f"runs:\n  10_trace: {{model: [{', '.join(models)}]}}\n")
    asked = [sys.executable, "-m", "snakemake", "-n", "--cores", "4", "--resources", f"mem_mb={megabytes}"]
    asked += ["--until", "ask_model", "--config", "grid=g"]
    said = subprocess.run(asked, cwd=house, env=environment(house), capture_output=True, text=True).stdout
    found = {}
    for job in said.split("rule ask_model:")[1:]:
        name = re.search(r"name=(\S+)", job)[1].rpartition("-")[0].replace("__", "/")
        threads = re.search(r"threads: (\d+)", job)  # one thread is not said
        found[name] = int(threads[1]) if threads else 1, int(re.search(r"mem_mb=(\d+)", job)[1])
    return found


def test_threads_and_memory_follow_from_the_model(house):
    """1.5 times four bytes a number, and 2 GB: 2.8, 5.8 and 12.7 GB; the largest gets all cores."""
    models = [SMALL, f"{SMALL}+sft-vignettes", MIDDLE, LARGE, "miniature-xs", "unknown"]
    needed = [(2, 2808), (2, 2808), (2, 5782), (4, 12663), (1, 2000), (2, 16000)]
    assert planned(house, models, 100000) == dict(zip(models, needed, strict=True))
    # What is larger than all of the memory runs alone, and says so itself before it is loaded.
    assert planned(house, [LARGE, MIDDLE], 9000) == {LARGE: (4, 9000), MIDDLE: (2, 5782)}


@pytest.mark.parametrize(("megabytes", "together"), [(9000, True), (8000, False)])
def test_models_that_do_not_fit_into_memory_together_take_turns(house, megabytes, together):
    """2.8 and 5.8 GB."""
    (house / "grids" / "g.yaml").write_text(f"runs:\n  10_trace: {{model: [{SMALL}, {MIDDLE}]}}\n")
    two = ["2" if each == "1" else each for each in command("--until", "ask_model")]
    limits = ["--resources", "gpu=2", f"mem_mb={megabytes}"]
    run = subprocess.run([*two, *limits], cwd=house, env=environment(house), capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    (_, *first), (_, *second) = (json.loads(each.read_text()) for each in house.glob("results/g/10_trace/*/times.json"))
    assert (max(first[0], second[0]) < min(first[1], second[1])) == together


def test_without_a_word_the_limit_is_what_is_free(house):
    (house / "grids" / "g.yaml").write_text(f"runs:\n  10_trace: {{model: {SMALL}}}\n")
    (house / "Snakefile").open("a").write('print("LIMIT", workflow.global_resources["mem_mb"].value, FREE)\n')
    said = subprocess.run(command("-n"), cwd=house, env=environment(house), capture_output=True, text=True).stdout
    limit, free = re.search(r"LIMIT (\d+) ([\d.]+)", said).groups()
    assert int(limit) == int(float(free) / 1e6) and 0.3 < float(free) / psutil.virtual_memory().available < 3
