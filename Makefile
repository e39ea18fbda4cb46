# Everything from nothing: each target makes what it needs. PYTHON may name another interpreter (3.11 or 3.12).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs
RUN ?= runs/demo
# All mutations with MUTATIONS= ; every third mutant of the list with MUTANTS="--every 3"; ten runs of twenty kills with CHAOS="--runs 10 --kills 20".
MUTANTS ?=
MUTATIONS ?= --sample 80
CHAOS ?= --runs 2 --kills 6
SLOW ?= slow
CONTAINERS ?=
# Most tests compute in one thread.
JOBS ?= 2
# Some figures with FIGURES="step k-means", else all of docs/performance.md; exit code 1 for a missed target with BENCH=--check.
FIGURES ?=
BENCH ?=

.PHONY: demo test test-slow test-mutants test-chaos test-containers test-browser bench bench-quick docs docs-serve lint format clean

demo: $(VENV)/.runtime  ## the whole alternation on a few photographs, in minutes
	$(BIN)/cyborgs run demo --run $(RUN)

test: $(VENV)/.dev  ## all quick tests
	$(BIN)/python -m pytest -m "not slow and not containers and not browser" --numprocesses $(JOBS) --dist loadfile --durations=15

test-slow: $(VENV)/.dev  ## runs of minutes; some need CYBORGS_SAMPLE_DATA
	$(BIN)/python -m pytest -m "$(SLOW)" --durations=15

test-mutants: $(VENV)/.dev  ## wrong implementations, each of which a test has to notice: a list, then MUTATIONS made by rule
	$(BIN)/python -m tests.mutants.run $(MUTANTS)
	$(BIN)/python -m tests.mutants.automatic $(MUTATIONS)

test-chaos: $(VENV)/.dev  ## runs that are killed again and again, and end as if nothing had happened
	$(BIN)/python -m tests.chaos.run $(CHAOS)

test-containers: $(VENV)/.dev  ## the image, compose and every failure of a container; gets an engine where there is none
	PYTHON=$(BIN)/python tests/containers/run.sh $(CONTAINERS)

test-browser: $(VENV)/.dev  ## the report in Chromium, which it installs where there is none (Debian, as root)
	@command -v chromium > /dev/null || { apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends chromium > /dev/null; }
	$(BIN)/python -m pytest -m browser --durations=5

bench: $(VENV)/.dev  ## how near to what the machine can do: a table, and benchmarks/latest.json; wants a quiet machine
	$(BIN)/python -m benchmarks $(BENCH) $(FIGURES)

bench-quick: $(VENV)/.dev  ## the same with small sizes, to see that it runs
	$(BIN)/python -m benchmarks --quick $(BENCH) $(FIGURES)

docs: $(VENV)/.dev  ## the documentation as a site, into site/
	$(MKDOCS) build --strict

docs-serve: $(VENV)/.dev  ## the same, shown while it is written
	$(MKDOCS) serve --strict

lint: $(VENV)/.dev  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy docs/_hooks/*.py

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 13) else f"Python {v[0]}.{v[1]} is not supported: name one with make PYTHON=python3.11 or python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing packages into $(VENV) (about 6 GB with torch; a few minutes)"
	$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	@echo "installing what tests and checks need"
	$(PIP_INSTALL) --editable '.[dev]'
	@$(PIP_INSTALL) --editable '.[crf]' > $(VENV)/crf.log 2>&1 || \
	  echo "pydensecrf2 cannot be compiled here ($(VENV)/crf.log): the tests of CRF refinement will be skipped"
# lvis brings another OpenCV into the same folder: whichever pip installs last stays.
	@$(BIN)/python -c 'import cv2; cv2.ximgproc.segmentation.createSelectiveSearchSegmentation' 2> /dev/null || \
	  $(PIP_INSTALL) --force-reinstall --no-deps opencv-contrib-python-headless || \
	  echo "OpenCV's contributed modules cannot be installed here: the tests of selective search will be skipped"
	@touch $@

clean:
	rm -rf $(VENV) runs site .mypy_cache .ruff_cache .pytest_cache
