"""Runs the notebooks of a grid: `snakemake --config grid=laptop -n` is the plan, without -n the work.

A run executes a copy of its notebook. The executed copy is an output, so it is there only after success; a failed
attempt stays beside it as `attempt.ipynb` with `attempt.log`. A trace goes on where it stopped.
"""

import json
import sys

from mlutils import paths, runs

GRID = config.get("grid", "laptop")
POINTS = runs.read_grid(paths.GRIDS / f"{GRID}.yaml")
ROOT = f"results/{GRID}"
MODEL = "(05|06|07|10)_[^/]+"  # notebooks that load a language model
CODE = sorted(str(p.relative_to(paths.ROOT)) for p in (paths.ROOT / "mlutils").rglob("*.py"))
PAGE = [key for key in POINTS if key.startswith("90_paper/")]  # the page of the grid; its runs have reports
PAGES = sorted(str(p.relative_to(paths.ROOT)) for p in paths.TEMPLATES.rglob("*") if p.is_file())


def read_by(wildcards):
    """Returns the executed notebooks that a run reads the results of."""
    return [f"{ROOT}/{key}/notebook.ipynb" for key in POINTS[f"{wildcards.notebook}/{wildcards.name}"].reads]


def parameters_of(wildcards):
    """Returns all that the run is given, as one JSON document."""
    point = POINTS[f"{wildcards.notebook}/{wildcards.name}"]
    given = {**point.parameters, "folder": f"{ROOT}/{point.key}"}
    if point.reads:
        given["reads"] = [f"{ROOT}/{key}" for key in point.reads]
    return json.dumps(given)


def is_small(wildcards):
    """Returns whether a run's model is so small that a second core would not help it: two such runs go at once."""
    point = POINTS[f"{wildcards.notebook}/{wildcards.name}"]
    model = runs.check_parameters(point.notebook, point.parameters).get("model", "")
    return wildcards.notebook == "05_miniatures" or model.startswith(("miniature-", "random-llama"))


EXECUTE = (
    "TQDM_DISABLE=1 OMP_NUM_THREADS={threads} papermill --kernel python3 --no-progress-bar --log-output "
    "{input.notebook} {log.notebook} -y {params.given:q} > {log.text} 2>&1 && mv {log.notebook} {output.notebook}"
)


rule all:
    input:
        [f"{ROOT}/{key}/report.html" for key in POINTS if key not in PAGE],
        [f"{ROOT}/paper.html" for _ in PAGE],


rule ask_model:
    # The code is no input: a mended plot must not trace for a week again. The report marks runs older than the code.
    input:
        notebook="notebooks/{notebook}.ipynb",
        reads=read_by,
    output:
        notebook=ROOT + "/{notebook}/{name}/notebook.ipynb",
    log:
        notebook=ROOT + "/{notebook}/{name}/attempt.ipynb",
        text=ROOT + "/{notebook}/{name}/attempt.log",
    wildcard_constraints:
        notebook=MODEL,
        name="[^/]+",
    params:
        given=parameters_of,
    threads: lambda wildcards: 1 if is_small(wildcards) else max(1, (workflow.cores or 1) // 2)
    resources:
        gpu=lambda wildcards: 0 if is_small(wildcards) else 1,
        mem_mb=lambda wildcards, attempt: config.get("mem_mb", 16000) * attempt,
        runtime=config.get("runtime", 1440),
    shell:
        EXECUTE


rule analyse:
    input:
        notebook="notebooks/{notebook}.ipynb",
        reads=read_by,
        code=CODE,
    output:
        notebook=ROOT + "/{notebook}/{name}/notebook.ipynb",
    log:
        notebook=ROOT + "/{notebook}/{name}/attempt.ipynb",
        text=ROOT + "/{notebook}/{name}/attempt.log",
    wildcard_constraints:
        notebook=f"(?!{MODEL})[^/]+",
        name="[^/]+",
    params:
        given=parameters_of,
    shell:
        EXECUTE


rule report:
    input:
        notebook=ROOT + "/{run}/notebook.ipynb",
        templates=PAGES,
    output:
        ROOT + "/{run}/report.html",
    wildcard_constraints:
        run="(?!90_paper).+",
    params:
        python=sys.executable,
    localrule: True
    shell:
        "{params.python} -m mlutils.reporting.pages {input.notebook:q} {output:q} --back ../../index.html"


rule page:
    input:
        notebook=[f"{ROOT}/{key}/notebook.ipynb" for key in PAGE],
        reports=[f"{ROOT}/{key}/report.html" for key in POINTS if key not in PAGE],
        templates=PAGES,
    output:
        ROOT + "/paper.html",
        ROOT + "/index.html",
    params:
        python=sys.executable,
    localrule: True
    shell:
        "{params.python} -m mlutils.reporting.pages {input.notebook:q} {output[0]:q}"
