# `make book` and `make test` do everything from a fresh clone; see README.md.
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
# A process for each core, each with one thread: two that share the cores would wait for each other. It compiles
# its kernels by itself: the processes that torch.compile would start for them import torch first.
WORKERS ?= auto
PYTEST = OMP_NUM_THREADS=1 TORCHINDUCTOR_COMPILE_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# Everything that tools would leave in the home folder stays inside the clone.
CACHE := $(CURDIR)/.cache
export XDG_CACHE_HOME := $(CACHE)
export PIP_CACHE_DIR := $(CACHE)/pip
export MPLCONFIGDIR := $(CACHE)/matplotlib
export IPYTHONDIR := $(CACHE)/ipython
export JUPYTER_CONFIG_DIR := $(CACHE)/jupyter/config
export JUPYTER_DATA_DIR := $(CACHE)/jupyter/data
export JUPYTER_RUNTIME_DIR := $(CACHE)/jupyter/runtime
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Python compiles a module when it is first imported, and most of torch's never are: setting up takes a third less.
INSTALL := pip install -q --no-compile
# Where a shell forbids Python to keep what it compiled, each page and each command would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

PAGE := book/_build/html/index.html
# The sources of the last build without warnings, as old as its start: whatever changed since, be it that a file is
# gone or came from elsewhere with its old time, has the whole book built anew.
BUILT := book/_build/.complete
FIND := find book vggkit results \( -name _build -o -name __pycache__ -o -name .checkpoints -o -path "*/playground/weights" \) -prune -o -type f
UNCHANGED := test -e $(BUILT) && $(FIND) -print | LC_ALL=C sort | cmp -s - $(BUILT) && \
	test -z "$$($(FIND) -cnewer $(BUILT) -print -quit)"

.PHONY: help setup book pdf test test-slow lint notebooks
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 20

setup: $(VENV)/ready ## an environment in .venv, from the lock

$(VENV)/ready: requirements.lock pyproject.toml
	@mkdir -p $(CACHE)
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v <= (3, 13) and f"vggkit needs Python 3.11 to 3.13, this is {v[0]}.{v[1]}: make PYTHON=python3.12 ...")'
ifeq ($(TORCH),system)
	$(PYTHON) -m venv --system-site-packages $(VENV)
	$(BIN)/python -c 'import torch; print("keeping torch", torch.__version__)'
else
	$(PYTHON) -m venv $(VENV)
	$(BIN)/$(INSTALL) $(TORCH)
endif
	$(BIN)/$(INSTALL) --no-deps --require-hashes -r requirements.lock
	$(BIN)/$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

book: $(VENV)/ready ## the book, into book/_build/html
	@mkdir -p book/_build
	@$(UNCHANGED) || { rm -f $(BUILT) && $(FIND) -print | LC_ALL=C sort > $(BUILT).new; }
	$(BIN)/jupyter-book build book/ $$(test -e $(BUILT) || echo --all) -W --keep-going || { rm -f $(BUILT); false; }
	@if test -e $(BUILT).new; then mv $(BUILT).new $(BUILT); fi
	@echo "The book is built: open $(PAGE)"

pdf: book ## the whole report as one PDF, into book/_build/pdf; wants Debian's chromium
	$(BIN)/python -m vggkit.site.paper

test: $(VENV)/ready ## the fast tests
	$(PYTEST)

# Those of the browser and of the pipeline have targets of their own.
test-slow: $(VENV)/ready ## the slow tests that no other target runs: weekly
	$(PYTEST) -m slow $(filter-out $(wildcard tests/test_playground.py tests/test_*_in_browser.py),$(wildcard tests/test_*.py)) \
		tests/cli tests/networks tests/report tests/runs tests/site tests/training

lint: $(VENV)/ready ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

notebooks: $(VENV)/ready ## the run pages of the book, executed anew
	$(BIN)/vggkit notebooks

# From a study (workflow/config.yaml) to the book: book/scale.md. make pipeline FLAGS="--dry-run --configfile mine.yaml"
.PHONY: pipeline test-pipeline test-slurm
pipeline: $(VENV)/ready ## the study's runs, pages, tables and book, whatever of it is not done
	$(BIN)/snakemake $(FLAGS)

