"""Runs the notebooks of a grid: `snakemake --config grid=laptop -n` is the plan, without -n the work.

A run executes a copy of its notebook. The executed copy is an output, so it is there only after success; a failed
attempt stays beside it as `attempt.ipynb` with `attempt.log`. A trace goes on where it stopped.
"""

import math
import os
import subprocess
import sys

import yaml

from mlutils import capacity, fingerprints, grids, paths, releases

GRID = config.get("grid", "laptop")
POINTS = grids.read_grid(paths.GRIDS / f"{GRID}.yaml", paths.RESULTS / GRID)
ROOT = f"results/{GRID}"
TAKEN = releases.choose(GRID, POINTS, fresh=bool(config.get("fresh")))  # from data/runs, in place of running them
MODEL = f"({'|'.join(name[:2] for name in fingerprints.ASKING)})_[^/]+"  # notebooks that load a language model or train
CODE = sorted(str(p.relative_to(paths.ROOT)) for p in (paths.ROOT / "mlutils").rglob("*.py"))
PAGE = [key for key in POINTS if key.startswith("90_paper/")]  # the page of the grid; its runs have reports
RENDERER = sorted(str(p.relative_to(paths.ROOT)) for p in paths.TEMPLATES.rglob("*") if p.is_file())
RENDERER.append("mlutils/reporting/pages.py")


def folder_of(key):
    """Returns the folder of a run's results, which is among the releases where it is taken from there."""
    return os.path.relpath(releases.place(GRID, key), paths.ROOT) if key in TAKEN else f"{ROOT}/{key}"


def finished(key):
    """Returns the file that is there once a run has finished: its executed notebook, or the record of its release."""
    return f"{folder_of(key)}/{'run.json' if key in TAKEN else 'notebook.ipynb'}"


def read_by(wildcards):
    """Returns the files of the finished runs that a run reads the results of."""
    return [finished(key) for key in POINTS[f"{wildcards.notebook}/{wildcards.name}"].reads]


def parameters_of(wildcards, input):
    """Returns all that the run is given, as one line of YAML.

    JSON will not do, as papermill takes its 5e-05 for a text. Snakemake does not compare what is made of `input`, and
    need not: a run's name holds a hash of its parameters, and the files that it reads are compared.
    """
    point = POINTS[f"{wildcards.notebook}/{wildcards.name}"]
    given = {**point.parameters, "folder": f"{ROOT}/{point.key}"}
    if point.reads:
        given["reads"] = [folder_of(key) for key in point.reads]
    return yaml.safe_dump(given, default_flow_style=True, width=float("inf")).strip()


def is_small(wildcards):
    """Returns whether a run's model is so small that a second core would not help it: two such runs go at once."""
    point = POINTS[f"{wildcards.notebook}/{wildcards.name}"]
    small = point.checked.get("model", "").startswith(("miniature-", "random-llama"))
    return wildcards.notebook == "05_miniatures" or small


def plan_of(wildcards):
    """Returns the threads of a run that asks a model or trains, and the bytes of memory it needs, None if not known."""
    if is_small(wildcards):
        return 1, capacity.WORK
    model = POINTS[f"{wildcards.notebook}/{wildcards.name}"].checked.get("model", "")
    return capacity.plan(model, workflow.cores or 1, FREE)


def memory_of(wildcards, attempt):
    """Returns megabytes; an attempt has more than the one before."""
    needed = plan_of(wildcards)[1]
    return config.get("mem_mb", 16000 if needed is None else math.ceil(needed / 1e6)) * attempt


# On this machine, runs that do not fit into its memory together take turns; elsewhere the scheduler sees to that.
FREE = capacity.measure_free()
if workflow.global_resources["_nodes"].value is None and "mem_mb" not in workflow.global_resources:
    workflow.register_resource("mem_mb", math.floor(FREE / 1e6))

# On Linux, a run ends with the Snakemake that started it, however that ends.
ALONG = "setpriv --pdeathsig TERM"
if subprocess.run(f"{ALONG} true", shell=True, capture_output=True).returncode:
    ALONG = ""
os.environ["KERNEL_DIED"] = (  # said where it happened; in the command it would stand in every error
    "The notebook stopped because its kernel died, most often as memory ran out; what a trace or a training has written "
    "is kept. Run the same command again, with fewer runs at a time (--cores 1) or on a machine with more memory."
)
EXECUTE = f"""
    execute() {{{{
        {ALONG} papermill --kernel python3 --no-progress-bar --log-output {{input.notebook}} {{log.notebook}} \\
            -y {{params.given:q}} > {{log.text}} 2>&1 && mv {{log.notebook}} {{output.notebook}} && return
        code=$?
        # papermill says 138 where a kernel died; 137 is papermill itself, killed
        if [ $code = 138 ] || [ $code = 137 ]; then echo "$KERNEL_DIED" >> {{log.text}}; fi
        tail -n 20 {{log.text}} >&2
        return $code
    }}}}
    export -f execute
    export PYTHONUTF8=1 TQDM_DISABLE=1 OMP_NUM_THREADS={{threads}}
    exec {ALONG} bash -c execute
"""


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
    threads: lambda wildcards: plan_of(wildcards)[0]
    resources:
        gpu=lambda wildcards: 0 if is_small(wildcards) else 1,
        mem_mb=memory_of,
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
        renderer=RENDERER,
    output:
        ROOT + "/{run}/report.html",
    wildcard_constraints:
        run="(?!90_paper).+",
    params:
        python=sys.executable,
    localrule: True
    shell:
        "{params.python} -m mlutils.reporting.pages {input.notebook:q} {output:q} --back ../../index.html"


# Those of runs that are taken from releases are made together: a start of Python takes longer than a page.
if TAKEN:

    ruleorder: released_reports > report

    rule released_reports:
        input:
            runs=[finished(key) for key in sorted(TAKEN)],
            renderer=RENDERER,
        output:
            [f"{ROOT}/{key}/report.html" for key in sorted(TAKEN)],
        params:
            python=sys.executable,
        localrule: True
        shell:
            "{params.python} -m mlutils.reporting.pages {input.runs:q} {ROOT:q} --back ../../index.html"


rule page:
    input:
        notebook=[f"{ROOT}/{key}/notebook.ipynb" for key in PAGE],
        reports=[f"{ROOT}/{key}/report.html" for key in POINTS if key not in PAGE],
        renderer=RENDERER,
    output:
        ROOT + "/paper.html",
        ROOT + "/index.html",
    params:
        python=sys.executable,
    localrule: True
    shell:
        "{params.python} -m mlutils.reporting.pages {input.notebook:q} {output[0]:q}"