test-pipeline: $(VENV)/ready ## the pipeline on this machine: a study, a change of it, a killed job
	$(BIN)/python -m pytest -m slow tests/workflow/test_pipeline.py

test-slurm: $(VENV)/ready ## the pipeline on a SLURM of one node, set up here; as root, on Debian
	workflow/slurm/one-node.sh start
	$(BIN)/python -m pytest -m slow tests/workflow/test_slurm.py
	workflow/slurm/one-node.sh stop

# The playground: JavaScript with Node 20 or newer, its tools outside the book's folder. The book itself needs no
# Node: the bundle is committed, and tests/test_playground.py checks that it is what the sources give.
.PHONY: playground playground-tools playground-lint playground-bench test-playground
PLAY := book/playground
TOOLS := $(CACHE)/playground
export npm_config_cache := $(CACHE)/npm

playground-tools: $(TOOLS)/ready

$(TOOLS)/ready: $(PLAY)/package.json $(PLAY)/package-lock.json
	@mkdir -p $(TOOLS)
	cp $^ $(TOOLS)/
	cd $(TOOLS) && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

playground: $(TOOLS)/ready ## the playground's bundle; needs Node
	node $(PLAY)/build.mjs $(TOOLS) book/_static/playground

playground-lint: $(TOOLS)/ready ## biome on the scripts of playground, explorer and figures
	cd $(PLAY) && node $(TOOLS)/node_modules/@biomejs/biome/bin/biome check . ../_static/explorer ../_static/figures ../_static/interactive

playground-bench: playground
	node $(PLAY)/bench.mjs $(TOOLS)/build/kernels.wasm

# Node compares with PyTorch. The browser tests want the book built, Debian's chromium and `pip install playwright`,
# else they skip.
test-playground: $(VENV)/ready playground ## the playground against PyTorch, in Node and a browser
	$(BIN)/python $(PLAY)/reference.py $(TOOLS)/reference
	node --test $(PLAY)/test/*.test.js
	$(BIN)/python -m pytest -m slow tests/test_playground.py

# Every page of the built book in a browser, with axe-core from the playground's tools. Two at a time: it is the longest
# of the gate's last step.
.PHONY: test-pages
test-pages: $(VENV)/ready $(TOOLS)/ready ## the book's pages in a browser: menu, search, links, widths, weight, access
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow \
		tests/test_pages_in_browser.py tests/test_explorer_in_browser.py tests/test_figures_in_browser.py

# What the tests find of the faults in tests/faults/faults.toml: make mutation FAULTS="training/step he-gain", or --quick.
.PHONY: mutation
mutation: $(VENV)/ready ## faults put into the library: which do the tests find?
	$(BIN)/python -m tests.faults $(FAULTS)

# The tests beside the lowest version that pyproject.toml allows of each package but torch (whose
# lowest version PyPI has for CUDA alone).
LOWEST := .venv-lowest
# Tests of what the packages do for us: tables, statistics, figures, the command line, notebooks. torch and Jupyter Book
# are the same in both environments, and so is what depends on the system: processes that are killed, pipes, encodings;
# files of every run are read by the tests of tables.
SYSTEM := killed or pipe or encodings or emulated or import_nothing or no_torch or stopped or full_device
PACKAGES := tests/cli \
	tests/runs/test_schema.py::test_unaltered_run_is_shown \
	$(addprefix tests/report/test_,claims.py figures.py intervals.py pages.py tables.py) \
	tests/site/test_executed.py::test_top_of_the_project_builds_the_same_book \
	tests/site/test_executed.py::test_a_figure_is_svg_for_html_a_picture_for_others_and_a_sentence_as_text
.PHONY: test-lowest test-plain-cpu
test-lowest: $(LOWEST)/ready ## tests with the lowest versions allowed
	$(PYTEST:$(BIN)/%=$(LOWEST)/bin/%) -m "not slow and not simulated" -k "not ($(SYSTEM))" $(PACKAGES)

# torch is the other environment's, whose packages come after its own: to install it once more takes half a minute. So
# is setuptools, of which older versions of venv bring one that is too old.
# The package last, since pip writes into its folder for both environments.
$(LOWEST)/ready: $(LOWEST)/packages pyproject.toml $(VENV)/ready
	$(LOWEST)/bin/$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(LOWEST)/packages: requirements-lowest.lock
	@mkdir -p $(CACHE)
ifeq ($(TORCH),system)
	$(PYTHON) -m venv --system-site-packages $(LOWEST)
else
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/pip uninstall -q -y setuptools
endif
	$(LOWEST)/bin/$(INSTALL) --no-deps --require-hashes -r requirements-lowest.lock
	@own=$$(echo $(LOWEST)/lib/python*/site-packages) && echo "$(CURDIR)/$(VENV)/$${own#$(LOWEST)/}" > $$own/torch.pth
	@touch $@

# Tests of what depends on the processor: kernels, compiled ones above all, and bfloat16, which it emulates.
COMPUTING := tests/networks tests/training/test_gradients.py \
	tests/training/test_branch.py::test_branches_see_the_same_batches_from_the_same_state \
	tests/test_data.py::test_crops_and_flips_equal_torchvisions_for_the_same_draws \
	tests/test_data.py::test_normalisation_equals_torchvisions_and_is_channels_last \
	tests/bench/test_measure.py::test_measurement_names_the_machine_and_compares_with_the_plain_loop \
	tests/training/test_step.py::test_network_computes_in_the_precision_that_is_asked_for \
	tests/training/test_step.py::test_steps_and_statistics_equal_a_plain_loop
# Those of tests/networks check each kind of compiled kernel; this compiles them for a whole network.
WHOLE := tests/training/test_step.py::test_steps_and_statistics_equal_a_plain_loop[25-True]
# They run on a processor of AVX2, without bfloat16 in hardware, as any newer one can stand in for it.
test-plain-cpu: $(VENV)/ready ## tests without the processor's newer instructions
	ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 $(PYTEST) -m "not slow and not simulated" $(COMPUTING) --deselect "$(WHOLE)"

# What only the tests and linters of the gate need; beside `setup` it takes no longer.
.PHONY: tools
tools: $(TOOLS)/ready $(CACHE)/publish/ready

# Publication: what checks the workflows and makes a release, in an environment of its own (.github/tools.in says why).
.PHONY: lint-workflows audit release
PUBLISH := $(CACHE)/publish
WORKFLOWS := $(wildcard .github/workflows/*.yml)
DIST := dist

$(PUBLISH)/ready: .github/tools.lock
	@mkdir -p $(CACHE)
	$(PYTHON) -m venv $(PUBLISH)
	$(PUBLISH)/bin/$(INSTALL) --no-deps --require-hashes -r .github/tools.lock
	@touch $@

# Both linters ask GitHub nothing. The shell lines in the workflows go to shellcheck, which is in the same environment.
lint-workflows: $(PUBLISH)/ready ## the workflows, the citation and Dependabot's file
	PATH="$(PUBLISH)/bin:$$PATH" $(PUBLISH)/bin/jactionlint
	$(PUBLISH)/bin/zizmor --offline --persona=pedantic --quiet .github
	$(PUBLISH)/bin/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff
	$(PUBLISH)/bin/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml

# Asks the registry what is known of each locked version, and fails where it gets no answer; torch stands in no lock.
AUDIT := $(PUBLISH)/bin/pip-audit --strict --progress-spinner=off --disable-pip
audit: $(PUBLISH)/ready ## known weaknesses of the locked packages; needs the network
	@echo "$(firstword $(TORCH))" > $(CACHE)/torch.txt
	$(AUDIT) --no-deps -r $(CACHE)/torch.txt
	$(AUDIT) --require-hashes -r requirements.lock
	$(AUDIT) --require-hashes -r .github/tools.lock

# A release says what it was built and tested with, by cyclonedx; the runs are those of the commit, not of the clone.
release: $(VENV)/ready $(PUBLISH)/ready ## wheel, sources, finished runs, citation, bill of materials, into dist/
	rm -rf $(DIST)
	$(PUBLISH)/bin/python -m build -q --no-isolation --outdir $(DIST) .
	git archive --format=tar.gz --prefix=vggkit/ -o $(DIST)/results.tar.gz HEAD results
	cp CITATION.cff $(DIST)/
	$(PUBLISH)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o $(DIST)/sbom.cdx.json $(BIN)/python
	cd $(DIST) && find . -type f ! -name SHA256SUMS -exec sha256sum {} + > SHA256SUMS
